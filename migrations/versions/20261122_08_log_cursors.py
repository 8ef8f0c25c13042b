"""Readers of the log: how far each has got, what it has still to do, and what it gave up."""

from alembic import op

revision = "20261122_08_log_cursors"
down_revision = "20261122_07_blocks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Each delivery rewrites one of these rows: a half empty page and no index on what changes keep that in place (HOT).
    op.execute("""
        CREATE TABLE log_cursors (
            reader text NOT NULL,                   -- what kind of effect: webhooks …
            target uuid NOT NULL,                   -- to whom: the id of a webhook …
            conversation uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
            seq bigint NOT NULL,                    -- everything up to here is done, or given up and a dead letter
            tries int NOT NULL DEFAULT 0,           -- of the event behind `seq`
            first_tried_at timestamptz,             -- of the same
            failures int NOT NULL DEFAULT 0,        -- in a row, over all events: what the pause before a try grows with
            failing_since timestamptz,
            next_at timestamptz NOT NULL DEFAULT now(),
            holder uuid,                            -- of the claim under which a process works on it …
            held_until timestamptz,                 -- … until then, unless it says that it still lives
            disabled_at timestamptz,
            disabled_reason text,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (reader, target)
        ) WITH (fillfactor = 50)
    """)
    op.execute("CREATE INDEX log_cursors_conversation ON log_cursors (conversation)")
    op.execute("""
        CREATE TABLE dead_letters (
            id uuid PRIMARY KEY,
            reader text NOT NULL,
            target uuid NOT NULL,
            conversation uuid NOT NULL,
            seq bigint NOT NULL,                    -- the event itself stays in the log, and only there
            reason text NOT NULL,
            attempts int NOT NULL,
            last_status int,                        -- of the receiver's last answer, where there was one
            first_attempt_at timestamptz,
            last_attempt_at timestamptz,
            dead_at timestamptz NOT NULL DEFAULT now(),
            retry_at timestamptz,                   -- somebody wants it tried again
            retries int NOT NULL DEFAULT 0,         -- since then
            FOREIGN KEY (reader, target) REFERENCES log_cursors ON DELETE CASCADE
        )
    """)
    op.execute("CREATE INDEX dead_letters_target ON dead_letters (reader, target, seq)")
    op.execute("CREATE INDEX dead_letters_retry ON dead_letters (reader, target) WHERE retry_at IS NOT NULL")
    op.execute("""
        CREATE TABLE delivery_attempts (            -- the latest of each target, for its owner to look at
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            reader text NOT NULL,
            target uuid NOT NULL,
            seq bigint NOT NULL,
            kind text NOT NULL,
            try int NOT NULL,
            outcome text NOT NULL,                  -- delivered, retried, dead or gone
            status int,
            reason text,
            took_ms int NOT NULL,
            at timestamptz NOT NULL DEFAULT now(),
            FOREIGN KEY (reader, target) REFERENCES log_cursors ON DELETE CASCADE
        )
    """)
    op.execute("CREATE INDEX delivery_attempts_target ON delivery_attempts (reader, target, id)")


def downgrade() -> None:
    op.execute("DROP TABLE delivery_attempts, dead_letters, log_cursors")

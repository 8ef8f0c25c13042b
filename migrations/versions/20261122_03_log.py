"""The log of every conversation, and the current state of its messages."""

from alembic import op

revision = "20261122_03_log"
down_revision = "20261122_02_conversations"
branch_labels = None
depends_on = None

PARTITIONS = 8  # enough to keep vacuum and index builds small; each one more costs planning time


def upgrade() -> None:
    op.execute("""
        CREATE TABLE events (
            conversation uuid NOT NULL,
            seq bigint NOT NULL,
            kind text NOT NULL,
            actor_kind text NOT NULL,
            actor_id text NOT NULL,
            client_id text,
            body_hash bytea,
            data json NOT NULL,                     -- not jsonb: the bytes of the wire, as they are
            at timestamptz NOT NULL,
            PRIMARY KEY (conversation, seq)
        ) PARTITION BY HASH (conversation)
    """)
    for remainder in range(PARTITIONS):
        op.execute(
            f"CREATE TABLE events_{remainder} PARTITION OF events "
            f"FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {remainder})"
        )
    # The constraint behind "exactly once": a client id names one thing for ever.
    op.execute("""
        CREATE UNIQUE INDEX events_client_id ON events (conversation, actor_id, client_id)
        WHERE client_id IS NOT NULL
    """)
    op.execute("""
        CREATE TABLE messages (
            conversation uuid NOT NULL,
            seq bigint NOT NULL,
            id uuid NOT NULL,
            ordinal bigint NOT NULL,                -- 1, 2, 3 … among the messages of the conversation
            actor_kind text NOT NULL,
            actor_id text NOT NULL,
            client_id text,
            text text NOT NULL,
            at timestamptz NOT NULL,
            reply_to uuid,
            thread uuid,
            attachments json,
            mentions json,
            people_only boolean NOT NULL DEFAULT false,
            run uuid,
            edited_at timestamptz,
            deleted_at timestamptz,
            pinned_at timestamptz,
            text_seqs bigint[],                     -- later events that hold this message's text too
            PRIMARY KEY (conversation, seq)
        )
    """)
    op.execute("CREATE UNIQUE INDEX messages_id ON messages (conversation, id)")
    op.execute("CREATE INDEX messages_actor ON messages (conversation, actor_id, seq)")
    op.execute("""
        CREATE TABLE reactions (
            conversation uuid NOT NULL,
            message uuid NOT NULL,
            user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
            emoji text NOT NULL,
            at timestamptz NOT NULL,
            PRIMARY KEY (conversation, message, emoji, user_id)
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE reactions, messages, events")

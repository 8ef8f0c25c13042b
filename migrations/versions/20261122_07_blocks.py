"""Blocks: who wants to hear nothing from whom in a private chat.

What follows from a block for a private chat stands in both memberships too, written under the lock of its head: the
log reads the sender's membership anyway, so a message into a room costs nothing more, and a block that was committed
before a message's lock was given is always seen.
"""

from alembic import op

revision = "20261122_07_blocks"
down_revision = "20261122_06_append_messages"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE blocks (
            blocker uuid NOT NULL REFERENCES users ON DELETE CASCADE,
            blocked uuid NOT NULL REFERENCES users ON DELETE CASCADE,
            at timestamptz NOT NULL,
            PRIMARY KEY (blocker, blocked),
            CHECK (blocker <> blocked)
        )
    """)
    op.execute("CREATE INDEX blocks_blocked ON blocks (blocked)")
    op.execute("""
        ALTER TABLE memberships
            -- an empty private chat that the other side opened stays out of the list until something is said in it
            ADD COLUMN opened boolean NOT NULL DEFAULT true,
            -- of a private chat: what the blocks between its two sides mean for this one
            ADD COLUMN blocks_peer boolean NOT NULL DEFAULT false,
            ADD COLUMN blocked_by_peer boolean NOT NULL DEFAULT false,
            -- while there is a block: the cursors of its beginning, which the other side goes on seeing
            ADD COLUMN held_delivered bigint,
            ADD COLUMN held_read bigint
    """)
    # Workers of the version before call the function by its old name: for them a block is one more refusal.
    op.execute(_function("append_messages", condition="AND NOT f.blocks_peer AND NOT f.blocked_by_peer"))
    op.execute(
        _function(
            "append_plain_messages",
            condition="AND NOT f.blocks_peer AND NOT f.blocked_by_peer",
            more_columns=", blocks_peer boolean, blocked_by_peer boolean",
            more_values=", f.blocks_peer, f.blocked_by_peer",
        )
    )


def downgrade() -> None:
    op.execute("DROP FUNCTION append_plain_messages")
    op.execute(_function("append_messages", facts="m.role"))
    op.execute("""
        ALTER TABLE memberships DROP COLUMN opened, DROP COLUMN blocks_peer, DROP COLUMN blocked_by_peer,
            DROP COLUMN held_delivered, DROP COLUMN held_read
    """)
    op.execute("DROP TABLE blocks")


def _function(
    name: str,
    *,
    condition: str = "",
    facts: str = "m.role, m.blocks_peer, m.blocked_by_peer",
    more_columns: str = "",
    more_values: str = "",
) -> str:
    """The log's three steps, as the migration before this one explains them."""
    return f"""
        CREATE OR REPLACE FUNCTION {name}(
            -- one element for each draft; a null client id is never a repeat
            conversations uuid[], user_ids uuid[], client_ids text[], body_hashes bytea[], datas json[],
            ids uuid[], texts text[], mentions json[], people_only boolean[], ats timestamptz[],
            roles text[],           -- that may send
            waits boolean           -- for rows that others hold; else their drafts come back without a head
        ) RETURNS TABLE (
            n bigint, head_kind text, head_visibility text, role text, first_n bigint, new_seq bigint,
            old_seq bigint, old_hash bytea, old_kind text, old_at timestamptz, old_data json{more_columns}
        ) LANGUAGE plpgsql AS $function$
        #variable_conflict use_column
        DECLARE
            locked uuid[];
        BEGIN
            IF waits THEN
                SELECT array_agg(l.conversation) INTO locked FROM (
                    SELECT h.conversation FROM heads h
                    WHERE h.conversation = ANY(conversations) ORDER BY h.conversation FOR NO KEY UPDATE
                ) l;
            ELSE
                SELECT array_agg(l.conversation) INTO locked FROM (
                    SELECT h.conversation FROM heads h
                    WHERE h.conversation = ANY(conversations) ORDER BY h.conversation FOR NO KEY UPDATE SKIP LOCKED
                ) l;
            END IF;
            RETURN QUERY
            WITH draft AS (
                SELECT * FROM unnest(
                    conversations, user_ids, client_ids, body_hashes, datas, ids, texts, mentions, people_only, ats
                ) WITH ORDINALITY AS d(
                    conversation, user_id, client_id, body_hash, data, id, text, mentions, people_only, at, n
                )
            ), fact AS (
                SELECT d.*, c.kind AS head_kind, c.visibility AS head_visibility, {facts},
                    e.seq AS old_seq, e.body_hash AS old_hash, e.kind AS old_kind, e.at AS old_at, e.data AS old_data,
                    CASE WHEN d.client_id IS NULL THEN d.n
                        ELSE min(d.n) OVER (PARTITION BY d.conversation, d.user_id, d.client_id) END AS first_n
                FROM draft d
                JOIN conversations c ON c.id = d.conversation AND c.deleted_at IS NULL
                LEFT JOIN memberships m ON m.conversation = d.conversation AND m.user_id = d.user_id
                LEFT JOIN events e
                    ON e.conversation = d.conversation AND e.actor_id = d.user_id::text AND e.client_id = d.client_id
                WHERE d.conversation = ANY(locked)
            ), fresh AS (
                SELECT f.*, h.last_seq + row_number() OVER w AS new_seq,
                    h.message_count + row_number() OVER w AS ordinal
                FROM fact f JOIN heads h ON h.conversation = f.conversation
                WHERE f.old_seq IS NULL AND f.first_n = f.n AND f.role = ANY(roles) {condition}
                WINDOW w AS (PARTITION BY f.conversation ORDER BY f.n)
            ), event AS (
                INSERT INTO events (conversation, seq, kind, actor_kind, actor_id, client_id, body_hash, data, at)
                SELECT conversation, new_seq, 'message.created', 'user', user_id::text, client_id, body_hash, data, at
                FROM fresh
            ), message AS (
                INSERT INTO messages (
                    conversation, seq, id, ordinal, actor_kind, actor_id, client_id, text, at, mentions, people_only
                )
                SELECT conversation, new_seq, id, ordinal, 'user', user_id::text, client_id, text, at, mentions,
                    people_only
                FROM fresh
            ), head AS (
                UPDATE heads h SET last_seq = v.last_seq, message_count = v.message_count,
                    updated_at = clock_timestamp()
                FROM (
                    SELECT conversation, max(new_seq) AS last_seq, max(ordinal) AS message_count, max(at) AS at
                    FROM fresh GROUP BY conversation
                ) v WHERE h.conversation = v.conversation
            )
            SELECT f.n, f.head_kind, f.head_visibility, f.role, f.first_n, fresh.new_seq,
                f.old_seq, f.old_hash, f.old_kind, f.old_at, f.old_data{more_values}
            FROM fact f LEFT JOIN fresh ON fresh.n = f.n ORDER BY f.n;
        END
        $function$
    """  # noqa: S608

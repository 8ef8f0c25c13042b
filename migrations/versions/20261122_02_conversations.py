"""Conversations: rooms, private chats and assistant conversations in one table, with their members."""

from alembic import op

revision = "20261122_02_conversations"
down_revision = "20261122_01_accounts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE conversations (
            id uuid PRIMARY KEY,
            kind text NOT NULL CHECK (kind IN ('room', 'private', 'assistant')),
            title text,
            visibility text NOT NULL CHECK (visibility IN ('public', 'private')),
            history text NOT NULL DEFAULT 'joined' CHECK (history IN ('joined', 'all')),
            model text,
            system_prompt text,
            pair_key text UNIQUE,                   -- both ids of a private chat, sorted: there is one for each pair
            created_by uuid REFERENCES users ON DELETE SET NULL,
            created_at timestamptz NOT NULL,
            deleted_at timestamptz
        )
    """)
    op.execute(
        "CREATE INDEX conversations_public ON conversations (id) WHERE visibility = 'public' AND deleted_at IS NULL"
    )
    # Every message updates its conversation's head: a narrow row on a half empty page is rewritten in place (HOT).
    op.execute("""
        CREATE TABLE heads (
            conversation uuid PRIMARY KEY REFERENCES conversations ON DELETE CASCADE,
            last_seq bigint NOT NULL DEFAULT 0,
            first_seq bigint NOT NULL DEFAULT 1,    -- retention floor: older events are gone
            message_count bigint NOT NULL DEFAULT 0,
            epoch text NOT NULL,
            updated_at timestamptz NOT NULL
        ) WITH (fillfactor = 50)
    """)
    op.execute("""
        CREATE TABLE memberships (
            conversation uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
            user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
            role text NOT NULL CHECK (role IN ('owner', 'moderator', 'member', 'reader')),
            joined_at timestamptz NOT NULL,
            visible_from bigint NOT NULL DEFAULT 1, -- the first seq this member may see
            delivered_seq bigint NOT NULL DEFAULT 0,
            read_seq bigint NOT NULL DEFAULT 0,
            read_ordinal bigint NOT NULL DEFAULT 0, -- how many messages stand at or below read_seq
            PRIMARY KEY (conversation, user_id)
        ) WITH (fillfactor = 80)
    """)
    op.execute("CREATE INDEX memberships_user ON memberships (user_id)")


def downgrade() -> None:
    op.execute("DROP TABLE memberships, heads, conversations")

"""Accounts: people, the grants they hold and the tokens under a grant."""

from alembic import op

revision = "20261122_01_accounts"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE users (
            id uuid PRIMARY KEY,
            username text NOT NULL,
            username_key text NOT NULL UNIQUE,      -- NFKC and case folded: what makes two names the same
            email text,                             -- unproved, so not unique: a conflict would tell who is here
            role text NOT NULL CHECK (role IN ('admin', 'member', 'guest')),
            password_hash text,                     -- null: signs in by link only, or never
            origin text NOT NULL DEFAULT 'here' CHECK (origin IN ('here', 'import')),
            created_at timestamptz NOT NULL,
            disabled_at timestamptz
        )
    """)
    op.execute("""
        CREATE TABLE grants (                       -- one sign-in of one device or program
            id uuid PRIMARY KEY,
            user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
            kind text NOT NULL CHECK (kind IN ('browser', 'program')),
            created_at timestamptz NOT NULL,
            last_used_at timestamptz NOT NULL,
            address text,
            user_agent text
        )
    """)
    op.execute("CREATE INDEX grants_user ON grants (user_id)")
    op.execute("""
        CREATE TABLE tokens (
            sha256 bytea PRIMARY KEY,               -- the token itself is never stored
            purpose text NOT NULL CHECK (purpose IN
                ('session', 'access', 'refresh', 'ticket', 'sign-in', 'reset', 'set-up', 'invitation')),
            user_id uuid REFERENCES users ON DELETE CASCADE,
            grant_id uuid REFERENCES grants ON DELETE CASCADE,
            role text,                              -- of the account an invitation makes
            expires_at timestamptz NOT NULL,
            used_at timestamptz
        )
    """)
    op.execute("CREATE INDEX tokens_grant ON tokens (grant_id)")
    op.execute("CREATE INDEX tokens_user ON tokens (user_id)")
    op.execute("CREATE INDEX tokens_expiry ON tokens (expires_at)")


def downgrade() -> None:
    op.execute("DROP TABLE tokens, grants, users")

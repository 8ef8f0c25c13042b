"""Webhooks of conversations."""

from alembic import op

revision = "20261122_09_webhooks"
down_revision = "20261122_08_log_cursors"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # How far a webhook has got, and whether it is disabled, stands in its cursor: (reader 'webhooks', target id).
    op.execute("""
        CREATE TABLE webhooks (
            id uuid PRIMARY KEY,
            conversation uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
            url text NOT NULL,
            kinds text[],                           -- of events; null: all
            description text NOT NULL DEFAULT '',
            secret bytea NOT NULL,
            previous_secret bytea,                  -- signs too, for a while after a rotation
            previous_until timestamptz,
            created_by uuid REFERENCES users ON DELETE SET NULL,
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX webhooks_conversation ON webhooks (conversation)")


def downgrade() -> None:
    op.execute("DROP TABLE webhooks")

"""Retention: for how long a conversation keeps its messages.

How far a log has been shortened stands in `heads.first_seq`, which has been there from the beginning.
"""

from alembic import op

revision = "20261122_11_retention"
down_revision = "20261122_10_database_identity"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        ALTER TABLE conversations ADD COLUMN
            retention_days int CHECK (retention_days BETWEEN 1 AND 3650)  -- null: as the studio's setting says
    """)


def downgrade() -> None:
    op.execute("ALTER TABLE conversations DROP COLUMN retention_days")

"""Retention: for how long a conversation keeps its messages."""

revision = "20261122_11_retention"
down_revision = "20261122_10_database_identity"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Filled in by its owner."""


def downgrade() -> None:
    """Filled in by its owner."""

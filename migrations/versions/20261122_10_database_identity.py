"""Which database this is: its cluster and timeline when it was last opened."""

revision = "20261122_10_database_identity"
down_revision = "20261122_09_webhooks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Filled in by its owner."""


def downgrade() -> None:
    """Filled in by its owner."""

"""Erasure of accounts."""

revision = "20261122_12_erasure"
down_revision = "20261122_11_retention"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Filled in by its owner."""


def downgrade() -> None:
    """Filled in by its owner."""

"""Webhooks of conversations."""

revision = "20261122_09_webhooks"
down_revision = "20261122_08_log_cursors"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Filled in by its owner."""


def downgrade() -> None:
    """Filled in by its owner."""

"""Readers of the log: how far each has got, what it has still to do, and what it gave up."""

revision = "20261122_08_log_cursors"
down_revision = "20261122_07_blocks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Filled in by its owner."""


def downgrade() -> None:
    """Filled in by its owner."""

"""Blocks: who wants to hear nothing from whom in a private chat."""

revision = "20261122_07_blocks"
down_revision = "20261122_06_append_messages"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Filled in by its owner."""


def downgrade() -> None:
    """Filled in by its owner."""

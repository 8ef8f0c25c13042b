"""Erasure of accounts: which are under way, and how to find what somebody has left behind."""

from alembic import op

revision = "20261122_12_erasure"
down_revision = "20261122_11_retention"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE erasures (
            user_id uuid PRIMARY KEY,               -- no reference: it outlives the account
            with_messages boolean NOT NULL,
            requested_at timestamptz NOT NULL,
            finished_at timestamptz
        )
    """)
    op.execute("CREATE INDEX erasures_pending ON erasures (requested_at) WHERE finished_at IS NULL")
    op.execute("CREATE INDEX reactions_user ON reactions (user_id)")
    # Two small indexes, of events that are few: a name that was written down, and what was said to a model.
    op.execute("CREATE INDEX events_joined ON events ((data->>'user')) WHERE kind = 'member.joined'")
    op.execute("CREATE INDEX events_steered ON events (actor_id) WHERE kind = 'run.steered'")


def downgrade() -> None:
    op.execute("DROP INDEX events_steered, events_joined, reactions_user")
    op.execute("DROP TABLE erasures")

"""Erasure of accounts: which are under way, and how to find what somebody has left behind.

What an operator sees in a studio with a long log: while the indexes on `events` and `reactions` are made, nobody can
write to these tables. Both read the whole log once, a few seconds for ten million events on a disk that is not busy;
sends are refused meanwhile as something to be tried again, which clients do by themselves, and reading goes on.
Postgres makes no index on a partitioned table beside writers in one step, and not at all inside a transaction, in which
a restore runs this. Whoever cannot spare the seconds makes them before the upgrade, on each partition `events_0` …
`events_7`, with the expressions below and CREATE INDEX CONCURRENTLY: an index of the partition that fits is taken over.
"""

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

"""Runs: the answers of models, each with a lease on whoever carries it."""

from alembic import op

revision = "20261122_04_runs"
down_revision = "20261122_03_log"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE runs (
            id uuid PRIMARY KEY,
            conversation uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
            message uuid NOT NULL,
            model text NOT NULL,
            asked_by uuid REFERENCES users ON DELETE SET NULL,
            status text NOT NULL CHECK (status IN ('running', 'finished', 'stopped', 'failed', 'interrupted')),
            text text NOT NULL DEFAULT '',          -- the checkpoint while running
            token uuid NOT NULL,                    -- of the lease: whoever lost it must not write
            lease_until timestamptz NOT NULL,
            started_at timestamptz NOT NULL,
            ended_at timestamptz,
            error json
        )
    """)
    op.execute("CREATE INDEX runs_live ON runs (lease_until) WHERE status = 'running'")
    op.execute("CREATE INDEX runs_conversation ON runs (conversation, message)")


def downgrade() -> None:
    op.execute("DROP TABLE runs")

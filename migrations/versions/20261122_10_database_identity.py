"""Which database this is: the cluster, the line of history and the tables that were there when it was last opened."""

from alembic import op

revision = "20261122_10_database_identity"
down_revision = "20261122_09_webhooks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE database_identity (
            is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
            cluster text,                           -- null: this server does not tell
            timeline text,
            tables text NOT NULL,
            noticed_at timestamptz NOT NULL
        )
    """)
    # A function, because each question may be refused where somebody else runs the server, and a refusal would end the
    # transaction around it. The timeline comes from the write-ahead log: the one in the control file is older until the
    # first checkpoint after a promotion.
    op.execute("""
        CREATE FUNCTION current_identity(OUT cluster text, OUT timeline text, OUT tables text)
        LANGUAGE plpgsql AS $function$
        BEGIN
            tables := (SELECT oid FROM pg_database WHERE datname = current_database()) || '/' || 'heads'::regclass::oid;
            BEGIN
                cluster := (SELECT system_identifier FROM pg_control_system());
            EXCEPTION WHEN OTHERS THEN
                cluster := NULL;
            END;
            BEGIN
                timeline := left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);
            EXCEPTION WHEN OTHERS THEN
                timeline := NULL;
            END;
        END
        $function$
    """)
    op.execute("""
        INSERT INTO database_identity (cluster, timeline, tables, noticed_at)
        SELECT cluster, timeline, tables, now() FROM current_identity()
    """)


def downgrade() -> None:
    op.execute("DROP FUNCTION current_identity()")
    op.execute("DROP TABLE database_identity")

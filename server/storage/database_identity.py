"""Which database this is, and whether it is still the one whose log the clients have read.

A database that was put back from a backup, or a standby that was promoted, may lack events that clients have seen, and
will give their numbers to others. So every conversation's log has a name, its epoch, and a cursor with another name
gets `reset`.

In:   an open database, at each start, after each outage, and whenever somebody wonders.
Out:  whether it was another one; then every conversation has a new epoch.
Promises: what was remembered is compared with what is: the cluster (its system identifier), the line of history (a
point-in-time recovery and a promotion begin a new one) and the tables (a dump that was loaded makes new ones, in the
same cluster too). Any number of processes may ask at once: one renews. What a server does not tell counts as unchanged.
Not seen is a copy of the files put back while nothing else changed: docs/backup.md says what to do then.
"""

from dataclasses import dataclass

from loguru import logger

from server.storage.database import Connection, Database, Record

ADVISORY_LOCK = 0x65706F63  # "epoc": one process renews, the others wait and find nothing left to do
RENEWAL_TIMEOUT_S = 600.0  # one row for each conversation there is


@dataclass(frozen=True, slots=True)
class Identity:
    """None: the server does not tell."""

    cluster: str | None
    timeline: str | None
    tables: str | None

    def contradicts(self, other: "Identity") -> bool:
        pairs = ((self.cluster, other.cluster), (self.timeline, other.timeline), (self.tables, other.tables))
        return any(mine is not None and theirs is not None and mine != theirs for mine, theirs in pairs)


async def current_identity(database: Database) -> Identity:
    row = await database.fetch_one("SELECT cluster, timeline, tables FROM current_identity()")
    assert row is not None
    return _identity(row)


async def recognise(database: Database) -> bool:
    """Whether this is another database than the remembered one; every epoch has then been renewed. One short query."""
    row = await database.fetch_one(_REMEMBERED_AND_CURRENT)
    if row is None or _is_known(row):
        return False
    async with database.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK, timeout=RENEWAL_TIMEOUT_S)
        row = await connection.fetchrow(_REMEMBERED_AND_CURRENT)
        if row is None or _is_known(row):
            return False
        remembered = _remembered(row)
        is_another = remembered.tables is None or _identity(row).contradicts(remembered)
        renewed = await renew_epochs(connection) if is_another else 0
        await remember(connection)
    if is_another:
        logger.warning(
            "this is not the database of the last start (restored, or a promoted standby): {} conversations have a new "
            "epoch, clients load them again",
            renewed,
        )
    return is_another


async def renew_epochs(connection: Connection) -> int:
    """All in one statement, locked in the order in which everybody locks heads."""
    renewed: int = await connection.fetchval(
        """
        WITH locked AS (
            SELECT conversation FROM heads ORDER BY conversation FOR NO KEY UPDATE
        ), renewed AS (
            UPDATE heads h SET epoch = right(gen_random_uuid()::text, 12)
            FROM locked l WHERE h.conversation = l.conversation RETURNING h.conversation
        )
        SELECT count(*) FROM renewed
        """,
        timeout=RENEWAL_TIMEOUT_S,
    )
    return renewed


async def remember(connection: Connection) -> None:
    await connection.execute(
        """
        INSERT INTO database_identity (cluster, timeline, tables, noticed_at)
        SELECT cluster, timeline, tables, now() FROM current_identity()
        ON CONFLICT (is_only) DO UPDATE SET cluster = coalesce(excluded.cluster, database_identity.cluster),
            timeline = coalesce(excluded.timeline, database_identity.timeline), tables = excluded.tables,
            noticed_at = excluded.noticed_at
        """
    )


def _is_known(row: Record) -> bool:
    """Nothing to renew and nothing to add."""
    remembered, current = _remembered(row), _identity(row)
    is_complete = (remembered.cluster or not current.cluster) and (remembered.timeline or not current.timeline)
    return bool(remembered.tables and is_complete and not current.contradicts(remembered))


def _identity(row: Record) -> Identity:
    return Identity(row["cluster"], row["timeline"], row["tables"])


def _remembered(row: Record) -> Identity:
    return Identity(row["was_cluster"], row["was_timeline"], row["was_tables"])


_REMEMBERED_AND_CURRENT = """
    SELECT c.cluster, c.timeline, c.tables,
        d.cluster AS was_cluster, d.timeline AS was_timeline, d.tables AS was_tables
    FROM current_identity() c LEFT JOIN database_identity d ON true
"""

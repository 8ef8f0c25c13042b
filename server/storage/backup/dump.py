"""Reading a database for a backup: every table in one snapshot, beside a running studio.

In:   an address, and an archive to write to.
Out:  the manifest of what was read.
Promises: all rows are of one moment, in which every acknowledged message of before stands and no log has a hole. Nobody
waits for the reading, except for a change of the tables themselves. What a plugin or an operator keeps in the same
schema travels along.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import asyncpg

from server import __version__
from server.protocol import clock
from server.storage.backup.archive import FORMAT, PIECE_BYTES, ArchiveWriter, Manifest, Sequence, Table
from server.storage.backup.errors import BackupError
from server.storage.schema import holds_a_studio

CONNECT_TIMEOUT_S = 10.0
LOCK_TIMEOUT = "60s"  # a migration may be running; its end is waited for
MAX_BEGINNINGS = 20  # an upgrade is a series of migrations, and each of them may come in between
APPLICATION = "chat-studio backup"

# How values are written, whatever the server's defaults; and no limits that an operator set for short statements.
SESSION = {
    "application_name": APPLICATION,
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "synchronize_seqscans": "off",
}

Progress = Callable[[int, str], None]  # bytes so far, and what is being done
AsyncConnection = asyncpg.Connection
Tables = dict[str, list[str]]  # with their columns


@asynccontextmanager
async def connected(dsn: str, **settings: str) -> AsyncIterator[AsyncConnection]:
    """A connection for long work."""
    connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S, server_settings={**SESSION, **settings})
    try:
        yield connection
    finally:
        connection.terminate()


async def dump(dsn: str, archive: ArchiveWriter, progress: Progress) -> "Dump":
    async with connected(dsn, lock_timeout=LOCK_TIMEOUT) as connection:
        for _ in range(MAX_BEGINNINGS):
            if not await holds_a_studio(connection):
                raise BackupError("this database holds no studio")
            tables = await _tables(connection)
            with suppress(asyncpg.UndefinedTableError, asyncpg.DeadlockDetectedError):
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    await _lock(connection, tables)
                    if tables == await _tables(connection):
                        return await _read(connection, tables, archive, progress)
        raise BackupError("somebody is changing the tables of this database; repeat when that is over")


async def _lock(connection: AsyncConnection, tables: Tables) -> None:
    """Before the first query, which takes the snapshot: nobody changes one of these tables between the two. A migration
    that was waited for has changed them, or made others, so they are looked at again with that snapshot.
    """
    names = ", ".join(_quoted(name) for name in tables)
    await connection.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE")


async def _read(connection: AsyncConnection, tables: Tables, archive: ArchiveWriter, progress: Progress) -> "Dump":
    revision = await connection.fetchval("SELECT version_num FROM alembic_version")
    version = await connection.fetchval("SHOW server_version")
    sequences = await _sequences(connection)  # they are as of now and not of the snapshot: never behind its rows
    copied = [
        await _copy(connection, name, columns, archive, progress)
        for name, columns in tables.items()
        if name != "alembic_version"  # the migrations write it
    ]
    return Dump(revision, version, copied, sequences)


class Dump:
    """What a database held."""

    def __init__(self, revision: str, postgres: str, tables: list[Table], sequences: list[Sequence]) -> None:
        self._read_at = clock.rfc3339(clock.now())
        self._revision, self._postgres = revision, postgres
        self._tables, self._sequences = tables, sequences

    def manifest(self, archive: ArchiveWriter) -> Manifest:
        return Manifest(
            FORMAT, __version__, self._revision, self._read_at, self._postgres, self._tables, self._sequences,
            dict(archive.members),
        )  # fmt: skip


async def _copy(
    connection: AsyncConnection, name: str, columns: list[str], archive: ArchiveWriter, progress: Progress
) -> Table:
    pieces: list[str] = []
    waiting = bytearray()

    async def put_away() -> None:
        pieces.append(f"database/{name}/{len(pieces):06}.gz")
        await asyncio.to_thread(archive.add_rows, pieces[-1], bytes(waiting))
        waiting.clear()
        progress(archive.size_bytes, name)

    async def take(rows: bytes) -> None:
        waiting.extend(rows)
        if len(waiting) >= PIECE_BYTES:
            await put_away()

    progress(archive.size_bytes, name)
    what = ", ".join(_quoted(column) for column in columns)
    status = await connection.copy_from_query(f"SELECT {what} FROM {_quoted(name)}", output=take)
    if waiting:
        await put_away()
    return Table(name, columns, int(status.rpartition(" ")[2]), pieces)


async def _tables(connection: AsyncConnection) -> Tables:
    """Every table of the schema with the columns that can be written; partitions are read through their table."""
    rows = await connection.fetch(
        """
        SELECT c.relname AS name, array_agg(a.attname::text ORDER BY a.attnum) AS columns
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
            AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
        GROUP BY c.relname ORDER BY c.relname
        """
    )
    return {row["name"]: row["columns"] for row in rows}


async def _sequences(connection: AsyncConnection) -> list[Sequence]:
    rows = await connection.fetch(
        """
        SELECT relname AS name FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind = 'S' ORDER BY relname
        """
    )
    found = []
    for row in rows:
        at = await connection.fetchrow(f"SELECT last_value, is_called FROM {_quoted(row['name'])}")
        assert at is not None
        found.append(Sequence(row["name"], at["last_value"], at["is_called"]))
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

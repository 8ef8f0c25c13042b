"""Putting a backup into a database, in one transaction.

In:   an address, an open archive, and what else is to happen with it.
Out:  a database with the backup's rows, at this version's revision, and with new epochs.
Promises: until COMMIT the database is what it was: a restore that fails, or is killed, has changed nothing. Nothing is
replaced that is no studio, or is one in use. The tables are made by the migrations, up to the backup's revision, then
filled, then brought up to date; rows are counted against the manifest. Accounts that were erased stay erased, as far as
the replaced studio knew of them.

Another database beside, renamed in the end, was the other way: it needs a role that may make databases, leaves halves
behind, and is no safer.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from server.storage import database_identity, migrate
from server.storage.backup.archive import ArchiveReader, Table
from server.storage.backup.dump import SESSION, Progress
from server.storage.backup.errors import BackupError
from server.storage.erasures import Erasure, close_account
from server.storage.schema import holds_a_studio, revisions

APPLICATION = "chat-studio restore"
LOCK_TIMEOUT = "10s"  # nobody uses the tables; who still holds one is not going to let go


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a restore does beyond the rows."""

    replaces: bool = False  # a studio that is there
    disconnects: bool = False  # studios that run on it
    ends_sessions: bool = False
    renews: bool = True  # epochs, because other events may have been seen since; and ends links that work once


async def replace_database(
    dsn: str, archive: ArchiveReader, wishes: Wishes, progress: Progress, before_commit: Callable[[], Awaitable[None]]
) -> None:
    """`before_commit`: what must stand when the new rows can be seen."""
    check_revision(archive)
    settings = {**SESSION, "application_name": APPLICATION, "lock_timeout": LOCK_TIMEOUT}
    logging.getLogger("alembic").setLevel(logging.WARNING)  # each step of the history would be a line
    engine = create_async_engine(
        "postgresql+asyncpg://", connect_args={"dsn": dsn, "server_settings": settings}, poolclass=NullPool
    )
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": migrate.ADVISORY_LOCK})
            driver = (await connection.get_raw_connection()).driver_connection
            assert isinstance(driver, asyncpg.Connection)
            erasures = await _clear(driver, wishes)
            await connection.run_sync(migrate.upgrade, archive.manifest.revision)
            await _fill(driver, archive, progress)
            await _finish(connection, driver, wishes, erasures)
            await before_commit()
            await connection.commit()
    finally:
        await engine.dispose()


def check_revision(archive: ArchiveReader) -> None:
    manifest = archive.manifest
    if manifest.revision not in revisions():
        raise BackupError(
            f"{archive.path} was made by Chat Studio {manifest.version}, which is newer: its database is at "
            f"revision {manifest.revision}, unknown here. Restore it with that version."
        )


# Making room


async def _clear(driver: asyncpg.Connection, wishes: Wishes) -> list[asyncpg.Record]:
    """The erasures that were asked for in the studio which was there."""
    there = await driver.fetch(_OBJECTS)
    if not there:
        return []
    if not await holds_a_studio(driver):
        raise BackupError(f"the database holds something that is no studio ({there[0]['name']}); name an empty one")
    if not wishes.replaces:
        raise BackupError("the database holds a studio already; --force replaces it, and what was said there is gone")
    await _refuse_running(driver, wishes)
    has_erasures = await driver.fetchval("SELECT to_regclass('erasures') IS NOT NULL")
    erasures = await driver.fetch(_ERASURES) if has_erasures else []
    for row in there:
        await driver.execute(f"DROP {row['kind']} IF EXISTS {row['name']} CASCADE")
    return erasures


async def _refuse_running(driver: asyncpg.Connection, wishes: Wishes) -> None:
    connected = await driver.fetchval(_STUDIOS)
    if connected and not wishes.disconnects:
        raise BackupError(
            f"a studio is running on this database ({connected} connections); stop it first, or give --disconnect"
        )
    if connected:
        await driver.execute(_END_STUDIOS)


_ERASURES = "SELECT user_id, with_messages, requested_at, finished_at FROM erasures"
_STUDIOS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'chat-studio%' AND pid <> pg_backend_pid()
"""
_END_STUDIOS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'chat-studio%' AND pid <> pg_backend_pid()
"""
# What stands in the schema, but for what an extension brought and for sequences that go with their column.
_OBJECTS = """
    SELECT kind, name FROM (
        SELECT c.oid, 1 AS rank, c.oid::regclass::text AS name, CASE c.relkind
            WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE'
            WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind
        FROM pg_class c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
            AND NOT c.relispartition
            AND NOT (c.relkind = 'S' AND EXISTS (
                SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('a', 'i')
            ))
        UNION ALL
        SELECT p.oid, 2, p.oid::regprocedure::text, 'ROUTINE' FROM pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace
        UNION ALL
        SELECT t.oid, 3, t.oid::regtype::text, 'TYPE' FROM pg_type t
        WHERE t.typnamespace = current_schema()::regnamespace AND (t.typtype IN ('e', 'd') OR t.typtype = 'c'
            AND EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
    ) o WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = o.oid AND d.deptype = 'e')
    ORDER BY rank, kind, name
"""

# Filling it


async def _fill(driver: asyncpg.Connection, archive: ArchiveReader, progress: Progress) -> None:
    """Foreign keys and indexes that are no constraint are made after the rows: in one go, and in no order of tables."""
    later = [row["make"] for row in await driver.fetch(_MADE_LATER)]
    for row in await driver.fetch(_MADE_LATER):
        await driver.execute(row["drop"])
    guarded = [row["name"] for row in await driver.fetch(_WITH_TRIGGERS)]
    for name in guarded:
        await driver.execute(f"ALTER TABLE {name} DISABLE TRIGGER USER")
    done = Done(progress)
    for table in archive.manifest.tables:
        await _copy(driver, archive, table, done)
    for sequence in archive.manifest.sequences:
        await driver.execute(_SET_SEQUENCE, sequence.name, sequence.last_value, sequence.is_called)
    for name in guarded:
        await driver.execute(f"ALTER TABLE {name} ENABLE TRIGGER USER")
    for statement in later:
        await driver.execute(statement)
    for table in archive.manifest.tables:
        await driver.execute(f"ANALYZE {_quoted(table.name)}")


class Done:
    """Bytes that were read, over all tables."""

    def __init__(self, progress: Progress) -> None:
        self._bytes = 0
        self._progress = progress

    def add(self, count: int, what: str) -> None:
        self._bytes += count
        self._progress(self._bytes, what)


async def _copy(driver: asyncpg.Connection, archive: ArchiveReader, table: Table, done: Done) -> None:
    there = await driver.fetch(_COLUMNS, table.name)
    if not there:
        raise BackupError(f"{archive.path} holds a table {table.name} that no studio has; its rows have no place here")
    if missing := set(table.columns) - {row["name"] for row in there}:
        raise BackupError(f"{archive.path} holds a column {table.name}.{min(missing)} that no studio has")
    # What the migrations themselves have written is in the backup too.
    await driver.execute(f"DELETE FROM {_quoted(table.name)}")

    async def rows() -> AsyncIterator[bytes]:
        for piece in table.pieces:
            yield await asyncio.to_thread(archive.rows, piece)
            done.add(archive.manifest.members[piece].size, table.name)

    status = await driver.copy_to_table(table.name, source=rows(), columns=table.columns)
    if (found := int(status.rpartition(" ")[2])) != table.rows:
        raise BackupError(f"{archive.path}: {found} rows of {table.name} came out of it, {table.rows} went in")


# Keys that refer to another table, and plain indexes; those of partitioned tables stay.
_MADE_LATER = """
    SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS drop,
        format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) AS make
    FROM pg_constraint
    WHERE contype = 'f' AND conparentid = 0 AND connamespace = current_schema()::regnamespace
    UNION ALL
    SELECT format('DROP INDEX %s', i.indexrelid::regclass), pg_get_indexdef(i.indexrelid)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'i' AND NOT c.relispartition
        AND NOT i.indisprimary AND NOT i.indisreplident
        AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
"""
_WITH_TRIGGERS = """
    SELECT DISTINCT tgrelid::regclass::text AS name FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::regnamespace
"""
_COLUMNS = """
    SELECT attname::text AS name FROM pg_attribute
    WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped
"""
_SET_SEQUENCE = """
    SELECT setval(to_regclass(quote_ident($1)), $2::bigint, $3::boolean) WHERE to_regclass(quote_ident($1)) IS NOT NULL
"""

# What follows


async def _finish(
    connection: AsyncConnection, driver: asyncpg.Connection, wishes: Wishes, erasures: list[asyncpg.Record]
) -> None:
    await connection.run_sync(migrate.upgrade)
    await _erase_again(driver, erasures)
    if wishes.ends_sessions:
        await driver.execute("DELETE FROM grants")
    if wishes.renews:
        await database_identity.renew_epochs(driver)
        await driver.execute(_END_LINKS)
    await database_identity.remember(driver)


async def _erase_again(driver: asyncpg.Connection, erasures: list[asyncpg.Record]) -> None:
    """Who had gone by the time of the restore does not come back: the eraser goes to work when the studio starts. Those
    of whom the backup knows nothing are remembered too, since the next one to be restored may be older.
    """
    for row in erasures:
        if await driver.fetchval("SELECT true FROM users WHERE id = $1", row["user_id"]):
            await close_account(driver, Erasure(row["user_id"], row["with_messages"]), row["requested_at"])
            await driver.execute("DELETE FROM grants WHERE user_id = $1", row["user_id"])
            await driver.execute("DELETE FROM tokens WHERE user_id = $1", row["user_id"])
            await driver.execute("UPDATE erasures SET finished_at = NULL WHERE user_id = $1", row["user_id"])
        else:
            await driver.execute(_REMEMBER_ERASURE, *row)


_REMEMBER_ERASURE = """
    INSERT INTO erasures (user_id, with_messages, requested_at, finished_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (user_id) DO NOTHING
"""
# They work once, and may have been used since the backup was made. Sessions stay, or all would have to sign in again.
_END_LINKS = "DELETE FROM tokens WHERE purpose NOT IN ('session', 'access', 'refresh')"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

"""Run the migrations, then end: the child process of `storage/schema.py`. The database's address comes on standard
input.

In:   a database, perhaps one that other servers use, or that is being backed up.
Out:  its tables at the newest revision; each migration is a transaction of its own.
Promises: an advisory lock lets one process migrate while others, started at the same moment, wait and find nothing left
to do. A migration that needs a table which somebody else holds does not wait for it for long: all who come later would
stand in line behind it. It lets everybody pass, and tries again after a pause, for as long as a start may take.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from server.storage.schema import MIGRATION_TIMEOUT_S, MIGRATIONS

ADVISORY_LOCK = 0x63686174  # "chat": any number of ours, the same in every version
LOCK_TIMEOUT = "1s"  # two tables one after the other, and whoever sends meanwhile is still answered within 3 s
PAUSE_S = 3.0  # between tries: what had to wait behind one is served in the meantime
GIVE_UP_S = MIGRATION_TIMEOUT_S - 60.0  # before our parent does, which could not say why
BLOCKED = ("55P03", "40P01")  # the lock was not to be had in time; or we were chosen to end a deadlock


class Blocked(Exception):
    """Somebody has held one of the tables all the time."""


def main() -> None:
    try:
        asyncio.run(migrate(sys.stdin.read().strip()))
    except Blocked as blocked:
        sys.exit(str(blocked))


async def migrate(dsn: str) -> None:
    async with connected(dsn) as connection:
        await patiently(connection, upgrade)


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[AsyncConnection]:
    """A connection that may change the tables, when nobody else does."""
    # asyncpg reads the address itself, so that every spelling it takes (sockets, several hosts) works here too.
    engine = create_async_engine("postgresql+asyncpg://", connect_args={"dsn": dsn}, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
            await connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))  # after waiting for the other one
            await connection.commit()
            yield connection
    finally:
        await engine.dispose()


async def patiently(
    connection: AsyncConnection, change: Callable[[Connection], None], *, give_up_s: float = GIVE_UP_S
) -> None:
    """Make a change of the tables, again and again while somebody holds one of them. What it has committed stays, so it
    has to go on from there.
    """
    deadline = monotonic() + give_up_s
    while True:
        try:
            await connection.run_sync(change)
            await connection.commit()
            return
        except DBAPIError as error:
            await connection.rollback()
            if getattr(error.orig, "sqlstate", None) not in BLOCKED:
                raise
            if monotonic() + PAUSE_S > deadline:
                raise Blocked(
                    f"somebody has held the studio's tables for {give_up_s:.0f} s (a backup? a transaction that was "
                    "left open? see pg_stat_activity); end that and start again"
                ) from error
            await asyncio.sleep(PAUSE_S)


def upgrade(connection: Connection, revision: str = "head") -> None:
    """In the transaction of `connection`, where it has one; else in one for each migration."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


if __name__ == "__main__":
    main()

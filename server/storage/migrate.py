"""Run the migrations, then end: the child process of `storage/schema.py`. The database's address comes on standard
input.

An advisory lock lets one process migrate while others, started at the same moment, wait and find nothing left to do.
"""

import asyncio
import sys

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from server.storage.schema import MIGRATIONS

ADVISORY_LOCK = 0x63686174  # "chat": any number of ours, the same in every version


def main() -> None:
    asyncio.run(migrate(sys.stdin.read().strip()))


async def migrate(dsn: str) -> None:
    # asyncpg reads the address itself, so that every spelling it takes (sockets, several hosts) works here too.
    engine = create_async_engine("postgresql+asyncpg://", connect_args={"dsn": dsn}, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
            await connection.commit()
            await connection.run_sync(upgrade)
            await connection.commit()
    finally:
        await engine.dispose()


def upgrade(connection: Connection, revision: str = "head") -> None:
    """In the transaction of `connection`, where it has one."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


if __name__ == "__main__":
    main()

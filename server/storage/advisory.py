"""One at a time, on all nodes: locks by name that are gone with the connection that held them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.storage.database import Database


@asynccontextmanager
async def if_alone(database: Database, name: str) -> AsyncIterator[bool]:
    """True inside for one caller at a time; the others are told False and should leave."""
    async with database.transaction() as connection:
        yield await connection.fetchval("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))", name)

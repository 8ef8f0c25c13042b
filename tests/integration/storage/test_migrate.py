"""Migrations beside people who talk, and beside a backup."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from server.storage import migrate
from server.storage.schema import revisions
from tests.integration.storage.backup.library import empty_database, execute, value
from tests.waiting import until

REVISION = "SELECT version_num FROM alembic_version"
BEFORE = "20261122_06_append_messages"
BEFORE_CONVERSATIONS_CHANGE = "20261122_10_database_identity"
BEFORE_INDEXES = "20261122_11_retention"
WAITS_FOR_CONVERSATIONS = "SELECT true FROM pg_locks WHERE NOT granted AND relation = 'conversations'::regclass LIMIT 1"
INDEXES = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relname ~ '^events'"
MADE_BEFORE = """
    CREATE INDEX CONCURRENTLY joined_{n} ON events_{n} ((data->>'user')) WHERE kind = 'member.joined'
    /
    CREATE INDEX CONCURRENTLY steered_{n} ON events_{n} (actor_id) WHERE kind = 'run.steered'
"""


@pytest.fixture
async def empty(postgres_dsn: str) -> AsyncIterator[str]:
    async with empty_database(postgres_dsn) as dsn:
        yield dsn


async def migrate_to(dsn: str, revision: str) -> None:
    engine = create_async_engine("postgresql+asyncpg://", connect_args={"dsn": dsn})
    async with engine.begin() as connection:
        await connection.run_sync(migrate.upgrade, revision)
    await engine.dispose()


@asynccontextmanager
async def somebody_reads_conversations(dsn: str) -> AsyncIterator[None]:
    """For long, as a backup does."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE conversations IN ACCESS SHARE MODE")
            yield
    finally:
        await connection.close()


async def test_nobody_stands_in_line_behind_a_migration_that_waits(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "PAUSE_S", 0.5)
    await migrate_to(empty, BEFORE)
    async with somebody_reads_conversations(empty):
        migrating = asyncio.create_task(migrate.migrate(empty))

        async def it_waits() -> bool:
            return bool(await value(empty, WAITS_FOR_CONVERSATIONS))

        for _ in range(2):  # it tries again, and lets everybody pass again
            await until(it_waits)
            async with asyncio.timeout(20):
                assert await value(empty, "SELECT count(*) FROM conversations") == 0
        assert not migrating.done()
        assert await value(empty, REVISION) == BEFORE_CONVERSATIONS_CHANGE, "those before it are done"
    await migrating
    assert await value(empty, REVISION) == revisions()[-1]


async def test_it_says_why_it_gives_up(empty: str) -> None:
    await migrate_to(empty, BEFORE_CONVERSATIONS_CHANGE)
    async with somebody_reads_conversations(empty), migrate.connected(empty) as connection:
        with pytest.raises(migrate.Blocked, match="somebody has held the studio's tables"):
            await migrate.patiently(connection, migrate.upgrade, give_up_s=0.0)
    assert await value(empty, REVISION) == BEFORE_CONVERSATIONS_CHANGE


async def test_another_failure_is_not_repeated(empty: str) -> None:
    await migrate_to(empty, BEFORE_CONVERSATIONS_CHANGE)
    await execute(empty, "ALTER TABLE conversations ADD COLUMN retention_days int")
    with pytest.raises(Exception, match="already exists"):
        await migrate.migrate(empty)


async def test_two_at_once_are_one(empty: str) -> None:
    await asyncio.gather(migrate.migrate(empty), migrate.migrate(empty))
    assert await value(empty, REVISION) == revisions()[-1]


async def test_indexes_of_a_long_log_can_be_made_before(empty: str) -> None:
    """As the migration says: those that fit are taken over."""
    await migrate_to(empty, BEFORE_INDEXES)
    before = await value(empty, INDEXES)
    for number in range(8):
        for statement in MADE_BEFORE.split("/"):
            await execute(empty, statement.format(n=number))
    await migrate.migrate(empty)
    assert await value(empty, INDEXES) == int(str(before)) + 2 * (8 + 1)

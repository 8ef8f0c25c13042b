"""What every test may ask for: a real Postgres for the whole run, and a fresh, migrated database for one test."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from server.ai.scripted import ScriptedModel
from server.protocol.ids import new_id
from server.storage.database import Database
from server.storage.embedded_postgres import EmbeddedPostgres
from server.storage.embedded_postgres.cluster import SETTINGS
from server.storage.schema import bring_up_to_date
from tests.redis_server import RedisServer, redis_in
from tests.running_studio import RunningStudio, run_studio


def dsn_of(postgres_dsn: str, name: str) -> str:
    """The address of another database on the same server."""
    return urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}"))


@pytest.fixture(scope="session")
async def postgres_dsn(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The studio's own Postgres; TEST_DATABASE_URL names another, whose role may make databases."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    postgres = EmbeddedPostgres(Path(tmp_path_factory.mktemp("postgres")) / "data")
    with pytest.MonkeyPatch.context() as patch:
        # What a test writes need not outlive the machine. A database for each test would cost seconds on a busy disk.
        patch.setitem(SETTINGS, "fsync", "off")
        dsn = await postgres.start()
    yield dsn
    await postgres.stop()


@pytest.fixture(scope="session")
async def template(postgres_dsn: str) -> AsyncIterator[str]:
    """The name of a migrated database that is only copied."""
    name = f"template_{new_id()}"
    await _administer(postgres_dsn, f'CREATE DATABASE "{name}"')
    await bring_up_to_date(dsn_of(postgres_dsn, name))
    yield name
    await _drop(postgres_dsn, name)


@asynccontextmanager
async def copy_of(postgres_dsn: str, template: str) -> AsyncIterator[str]:
    """The address of a migrated, empty database."""
    name = f"test_{new_id()}"
    await _administer(postgres_dsn, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield dsn_of(postgres_dsn, name)
    await _drop(postgres_dsn, name)


@pytest.fixture
async def database_dsn(postgres_dsn: str, template: str) -> AsyncIterator[str]:
    """The address of a migrated, empty database for this test."""
    async with copy_of(postgres_dsn, template) as dsn:
        yield dsn


@pytest.fixture
async def database(database_dsn: str) -> AsyncIterator[Database]:
    """The same, open."""
    async with opened(database_dsn) as database:
        yield database


@pytest.fixture(scope="module")
async def module_database(postgres_dsn: str, template: str) -> AsyncIterator[Database]:
    """One for all tests of a file: for those that change nothing the others would notice."""
    async with copy_of(postgres_dsn, template) as dsn, opened(dsn) as database:
        yield database


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Database]:
    database = Database(dsn)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def studio(database: Database) -> AsyncIterator[RunningStudio]:
    """A whole studio, served on a free port of the loopback address; rate limits are off."""
    async with run_studio(database, models=[ScriptedModel(pace_s=0.004)]) as running:
        yield running


@pytest.fixture(scope="session")
def redis_is_here() -> None:
    """Ask for it before starting a Redis by hand."""
    if not RedisServer.is_here():
        reason = "redis-server is not installed: apt install redis-server, brew install redis"
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"NO REDIS, and CI needs one: {reason}")
        pytest.skip(f"NO REDIS, SO NOTHING BETWEEN NODES IS TESTED: {reason}")


@pytest.fixture(scope="session")
async def shared_redis(redis_is_here: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    """One for all tests that do it no harm; each takes a namespace, or a number of a database, of its own."""
    async with redis_in(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def redis_server(redis_is_here: None, tmp_path: Path) -> AsyncIterator[RedisServer]:
    """One to be killed, stalled and emptied."""
    async with redis_in(tmp_path) as server:
        yield server


async def _drop(dsn: str, name: str) -> None:
    """Waits for closing connections and sends autovacuum away, which `WITH (FORCE)` may not do."""
    await _administer(dsn, f'DROP DATABASE "{name}"')


async def _administer(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()

"""What every test may ask for: a real Postgres for the whole run, and a fresh, migrated database for one test."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from server.protocol.ids import new_id
from server.storage.database import Database
from server.storage.embedded_postgres import EmbeddedPostgres
from server.storage.schema import bring_up_to_date


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
    yield await postgres.start()
    await postgres.stop()


@pytest.fixture(scope="session")
async def template(postgres_dsn: str) -> AsyncIterator[str]:
    """The name of a migrated database that is only copied."""
    name = f"template_{new_id()}"
    await _administer(postgres_dsn, f'CREATE DATABASE "{name}"')
    await bring_up_to_date(dsn_of(postgres_dsn, name))
    yield name
    await _administer(postgres_dsn, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def database_dsn(postgres_dsn: str, template: str) -> AsyncIterator[str]:
    """The address of a migrated, empty database for this test."""
    name = f"test_{new_id()}"
    await _administer(postgres_dsn, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield dsn_of(postgres_dsn, name)
    await _administer(postgres_dsn, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def database(database_dsn: str) -> AsyncIterator[Database]:
    """The same, open."""
    opened = Database(database_dsn)
    await opened.open()
    yield opened
    await opened.close()


async def _administer(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()

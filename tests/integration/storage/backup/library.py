"""Backups of test databases."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import asyncpg

from server.protocol.ids import new_id
from server.storage.backup.archive import ArchiveReader, Manifest
from server.storage.backup.commands import Place, back_up, put_back
from server.storage.backup.replace import Wishes
from tests.conftest import dsn_of

NEW = Wishes()
OVER = Wishes(replaces=True)


def place(dsn: str, data_dir: Path) -> Place:
    return Place(dsn, data_dir)


def silent(done_bytes: int, total: int | None, what: str) -> None:
    """Nobody watches."""


async def backed_up(dsn: str, path: Path, data_dir: Path | None = None, *, replace: bool = False) -> Path:
    await back_up(place(dsn, data_dir or path.parent / "nothing"), path, replace=replace, report=silent)
    return path


async def restored(dsn: str, path: Path, wishes: Wishes = NEW, data_dir: Path | None = None) -> Manifest:
    return await put_back(place(dsn, data_dir or path.parent / "nothing"), path, wishes, silent)


def manifest_of(path: Path) -> Manifest:
    with closing(ArchiveReader(path)) as archive:
        return archive.manifest


@asynccontextmanager
async def empty_database(postgres_dsn: str) -> AsyncIterator[str]:
    """The address of one with nothing in it."""
    name = f"test_{new_id()}"
    await execute(postgres_dsn, f'CREATE DATABASE "{name}"')
    try:
        yield dsn_of(postgres_dsn, name)
    finally:
        await execute(postgres_dsn, f'DROP DATABASE "{name}" WITH (FORCE)')


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def value(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()

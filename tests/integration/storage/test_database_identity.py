"""Knowing a database again: real dumps, real clusters, a real promotion."""

import asyncio
import dataclasses
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from server.storage.database import Database
from server.storage.database_identity import Identity, current_identity, recognise
from server.storage.embedded_postgres import EmbeddedPostgres, cluster, private, process
from server.storage.embedded_postgres.cluster import Cluster, program
from server.storage.embedded_postgres.private import private_postgres
from server.storage.schema import bring_up_to_date
from tests.conftest import opened
from tests.integration.storage.embedded_postgres.sandbox import Sandbox
from tests.studio_content import epochs, fill
from tests.studio_process import run


async def test_the_same_database_is_known_again(database: Database, database_dsn: str) -> None:
    await recognise(database)  # the tests' is a copy of a template, so another one
    await fill(database)
    before = await epochs(database_dsn)
    assert not await recognise(database)
    assert await epochs(database_dsn) == before


async def test_a_copy_in_the_same_cluster_is_another_database(database: Database, database_dsn: str) -> None:
    await fill(database)
    before = await epochs(database_dsn)
    assert await recognise(database)
    assert set(before) == set(await epochs(database_dsn))
    assert not set(before.values()) & set((await epochs(database_dsn)).values())


async def test_tables_loaded_again_in_place_are_another_database(
    database: Database, database_dsn: str, tmp_path: Path
) -> None:
    await recognise(database)
    await fill(database)
    before = await epochs(database_dsn)
    script = tmp_path / "dump.sql"
    await tool("pg_dump", "--no-owner", "--schema=public", "-f", str(script), database_dsn)
    await database.execute("DROP SCHEMA public CASCADE")
    await tool("psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(script), database_dsn)
    async with opened(database_dsn) as again:
        assert await epochs(database_dsn) == before
        assert await recognise(again)
    assert not set(before.values()) & set((await epochs(database_dsn)).values())


async def test_of_many_that_start_at_once_one_renews(database: Database, database_dsn: str) -> None:
    await fill(database)
    async with opened(database_dsn) as other, opened(database_dsn) as third:
        asked = await asyncio.gather(*(recognise(each) for each in (database, other, third, database, other, third)))
        after = await epochs(database_dsn)
        assert sum(asked) == 1
        assert not await recognise(third)
    assert await epochs(database_dsn) == after


async def test_what_a_server_does_not_tell_counts_as_unchanged(database: Database, database_dsn: str) -> None:
    await recognise(database)
    await fill(database)
    before = await epochs(database_dsn)
    await database.execute("UPDATE database_identity SET cluster = NULL, timeline = NULL")
    assert not await recognise(database)
    row = await database.fetch_one("SELECT cluster, timeline FROM database_identity")
    known = await current_identity(database)
    assert row is not None
    assert (row["cluster"], row["timeline"]) == (known.cluster, known.timeline) != (None, None)
    assert await epochs(database_dsn) == before


async def test_a_role_without_privileges_may_ask(database: Database) -> None:
    """As where somebody else runs the server; and a refusal of one part leaves the others."""
    known = await current_identity(database)
    assert known.cluster
    assert known.timeline
    assert not known.contradicts(Identity(None, None, known.tables))
    assert known.contradicts(dataclasses.replace(known, timeline="00000063"))


async def test_a_promoted_standby_is_another_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last transactions may never have reached it."""
    for settings in (cluster.SETTINGS, private.SETTINGS):
        monkeypatch.setitem(settings, "wal_level", "replica")
        monkeypatch.setitem(settings, "max_connections", "100")  # a standby needs no less than its primary
    async with a_primary(tmp_path / "primary") as primary:
        async with opened(primary.dsn) as database:
            await fill(database)
            before = await epochs(primary.dsn)
            assert not await recognise(database)
        await primary.stop()
        await primary.promote_a_copy(tmp_path / "standby" / "postgres")
    postgres = EmbeddedPostgres(tmp_path / "standby")
    dsn = await postgres.start()
    try:
        async with opened(dsn) as database:
            assert await epochs(dsn) == before
            assert await recognise(database)
            assert not await recognise(database)
        assert not set(before.values()) & set((await epochs(dsn)).values())
    finally:
        await postgres.stop()


async def test_a_crash_and_its_recovery_change_nothing(tmp_path: Path) -> None:
    async with a_primary(tmp_path / "data") as primary:
        async with opened(primary.dsn) as database:
            await fill(database)
            before = await epochs(primary.dsn)
        await primary.kill()
        dsn = await primary.postgres.start()
        async with opened(dsn) as database:
            assert not await recognise(database)
        assert await epochs(dsn) == before


class Primary:
    def __init__(self, data_dir: Path, postgres: EmbeddedPostgres, dsn: str) -> None:
        self.data_dir, self.postgres, self.dsn = data_dir, postgres, dsn

    async def stop(self) -> None:
        await self.postgres.stop()

    async def kill(self) -> None:
        await Sandbox(self.data_dir).kill_postgres()

    async def promote_a_copy(self, standby: Path) -> None:
        """The files as a base backup gives them, started as a standby, promoted and stopped."""
        standby.parent.mkdir(mode=0o711)
        shutil.copytree(self.data_dir / "postgres", standby, copy_function=shutil.copy2)
        shutil.copy2(self.data_dir / "postgres.password", standby.parent / "postgres.password")
        (standby / "standby.signal").touch()
        found = Cluster(standby.parent)
        account = process.unprivileged_account(self.data_dir / "postgres")
        if account is not None:
            found.hand_over(account)
            os.chown(standby / "standby.signal", account.uid, account.gid)
        async with private_postgres(program("postgres"), standby, account, found.password(), found.log_file) as socket:
            connection = await asyncpg.connect(
                host=str(socket), user="postgres", password=found.password(), database="chat_studio"
            )
            assert await connection.fetchval("SELECT pg_is_in_recovery()")
            assert await connection.fetchval("SELECT timeline IS NULL FROM current_identity()")
            assert await connection.fetchval("SELECT pg_promote()")
            assert await connection.fetchval("SELECT timeline FROM current_identity()") == "00000002"
            await connection.close()


@asynccontextmanager
async def a_primary(data_dir: Path) -> AsyncIterator[Primary]:
    postgres = EmbeddedPostgres(data_dir)
    dsn = await postgres.start()
    try:
        await bring_up_to_date(dsn)
        yield Primary(data_dir, postgres, dsn)
    finally:
        await postgres.stop()


async def tool(name: str, *arguments: str) -> None:
    ended = await run(str(program(name)), *arguments)
    assert ended.code == 0, ended.err

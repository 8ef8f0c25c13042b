"""Data directories that older versions of PostgreSQL made, brought up to date: real ones, and killed on the way."""

import asyncio
import random
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from server.storage import upgrade_data
from server.storage.backup.errors import BackupError
from server.storage.database import Database
from server.storage.database_identity import recognise
from server.storage.embedded_postgres import BinariesMissing, OtherMajorVersion
from server.storage.embedded_postgres.cluster import MAJOR_VERSION, Cluster
from server.storage.embedded_postgres.old_versions import find_postgres
from server.storage.schema import bring_up_to_date
from tests.conftest import opened
from tests.integration.storage.embedded_postgres.sandbox import Sandbox
from tests.old_postgres import INSTALLED, make_cluster, needs_an_old_postgres, running
from tests.studio_content import Rows, all_rows, epochs, fill
from tests.studio_process import COMMAND, clean_environment, run


class Old:
    """A data directory of long ago, and what its database held."""

    def __init__(self, data_dir: Path, major: str, rows: Rows, epochs: dict[str, str]) -> None:
        self.data_dir, self.major, self.rows, self.epochs = data_dir, major, rows, epochs


@pytest.fixture(scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> Old:
    """Of the oldest version there is; to be copied, not used."""
    return await make_old(tmp_path_factory.mktemp("old") / "data", INSTALLED[0])


async def make_old(data_dir: Path, major: str) -> Old:
    make_cluster(data_dir, major)
    async with running(data_dir, major) as dsn:
        await bring_up_to_date(dsn)
        async with opened(dsn) as database:
            await fill(database)
        return Old(data_dir, major, await all_rows(dsn), await epochs(dsn))


@pytest.fixture
async def old(made: Old, new: Sandbox) -> Old:
    new.take_copy_of(made.data_dir)
    return Old(new.data_dir, made.major, made.rows, made.epochs)


pytestmark = needs_an_old_postgres


async def upgrade(data_dir: Path, old_bin: Path | None = None) -> str:
    return await upgrade_data.upgrade_data(data_dir, old_bin, lambda *_: None, lambda line: None)


async def check(sandbox: Sandbox, old: Old) -> None:
    dsn = await sandbox.postgres().start()
    assert (old.data_dir / "postgres" / "PG_VERSION").read_text().strip() == MAJOR_VERSION
    assert await all_rows(dsn) == old.rows
    async with opened(dsn) as database:
        assert not await recognise(database), "clients would have to load everything again"
        assert await epochs(dsn) == old.epochs
        await fill_more(database)


async def fill_more(database: Database) -> None:
    assert await database.execute("UPDATE heads SET updated_at = now()") == 1


@pytest.mark.parametrize("major", INSTALLED)
async def test_every_row_is_there_and_the_old_data_is_kept(new: Sandbox, major: str) -> None:
    old = await make_old(new.data_dir, major)
    with pytest.raises(OtherMajorVersion, match="run `chat-studio upgrade-data`"):
        await new.postgres().start()
    said = await upgrade(old.data_dir)
    assert f"from PostgreSQL {old.major} to {MAJOR_VERSION}" in said
    await check(new, old)
    kept = old.data_dir / f"postgres-{old.major}.old"
    assert (kept / "PG_VERSION").read_text().strip() == old.major
    assert {path.name for path in old.data_dir.iterdir()} == {
        "postgres", kept.name, "postgres.password", "postgres.log", "postgres.lock", "postgres.users",
    }  # fmt: skip
    assert "nothing to do" in await stopped_and_upgraded(new)


async def stopped_and_upgraded(sandbox: Sandbox) -> str:
    await sandbox.clean_up()
    return await upgrade(sandbox.data_dir)


async def test_by_the_command_line(old: Old, new: Sandbox) -> None:
    command = [str(COMMAND), "upgrade-data", "--data-dir", str(old.data_dir)]
    refused = await run(*command, "--old-bin", str(old.data_dir))
    assert refused.code == 2
    assert refused.err.splitlines()[-1].endswith("there is none that runs")
    upgraded = await run(*command, "--old-bin", str(find_postgres(old.major).parent))
    assert (upgraded.code, upgraded.out.count("\n")) == (0, 1), upgraded.err
    await check(new, old)


async def test_a_database_that_crashed_is_recovered_first(old: Old, new: Sandbox) -> None:
    async with running(old.data_dir, old.major) as dsn, opened(dsn) as database:
        await database.execute("UPDATE conversations SET title = 'the last word'")
        await new.kill_postgres()
    await upgrade(old.data_dir)
    dsn = await new.postgres().start()
    assert any("the last word" in line for line in (await all_rows(dsn))["conversations"])


async def test_killed_at_any_moment_it_can_be_repeated(old: Old, new: Sandbox) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    moments = random.Random(seed)
    for limit_s in (0.6, 1.2, 1.8, 2.4, 3.0):
        running_command = await asyncio.create_subprocess_exec(
            str(COMMAND), "upgrade-data", "--data-dir", str(old.data_dir), env=clean_environment({}),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        with suppress(TimeoutError):
            await asyncio.wait_for(running_command.wait(), limit_s - 0.6 * moments.random())
        with suppress(ProcessLookupError):
            running_command.send_signal(signal.SIGKILL)
        await running_command.wait()
        if (old.data_dir / "postgres" / "PG_VERSION").read_text().strip() == MAJOR_VERSION:
            break
        with pytest.raises(OtherMajorVersion):
            await new.postgres().start()
    await upgrade(old.data_dir)
    await check(new, old)


@pytest.mark.parametrize("step", [1, 2, 3])
async def test_cut_off_between_the_renames_it_can_be_repeated(
    old: Old, new: Sandbox, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Nothing that a start could take for a new, empty studio."""
    rename, renames = Path.rename, []

    def rename_until(self: Path, target: Path) -> Path:
        if self.name in ("cluster", "postgres", "postgres.upgraded"):
            renames.append(self.name)
            if len(renames) == step:
                raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", rename_until)
        await upgrade(old.data_dir)
    assert len(renames) == step
    with pytest.raises(OtherMajorVersion, match="upgrade-data"):
        await new.postgres().start()
    await upgrade(old.data_dir)
    await check(new, old)


async def test_a_studio_that_runs_is_not_upgraded(made_data_dir: Path, new: Sandbox) -> None:
    new.take_copy_of(made_data_dir)
    await new.postgres().start()
    with pytest.raises(BackupError, match="a studio is running"):
        await upgrade(new.data_dir)


async def test_data_of_a_newer_version_and_no_data_are_named(new: Sandbox) -> None:
    with pytest.raises(BackupError, match="there is no studio"):
        await upgrade(new.data_dir)
    Cluster(new.data_dir).open_data_dir()
    with pytest.raises(BackupError, match="there is no database"):
        await upgrade(new.data_dir)
    new.cluster.mkdir()
    (new.cluster / "PG_VERSION").write_text("99\n")
    with pytest.raises(BackupError, match="newer than"):
        await upgrade(new.data_dir)


async def test_without_the_old_binaries_it_is_said_what_to_install(new: Sandbox) -> None:
    Cluster(new.data_dir).open_data_dir()
    new.cluster.mkdir()
    (new.cluster / "PG_VERSION").write_text("11\n")
    with pytest.raises(BinariesMissing, match="made by PostgreSQL 11") as refused:
        await upgrade(new.data_dir)
    assert "postgresql-11" in str(refused.value) or "postgresql@11" in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_too_little_space_is_said_before_anything_is_begun(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(old.data_dir)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(BackupError, match="GB are needed"):
        await upgrade(old.data_dir)
    assert not list(old.data_dir.glob("postgres.*new*"))

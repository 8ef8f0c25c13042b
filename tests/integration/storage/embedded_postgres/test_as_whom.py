"""The studio's own Postgres under several users: as root, as somebody plain, behind closed directories."""

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from server.storage.embedded_postgres import process
from server.storage.embedded_postgres.cluster import MAJOR_VERSION, WHEEL, program
from tests.integration.storage.embedded_postgres.sandbox import STUDIO_PROCESS, Sandbox, as_account

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="needs root, to become others")

DAC_OVERRIDE, DAC_READ_SEARCH = 1 << 1, 1 << 2
PASSES_CLOSED_DIRECTORIES = (DAC_OVERRIDE, DAC_READ_SEARCH)


@pytest.fixture
async def in_the_open() -> AsyncIterator[Sandbox]:
    """A data directory below directories that everybody may enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="chat-studio-test-") as folder:
        sandbox = Sandbox(opened(folder) / "data")
        yield sandbox
        await sandbox.clean_up()


async def test_as_root_postgres_runs_as_an_unprivileged_account(in_the_open: Sandbox) -> None:
    await in_the_open.postgres().start()
    assert user_of(in_the_open.postmaster_pid()) not in (0, None)
    assert in_the_open.cluster.stat().st_uid == user_of(in_the_open.postmaster_pid())


async def test_postgres_keeps_no_privilege_where_it_needs_none(in_the_open: Sandbox) -> None:
    if first_closed(program("postgres")):
        pytest.skip("the binaries lie behind a closed directory here")
    await in_the_open.postgres().start()
    assert capabilities_of(in_the_open.postmaster_pid()) == 0


async def test_below_a_closed_directory_postgres_keeps_the_one_privilege_to_pass_it(new: Sandbox) -> None:
    new.data_dir.parent.chmod(0o700)
    dsn = await new.postgres().start()
    await (await asyncpg.connect(dsn)).close()
    assert user_of(new.postmaster_pid()) != 0
    assert capabilities_of(new.postmaster_pid()) in PASSES_CLOSED_DIRECTORIES


async def test_binaries_behind_a_closed_directory_run_too(
    in_the_open: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a clone under /root, where the project's environment lies beside its data."""
    site = tmp_path / "site-packages"
    copy_the_wheel(site)
    monkeypatch.syspath_prepend(site)
    assert program("postgres").is_relative_to(site)
    await (await asyncpg.connect(await in_the_open.postgres().start())).close()


async def test_where_no_privilege_can_be_kept_the_closed_directory_is_named(new: Sandbox) -> None:
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv")
    new.data_dir.parent.chmod(0o700)
    studio = await new.studio(prefix=("setpriv", "--bounding-set=-setpcap"))
    assert studio.first_line.startswith("failed AccountBlocked")
    # The checkout itself, with the binaries in it, may stand in a closed directory too.
    closed = {first_closed(new.data_dir), first_closed(program("postgres"))} - {None}
    assert any(f"may not enter {place};" in studio.first_line for place in closed)


async def test_a_cluster_that_root_copied_is_given_to_the_account_that_runs_it(
    in_the_open: Sandbox, made_data_dir: Path
) -> None:
    in_the_open.take_copy_of(made_data_dir)
    assert in_the_open.cluster.stat().st_uid == 0
    await (await asyncpg.connect(await in_the_open.postgres().start())).close()
    assert in_the_open.data_dir.stat().st_uid == 0


async def test_a_plain_user_starts_and_stops_it(in_the_open: Sandbox) -> None:
    account = plain_account()
    in_the_open.data_dir.mkdir()
    os.chown(in_the_open.data_dir, account.uid, account.gid)
    studio = await in_the_open.studio(prefix=as_account(account, Path(sys.executable), STUDIO_PROCESS))
    assert studio.first_line.startswith("ready")
    assert user_of(in_the_open.postmaster_pid()) == account.uid
    assert await studio.stop() == "stopped"
    assert not in_the_open.runs()


async def test_a_directory_that_may_not_be_written_is_named(in_the_open: Sandbox) -> None:
    in_the_open.data_dir.mkdir(mode=0o755)
    prefix = as_account(plain_account(), Path(sys.executable), STUDIO_PROCESS)
    studio = await in_the_open.studio(prefix=prefix)
    if studio.first_line.startswith("ready") and capabilities_of(studio.pid) & DAC_OVERRIDE:
        pytest.skip("nobody is plain enough here: the interpreter cannot be reached without a privilege to write")
    assert studio.first_line.startswith("failed DataDirectoryUnusable")
    assert str(in_the_open.data_dir) in studio.first_line
    assert not list(in_the_open.data_dir.iterdir())


async def test_a_file_that_root_left_is_named(in_the_open: Sandbox) -> None:
    in_the_open.data_dir.mkdir()
    in_the_open.data_dir.chmod(0o777)
    (in_the_open.data_dir / "postgres.lock").touch(mode=0o600)
    prefix = as_account(plain_account(), Path(sys.executable), STUDIO_PROCESS)
    studio = await in_the_open.studio(prefix=prefix)
    if studio.first_line.startswith("ready"):
        pytest.skip("nobody is plain enough here")
    assert studio.first_line.startswith("failed DataDirectoryUnusable")
    assert "postgres.lock" in studio.first_line


async def test_data_of_another_user_is_refused(in_the_open: Sandbox) -> None:
    await in_the_open.postgres().start()
    await in_the_open.clean_up()
    for path in (in_the_open.data_dir, *in_the_open.data_dir.glob("postgres.*")):
        os.chown(path, 12345, 12345)
    prefix = as_account(process.Account("another", 12345, 12345), Path(sys.executable), STUDIO_PROCESS)
    studio = await in_the_open.studio(prefix=prefix)
    assert studio.first_line.startswith("failed DataDirectoryUnusable")
    assert str(in_the_open.cluster) in studio.first_line


def opened(folder: str) -> Path:
    Path(folder).chmod(0o755)
    return Path(folder)


def plain_account() -> process.Account:
    account = process.unprivileged_account(Path("/nowhere"))
    assert account is not None
    return account


def copy_the_wheel(site: Path) -> None:
    installed = program("postgres").parents[2]
    shutil.copytree(installed / f"pginstall{MAJOR_VERSION}", site / WHEEL / f"pginstall{MAJOR_VERSION}")
    if (libraries := installed.with_name(f"{WHEEL}.libs")).exists():
        shutil.copytree(libraries, site / libraries.name)
    (site / WHEEL / "__init__.py").touch()
    site.chmod(0o700)


def user_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def capabilities_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))


def first_closed(path: Path) -> Path | None:
    return next((step for step in reversed(path.parents) if not step.stat().st_mode & 0o001), None)

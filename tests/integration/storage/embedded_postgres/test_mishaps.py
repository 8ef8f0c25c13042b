"""The studio's own Postgres when things go wrong: kills, crashes, stale files, full disks, foreign data."""

import asyncio
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from server.storage.embedded_postgres import (
    BinariesMissing,
    DataDirectoryUnusable,
    DiskFull,
    OtherMajorVersion,
    PostgresExited,
    PostgresSilent,
    cluster,
    identity,
    process,
    supervisor,
)
from tests.integration.storage.embedded_postgres.sandbox import PATIENCE_S, Sandbox, until


async def test_what_was_committed_survives_the_kill_of_postgres(made: Sandbox) -> None:
    postgres = made.postgres()
    connection = await asyncpg.connect(await postgres.start())
    await connection.execute("CREATE TABLE notes (text text); INSERT INTO notes VALUES ('committed')")
    killed = await made.kill_postgres()
    connection.terminate()
    connection = await asyncpg.connect(await postgres.start())
    assert await connection.fetchval("SELECT text FROM notes") == "committed"
    assert made.postmaster_pid() != killed
    await connection.close()
    await postgres.stop()
    assert not made.runs()


async def test_a_pid_that_went_to_another_process_is_neither_believed_nor_signalled(made: Sandbox) -> None:
    await made.postgres().start()
    killed = await made.kill_postgres()
    stranger = a_stranger(made)
    try:
        for trace in (made.cluster / "postmaster.pid", made.cluster / ".s.PGSQL.5432.lock"):
            trace.write_text(trace.read_text().replace(str(killed), str(stranger.pid), 1))
        postgres = made.postgres()
        dsn = await asyncio.wait_for(postgres.start(), PATIENCE_S)
        await (await asyncpg.connect(dsn)).close()
        assert made.postmaster_pid() not in (killed, stranger.pid)
        await postgres.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_stop_signals_nobody_once_postgres_is_gone_and_its_pid_taken(
    made: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio, adopter = await made.studio(), made.postgres()
    await adopter.start()
    await studio.kill()
    await made.kill_postgres()
    monkeypatch.setattr(process, "command_of", lambda pid: "someone else")
    monkeypatch.setattr(os, "kill", lambda pid, number: pytest.fail("signalled a stranger"))
    await adopter.stop()


async def test_a_copy_of_a_running_data_directory_gets_a_postgres_of_its_own(made: Sandbox, tmp_path: Path) -> None:
    original = await asyncpg.connect(await made.postgres().start())
    copy = Sandbox(tmp_path / "copy")
    try:
        run("cp", "-a", made.data_dir, copy.data_dir)  # as an operator would: sockets and all
        in_copy = await asyncpg.connect(await copy.postgres().start())
        await in_copy.execute("CREATE TABLE only_in_the_copy ()")
        assert await original.fetchval("SELECT to_regclass('only_in_the_copy')::text") is None
        await in_copy.close()
    finally:
        await copy.clean_up()
    assert await original.fetchval("SELECT 1") == 1
    await original.close()


async def test_who_does_not_read_out_our_pid_file_is_not_ours(made: Sandbox) -> None:
    await made.postgres().start()
    postmaster, password = process.read_postmaster(made.cluster), (made.data_dir / "postgres.password").read_text()
    assert postmaster is not None
    assert await identity.ask(postmaster, password) is identity.Answer.OURS
    stale = dataclasses.replace(postmaster, head=(*postmaster.head[:2], "1700000000"))
    assert await identity.ask(stale, password) is identity.Answer.NONE


async def test_a_pid_file_cut_off_by_a_crash_is_no_obstacle(made: Sandbox) -> None:
    (made.cluster / "postmaster.pid").write_text("")
    await made.postgres().start()


async def test_processes_that_outlive_a_killed_postgres_are_waited_for(made: Sandbox) -> None:
    postgres = made.postgres()
    connection = await asyncpg.connect(await postgres.start())
    backend_pid = await connection.fetchval("SELECT pg_backend_pid()")
    busy = asyncio.ensure_future(connection.execute("SELECT count(*) FROM generate_series(1, 10000000000)"))
    await asyncio.sleep(0.2)
    os.kill(backend_pid, signal.SIGSTOP)  # as good as busy: it does not notice that its parent is gone
    await made.kill_postgres()
    try:
        starting = asyncio.ensure_future(postgres.start())
        await until(lambda: "pre-existing shared memory block" in (made.data_dir / "postgres.log").read_text())
        assert not starting.done()
    finally:
        os.kill(backend_pid, signal.SIGKILL)
    await (await asyncpg.connect(await asyncio.wait_for(starting, PATIENCE_S))).close()
    connection.terminate()
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await busy


async def test_a_recovery_is_waited_for_and_reported(made: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres = made.postgres()
    connection = await asyncpg.connect(await postgres.start())
    await connection.execute("CREATE TABLE notes (text text)")
    await connection.execute("INSERT INTO notes SELECT repeat('x', 100) FROM generate_series(1, 200000)")
    await made.kill_postgres()
    connection.terminate()
    monkeypatch.setattr(supervisor, "REPORT_S", 0.0)
    monkeypatch.setattr(supervisor, "SILENT_S", 2.0)  # silence counts from the last sign of life, not from the start
    connection = await asyncpg.connect(await postgres.start())
    assert await connection.fetchval("SELECT count(*) FROM notes") == 200000
    assert any(line.startswith("Postgres is not ready yet: ") for line in made.lines)
    await connection.close()


async def test_a_postgres_that_ends_at_once_is_reported_with_its_last_words(made: Sandbox) -> None:
    with (made.cluster / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    with pytest.raises(PostgresExited, match="no_such_setting") as caught:
        await asyncio.wait_for(made.postgres().start(), PATIENCE_S)
    assert "\n" not in str(caught.value)


async def test_a_postgres_that_hangs_is_named(made: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    studio = await made.studio()
    pid = made.postmaster_pid()
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(supervisor, "SILENT_S", 0.3)
    monkeypatch.setattr(identity, "PROBE_TIMEOUT_S", 0.1)
    try:
        with pytest.raises(PostgresSilent, match=str(pid)):
            await made.postgres().start()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert made.runs(), "it may be somebody's"
    await studio.stop()


async def test_a_postgres_that_hangs_is_stopped_by_force(made: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres = made.postgres()
    await postgres.start()
    os.kill(made.postmaster_pid(), signal.SIGSTOP)
    monkeypatch.setattr(supervisor, "STOP_STEPS", [(number, 0.2) for number, _ in supervisor.STOP_STEPS])
    await postgres.stop()
    assert not made.runs()


def test_the_steps_of_a_stop_take_eight_seconds_at_most() -> None:
    assert sum(patience_s for _, patience_s in supervisor.STOP_STEPS) <= 8


async def test_a_cluster_half_made_when_the_studio_was_killed_is_made_anew(new: Sandbox) -> None:
    starting = asyncio.ensure_future(new.studio())
    await until(lambda: any(new.data_dir.glob("postgres.new-*/cluster/base/1/*")))
    os.kill(int((new.data_dir / "postgres.lock").read_text()), signal.SIGKILL)
    await starting
    assert not new.cluster.exists()
    await (await asyncpg.connect(await new.postgres().start())).close()
    assert not list(new.data_dir.glob("postgres.new-*"))


async def test_a_first_start_cut_off_before_the_database_stood_is_completed(made: Sandbox) -> None:
    await made.postgres().start()
    connection = await made.superuser()
    await connection.execute("DROP DATABASE chat_studio")
    await connection.execute("DROP ROLE chat_studio")
    await connection.close()
    await (await asyncpg.connect(await made.postgres().start())).close()


async def test_a_start_that_is_cancelled_leaves_nothing_behind(new: Sandbox) -> None:
    starting = asyncio.ensure_future(new.postgres().start())
    await until(lambda: any(new.data_dir.glob("postgres.new-*/cluster/base/1/*")))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not list(new.data_dir.glob("postgres.new-*"))
    await (await asyncpg.connect(await new.postgres().start())).close()


async def test_data_of_another_major_version_is_refused_with_the_way_out(made: Sandbox) -> None:
    (made.cluster / "PG_VERSION").write_text("17\n")
    with pytest.raises(OtherMajorVersion, match=r"PostgreSQL 17.* 18; run `chat-studio upgrade-data`"):
        await made.postgres().start()


async def test_files_that_are_no_database_are_left_alone(new: Sandbox) -> None:
    new.cluster.mkdir(parents=True)
    (new.cluster / "holiday.jpg").touch()
    with pytest.raises(DataDirectoryUnusable, match="no database"):
        await new.postgres().start()
    assert [path.name for path in new.cluster.iterdir()] == ["holiday.jpg"]


async def test_a_lost_password_is_said_so(made: Sandbox) -> None:
    (made.data_dir / "postgres.password").unlink()
    with pytest.raises(DataDirectoryUnusable, match=r"postgres\.password is missing"):
        await made.postgres().start()


async def test_a_wrong_password_is_said_so(made: Sandbox) -> None:
    (made.data_dir / "postgres.password").write_text("wrong")
    with pytest.raises(DataDirectoryUnusable, match="refuses the password"):
        await asyncio.wait_for(made.postgres().start(), PATIENCE_S)
    assert not made.runs(), "what a failed start has started, it stops"


async def test_a_data_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(DataDirectoryUnusable, match=str(tmp_path / "data")):
        await Sandbox(tmp_path / "data").postgres().start()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; test_as_whom becomes somebody else")
async def test_a_directory_that_may_not_be_written_is_named(new: Sandbox) -> None:
    new.data_dir.mkdir(mode=0o500)
    with pytest.raises(DataDirectoryUnusable, match=str(new.data_dir)):
        await new.postgres().start()


async def test_a_machine_without_binaries_is_told_of_database_url(
    new: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "WHEEL", "no_such_wheel")
    with pytest.raises(BinariesMissing, match="DATABASE_URL"):
        await new.postgres().start()


@pytest.mark.parametrize("leave_bytes", [0, 4_000_000], ids=["nothing left", "enough left to begin"])
async def test_a_disk_too_small_for_a_new_cluster_is_called_full(small_disk: Sandbox, leave_bytes: int) -> None:
    fill(small_disk.data_dir, leave_bytes=leave_bytes)
    with pytest.raises(DiskFull, match="no space left"):
        await small_disk.postgres().start()
    assert not small_disk.cluster.exists()
    assert not list(small_disk.data_dir.glob("postgres.new-*"))


@pytest.mark.parametrize("leave_bytes", [0, 8192], ids=["nothing left", "enough left for its log"])
async def test_a_disk_that_is_full_at_a_later_start_is_called_so_and_recovers(
    small_disk: Sandbox, made_data_dir: Path, leave_bytes: int
) -> None:
    small_disk.take_copy_of(made_data_dir)
    filler = fill(small_disk.data_dir, leave_bytes=leave_bytes)
    with pytest.raises(DiskFull, match="no space left"):
        await small_disk.postgres().start()
    filler.unlink()
    await (await asyncpg.connect(await small_disk.postgres().start())).close()


@pytest.fixture
async def small_disk(tmp_path: Path) -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(tmp_path / "data")
    sandbox.data_dir.mkdir()
    if (
        os.geteuid() != 0
        or sys.platform != "linux"
        or not run("mount", "-t", "tmpfs", "-o", "size=96m", "test", tmp_path)
    ):
        pytest.skip("may not mount a small disk here")
    yield sandbox
    await sandbox.clean_up()
    assert run("umount", tmp_path)


def run(*command: str | Path) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def fill(folder: Path, *, leave_bytes: int) -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / "filler").open("wb") as filler:
        filler.write(bytes(shutil.disk_usage(folder).free - leave_bytes))
    return folder / "filler"


def a_stranger(sandbox: Sandbox) -> process.Child:
    """A process of the same user as Postgres, so that Postgres itself would take its pid for a rival's."""
    account = process.unprivileged_account(sandbox.cluster)
    return process.spawn(["/bin/sleep", "600"], account=account, reaches=[], output=subprocess.DEVNULL)

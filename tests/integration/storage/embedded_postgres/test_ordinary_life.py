"""The studio's own Postgres in an ordinary life: started, shared, adopted, stopped."""

import asyncio
import os
import signal
import stat
import tempfile
from pathlib import Path

import asyncpg
import pytest

from server.storage.embedded_postgres import DataDirectoryUnusable, process
from server.storage.embedded_postgres.cluster import program
from tests.integration.storage.embedded_postgres.sandbox import PATIENCE_S, Sandbox, until

TEMPORARY_DIRECTORIES = (Path(tempfile.gettempdir()).resolve(), Path("/tmp").resolve())


async def test_the_first_start_makes_a_database_for_a_role_that_is_no_superuser(new: Sandbox) -> None:
    connection = await asyncpg.connect(await new.postgres().start())
    try:
        assert await connection.fetchval("SELECT current_database()") == "chat_studio"
        assert not await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        assert await connection.fetchval("SHOW server_encoding") == "UTF8"
        assert await connection.fetchval("SELECT lower('ÄΣ')") == "äσ", "letters beyond ASCII have a lower case"
        assert await connection.fetchval("SHOW listen_addresses") == "", "no port is opened"
        assert await connection.fetchval("SHOW fsync") == await connection.fetchval("SHOW synchronous_commit") == "on"
        await connection.execute("CREATE TABLE notes (text text)")
        assert await connection.fetchval("SELECT '[1,2]'::vector <-> '[1,3]'::vector") == 1.0
    finally:
        await connection.close()


async def test_a_later_start_finds_what_was_written(made: Sandbox) -> None:
    await write_note(await made.postgres().start(), "kept")
    await made.clean_up()
    assert not made.runs()
    assert await read_notes(await made.postgres().start()) == ["kept"]


async def test_variables_of_other_postgres_tools_change_nothing(new: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGDATA", "PGPASSWORD"):
        monkeypatch.setenv(name, "1")
    await write_note(await new.postgres().start(), "kept")


async def test_only_we_can_read_the_password(new: Sandbox) -> None:
    dsn = await new.postgres().start()
    password_file = new.data_dir / "postgres.password"
    assert stat.S_IMODE(password_file.stat().st_mode) == 0o600
    assert len(password_file.read_text()) >= 43, "32 bytes in base64"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(dsn, password="guess")


async def test_nothing_changes_above_the_data_directory_or_in_the_wheel(new: Sandbox) -> None:
    new.data_dir.mkdir(mode=0o700)
    places = [new.data_dir, *new.data_dir.parents, program("postgres"), *program("postgres").parents]
    before = [owner_and_mode(place) for place in places]
    await new.postgres().start()
    await new.clean_up()
    assert [owner_and_mode(place) for place in places] == before


async def test_two_first_starts_at_once_share_one_postgres(new: Sandbox) -> None:
    here, there = new.postgres(), new.postgres()
    studio, *addresses = await asyncio.gather(new.studio(), here.start(), there.start())
    assert studio.first_line.startswith("ready")
    assert addresses[0] == addresses[1]
    await write_note(addresses[0], "seen by both")
    assert await read_notes(addresses[1]) == ["seen by both"]


async def test_a_tool_beside_the_server_leaves_its_postgres_running(made: Sandbox) -> None:
    studio, tool = await made.studio(), made.postgres()
    pid = made.postmaster_pid()
    dsn = await tool.start()
    await tool.stop()
    assert (made.runs(), made.postmaster_pid()) == (True, pid)
    await write_note(dsn, "the server still has it")
    assert await studio.stop() == "stopped"
    assert not made.runs()


async def test_a_server_that_stops_leaves_postgres_to_the_tool_which_ends_it(made: Sandbox) -> None:
    studio, tool = await made.studio(), made.postgres()
    dsn = await tool.start()
    assert await studio.stop() == "stopped"
    await write_note(dsn, "not cut off")
    await tool.stop()
    assert not made.runs()


async def test_a_postgres_left_by_a_killed_server_is_adopted_and_stopped(made: Sandbox) -> None:
    studio, successor = await made.studio(), made.postgres()
    pid = made.postmaster_pid()
    await studio.kill()
    await write_note(await successor.start(), "adopted")
    assert made.postmaster_pid() == pid
    assert made.lines == [f"using the Postgres that already runs (process {pid})"]
    await successor.stop()
    await until(lambda: process.command_of(pid) == "")


async def test_the_successor_of_a_server_killed_in_its_first_moments_gets_a_postgres(made: Sandbox) -> None:
    starting = asyncio.ensure_future(made.studio())
    await until((made.cluster / "postmaster.pid").exists)
    os.kill(int((made.data_dir / "postgres.lock").read_text()), signal.SIGKILL)
    await write_note(await made.postgres().start(), "kept")
    await starting


async def test_ctrl_c_reaches_the_studio_and_not_its_postgres(made: Sandbox) -> None:
    studio = await made.studio("--deaf")
    pid = made.postmaster_pid()
    os.killpg(studio.pid, signal.SIGINT)
    await write_note(await made.postgres().start(), "the server may still write while it drains")
    assert made.postmaster_pid() == pid
    assert await studio.stop() == "stopped"


async def test_stop_cuts_off_clients_in_the_middle_of_their_work(made: Sandbox) -> None:
    postgres = made.postgres()
    dsn = await postgres.start()
    idle, busy = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    await idle.execute("BEGIN; CREATE TABLE half_done (n int)")
    query = asyncio.ensure_future(busy.execute("SELECT pg_sleep(600)"))
    await asyncio.wait_for(postgres.stop(), PATIENCE_S)
    assert not made.runs()
    assert not (made.cluster / "postmaster.pid").exists(), "an orderly end, not a crash"
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await query
    idle.terminate()
    busy.terminate()


async def test_a_path_too_long_for_a_socket_gets_a_private_folder_for_it(new: Sandbox) -> None:
    deep = Sandbox(new.data_dir / ("deep" * 10) / ("deeper" * 10))
    try:
        dsn = await deep.postgres().start()
        postmaster = process.read_postmaster(deep.cluster)
        assert postmaster is not None
        assert postmaster.socket_dir.parent in TEMPORARY_DIRECTORIES
        assert stat.S_IMODE(postmaster.socket_dir.stat().st_mode) == 0o700
        await write_note(dsn, "kept")
    finally:
        await deep.clean_up()
    assert not postmaster.socket_dir.exists()


async def test_a_socket_folder_made_by_someone_else_is_refused(new: Sandbox) -> None:
    deep = Sandbox(new.data_dir / ("deep" * 10) / ("deeper" * 10))
    await deep.postgres().start()
    postmaster = process.read_postmaster(deep.cluster)
    await deep.clean_up()
    assert postmaster is not None
    postmaster.socket_dir.mkdir(mode=0o755)
    try:
        with pytest.raises(DataDirectoryUnusable, match="made by someone else"):
            await deep.postgres().start()
    finally:
        postmaster.socket_dir.rmdir()


async def test_the_log_of_postgres_holds_no_text_of_people(made: Sandbox) -> None:
    dsn = await made.postgres().start()
    await write_note(dsn, "secret words")
    connection = await asyncpg.connect(dsn)
    try:
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("CREATE UNIQUE INDEX ON notes (text); INSERT INTO notes VALUES ('secret words')")
    finally:
        await connection.close()
    log = (made.data_dir / "postgres.log").read_text()
    assert "duplicate key" in log
    assert "secret words" not in log


async def write_note(dsn: str, text: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS notes (text text)")
        await connection.execute("INSERT INTO notes VALUES ($1)", text)
    finally:
        await connection.close()


async def read_notes(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row["text"] for row in await connection.fetch("SELECT text FROM notes")]
    finally:
        await connection.close()


def owner_and_mode(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid, found.st_mode

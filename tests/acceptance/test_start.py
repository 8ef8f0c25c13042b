"""Starting and stopping `chat-studio serve` as a person does: what is printed, what is kept, what stands in the way."""

import asyncio
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.storage.embedded_postgres import process
from tests.integration.storage.embedded_postgres.sandbox import as_account
from tests.running_studio import PASSWORD, Person, http_client
from tests.studio_process import COMMAND, Ended, StudioProcess, free_port, run, studio_on

PYTHON = Path(sys.executable).resolve()

# -- the first start, and later ones ----------------------------------------------------------------------------------


async def test_the_first_start_says_where_it_is_and_how_to_get_in(tmp_path: Path) -> None:
    async with studio_on(tmp_path / "data") as studio:
        greeting = await studio.start("--port", "0")
        assert greeting.token is not None
        async with http_client(studio.port) as http:
            link = {"token": greeting.token}
            forwarded = await http.post("/api/auth/link", json=link, headers={"x-forwarded-for": "203.0.113.9"})
            assert (forwarded.status_code, forwarded.json()["code"]) == (403, "forbidden")
            signed_in = await http.post("/api/auth/link", json=link)
            assert signed_in.status_code == 200
            assert signed_in.json()["user"]["role"] == "admin"
            assert (await http.get("/api/auth/me")).json()["user"]["has_password"] is False
            again = await http.post("/api/auth/link", json=link)
            assert (again.status_code, again.json()["code"]) == (401, "unauthenticated")
            rooms = (await http.get("/api/conversations")).json()["conversations"]
            assert [room["title"] for room in rooms] == ["Welcome"]
            messages = (await http.get(f"/api/conversations/{rooms[0]['id']}/messages")).json()["messages"]
            assert len(messages) > 1
            assert (await http.get("/")).status_code == 200
        assert await studio.stop(signal.SIGINT) == 0
        assert studio.out.count("\n") == 1
        assert greeting.token not in studio.log.read_text()


async def test_a_restart_keeps_sessions_tokens_and_messages(stopped_studio: StudioProcess) -> None:
    studio = stopped_studio
    await studio.start()
    async with http_client(studio.port) as browser:
        made = await browser.post("/api/auth/register", json={"username": "ada", "password": PASSWORD})
        person = Person(studio.port, made.json()["user"]["id"], "ada")
        await person.sign_in()
        room = await person.room()
        async with person.socket("/ws", room) as socket:
            await socket.say(room, "before")
        assert await studio.stop(signal.SIGINT) == 0
        assert not studio.runs_postgres()
        await studio.start()
        assert (await browser.get("/api/auth/me")).json()["user"]["username"] == "ada"
        page = await person.call("GET", f"/api/conversations/{room}/messages", expect=200)
        assert [message["text"] for message in page["messages"]] == ["before"]
        await person.http.aclose()


async def test_a_stop_in_the_middle_of_the_first_start_leaves_nothing_running(tmp_path: Path) -> None:
    async with studio_on(tmp_path / "data") as studio:
        starting = asyncio.create_task(studio.start())
        await until(lambda: any(studio.data_dir.glob("postgres.new-*")))
        assert await studio.stop(signal.SIGTERM) == 0
        with pytest.raises(AssertionError):  # it never said where it was
            await starting
        assert not studio.runs_postgres()
        assert "Traceback" not in studio.log.read_text()
        await studio.start()
        assert (await studio.get("/readyz")).status_code == 200
        assert await studio.stop() == 0


async def test_a_hangup_ends_neither_a_start_nor_a_studio_of_one_process(tmp_path: Path) -> None:
    async with studio_on(tmp_path / "data") as studio:
        starting = asyncio.create_task(studio.start())
        await until(lambda: any(studio.data_dir.glob("postgres.new-*")))
        studio.tell(signal.SIGHUP)
        await starting
        studio.tell(signal.SIGHUP)
        await until(lambda: studio.log.read_text().count("SIGHUP: ignored") == 2)
        assert (await studio.get("/readyz")).status_code == 200
        assert await studio.stop() == 0
        assert not studio.runs_postgres()


async def test_an_account_is_added_beside_a_running_server(started_studio: StudioProcess) -> None:
    def add(*arguments: str, password: str) -> "asyncio.Task[Ended]":
        command = (str(COMMAND), "user", "add", *arguments, "--data-dir", str(started_studio.data_dir))
        return asyncio.create_task(run(*command, given=f"{password}\n", cwd=started_studio.data_dir.parent))

    added = await add("ana", "--role", "admin", password=PASSWORD)
    assert (added.code, added.out) == (0, "ana (admin) was added\n")
    ana = Person(started_studio.port, "", "ana")
    await ana.sign_in()
    assert (await ana.call("GET", "/api/auth/me", expect=200))["user"]["role"] == "admin"
    await ana.http.aclose()
    for arguments, password, reason in (
        (("ana",), PASSWORD, "taken"),
        (("ben",), "password123", "password"),
        (("b e n",), PASSWORD, "letters and digits"),
        (("ben", "--role", "king"), PASSWORD, "--role"),
    ):
        refused = await add(*arguments, password=password)
        assert refused.code == 2
        assert reason in the_line_of(refused)
    assert (await started_studio.get("/readyz")).status_code == 200


# -- what stands in the way -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "options", "named"),
    [
        ({"CHAT_STUDIO_PORT": "many"}, [], "CHAT_STUDIO_PORT"),
        ({}, ["--port", "99999"], "CHAT_STUDIO_PORT"),
        ({"CHAT_STUDIO_HOST": "no such host"}, [], "CHAT_STUDIO_HOST"),
        ({"CHAT_STUDIO_WORKERS": "0"}, [], "CHAT_STUDIO_WORKERS"),
        ({}, ["--workers", "2"], "Redis"),
        ({"REDIS_URL": "redis://cache:many"}, [], "REDIS_URL"),
        ({"REDIS_URL": "redis://cache:many"}, ["--workers", "2"], "REDIS_URL"),
        ({"CHAT_STUDIO_RATE_LIMITS": "perhaps"}, [], "CHAT_STUDIO_RATE_LIMITS"),
        ({"CHAT_STUDIO_REGISTRATION": "everybody"}, [], "CHAT_STUDIO_REGISTRATION"),
        ({"CHAT_STUDIO_PUBLIC_URL": "chat.example.org"}, [], "CHAT_STUDIO_PUBLIC_URL"),
        ({"CHAT_STUDIO_ALLOWED_ORIGINS": "https://a.example, b"}, [], "CHAT_STUDIO_ALLOWED_ORIGINS"),
        ({"CHAT_STUDIO_LOG_LEVEL": "loud"}, [], "CHAT_STUDIO_LOG_LEVEL"),
        ({"CHAT_STUDIO_COLOUR": "red"}, [], "CHAT_STUDIO_COLOUR"),
        ({"CHAT_STUDIO_CONFIG": "nowhere.yaml"}, [], "nowhere.yaml"),
        ({"DATABASE_URL": "nonsense"}, [], "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://somebody@127.0.0.1:1/nothing"}, [], "DATABASE_URL"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict | list) else None,
)
async def test_a_bad_setting_is_named_in_one_line(
    tmp_path: Path, environment: dict[str, str], options: list[str], named: str
) -> None:
    if "CHAT_STUDIO_PORT" not in environment and "--port" not in options:
        options = [*options, "--port", str(free_port())]
    ended = await StudioProcess(tmp_path / "data", environment=environment).run(*options)
    assert ended.code == 2
    assert named in the_line_of(ended)
    assert not (tmp_path / "data" / "postgres").exists()


@pytest.mark.parametrize("content", ["colour: red", "port: many", ": ["])
async def test_a_bad_file_of_settings_is_named_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "chat-studio.yaml").write_text(content)
    ended = await StudioProcess(tmp_path / "data").run()
    assert ended.code == 2
    line = the_line_of(ended)
    assert "chat-studio.yaml" in line or "CHAT_STUDIO_" in line


async def test_a_taken_port_is_named_before_anything_is_started(started_studio: StudioProcess, tmp_path: Path) -> None:
    other = StudioProcess(tmp_path / "other" / "data")
    other.data_dir.parent.mkdir()
    ended = await other.run("--port", str(started_studio.port))
    assert ended.code == 2
    line = the_line_of(ended)
    assert f":{started_studio.port}" in line
    assert "in use" in line
    assert not other.data_dir.exists()
    assert (await started_studio.get("/readyz")).status_code == 200


async def test_a_data_directory_that_may_not_be_written_is_named(in_the_open: Path) -> None:
    data_dir = in_the_open / "data"
    data_dir.mkdir()
    data_dir.chmod(0o555)
    account = process.unprivileged_account(data_dir / "postgres")
    # For root everything is writable: become somebody who may only pass closed directories, to find Python.
    prefix = as_account(account, in_the_open, COMMAND.parent, PYTHON) if account else ()
    ended = await StudioProcess(data_dir, prefix=prefix).run("--port", str(free_port()))
    assert ended.code == 2
    line = the_line_of(ended)
    assert str(data_dir) in line
    assert "not writable" in line
    assert list(data_dir.iterdir()) == []


async def test_a_database_of_a_newer_version_is_left_alone(stopped_studio: StudioProcess) -> None:
    studio = stopped_studio
    async with studio.database() as database:
        known = await database.fetch_value("SELECT version_num FROM alembic_version")
        await database.execute("UPDATE alembic_version SET version_num = '30000101_01_from_the_future'")
    ended = await studio.run("--port", str(studio.port))
    assert ended.code == 2
    assert "30000101_01_from_the_future" in the_line_of(ended)
    assert "newer" in the_line_of(ended)
    assert not studio.runs_postgres()
    async with studio.database() as database:
        assert await database.execute("UPDATE alembic_version SET version_num = $1", known) == 1
    await studio.start()
    assert (await studio.get("/readyz")).status_code == 200


@pytest.mark.parametrize("arguments", [[], ["serve"], ["user", "add"], ["import", "irc"]], ids=" ".join)
async def test_every_command_has_help_with_an_example(arguments: list[str]) -> None:
    ended = await run(str(COMMAND), *arguments, "--help")
    assert ended.code == 0
    assert not arguments or "Example: chat-studio" in ended.out


# -- tools ------------------------------------------------------------------------------------------------------------


def the_line_of(ended: Ended) -> str:
    """What a person reads: one line, and nothing that looks like a crash. Before it the log may have said something."""
    assert ended.out == ""
    *log, line = ended.err.splitlines()
    assert line.startswith("chat-studio: "), ended.err
    assert all(entry.startswith("{") for entry in log), ended.err
    return line


@pytest.fixture
def in_the_open() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="chat-studio-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)

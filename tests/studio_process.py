"""A studio as anybody starts it, `chat-studio serve` in a process of its own, and what a test does to it from outside.

Promises: nothing of the tester's environment reaches it; its port stays the same through restarts; what it started is
gone when the test is over, its Postgres too.
"""

import asyncio
import os
import random
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2

from server.hub import usernames
from server.hub.access import ClientInfo
from server.hub.accounts import Accounts
from server.protocol import clock
from server.storage.database import Database
from server.storage.embedded_postgres import EmbeddedPostgres, process
from server.storage.users import NewUser, Users
from tests.running_studio import Person, http_client

COMMAND = Path(sys.executable).with_name("chat-studio")
START_TIMEOUT_S = 30.0  # a second or two on an idle machine
STOP_TIMEOUT_S = 10.0  # promised to whoever presses Ctrl-C
OURS = ("CHAT_STUDIO_", "DATABASE_URL", "REDIS_URL", "SENTRY_DSN", "PG")
# Below the range from which the kernel takes the ports of clients: one that knocks at a closed port of that range again
# and again may be given that very port for itself, and then it talks to itself.
PORTS = range(18_000, 30_000)
GREETING = re.compile(r"Chat Studio: (http://\S+?:(\d+))(?:  -  sign in as admin: \1/#sign-in=(\S+))?\n")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Greeting:
    """The one line that a start prints."""

    address: str
    port: int
    token: str | None  # of the sign-in link


class StudioProcess:
    """`environment` names further settings; `prefix` is what stands before the command, `setpriv …` for instance."""

    def __init__(
        self, data_dir: Path, *, environment: dict[str, str] | None = None, prefix: Sequence[str] = (), port: int = 0
    ) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.log = data_dir.with_name(f"{data_dir.name}.log")
        self.out = ""  # what came on standard output since the start
        self.greeting = Greeting("", 0, None)
        self._environment = {"CHAT_STUDIO_RATE_LIMITS": "off", **(environment or {})}
        self._prefix = prefix
        self._running: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._people: list[Person] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._running is not None
        return self._running.pid

    # Starting and ending

    async def start(self, *options: str) -> Greeting:
        """Returns when it has said where it is, from which moment on it serves."""
        with self.log.open("ab") as log:
            self._running = await asyncio.create_subprocess_exec(
                *self._command(*(options or ("--port", str(self.port)))), env=clean_environment(self._environment),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log, cwd=self.data_dir.parent,
            )  # fmt: skip
        self.out = ""
        assert self._running.stdout is not None
        first = await asyncio.wait_for(self._running.stdout.readline(), START_TIMEOUT_S)
        self._reading = asyncio.create_task(self._read_on(self._running.stdout))
        found = GREETING.fullmatch(first.decode())
        assert found is not None, f"{first.decode()!r}\n{self.log.read_text()[-2000:]}"
        self.out = first.decode()
        self.greeting = Greeting(found[1], int(found[2]), found[3])
        self.port = self.greeting.port
        return self.greeting

    async def _read_on(self, out: asyncio.StreamReader) -> None:
        self.out += (await out.read()).decode()

    def tell(self, number: signal.Signals) -> None:
        assert self._running is not None
        self._running.send_signal(number)

    async def kill(self) -> None:
        """As the kernel does it when memory runs out: nothing is said, nothing is put away."""
        self.tell(signal.SIGKILL)
        await self.ended()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit status."""
        self.tell(number)
        return await self.ended()

    async def ended(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        assert self._running is not None
        code = await asyncio.wait_for(self._running.wait(), timeout_s)
        if self._reading is not None:
            await self._reading
        self._running = None
        return code

    async def run(self, *options: str) -> Ended:
        """For a start that will not succeed."""
        return await run(*self._command(*options), environment=self._environment, cwd=self.data_dir.parent)

    def _command(self, *options: str) -> list[str]:
        return [*self._prefix, str(COMMAND), "serve", "--data-dir", str(self.data_dir), *options]

    async def clean_up(self) -> None:
        """Whatever the test left running."""
        for person in self._people:
            await person.http.aclose()
        if self._running is not None and self._running.returncode is None:
            await self.kill()
        if self.runs_postgres():
            postgres = EmbeddedPostgres(self.data_dir)
            await postgres.start()  # adopts it
            await postgres.stop()

    # Its Postgres

    def postmaster_pid(self) -> int:
        postmaster = process.read_postmaster(self.data_dir / "postgres")
        assert postmaster is not None
        return postmaster.pid

    def runs_postgres(self) -> bool:
        postmaster = process.read_postmaster(self.data_dir / "postgres")
        return postmaster is not None and process.serves(postmaster.pid, self.data_dir / "postgres")

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """Its database, from outside."""
        postgres = EmbeddedPostgres(self.data_dir)
        database = Database(await postgres.start())
        try:
            await database.open()
            yield database
        finally:
            await database.close()
            await postgres.stop()

    async def people(self, names: Sequence[str], role: str = "member") -> list[Person]:
        """Accounts with an access token each, made past the passwords, of which each would cost a twentieth of a
        second.
        """
        async with self.database() as database:
            made = await make_people(database, self.port, names, role)
        self._people += made
        return made

    # Asking it

    async def get(self, path: str) -> httpx2.Response:
        async with http_client(self.port) as http:
            return await http.get(path)


async def make_people(database: Database, port: int, names: Sequence[str], role: str = "member") -> list[Person]:
    async def no_sockets(_: object) -> None:
        """They have none yet."""

    users = Users(database)
    access = Accounts(database, registration="closed", on_grants_ended=no_sockets).access
    client = ClientInfo("127.0.0.1", "a test", is_loopback=True)
    made = []
    async with database.transaction() as connection:
        for name in names:
            user = await users.add(connection, NewUser(name, usernames.key_of(name), role), clock.now())
            person = Person(port, user.id, name)
            person.token = (await access.let_program_in(connection, user, client)).access_token
            person.http.headers["authorization"] = f"Bearer {person.token}"
            made.append(person)
    return made


@asynccontextmanager
async def studio_on(data_dir: Path, **settings: str) -> AsyncIterator[StudioProcess]:
    """Not started yet."""
    studio = StudioProcess(data_dir, environment=settings)
    try:
        yield studio
    finally:
        await studio.clean_up()


async def run(
    *command: str, environment: dict[str, str] | None = None, cwd: Path | None = None, given: str = ""
) -> Ended:
    """A command to its end; `given` on standard input."""
    running = await asyncio.create_subprocess_exec(
        *command, env=clean_environment(environment or {}), cwd=cwd, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(running.communicate(given.encode()), START_TIMEOUT_S)
    except TimeoutError:
        with suppress(ProcessLookupError):
            running.kill()
        await running.wait()
        raise
    assert running.returncode is not None
    return Ended(running.returncode, out.decode(), err.decode())


def clean_environment(settings: dict[str, str]) -> dict[str, str]:
    """The tester's, without what would change a studio."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)} | settings


def free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) != 0:
                return port


def copy_data_dir(made: Path, data_dir: Path) -> Path:
    """Of a studio that was stopped: spares a test the making of its own."""
    shutil.copytree(made, data_dir)
    return data_dir

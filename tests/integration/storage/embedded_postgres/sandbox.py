"""A data directory for one test of the embedded Postgres, and what a test does to it from outside."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import asyncpg

from server.storage.embedded_postgres import EmbeddedPostgres, become_account, process
from server.storage.embedded_postgres.cluster import PORT, SUPERUSER

STUDIO_PROCESS = Path(__file__).with_name("studio_process.py")
PATIENCE_S = 20.0  # for what takes a second on an idle machine


class Sandbox:
    """Ends whatever runs on its data directory when the test is over."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.cluster = data_dir / "postgres"
        self.lines: list[str] = []  # what was reported to the person who starts it
        self._opened: list[EmbeddedPostgres] = []
        self._studios: list[Studio] = []

    def postgres(self) -> EmbeddedPostgres:
        self._opened.append(EmbeddedPostgres(self.data_dir, log=self.lines.append))
        return self._opened[-1]

    async def studio(self, *flags: str, prefix: tuple[str, ...] = ()) -> "Studio":
        """Another process that has started Postgres, or failed to: see its `first_line`."""
        studio = await Studio.launch(self.data_dir, flags, prefix)
        self._studios.append(studio)
        return studio

    def postmaster_pid(self) -> int:
        postmaster = process.read_postmaster(self.cluster)
        assert postmaster is not None
        return postmaster.pid

    def runs(self) -> bool:
        postmaster = process.read_postmaster(self.cluster)
        return postmaster is not None and process.serves(postmaster.pid, self.cluster)

    def take_copy_of(self, data_dir: Path) -> None:
        """Of one whose Postgres was stopped: spares a test the making of its own."""
        shutil.copytree(data_dir, self.data_dir)

    async def kill_postgres(self) -> int:
        pid = self.postmaster_pid()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: process.command_of(pid) == "")
        return pid

    async def superuser(self, database: str = "postgres") -> "asyncpg.Connection[asyncpg.Record]":
        postmaster = process.read_postmaster(self.cluster)
        assert postmaster is not None
        password = (self.data_dir / "postgres.password").read_text()
        where = str(postmaster.socket_dir)
        return await asyncpg.connect(host=where, port=PORT, user=SUPERUSER, password=password, database=database)

    async def clean_up(self) -> None:
        for studio in self._studios:
            await studio.kill()
        for postgres in self._opened:
            await postgres.stop()
        if self.runs():
            await self.kill_postgres()


class Studio:
    """A running `studio_process`."""

    def __init__(self, running: asyncio.subprocess.Process, first_line: str) -> None:
        self._running = running
        self.pid = running.pid
        self.first_line = first_line

    @classmethod
    async def launch(cls, data_dir: Path, flags: tuple[str, ...] = (), prefix: tuple[str, ...] = ()) -> "Studio":
        running = await asyncio.create_subprocess_exec(
            *(*prefix, sys.executable, str(STUDIO_PROCESS), str(data_dir), *flags),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )
        studio = cls(running, "")
        studio.first_line = await studio.read_line()
        return studio

    async def read_line(self) -> str:
        assert self._running.stdout is not None
        return (await asyncio.wait_for(self._running.stdout.readline(), PATIENCE_S)).decode().strip()

    async def stop(self) -> str:
        assert self._running.stdin is not None
        self._running.stdin.write(b"stop\n")
        last_line = await self.read_line()
        await self._running.wait()
        return last_line

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._running.kill()
        await self._running.wait()


def as_account(account: process.Account, *reaches: Path) -> tuple[str, ...]:
    """The beginning of a command that runs as this account, which root alone may say."""
    launcher = (sys.executable, "-I", "-S", str(become_account.__file__), str(account.uid), str(account.gid))
    return (*launcher, str(len(reaches)), *map(str, reaches))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)

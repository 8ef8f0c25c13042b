"""The studio under load: its Postgres beside the load, the server as anybody starts it on a core of its own.

Promises: the server finds the Postgres that already runs, so that the one is pinned here and the other there; limits
are off and nothing else is set unless a part asks for it; both are ended when their blocks are left.
"""

import asyncio
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from server.storage.embedded_postgres import EmbeddedPostgres
from tests.load.processes import START_TIMEOUT_S, BenchError, Process, running, tail

READ_FROM_OUTSIDE = ("CHAT_STUDIO_", "DATABASE_URL", "REDIS_URL", "SENTRY_DSN")  # a benchmark measures the defaults


@dataclass(frozen=True, slots=True)
class Server:
    """A running `chat-studio serve`."""

    pid: int
    port: int


@dataclass(frozen=True, slots=True)
class Studio:
    data_dir: Path
    dsn: str
    postmaster: int
    postgres_version: str
    log: Path

    @contextmanager
    def serving(self, core: int, *, redis_url: str | None = None, are_limits_on: bool = False) -> Iterator[Server]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(READ_FROM_OUTSIDE)}
        environment["CHAT_STUDIO_RATE_LIMITS"] = "on" if are_limits_on else "off"
        if redis_url is not None:
            environment["REDIS_URL"] = redis_url
        program = str(Path(sys.executable).with_name("chat-studio"))
        command = [program, "serve", "--port", "0", "--data-dir", str(self.data_dir)]
        # A working directory without a chat-studio.yaml.
        with running(command, core=core, log=self.log, env=environment, cwd=self.data_dir) as process:
            yield Server(process.pid, self._port_of(process))

    def _port_of(self, process: Process) -> int:
        assert process.stdout is not None
        watchdog = threading.Timer(START_TIMEOUT_S, process.kill)
        watchdog.start()
        try:
            for line in process.stdout:
                if found := re.search(r"Chat Studio: http://[^/ ]*:(\d+)", line):
                    return int(found[1])
        finally:
            watchdog.cancel()
        raise BenchError(f"the studio did not start: {tail(self.log)}")


@contextmanager
def studio(data_dir: Path, log: Path) -> Iterator[Studio]:
    """A fresh data directory with a running Postgres, on the core of this process."""
    postgres = EmbeddedPostgres(data_dir)
    dsn = asyncio.run(postgres.start())
    try:
        postmaster = int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        yield Studio(data_dir, dsn, postmaster, asyncio.run(_version_of(dsn)), log)
    finally:
        asyncio.run(postgres.stop())


async def _version_of(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        version: str = await connection.fetchval("SHOW server_version")
        return version.split()[0]
    finally:
        await connection.close()

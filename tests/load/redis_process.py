"""A Redis for the parts that need several workers, or count what a studio leaves behind there."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.load.processes import BenchError, free_port, running, wait_for_port

ANSWER_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Redis:
    pid: int
    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def channels(self) -> int:
        """How many channels somebody is subscribed to."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_TIMEOUT_S) as connection:
            connection.sendall(b"PUBSUB CHANNELS\r\n")
            line = connection.makefile("rb").readline()  # `*` and the number of channels that follow
        if not line.startswith(b"*"):
            raise BenchError(f"Redis answers {line!r}")
        return int(line[1:])


@contextmanager
def redis_server(core: int, work_dir: Path) -> Iterator[Redis]:
    """One that keeps nothing on disk."""
    if shutil.which("redis-server") is None:
        raise BenchError("there is no redis-server here")
    port, log = free_port(), work_dir / "redis.log"
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(work_dir)]
    kept = ["--save", "", "--appendonly", "no", "--logfile", str(log)]
    with running([*command, *kept], core=core, log=log) as process:
        wait_for_port(port, process, "redis-server", log)
        yield Redis(process.pid, port)

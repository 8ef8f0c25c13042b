"""A real Redis in a process of its own, and what a test does to it.

Promises: it listens only on a free port of the loopback address, which stays the same through restarts; it keeps
nothing on disk that outlives the test; what was started is gone when the test is over.
"""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import hiredis

from tests.studio_process import free_port

START_TIMEOUT_S = 20.0
COMMAND = "redis-server"


class RedisServer:
    """`options` are those of its command line, in pairs; `is_sentinel` makes it one, whose file is `config`."""

    def __init__(self, folder: Path, *options: str, config: str = "", is_sentinel: bool = False) -> None:
        self.port = free_port()
        self._folder = folder
        self._options = options
        self._config = config
        self._is_sentinel = is_sentinel
        self._running: asyncio.subprocess.Process | None = None

    @staticmethod
    def is_here() -> bool:
        return shutil.which(COMMAND) is not None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Returns when it answers."""
        file = self._folder / f"{self.port}.conf"
        if not file.exists():  # a Sentinel writes what it learns into its file
            file.write_text(self._config)
        arguments = [str(file), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        kind = ["--sentinel"] if self._is_sentinel else ["--save", "", "--appendonly", "no"]
        with (self._folder / f"{self.port}.log").open("ab") as log:
            self._running = await asyncio.create_subprocess_exec(
                COMMAND, *arguments, *kind, *self._options, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                with suppress(OSError):
                    answer = await self.ask("PING")
                    if answer == "PONG" or (isinstance(answer, hiredis.ReplyError) and "NOAUTH" in str(answer)):
                        return
                await asyncio.sleep(0.02)

    def tell(self, number: signal.Signals) -> None:
        """SIGSTOP leaves its connections open and answers nothing."""
        assert self._running is not None
        self._running.send_signal(number)

    async def kill(self) -> None:
        """As the kernel does it when memory runs out."""
        if self._running is not None and self._running.returncode is None:
            self._running.kill()
            await self._running.wait()
        self._running = None

    async def ask(self, *words: str | int) -> object:
        """One command, on a connection of its own; an error comes as it is."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(pack_command(*words))
            answers = hiredis.Reader(encoding="utf-8", notEnoughData=...)
            while (answer := answers.gets()) is ...:
                data = await reader.read(65536)
                if not data:
                    raise ConnectionResetError("Redis closed the connection")
                answers.feed(data)
            return answer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def pack_command(*words: str | int) -> bytes:
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]
    return packed


@asynccontextmanager
async def redis_in(
    folder: Path, *options: str, config: str = "", is_sentinel: bool = False
) -> AsyncIterator[RedisServer]:
    """One that runs."""
    server = RedisServer(folder, *options, config=config, is_sentinel=is_sentinel)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()

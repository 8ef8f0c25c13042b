"""A program that receives webhooks: a real HTTP server on loopback, which answers as the test says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from server.protocol.codec import parse

WAIT_S = 30.0
NO_ANSWER = 0  # closes the connection in place of an answer


@dataclass
class Delivery:
    """One request, as it came."""

    headers: dict[str, str]
    body: bytes

    @property
    def payload(self) -> dict[str, Any]:
        payload = parse(self.body.decode())
        assert isinstance(payload, dict)
        return payload

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def seq(self) -> int:
        seq: int = self.payload["event"]["seq"]
        return seq

    @property
    def text(self) -> str:
        text: str = self.payload["event"]["data"]["text"]
        return text


@dataclass
class HookReceiver:
    """`answer` gives the status for a delivery; `more` are headers of every answer."""

    port: int = 0
    came: list[Delivery] = field(default_factory=list)
    taken: list[Delivery] = field(default_factory=list)  # those answered with 2xx
    answer: Callable[[Delivery], int] = lambda _: 204
    more: dict[str, str] = field(default_factory=dict)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/hooks/a-long-password"

    async def wait_for(self, wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not wanted():
                self._changed.clear()
                await self._changed.wait()

    async def took(self, count: int) -> list[Delivery]:
        """So many were taken, at least; all of them."""
        await self.wait_for(lambda: len(self.taken) >= count)
        return self.taken

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                delivery = await self._read(reader)
                self.came.append(delivery)
                self._changed.set()
                await self.may_answer.wait()
                status = self.answer(delivery)
                if status == NO_ANSWER:
                    return
                more = "".join(f"{name}: {value}\r\n" for name, value in self.more.items())
                end = "\r\n" if status == 204 else "Content-Length: 2\r\n\r\nok"
                writer.write(f"HTTP/1.1 {status} So\r\n{more}{end}".encode())
                await writer.drain()
                if 200 <= status < 300:
                    self.taken.append(delivery)
                    self._changed.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Delivery:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("POST /hooks/")
        lines = [line.partition(":") for line in head.split("\r\n")[1:] if line]
        headers = {name.lower(): value.strip() for name, _, value in lines}
        return Delivery(headers, await reader.readexactly(int(headers["content-length"])))


@asynccontextmanager
async def hook_receiver() -> AsyncIterator[HookReceiver]:
    there = HookReceiver()
    there.may_answer.set()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(there.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    there.port = server.sockets[0].getsockname()[1]
    try:
        yield there
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()

"""A provider on the loopback address that speaks real HTTP and says what a test tells it to."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from server.protocol.codec import parse

HANG = None  # in a script: say nothing more, and keep the connection


@dataclass
class Provider:
    """`script` is written piece by piece; then the connection is closed, unless the last piece is `HANG`."""

    port: int = 0
    script: Sequence[bytes | None] = ()
    asked: list[Any] = field(default_factory=list)  # the bodies that came
    headers: list[str] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)  # whoever asked has closed the connection

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.headers.append(head)
            length = next(int(line[15:]) for line in head.lower().splitlines() if line.startswith("content-length:"))
            self.asked.append(parse((await reader.readexactly(length)).decode()))
            for piece in self.script:
                if piece is HANG:
                    await reader.read()
                    self.left.set()
                    break
                writer.write(piece)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            self.left.set()
        finally:
            writer.close()


def streaming(*pieces: bytes | None) -> list[bytes | None]:
    """An answer of 200 whose end is the end of the connection."""
    return [b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n", *pieces]


def refusing(status: int, body: bytes, content_type: str = "application/json", *headers: str) -> list[bytes | None]:
    lines = [f"HTTP/1.1 {status} No", f"content-type: {content_type}", f"content-length: {len(body)}", *headers]
    return ["\r\n".join(lines).encode() + b"\r\n\r\n" + body]


@asynccontextmanager
async def provider_double(script: Sequence[bytes | None]) -> AsyncIterator[Provider]:
    provider = Provider(script=script)
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    provider.port = server.sockets[0].getsockname()[1]
    try:
        yield provider
    finally:
        server.close()
        await server.wait_closed()

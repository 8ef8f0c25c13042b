"""A TCP proxy that misbehaves on order: between clients and workers, workers and Redis, workers and Postgres.

In:   where to listen (always a port of the loopback address) and how to reach what stands behind.
Out:  the same bytes, late, slowly, or not at all.
Promises: a mode holds from the moment it is set for every connection, old and new. Nothing is taken in that cannot be
handed on: while a proxy holds bytes back it does not read either, so that both ends feel a slow network and no buffer.

`stall` is what a pulled cable looks like: both ends stay open, nothing passes, and that one end has gone is not told to
the other. `reset` tells at once, with a TCP reset, and lets nobody in.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Protocol

CHUNK_BYTES = 64 * 1024
THROTTLE_STEP_S = 0.05
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time: closing sends a reset

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Reach = Callable[[], Awaitable[Streams]]


class Mode(StrEnum):
    PASS = "pass"
    STALL = "stall"
    RESET = "reset"
    DELAY = "delay"
    THROTTLE = "throttle"


class Filter(Protocol):
    """Looks at what goes from the near end to the far one, and says what goes on instead."""

    async def through(self, data: bytes) -> bytes: ...


def tcp(port: int) -> Reach:
    return lambda: asyncio.open_connection("127.0.0.1", port, limit=CHUNK_BYTES)


def unix(path: Path) -> Reach:
    return lambda: asyncio.open_unix_connection(str(path), limit=CHUNK_BYTES)


class Proxy:
    """`filter_of` makes a filter for each connection."""

    def __init__(self, reach: Reach, *, filter_of: Callable[[], Filter] | None = None) -> None:
        self.port = 0
        self.mode = Mode.PASS
        self.delay_s = 0.0
        self.bytes_per_s = 0
        self.links: dict[Link, None] = {}
        self.accepted = 0
        self._reach = reach
        self._filter_of = filter_of
        self._server: asyncio.Server | None = None
        self._opened = asyncio.Event()  # whoever waits while nothing passes is told here
        self._opened.set()

    async def open(self, port: int) -> None:
        self.port = port
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port, limit=CHUNK_BYTES, backlog=4096)

    async def close(self) -> None:
        self.set(Mode.RESET)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        await asyncio.gather(*(link.ended() for link in tuple(self.links)))

    def set(self, mode: Mode, *, delay_s: float = 0.0, bytes_per_s: int = 0) -> None:
        self.mode, self.delay_s, self.bytes_per_s = mode, delay_s, bytes_per_s
        if mode is Mode.STALL:
            self._opened.clear()
        else:
            self._opened.set()
        if mode is Mode.RESET:
            self.reset_all()

    def reset_all(self) -> int:
        """Cut every connection there is now; those that come later are as the mode says. How many it were."""
        links = tuple(self.links)
        for link in links:
            link.reset()
        return len(links)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = Link(self, (reader, writer), self._filter_of() if self._filter_of else None)
        self.links[link] = None
        try:
            await link.run(self._reach)
        finally:
            self.links.pop(link, None)

    async def may_pass(self) -> None:
        while self.mode is Mode.STALL:
            await self._opened.wait()


class Link:
    """One connection through a proxy. `is_dead` stalls this one alone, for ever."""

    def __init__(self, proxy: Proxy, near: Streams, filtering: Filter | None) -> None:
        self.is_dead = False
        self._proxy = proxy
        self._near = near
        self._far: Streams | None = None
        self._filter = filtering
        self._task = asyncio.current_task()
        self._is_over = asyncio.Event()

    async def run(self, reach: Reach) -> None:
        try:
            if self._proxy.mode is Mode.RESET:
                return self.reset()
            await self._proxy.may_pass()
            self._far = await reach()
            await self._pass_both_ways(self._far)
        except (OSError, EOFError):
            self.reset()  # nobody behind, or one of the two has gone the hard way
        except asyncio.CancelledError:
            pass  # by `reset`, which has put everything away
        finally:
            for streams in (self._near, self._far):
                if streams is not None:
                    streams[1].close()
            self._is_over.set()
        return None

    async def ended(self) -> None:
        await self._is_over.wait()

    def reset(self) -> None:
        for streams in (self._near, self._far):
            if streams is not None:
                _reset(streams[1])
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def _pass_both_ways(self, far: Streams) -> None:
        ways = [
            asyncio.create_task(self._pass(self._near[0], far[1], self._filter)),
            asyncio.create_task(self._pass(far[0], self._near[1], None)),
        ]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
            for way in done:
                way.result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, filtering: Filter | None) -> None:
        while True:
            await self._may_pass()
            data = await source.read(CHUNK_BYTES)
            await self._may_pass()  # a stall that began while we waited for these bytes holds them too
            if not data:
                # One side has said all it will: the other may still answer, unless it has nothing to say either.
                with suppress(OSError):
                    sink.write_eof()
                return
            if self._proxy.mode is Mode.DELAY:
                await asyncio.sleep(self._proxy.delay_s)
            if filtering is not None:
                data = await filtering.through(data)
            await self._write(sink, data)

    async def _may_pass(self) -> None:
        if self.is_dead:
            await asyncio.Event().wait()
        await self._proxy.may_pass()

    async def _write(self, sink: asyncio.StreamWriter, data: bytes) -> None:
        while data:
            step = len(data)
            if self._proxy.mode is Mode.THROTTLE:
                step = max(1, int(self._proxy.bytes_per_s * THROTTLE_STEP_S))
                await asyncio.sleep(THROTTLE_STEP_S)
            sink.write(data[:step])
            data = data[step:]
            await sink.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()

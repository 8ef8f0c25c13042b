"""What goes wrong with publishing: whole commands of the Redis protocol, found in the stream and tampered with.

In:   the bytes that a worker sends to Redis, cut anywhere.
Out:  the same commands; of those that publish, as the order says, some that go nowhere, some twice, some late.
Promises: every command gets the answer it would have got, in its turn: one that is taken out is replaced by a publish
to a topic that nobody follows. What is said twice or late travels on a connection of its own.

The protocol (RESP): a command is an array of bulk strings, `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

NOWHERE = b"chaos:nowhere"
LATE_S = 0.05  # beyond the 25 ms for which a node waits for what came out of order


class Tampering(StrEnum):
    NONE = "none"
    DROP = "drop"
    REPEAT = "repeat"
    REORDER = "reorder"


@dataclass
class Order:
    """What to do with every `every`-th publish of a conversation; one for all connections."""

    tampering: Tampering = Tampering.NONE
    every: int = 1
    seen: int = 0
    tampered: int = 0
    side: "SideChannel" = field(default_factory=lambda: SideChannel())

    def set(self, tampering: Tampering, every: int = 1) -> None:
        self.tampering, self.every, self.seen = tampering, every, 0

    def is_next(self) -> bool:
        self.seen += 1
        is_mine = self.tampering is not Tampering.NONE and self.seen % self.every == 0
        self.tampered += is_mine
        return is_mine


class SideChannel:
    """A connection to Redis of our own, opened when it is first needed."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._late: set[asyncio.TimerHandle] = set()

    async def send(self, command: bytes) -> None:
        if self._writer is None:
            reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
            self._reading = asyncio.create_task(self._read_on(reader))
        self._writer.write(command)

    async def send_late(self, command: bytes) -> None:
        await self.send(b"")
        assert self._writer is not None
        asyncio.get_running_loop().call_later(LATE_S, self._writer.write, command)

    async def _read_on(self, reader: asyncio.StreamReader) -> None:
        try:
            while await reader.read(65536):
                pass
        finally:
            self._writer = None

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._writer is not None:
            self._writer.transport.abort()


class PublishFilter:
    """For one connection of a worker."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._rest = b""

    async def through(self, data: bytes) -> bytes:
        commands, self._rest = split(self._rest + data)
        return b"".join([await self._instead_of(raw, words) for raw, words in commands])

    async def _instead_of(self, raw: bytes, words: list[bytes]) -> bytes:
        is_publish = len(words) == 3 and words[0].upper() in (b"PUBLISH", b"SPUBLISH")
        if not is_publish or b"conversation:" not in words[1] or not self._order.is_next():
            return raw
        nothing = encoded(words[0], NOWHERE, b"")
        match self._order.tampering:
            case Tampering.DROP:
                return nothing
            case Tampering.REPEAT:
                await self._order.side.send(raw)
                return raw
            case Tampering.REORDER:
                await self._order.side.send_late(raw)
                return nothing
        return raw


def split(data: bytes) -> tuple[list[tuple[bytes, list[bytes]]], bytes]:
    """The whole commands at the beginning, each as its bytes and its words, and what is left."""
    commands = []
    at = 0
    while (found := _command(data, at)) is not None:
        end, words = found
        commands.append((data[at:end], words))
        at = end
    return commands, data[at:]


def _command(data: bytes, at: int) -> tuple[int, list[bytes]] | None:
    """Where the command that begins at `at` ends; None while it has not come in whole."""
    line = _line(data, at)
    if line is None:
        return None
    end, head = line
    if not head.startswith(b"*"):
        return end, head.split()  # an inline command, as somebody types it
    words = []
    for _ in range(int(head[1:])):
        line = _line(data, end)
        if line is None:
            return None
        end, size = line[0], int(line[1][1:])
        if len(data) < end + size + 2:
            return None
        words.append(data[end : end + size])
        end += size + 2
    return end, words


def _line(data: bytes, at: int) -> tuple[int, bytes] | None:
    end = data.find(b"\r\n", at)
    return None if end < 0 else (end + 2, data[at:end])


def encoded(*words: bytes) -> bytes:
    return b"".join(_parts(words))


def _parts(words: tuple[bytes, ...]) -> Iterator[bytes]:
    yield b"*%d\r\n" % len(words)
    for word in words:
        yield b"$%d\r\n%s\r\n" % (len(word), word)

"""Many sockets of one person that all follow one room: what a proxy that restarts does to a server.

In:   a token, a room, and for each socket the port of its worker.
Out:  how long each took, from the reset, to have seen an event that was committed after it.
"""

import asyncio
import json
import random
from collections.abc import Callable
from contextlib import suppress

from server.protocol.ids import new_id
from tests.chaos.light_socket import LightSocket, NotLetIn

OPEN_TOGETHER = 50  # handshakes under way while the crowd gathers; the storm itself has no such limit
KNOCK_S = (0.0, 1.0)  # everybody waits a little, by lot, as the interface asks of a client
AGAIN_S = (0.3, 1.0)


class Visitor:
    def __init__(self, number: int) -> None:
        self.number = number
        self.seen = 0
        self.epoch: str | None = None
        self.socket: LightSocket | None = None
        self.moved = asyncio.Event()
        self.is_open = asyncio.Event()

    def hear(self, text: bytes) -> None:
        if b'"type":"event"' in text:
            self.seen = max(self.seen, json.loads(text)["seq"])
            self.moved.set()
        elif b'"type":"subscribed"' in text:
            answer = next(iter(json.loads(text)["conversations"].values()))
            self.epoch = answer["epoch"]
            self.seen = answer["head"] if answer["reset"] or not self.seen else self.seen
            self.is_open.set()
            self.moved.set()

    def closed(self, code: int | None) -> None:
        self.is_open.clear()
        self.socket = None


class Storm:
    def __init__(self, token: str, room: str, port_of: Callable[[int], int]) -> None:
        self._token = token
        self._room = room
        self._port_of = port_of
        self.refused = 0  # handshakes, with a time to come back at
        self._visitors: list[Visitor] = []
        self._began = 0.0
        self._rng = random.Random(0)
        self._returning: list[asyncio.Task[None]] = []

    async def open(self, count: int) -> None:
        self._visitors = [Visitor(number) for number in range(count)]
        together = asyncio.Semaphore(OPEN_TOGETHER)

        async def come(visitor: Visitor) -> None:
            async with together:
                await self._come(visitor, from_head=True)
                await visitor.is_open.wait()

        await asyncio.gather(*map(come, self._visitors))

    def reset(self) -> None:
        """All at once; each comes back by itself."""
        self._began = asyncio.get_running_loop().time()
        for visitor in self._visitors:
            if visitor.socket is not None:
                visitor.socket.reset()
        self._returning = [asyncio.create_task(self._return(visitor)) for visitor in self._visitors]

    async def until_whole(self, seq: int, timeout_s: float) -> list[float]:
        """How long after the reset each has seen everything up to `seq`; those that never did are left out."""
        times: list[float] = []

        async def wait(visitor: Visitor) -> None:
            while visitor.seen < seq or not visitor.is_open.is_set():
                visitor.moved.clear()
                await visitor.moved.wait()
            times.append(asyncio.get_running_loop().time() - self._began)

        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*map(wait, self._visitors))
        return times

    async def _return(self, visitor: Visitor) -> None:
        await asyncio.sleep(self._rng.uniform(*KNOCK_S))
        while True:
            try:
                await self._come(visitor, from_head=False)
                return
            except NotLetIn as refused:
                self.refused += 1
                await asyncio.sleep(refused.retry_after_s or self._rng.uniform(*AGAIN_S))
            except (OSError, TimeoutError):
                await asyncio.sleep(self._rng.uniform(*AGAIN_S))

    async def _come(self, visitor: Visitor, *, from_head: bool) -> None:
        port = self._port_of(visitor.number)
        visitor.socket = await LightSocket.open(port, self._token, visitor.hear, visitor.closed)
        cursor = None if from_head else {"seq": visitor.seen, "epoch": visitor.epoch}
        frame = {"type": "subscribe", "id": new_id(), "conversations": {self._room: cursor}}
        visitor.socket.send(json.dumps(frame).encode())

    async def close(self) -> None:
        for task in self._returning:
            task.cancel()
        await asyncio.gather(*self._returning, return_exceptions=True)
        for visitor in self._visitors:
            if visitor.socket is not None:
                visitor.socket.close()

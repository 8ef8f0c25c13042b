"""Messages of this node on their way to the other nodes.

In:   messages, from the event loop's turn in which something was committed.
Out:  batches in the same order, each for one round trip.
Promises: bounded in bytes and in time. What is too much, or older than a second, is given up and counted; typing and
presence are given up first, so that they never stand in a message's way.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

DEADLINE_S = 1.0  # from `put` to the beginning of the sending; later, comparing heads has found it
MAX_BYTES = 8 * 1024 * 1024  # some seconds of a very busy node
MAX_BYTES_BEFORE_SHEDDING = MAX_BYTES // 8
BATCH_BYTES = 256 * 1024  # arrives well within the deadline of a round trip on any network that deserves the name


class Message(NamedTuple):
    channel: bytes
    data: bytes
    is_missed: bool  # whether the others must compare when it gets lost
    expires_at: float


class Outgoing:
    """`lost(messages, reason)` is told of everything that will not be sent."""

    def __init__(self, lost: Callable[[Sequence[Message], str], None]) -> None:
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, channel: bytes, data: bytes, *, is_missed: bool, is_droppable: bool = False) -> None:
        message = Message(channel, data, is_missed, self._loop.time() + DEADLINE_S)
        if self._bytes + len(data) > (MAX_BYTES_BEFORE_SHEDDING if is_droppable else MAX_BYTES):
            self._lost([message], "shed" if is_droppable else "full")
            return
        self._messages.append(message)
        self._bytes += len(data)
        self._filled.set()

    async def take(self) -> list[Message]:
        """Wait for some; what had to wait too long is not among them."""
        while True:
            self.give_up_late()
            if self._messages:
                return self._next_batch()
            self._filled.clear()
            await self._filled.wait()

    def _next_batch(self) -> list[Message]:
        batch: list[Message] = []
        size = 0
        while self._messages and size < BATCH_BYTES:
            message = self._messages.popleft()
            size += len(message.data)
            batch.append(message)
        self._bytes -= size
        return batch

    def give_up_late(self) -> None:
        now = self._loop.time()
        late: list[Message] = []
        while self._messages and self._messages[0].expires_at <= now:
            late.append(self._messages.popleft())
            self._bytes -= len(late[-1].data)
        if late:
            self._lost(late, "late")

"""What a program reads from: the entries of one conversation or of all, each once, in order.

Promises: nothing is thrown away for a slow reader. One with too much unread is *full*: what follows is left with the
server until half of it has been read. Reading ends with the error that ended the connection.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Self

from server.client.items import Entry, Item, Reset

MAX_UNREAD = 10_000  # items; some megabytes


class Stream:
    """Read it with `async for`. A stream that nobody holds any more costs nothing; `close` ends it sooner."""

    def __init__(
        self, conversation: str | None, *, closed: Callable[["Stream"], None], has_room: Callable[[], None],
        max_unread: int = MAX_UNREAD,
    ) -> None:  # fmt: skip
        self.conversation = conversation  # None: all that are followed
        self._closed = closed
        self._has_room = has_room
        self._max_unread = max_unread
        self._unread: deque[Item] = deque()
        self._given: Item | None = None  # handed out; done with when the next one is asked for
        self._news: asyncio.Future[None] | None = None
        self._end: Exception | None = None
        self._was_full = False

    @property
    def is_full(self) -> bool:
        return len(self._unread) >= self._max_unread

    @property
    def unread(self) -> int:
        return len(self._unread)

    def wants(self, conversation: str) -> bool:
        return self._end is None and self.conversation in (None, conversation)

    def put(self, item: Item) -> None:
        self._unread.append(item)
        self._was_full = self._was_full or self.is_full
        self._wake()

    def end(self, error: Exception) -> None:
        """What is unread can still be read."""
        if self._end is None:
            self._end = error
            self._wake()

    def close(self) -> None:
        self._unread.clear()
        self._given = None
        self.end(StopAsyncIteration())
        self._closed(self)

    def oldest_unread(self, conversation: str) -> Entry | Reset | None:
        """The first place in the log that the reader is not done with."""
        for item in (self._given, *self._unread):
            if isinstance(item, Entry | Reset) and item.conversation == conversation:
                return item
        return None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        self._given = None
        while not self._unread:
            if self._end is not None:
                raise self._end
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        self._given = self._unread.popleft()
        if self._was_full and len(self._unread) <= self._max_unread // 2:
            self._was_full = False
            self._has_room()
        return self._given

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

"""How far each member has received and read: cumulative cursors, never a row per message.

In:   `delivered` and `read` of every device: how far it has come.
Out:  both cursors of the member, written with one statement a second; `receipt` frames to the other members, unless
they are many or behind a block, and to the member's own devices always.
Promises: a cursor only moves forward, never beyond the head, and several devices and workers of one person add up to
the farthest. What a device missed of the others it finds in the list of members.
"""

import asyncio

from loguru import logger

from server.hub.hub import Hub
from server.protocol.errors import ChatError
from server.storage.reading_cursors import Mark, ReadingCursors

WRITE_EVERY_S = 1.0
MAX_TOLD = 50  # members; in a larger room nobody follows single readers


class Receipts:
    def __init__(self, hub: Hub, cursors: ReadingCursors) -> None:
        self._hub = hub
        self._cursors = cursors
        self._marks: dict[tuple[str, str], tuple[int, int]] = {}  # (conversation, user) → delivered, read
        self._timer: asyncio.TimerHandle | None = None
        self._lock = asyncio.Lock()

    def note(self, conversation: str, user: str, *, delivered: int = 0, read: int = 0) -> None:
        known_delivered, known_read = self._marks.get((conversation, user), (0, 0))
        self._marks[conversation, user] = max(known_delivered, delivered, read), max(known_read, read)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WRITE_EVERY_S, self._write_soon)

    async def write(self) -> None:
        """Write now what was noted; whoever asks for unread counts next sees it."""
        async with self._lock:
            marks, self._marks = self._marks, {}
            if not marks:
                return
            rows = [(conversation, user, delivered, read) for (conversation, user), (delivered, read) in marks.items()]
            try:
                moved = await self._cursors.move(rows)
            except ChatError:
                for (conversation, user), (delivered, read) in marks.items():  # kept for the next time
                    self.note(conversation, user, delivered=delivered, read=read)
                raise
            self._tell(moved)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self.write()
        except ChatError:
            logger.warning("read cursors of the last second are lost: the database is away")

    def _write_soon(self) -> None:
        self._timer = None
        self._hub.spawn(self._write_or_wait())

    async def _write_or_wait(self) -> None:
        try:
            await self.write()
        except ChatError:
            self._timer = self._timer or asyncio.get_running_loop().call_later(WRITE_EVERY_S, self._write_soon)

    def _tell(self, moved: list[Mark]) -> None:
        told: dict[tuple[str, bool], list[tuple[str, int, int]]] = {}
        for mark in moved:
            is_told = mark.members <= MAX_TOLD and not mark.is_blocked
            told.setdefault((mark.conversation, is_told), []).append((mark.user, mark.delivered, mark.read))
        for (conversation, is_told), cursors in told.items():
            self._hub.cursors_moved(conversation, cursors, is_told=is_told)

"""How far each member has received and read: cumulative cursors, never a row per message.

What clients report is gathered for a second, written with one statement, and told to the conversation once.
"""

import asyncio

from loguru import logger

from server.hub.hub import Hub
from server.protocol.errors import ChatError
from server.protocol.frames import Receipt
from server.storage.conversations import Conversations, Mark

WRITE_EVERY_S = 1.0
MAX_TOLD = 50  # members; in a larger room nobody follows single readers


class Receipts:
    def __init__(self, hub: Hub, conversations: Conversations) -> None:
        self._hub = hub
        self._conversations = conversations
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
                moved = await self._conversations.mark(rows)
            except ChatError:
                for (conversation, user), (delivered, read) in marks.items():  # kept for the next time
                    self.note(conversation, user, delivered=delivered, read=read)
                raise
            for mark in moved:
                self._tell(mark)

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

    def _tell(self, mark: Mark) -> None:
        if mark.members <= MAX_TOLD:
            frame = Receipt(conversation=mark.conversation, user=mark.user, delivered=mark.delivered, read=mark.read)
            self._hub.pass_on(mark.conversation, frame, droppable=True)

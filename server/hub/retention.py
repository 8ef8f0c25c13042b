"""The keeper of limits: takes away what is older than a conversation wants to keep, while people go on talking, and
what conversations that were deleted have left behind.

One node at a time, whichever comes first; a piece at a time, with room for senders in between. Feeds notice the new
beginning of a log when they compare heads, and forget what lies before it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

from loguru import logger

from server.protocol import clock
from server.protocol.errors import ChatError, Overloaded
from server.storage import retention
from server.storage.advisory import if_alone
from server.storage.database import Database
from server.storage.purge import Purge
from server.telemetry import metrics

FIRST_AFTER_S = 10.0  # clients that come back after a restart are served first
EVERY_S = 300.0  # limits are days
PAUSE_S = 0.02  # between pieces: whoever waited for the head gets it


class Retention:
    def __init__(
        self, database: Database, default_days: int | None, *, clock: Callable[[], datetime] = clock.now
    ) -> None:
        self._database = database
        self._log = retention.Retention(database, default_days)
        self._purge = Purge(database)
        self._now = clock
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def run_once(self) -> int:
        """Take away all that is too old or deleted now; how many events that were. 0 where another node is at it."""
        async with if_alone(self._database, "retention") as is_ours:
            if not is_ours:
                return 0
            taken = await self._take_all(self._log.due, lambda due: self._log.shorten(due, self._now()))
            return taken + await self._take_all(self._purge.due, self._purge.take)

    async def _take_all(
        self, due_at: Callable[[datetime], Awaitable[list[str]]], take: Callable[[str], Awaitable[retention.Piece]]
    ) -> int:
        taken = 0
        busy: set[str] = set()
        while due := [conversation for conversation in await due_at(self._now()) if conversation not in busy]:
            for conversation in due:
                events = await self._take(conversation, take)
                taken += events
                if not events:
                    busy.add(conversation)  # somebody holds it, or a webhook is still to be told: next time
        return taken

    async def _take(self, conversation: str, take: Callable[[str], Awaitable[retention.Piece]]) -> int:
        taken = 0
        while True:
            try:
                piece = await take(conversation)
            except Overloaded:
                return taken
            taken += piece.events
            metrics.events_pruned.inc(piece.events)
            if piece.is_last:
                return taken
            await asyncio.sleep(PAUSE_S)

    async def _run(self) -> None:
        pause_s = FIRST_AFTER_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = EVERY_S
            try:
                taken = await self.run_once()
                if taken:
                    logger.info("{} events were older than their conversations keep them", taken)
            except ChatError as error:
                logger.warning("old events could not be taken away: {}; trying again later", error.code)
            except Exception:  # noqa: BLE001 - the keeper must not end
                logger.exception("old events could not be taken away")

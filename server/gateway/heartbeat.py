"""The heartbeat: finds dead sockets, and tells the living what has moved in conversations they do not follow.

One timer serves all sockets: it asks each second, and each socket knows itself when it is due to be looked at.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from loguru import logger

from server.hub.hub import Hub
from server.protocol.errors import ChatError
from server.protocol.frames import Heads
from server.storage.conversations import Conversations
from server.telemetry.loop_lag import LoopLag

HEARTBEAT_S = 25.0  # under the 60 s after which nginx closes an idle proxied socket by default
STEPS = 25
WITHOUT_BUS_S = 2.0  # then nobody tells of invitations
TELL_TIMEOUT_S = 10.0
OVERLAP_S = 10.0  # commits become visible later than the time they carry


class Heartbeat:
    def __init__(self, hub: Hub, conversations: Conversations, is_bus_healthy: Callable[[], bool]) -> None:
        self._hub = hub
        self._conversations = conversations
        self._is_bus_healthy = is_bus_healthy
        self._gap = asyncio.Event()
        hub.on_gap.append(self._gap.set)
        self._tasks: list[asyncio.Task[None]] = []
        self._lag = LoopLag(asyncio.get_running_loop())

    def start(self) -> None:
        self._lag.start()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._look()), loop.create_task(self._tell())]

    async def stop(self) -> None:
        self._lag.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(HEARTBEAT_S / STEPS)
            try:
                for connection in self._hub.connections():
                    connection.look(loop.time())
            except Exception:  # noqa: BLE001 - the look-out must not end
                logger.exception("sockets could not be looked at")

    async def _tell(self) -> None:
        """Heads, in a task of its own: a database that stands still must not keep the sockets from their pings."""
        loop = asyncio.get_running_loop()
        told_at = loop.time()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S if self._is_bus_healthy() else WITHOUT_BUS_S):
                    await self._gap.wait()
            self._gap.clear()
            now = loop.time()
            try:
                async with asyncio.timeout(TELL_TIMEOUT_S):
                    await self._tell_heads(now - told_at + OVERLAP_S)
            except (ChatError, TimeoutError):
                continue  # the database is away; the next beat tells more
            except Exception:  # noqa: BLE001 - the edge of a task: reported
                logger.exception("heads could not be told")
            told_at = now

    async def _tell_heads(self, within_s: float) -> None:
        connections = self._hub.connections()
        moved = await self._conversations.moved_within(within_s, list({c.user_id for c in connections}))
        for user, conversations in moved.items():
            for one in conversations:
                if one.is_new:  # the notice of an invitation, or of a first message, may have been lost
                    self._hub.tell_added(user, one.conversation)
        for connection in connections:
            heads = {one.conversation: one.head for one in moved.get(connection.user_id, ()) if one.head}
            if heads:
                connection.tell(Heads(conversations=heads))

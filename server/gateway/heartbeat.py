"""The heartbeat: finds dead sockets, and tells the living what has moved in conversations they do not follow.

One timer serves all sockets: it asks each second, and each socket knows itself when it is due to be looked at.
"""

import asyncio
from datetime import datetime, timedelta

from loguru import logger

from server.hub.hub import Hub
from server.protocol import clock
from server.protocol.errors import ChatError
from server.protocol.frames import Heads
from server.storage.conversations import Conversations
from server.telemetry.loop_lag import LoopLag

HEARTBEAT_S = 25.0  # under the 60 s after which nginx closes an idle proxied socket by default
STEPS = 25
OVERLAP = timedelta(seconds=5)  # commits become visible later than the time they carry


class Heartbeat:
    def __init__(self, hub: Hub, conversations: Conversations) -> None:
        self._hub = hub
        self._conversations = conversations
        self._task: asyncio.Task[None] | None = None
        self._lag = LoopLag(asyncio.get_running_loop())

    def start(self) -> None:
        self._lag.start()
        self._task = asyncio.get_running_loop().create_task(self._beat())

    async def stop(self) -> None:
        self._lag.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _beat(self) -> None:
        loop, step, since = asyncio.get_running_loop(), 0, clock.now()
        while True:
            await asyncio.sleep(HEARTBEAT_S / STEPS)
            step = (step + 1) % STEPS
            try:
                for connection in self._hub.connections():
                    connection.look(loop.time())
                if step == 0:
                    since = await self._tell_heads(since)
            except ChatError:
                pass  # the database is away; the next beat tells more
            except Exception:  # noqa: BLE001 - the edge of a task: reported
                logger.exception("a heartbeat failed")

    async def _tell_heads(self, since: datetime) -> datetime:
        now = clock.now()
        connections = self._hub.connections()
        moved = await self._conversations.moved_since(since - OVERLAP, list({c.user_id for c in connections}))
        for connection in connections:
            heads = moved.get(connection.user_id)
            if heads:
                connection.tell(Heads(conversations=heads))
        return now

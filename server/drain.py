"""The drain: how a studio or one of its workers goes, without anybody losing anything.

Order: not ready and no new sockets, everybody told when to come back, what was accepted is committed and acknowledged,
sockets closed with 1012. Where other workers serve on, each socket stays in use until its slot, so that its person
notices nothing; where this is the only process, all go at once, and the slots spread those who come back.
Promises: it ends 25 s after it began, whatever does not.
"""

import asyncio
from contextlib import suppress

import uvicorn
from loguru import logger

from server.app import Parts
from server.hub.hub import Connection
from server.protocol.frames import Drain as DrainFrame

FIRST_SLOT_MS = 500  # a proxy or the next process needs a moment
SLOTS_PER_S = 500  # a worker lets in about a thousand a second; half of that leaves the others their speed
DRAIN_TIMEOUT_S = 25.0  # of the 30 s that a stop may take; the rest is for putting things away
MAX_SPREAD_S = 15.0
MIN_SPREAD_S = 3.0  # for a restart of the only process, which is not back at once
STEP_S = 0.02
SETTLE_TIMEOUT_S = 3.0
CLOSE_TIMEOUT_S = 3.0
WHY = "this server is about to restart"


class Drain:
    def __init__(self, parts: Parts, server: uvicorn.Server, serving: "asyncio.Task[None]") -> None:
        self._parts = parts
        self._server = server
        self._serving = serving

    async def run(self, *, others_serve: bool) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + DRAIN_TIMEOUT_S
        self._parts.studio.is_draining = True
        if others_serve:
            self._stop_accepting()
        slots = self._hand_out_slots(MIN_SPREAD_S if not others_serve else 0.0)
        if others_serve:
            await self._close_in_their_slots(slots)
            await self._finish_answers(until - CLOSE_TIMEOUT_S - SETTLE_TIMEOUT_S)
        for connection in self._parts.hub.connections():
            connection.end_when_answered(1012, WHY)
        await self._settle(min(loop.time() + SETTLE_TIMEOUT_S, until - CLOSE_TIMEOUT_S))
        for connection in self._parts.hub.connections():
            connection.end(1012, WHY)
        self._server.should_exit = True
        await asyncio.wait([self._serving], timeout=max(0.0, min(CLOSE_TIMEOUT_S, until - loop.time())))

    def _stop_accepting(self) -> None:
        """Who knocks now is let in by another worker; here it would only be sent away."""
        for server in self._server.servers:
            server.close()

    def _hand_out_slots(self, at_least_s: float) -> list[tuple[int, Connection]]:
        connections = self._parts.hub.connections()
        spread_ms = 1000 * min(MAX_SPREAD_S, max(at_least_s, len(connections) / SLOTS_PER_S))
        slots = []
        for place, connection in enumerate(connections):
            slot_ms = FIRST_SLOT_MS + round(spread_ms * place / len(connections))
            connection.tell(DrainFrame(reconnect_in_ms=slot_ms))
            slots.append((slot_ms, connection))
        return slots

    async def _close_in_their_slots(self, slots: list[tuple[int, Connection]]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for slot_ms, connection in slots:
            while loop.time() - began < slot_ms / 1000:
                await asyncio.sleep(STEP_S)
            connection.end_when_answered(1012, WHY)

    async def _finish_answers(self, until: float) -> None:
        """Their watchers are with other workers by now, and go on watching.

        What takes longer is marked as interrupted, and can be continued.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._parts.assistant.settle()

    async def _settle(self, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._parts.queue.settle()
                while self._parts.hub.connection_count:  # each is closed as soon as it is answered
                    await asyncio.sleep(STEP_S)
        except TimeoutError:
            logger.warning(
                "the database did not answer in time: some sends stay without an answer, their senders will repeat them"
            )

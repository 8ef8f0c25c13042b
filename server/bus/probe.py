"""Whether the bus works, by the word of a canary: a message that must find its way through all of it and back.

In:   a way to send one; and the canaries that came back.
Out:  health, and what there is to be said when it changes.
Promises: within about two seconds it is known that nothing arrives any more, and at once where a connection ends.
"""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress

from server.telemetry import metrics

EVERY_S = 1.0
DEADLINE_S = 1.0
MAX_SILENCE_S = EVERY_S + DEADLINE_S
MISSES_BEFORE_CUT = 2  # one may be this process's own fault: it was stopped, or very busy


class Probe:
    """`send(number)` sends a canary and says whether it could; `found`, `missed` and `cut` act on what comes of it:
    it is back, it is not back in time, nothing has come back so often that the connections are no good.
    """

    def __init__(
        self,
        send: Callable[[int], bool],
        *,
        found: Callable[[], None],
        missed: Callable[[], None],
        cut: Callable[[], None],
    ) -> None:
        self._send = send
        self._found = found
        self._missed = missed
        self._cut = cut
        self._heard_at = -math.inf
        self._number = 0
        self._heard: asyncio.Future[bool] | None = None
        self._soon = asyncio.Event()

    def is_healthy(self) -> bool:
        return time.monotonic() - self._heard_at <= MAX_SILENCE_S

    def ask_soon(self) -> None:
        """Something has become better: look now."""
        self._soon.set()

    def fail(self) -> None:
        """Something has gone wrong that needs no probe to be known."""
        self._heard_at = -math.inf
        self._settle(False)

    def hear(self, number: int) -> None:
        """A canary is back; one that comes too late is no good sign."""
        if number == self._number:
            self._settle(True)

    def _settle(self, is_heard: bool) -> None:
        if self._heard is not None and not self._heard.done():
            self._heard.set_result(is_heard)

    async def run(self) -> None:
        misses = 0
        while True:
            match await self._ask():
                case True:
                    misses = 0
                    self._found()
                case False:  # whoever holds the connections says why
                    misses = 0
                case None:
                    misses += 1
                    self._heard_at = -math.inf
                    self._missed()
                    if misses >= MISSES_BEFORE_CUT:
                        misses = 0
                        self._cut()
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._soon.wait()
            self._soon.clear()

    async def _ask(self) -> bool | None:
        """Whether it came back; None: neither that nor the end of a connection happened in time."""
        self._number += 1
        self._heard = asyncio.get_running_loop().create_future()
        began = time.monotonic()
        if not self._send(self._number):
            return False
        try:
            async with asyncio.timeout(DEADLINE_S):
                is_heard = await self._heard
        except TimeoutError:
            return None
        if is_heard:
            self._heard_at = time.monotonic()
            metrics.bus_round_trip_seconds.observe(self._heard_at - began)
        return is_heard

"""How late the event loop wakes up.

In:   an event loop.
Out:  the histogram `chat_loop_lag_seconds`.
Promises: a loop that stood still for a second counts ten times, once for each look that was due meanwhile: else long
stalls, in which nobody can look, would be the rarest in the figure.
"""

import asyncio

from server.telemetry import metrics

EVERY_S = 0.1
MOST_AT_ONCE = 600  # a minute; a process that was paused for a night has not lagged that long


class LoopLag:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._plan(self._loop.time() + EVERY_S)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _plan(self, due: float) -> None:
        self._due = due
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        now, due = self._loop.time(), self._due
        for _ in range(MOST_AT_ONCE):
            metrics.loop_lag_seconds.observe(max(0.0, now - due))  # a timer may come a little early
            due += EVERY_S
            if due > now:
                break
        self._plan(max(due, now + EVERY_S / 2))

"""A worker that can be told to fail: `chat-studio serve`, with its seams opened before it starts.

In:   the command line of `chat-studio`; orders on standard input, one a line (`kill after_commit 3`, `clock 3600`);
      CHAOS_SABOTAGE in the environment, a promise that is to be broken from the start (see `sabotage`).
Out:  the worker, as it is but for what was ordered.
Promises: without an order nothing is changed but that each seam counts who passes. A seam that is not there any more is
an error at the start, never a silent nothing. Server code knows nothing of this file.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from server.protocol import clock
from tests.chaos.seams import replace

LET_OUT_S = 0.05  # before an ack that never goes out, what was published gets the time to leave


class Point(StrEnum):
    """Where a worker may be told to kill itself, in the order in which a message passes."""

    BEFORE_COMMIT = "before_commit"
    IN_COMMIT = "in_commit"  # the statement is on its way, its answer is not
    AFTER_COMMIT = "after_commit"
    BEFORE_PUBLISH = "before_publish"
    BEFORE_ACK = "before_ack"  # published, and nobody is answered


class Orders:
    """What was ordered last; read by every seam."""

    def __init__(self) -> None:
        self._point: str | None = None
        self._passes = 0
        self.clock_offset = timedelta()

    def take(self, line: str) -> None:
        verb, *words = line.split()
        match verb:
            case "kill":
                self._point, self._passes = Point(words[0]), int(words[1])
            case "clock":
                self.clock_offset = timedelta(seconds=float(words[0]))
            case _:
                raise ValueError(f"{verb!r} is no order")

    def is_due(self, point: Point) -> bool:
        """Count one pass; whether it is the one to die at."""
        if self._point != point:
            return False
        self._passes -= 1
        return self._passes <= 0

    def listen(self) -> None:
        for line in sys.stdin:
            self.take(line)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def turn_clock(orders: Orders) -> None:
    """To be called before anything else is imported: some parts keep the function itself."""

    def turned(now: Callable[[], datetime]) -> Callable[[], datetime]:
        return lambda: now() + orders.clock_offset

    replace(clock, "now", turned)


def open_seams(orders: Orders) -> None:
    from server.gateway.connection import Connection
    from server.hub.hub import Hub
    from server.protocol.frames import Ack
    from server.storage.message_log import MessageLog

    def committing(commit: Callable[..., Any]) -> Callable[..., Any]:
        async def around(*arguments: Any, **named: Any) -> Any:
            if orders.is_due(Point.BEFORE_COMMIT):
                die()
            if orders.is_due(Point.IN_COMMIT):
                asyncio.get_running_loop().call_later(0.001, die)
            answer = await commit(*arguments, **named)
            if orders.is_due(Point.AFTER_COMMIT):
                die()
            return answer

        return around

    def publishing(publish: Callable[..., None]) -> Callable[..., None]:
        def around(*arguments: Any, **named: Any) -> None:
            if orders.is_due(Point.BEFORE_PUBLISH):
                die()
            publish(*arguments, **named)

        return around

    is_dying = False

    def telling(tell: Callable[..., None]) -> Callable[..., None]:
        def around(self: Any, frame: Any) -> None:
            nonlocal is_dying
            if isinstance(frame, Ack):
                if not is_dying and orders.is_due(Point.BEFORE_ACK):
                    is_dying = True
                    asyncio.get_running_loop().call_later(LET_OUT_S, die)
                if is_dying:
                    return
            tell(self, frame)

        return around

    for name in ("append", "append_all"):
        replace(MessageLog, name, committing)
    replace(Hub, "publish", publishing)
    replace(Connection, "tell", telling)


def main() -> None:
    orders = Orders()
    turn_clock(orders)
    open_seams(orders)
    sabotaged = os.environ.get("CHAOS_SABOTAGE")
    if sabotaged:
        from tests.chaos import sabotage

        sabotage.SABOTAGES[sabotaged].break_it()
    threading.Thread(target=orders.listen, name="orders", daemon=True).start()
    from server.cli import main as serve

    serve()


if __name__ == "__main__":
    main()

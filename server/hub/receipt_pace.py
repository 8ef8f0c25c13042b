"""The pace of receipts: what one conversation's members hear of each other's cursors.

In:   cursors that moved, from all nodes.
Out:  `receipt` frames, at most one a second for the conversation: the newest cursors of whoever has waited longest.
Promises: what is not told yet is overtaken by what comes later from the same member, and the last one always goes out.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from server.protocol.frames import Receipt

TELL_EVERY_S = 1.0  # the interface's own promise


class Timer(Protocol):
    def cancel(self) -> None: ...


Later = Callable[[float, Callable[[], None]], Timer]


class ReceiptPace:
    """`later` is the event loop's `call_later`, or stands in for it."""

    def __init__(self, conversation: str, tell: Callable[[Receipt], None], later: Later) -> None:
        self._conversation = conversation
        self._tell = tell
        self._later = later
        self._waiting: dict[str, tuple[int, int]] = {}  # user → delivered, read
        self._timer: Timer | None = None

    def take(self, marks: Iterable[tuple[str, int, int]]) -> None:
        """(user, delivered, read) of each."""
        for user, delivered, read in marks:
            known_delivered, known_read = self._waiting.get(user, (0, 0))
            self._waiting[user] = max(known_delivered, delivered), max(known_read, read)
        if self._timer is None:
            self._tell_next()

    def close(self) -> None:
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _tell_next(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        user = next(iter(self._waiting))
        delivered, read = self._waiting.pop(user)
        self._timer = self._later(TELL_EVERY_S, self._tell_next)
        self._tell(Receipt(conversation=self._conversation, user=user, delivered=delivered, read=read))

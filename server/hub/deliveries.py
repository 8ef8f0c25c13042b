"""Deliveries: what a reader of the log hands to a target, what may come of it, and how often it is tried.

A reader is a kind of effect, such as webhooks; its targets are told of the events of one conversation each, in order,
at least once. A delivery's id is the same at each try, so whoever receives it can tell a repeat.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from server.protocol.frames import Event

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one target; the id has letters, digits and dashes only."""

    id: str
    target: str
    conversation: str
    event: Event


@dataclass(frozen=True, slots=True)
class Delivered:
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Try again, not before `retry_after_s`. Where it never left this process, `counts` is false."""

    reason: str
    status: int | None = None
    retry_after_s: float = 0.0
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Gone:
    """The target wants no more of anything."""

    reason: str
    status: int | None = None


Outcome = Delivered | Failed | Gone


class Receiver(Protocol):
    """A target, as it is set up at this moment."""

    @property
    def kinds(self) -> list[str] | None:
        """Of the events it wants; None: all."""

    @property
    def is_ending(self) -> bool:
        """Its conversation is no more: `end` is called once what it still wants has been delivered or given up."""

    async def deliver(self, delivery: Delivery) -> Outcome: ...

    async def end(self) -> None: ...


Effect = Callable[[str], Awaitable[Receiver | None]]  # the target of this id; None: there is none any more


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A failed delivery is tried again after a pause that doubles with each failure in a row, of whatever event.

    The pause is drawn evenly from zero to that bound ("full jitter"), so that what failed together does not come back
    together. Twelve tries of one event stretch over 17 minutes on average, 34 at most: so long one event that its
    target cannot take holds up those behind it. While nothing at all is taken, pauses are at their longest, a new event
    is given its tries over some hours, and most of the log waits where it is rather than among the dead letters.
    """

    first_s: float = 1.0
    most_s: float = 3600.0
    tries: int = 12
    disable_after_s: float = 5 * DAY_S  # of failures alone: nobody is at home there

    def pause_s(self, failures: int, draw: Callable[[], float]) -> float:
        """Before the next try, after so many failures in a row; `draw` gives numbers from 0 to 1."""
        return draw() * min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 64))

"""Where this program stands in one conversation's log, and what the next event is to it. Pure.

Promises: every entry is taken once, in order, without a hole; what is doubtful is asked for again from the last
certain place.
"""

from dataclasses import dataclass
from enum import Enum, auto

from msgspec import UNSET

from server.protocol.frames import Cursor, SubscribedTo
from server.protocol.views import EventPage


class Phase(Enum):
    WAITING = auto()  # for a connection
    ASKED = auto()  # a `subscribe` is on its way; what comes before its answer comes again after it
    LIVE = auto()
    READING = auto()  # the log over HTTP, because too much was missed to be told on the socket
    PAUSED = auto()  # whoever listens is behind; nothing is taken until they have caught up


class Verdict(Enum):
    NEXT = auto()
    REPEAT = auto()
    TOO_EARLY = auto()  # it comes again, after the answer that is awaited
    HOLE = auto()  # something before it was lost


class Answer(Enum):
    GO_ON = auto()
    READ = auto()  # what was missed is too much, or of another log: see what the log says
    GONE = auto()


@dataclass(slots=True, eq=False)
class Position:
    """`seq` is None until the first answer to somebody who asked to begin at the head."""

    conversation: str
    seq: int | None
    epoch: str | None
    phase: Phase = Phase.WAITING
    asked: str = ""  # the id of the last `subscribe`; answers to earlier ones count no more

    @property
    def cursor(self) -> Cursor | None:
        return None if self.seq is None else Cursor(seq=self.seq, epoch=self.epoch)

    def judge(self, seq: int) -> Verdict:
        if self.phase is not Phase.LIVE or self.seq is None:
            return Verdict.TOO_EARLY
        if seq == self.seq + 1:
            return Verdict.NEXT
        return Verdict.HOLE if seq > self.seq else Verdict.REPEAT

    def answered(self, answer: SubscribedTo) -> Answer:
        if answer.error is not UNSET:
            return Answer.GONE
        assert answer.head is not UNSET
        assert answer.epoch is not UNSET
        if answer.reset is True:
            return Answer.READ
        first = 1 if answer.first is UNSET else answer.first
        self.seq = answer.head if self.seq is None else max(self.seq, first - 1)
        self.epoch = answer.epoch
        return Answer.GO_ON

    def continues_in(self, page: EventPage) -> bool:
        """Whether this page of the log follows without a hole. False: it is another log, or its beginning is gone."""
        if self.epoch is None:  # nothing of it was seen: it begins where it begins
            self.seq, self.epoch = max(self.seq or 0, page.first - 1), page.epoch
        seq = self.seq or 0
        if page.epoch != self.epoch or page.head < seq or page.first > seq + 1:
            return False
        return page.events[0].seq <= seq + 1 if page.events else page.head == seq

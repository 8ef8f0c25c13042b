"""What a program that listens gets to see, in order: entries of the log, and what happens to the listening itself."""

from dataclasses import dataclass
from typing import Protocol

from msgspec import Raw

from server.protocol.codec import decode_stored
from server.protocol.events import EventData, event_types
from server.protocol.frames import Actor, ConversationSummary, Event
from server.protocol.views import MessagePage


class Entry:
    """One entry of a conversation's log. `data` is read when it is first asked for."""

    __slots__ = ("_data", "frame")

    def __init__(self, frame: Event) -> None:
        self.frame = frame
        self._data: EventData | None = None

    @property
    def conversation(self) -> str:
        return self.frame.conversation

    @property
    def seq(self) -> int:
        return self.frame.seq

    @property
    def kind(self) -> str:
        return self.frame.kind

    @property
    def at(self) -> str:
        return self.frame.at

    @property
    def actor(self) -> Actor:
        return self.frame.actor

    @property
    def raw(self) -> Raw:
        """The JSON of `data`."""
        return self.frame.data

    @property
    def data(self) -> EventData | None:
        """None for a kind that this client does not know."""
        if self._data is None and (shape := event_types.get(self.frame.kind)) is not None:
            self._data = decode_stored(bytes(self.frame.data), shape)
        return self._data

    def __repr__(self) -> str:
        return f"Entry({self.conversation}, {self.seq}, {self.kind})"


@dataclass(frozen=True, slots=True)
class Reset:
    """The log before this point cannot be had: the cursor was of another log, or older than what is kept. `page` is the
    newest page of messages; what follows are the entries after `page.head`."""

    conversation: str
    page: MessagePage


@dataclass(frozen=True, slots=True)
class Added:
    """A conversation has become mine: an invitation, or a first private message."""

    summary: ConversationSummary

    @property
    def conversation(self) -> str:
        return self.summary.id


@dataclass(frozen=True, slots=True)
class Removed:
    """A conversation is mine no more, and nothing of it follows. `code` says why: left, kicked, deleted, not_found."""

    conversation: str
    code: str


Item = Entry | Reset | Added | Removed


@dataclass(frozen=True, slots=True)
class Up:
    """Connected and welcomed. `stall` stops reading from the socket, `flow` goes on, `cut` drops it: for tests."""

    url: str
    connection: str
    line: "Line"


class Line(Protocol):
    def stall(self) -> None: ...
    def flow(self) -> None: ...
    def cut(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Down:
    """Not connected: a socket was lost, or an attempt was in vain. The next attempt is in `back_in_s`."""

    url: str
    reason: str
    code: int | None  # the close code; None where no socket was open
    status: int | None  # of a refused handshake
    back_in_s: float


ConnectionChange = Up | Down

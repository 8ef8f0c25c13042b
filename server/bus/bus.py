"""The bus: tells every node what one of them has committed, at most once.

It is a doorbell and no store. What a node must not miss it finds again by comparing heads with Postgres, so a lost or
doubled notice costs time and never truth. Notices about one topic that one node publishes arrive in the order they
were published.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec


class EventNotice(msgspec.Struct, frozen=True):
    """One committed event, already encoded: `payload` is the JSON text of its `event` frame."""

    seq: int
    kind: str
    payload: bytes


class EventsNotice(msgspec.Struct, frozen=True, tag="events"):
    """Committed events of one conversation, in the order of `seq`."""

    conversation: str
    events: list[EventNotice]


class HeadMoved(msgspec.Struct, frozen=True, tag="head"):
    """Events up to `seq` were committed that are too large to travel: who watches reads them from the log."""

    conversation: str
    seq: int


class PassingNotice(msgspec.Struct, frozen=True, tag="passing"):
    """A frame that no log keeps: typing, presence, receipts, deltas. `payload` is the frame's JSON text."""

    conversation: str
    payload: bytes
    droppable: bool


class UserNotice(msgspec.Struct, frozen=True, tag="user"):
    """Something for all sockets of one user: a conversation was `added` or `removed` (code: why)."""

    user: str
    verb: str
    conversation: str
    code: str = ""


class GrantsEnded(msgspec.Struct, frozen=True, tag="grants"):
    """No socket under these sign-ins gets another byte; `close_code` says whether they may come back."""

    grants: list[str]
    close_code: int


Notice = EventsNotice | HeadMoved | PassingNotice | UserNotice | GrantsEnded
Listener = Callable[[Notice], None]


class Bus(Protocol):
    """One listener a topic: the node's own hub, which fans out. The publisher's own node is told too."""

    on_gap: Callable[[], None]  # called when notices may have been lost; whoever opens the bus sets it before

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def publish(self, topic: str, notice: Notice) -> None:
        """Never waits and never raises: an undeliverable notice is a metric, and repair finds what it was about."""

    async def listen(self, topics: Sequence[str], listener: Listener) -> None:
        """From the return on, notices of the topics reach `listener`. A topic has one listener; a second replaces it.

        All topics in one round trip. It never raises: where notices do not travel now, it returns soon all the same,
        the topics are listened to once they do, and `on_gap` is called then.
        """

    async def unlisten(self, topics: Sequence[str]) -> None: ...

    def is_healthy(self) -> bool:
        """Whether notices travel, as far as this node can tell: the word behind `/readyz`."""


def conversation_topic(conversation: str) -> str:
    return f"conversation:{conversation}"


def user_topic(user: str) -> str:
    return f"user:{user}"


STUDIO_TOPIC = "studio"  # what concerns every node

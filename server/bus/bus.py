"""The bus: tells every node what one of them has committed, at most once.

It is a doorbell and no store. What a node must not miss it finds again by comparing heads with Postgres, so a lost or
doubled notice costs time and never truth. Notices about one topic that one node publishes arrive in the order they
were published.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from loguru import logger


class EventNotice(msgspec.Struct, frozen=True, array_like=True):
    """One committed event, already encoded: `payload` is the JSON text of its `event` frame.

    It travels as an array, since most of the traffic is these: a new field goes to the end and has a default.
    """

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


class CursorsNotice(msgspec.Struct, frozen=True, tag="cursors"):
    """How far members have come: (user, delivered, read) of each whose cursors have moved."""

    conversation: str
    cursors: list[tuple[str, int, int]]


class OwnCursors(msgspec.Struct, frozen=True, tag="own_cursors"):
    """The same of one user, for their own sockets; with `is_told` those that follow the conversation hear it there."""

    user: str
    conversation: str
    delivered: int
    read: int
    is_told: bool


class AnswersWanted(msgspec.Struct, frozen=True, tag="answers"):
    """Somebody has begun to watch in the middle of an answer: whoever carries it says once more what it has said."""

    conversation: str


class PresenceChanged(msgspec.Struct, frozen=True, tag="presence"):
    """Who has come to a conversation on `node`, and who has gone from it there, by conversation. Each one renews the
    node's lease, an empty one does nothing else. `digest` is that of all that the node has said once this is heard:
    who knows something else has missed a part and asks. None: there is still something to be said.
    """

    node: str
    came: dict[str, list[str]] = {}
    went: dict[str, list[str]] = {}
    digest: int | None = None


class PresenceWanted(msgspec.Struct, frozen=True, tag="presence_wanted"):
    """`node` asks the nodes of `of`, or all of them when it is empty, who is present there."""

    node: str
    of: list[str]


class PresenceHere(msgspec.Struct, frozen=True, tag="presence_here"):
    """The answer, by conversation: in several parts where it is long, of which the first replaces what was known."""

    node: str
    is_first: bool
    here: dict[str, list[str]]


class UserNotice(msgspec.Struct, frozen=True, tag="user"):
    """Something for all sockets of one user: a conversation was `added` (or its summary has changed) or `removed`
    (code: why), or a `block` in a private chat was made or taken back.
    """

    user: str
    verb: str
    conversation: str
    code: str = ""


class GrantsEnded(msgspec.Struct, frozen=True, tag="grants"):
    """No socket under these sign-ins gets another byte; `close_code` says whether they may come back."""

    grants: list[str]
    close_code: int


Notice = (
    EventsNotice
    | HeadMoved
    | PassingNotice
    | AnswersWanted
    | CursorsNotice
    | OwnCursors
    | UserNotice
    | GrantsEnded
    | PresenceChanged
    | PresenceWanted
    | PresenceHere
)
Listener = Callable[[Notice], None]


def tell(listener: Listener | None, notice: Notice) -> None:
    """Whoever publishes has committed: a broken listener must not look like a failed send."""
    if listener is None:
        return
    try:
        listener(notice)
    except Exception:  # noqa: BLE001 - see above; reported
        logger.exception("a listener of the bus failed")


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


def node_topic(node: str) -> str:
    return f"node:{node}"


STUDIO_TOPIC = "studio"  # what concerns every node
PRESENCE_TOPIC = "presence"  # who comes and goes, of every node

"""The frames of the socket interface `chat-studio.v1`, one class each, as they stand on the wire.

A client frame with an `id` gets exactly one `ack`, `subscribed`, `pong` or `error` that carries it. On a socket that
is bound to one conversation the field `conversation` may be left out; everywhere else it is needed.
"""

from typing import Annotated, ClassVar

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from server.protocol.ids import CLIENT_ID_PATTERN

SUBPROTOCOL = "chat-studio.v1"
MAX_FRAME_BYTES = 64 * 1024
MAX_TEXT_LENGTH = 16_000  # code points
MAX_SUBSCRIPTIONS = 500  # conversations a socket
MAX_EMOJI_LENGTH = 32  # code points: the longest family of skin tones and joiners has about 20

FrameId = Annotated[str, Meta(pattern=CLIENT_ID_PATTERN)]
Seq = Annotated[int, Meta(ge=0, le=2**53)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Emoji = Annotated[str, Meta(min_length=1, max_length=MAX_EMOJI_LENGTH)]


class ClientFrame(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """What a client may send."""


class Hello(ClientFrame, frozen=True, kw_only=True, tag="hello"):
    ticket: Annotated[str, Meta(min_length=1, max_length=200)]


class Cursor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the client has: everything up to `seq` of the log called `epoch` (which may be left out with seq 0)."""

    seq: Seq
    epoch: str | None = None


class Subscribe(ClientFrame, frozen=True, kw_only=True, tag="subscribe"):
    id: FrameId
    conversations: Annotated[dict[str, Cursor | None], Meta(max_length=MAX_SUBSCRIPTIONS)] | UnsetType = UNSET


class Unsubscribe(ClientFrame, frozen=True, kw_only=True, tag="unsubscribe"):
    id: FrameId
    conversations: Annotated[list[str], Meta(max_length=MAX_SUBSCRIPTIONS)] | UnsetType = UNSET


class Durable(ClientFrame, frozen=True, kw_only=True):
    """Ends in the log; `id` is idempotent per conversation and actor, for ever."""

    id: FrameId
    conversation: str | UnsetType = UNSET


class Send(Durable, frozen=True, kw_only=True, tag="send"):
    text: str
    reply_to: str | None = None
    thread: str | None = None
    attachments: Annotated[list[str], Meta(max_length=20)] = []
    people_only: bool = False


class Edit(Durable, frozen=True, kw_only=True, tag="edit"):
    message: str
    text: str


class Delete(Durable, frozen=True, kw_only=True, tag="delete"):
    message: str


class React(Durable, frozen=True, kw_only=True, tag="react"):
    message: str
    emoji: Emoji
    on: bool


class Pin(Durable, frozen=True, kw_only=True, tag="pin"):
    message: str
    on: bool


class StartRun(Durable, frozen=True, kw_only=True, tag="run"):
    model: Name | None = None
    message: str | None = None


class RunAct(ClientFrame, frozen=True, kw_only=True):
    """Acts on a run, which knows its conversation."""

    id: FrameId
    run: str


class Stop(RunAct, frozen=True, kw_only=True, tag="stop"):
    pass


class Steer(RunAct, frozen=True, kw_only=True, tag="steer"):
    text: str


class Decide(RunAct, frozen=True, kw_only=True, tag="decide"):
    call: str
    approve: bool


class Delivered(ClientFrame, frozen=True, kw_only=True, tag="delivered"):
    seq: Seq
    conversation: str | UnsetType = UNSET


class Read(ClientFrame, frozen=True, kw_only=True, tag="read"):
    seq: Seq
    conversation: str | UnsetType = UNSET


class Typing(ClientFrame, frozen=True, kw_only=True, tag="typing"):
    on: bool
    conversation: str | UnsetType = UNSET


class Ping(ClientFrame, frozen=True, kw_only=True, tag="ping"):
    id: FrameId | None = None


AnyClientFrame = (
    Hello | Subscribe | Unsubscribe | Send | Edit | Delete | React | Pin | Delivered | Read | Typing | StartRun | Stop
    | Steer | Decide | Ping
)  # fmt: skip

client_frame_types: dict[str, type[ClientFrame]] = {
    str(shape.__struct_config__.tag): shape
    for shape in (
        Hello,
        Subscribe,
        Unsubscribe,
        Send,
        Edit,
        Delete,
        React,
        Pin,
        Delivered,
        Read,
        Typing,
        StartRun,
        Stop,
        Steer,
        Decide,
        Ping,
    )
}


class ServerFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What the server sends. Clients ignore types and fields they do not know."""

    droppable: ClassVar[bool] = False  # typing and presence: shed first when a client is slow


class Actor(msgspec.Struct, frozen=True):
    """Who did it: kind user, model, plugin or system."""

    kind: str
    id: str
    name: str


class UserSummary(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    username: str
    role: str


class ConversationSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the conversation list; `role` is mine there, `peer` the other person of a private chat, from whom I
    take no messages while `blocked_by_me`."""

    id: str
    kind: str
    title: str | None
    visibility: str
    role: str | None
    head: int
    epoch: str
    read: int
    unread: int
    peer: UserSummary | None = None
    blocked_by_me: bool = False


class Welcome(ServerFrame, frozen=True, kw_only=True, tag="welcome"):
    user: UserSummary
    connection: str
    heartbeat_s: float
    conversations: list[ConversationSummary]


class SubscribedTo(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation's answer; `error` is a code and stands alone."""

    head: int | UnsetType = UNSET
    epoch: str | UnsetType = UNSET
    first: int | UnsetType = UNSET
    reset: bool | UnsetType = UNSET
    read: int | UnsetType = UNSET
    error: str | UnsetType = UNSET


class Subscribed(ServerFrame, frozen=True, kw_only=True, tag="subscribed"):
    id: str
    conversations: dict[str, SubscribedTo]


class Ack(ServerFrame, frozen=True, kw_only=True, tag="ack"):
    id: str
    conversation: str | UnsetType = UNSET
    seq: int | UnsetType = UNSET
    message: str | UnsetType = UNSET
    run: str | UnsetType = UNSET
    at: str | UnsetType = UNSET


class Pong(ServerFrame, frozen=True, kw_only=True, tag="pong"):
    id: str | UnsetType = UNSET


class ErrorFrame(ServerFrame, frozen=True, kw_only=True, tag="error"):
    id: str | UnsetType = UNSET
    code: str
    message: str
    retryable: bool
    retry_after_s: float | UnsetType = UNSET


class Event(ServerFrame, frozen=True, kw_only=True, tag="event"):
    """One entry of a conversation's log; `data` is the JSON object of its kind (see protocol/events.py)."""

    conversation: str
    seq: int
    kind: str
    at: str
    actor: Actor
    data: Raw


class DeltaFrame(ServerFrame, frozen=True, kw_only=True, tag="delta"):
    """Text of a run as it comes; `offset` (`from` on the wire) counts code points of the part."""

    conversation: str
    run: str
    message: str
    part: int
    kind: str
    offset: int = msgspec.field(name="from")
    text: str


class ConversationAdded(ServerFrame, frozen=True, kw_only=True, tag="conversation.added"):
    conversation: ConversationSummary


class ConversationRemoved(ServerFrame, frozen=True, kw_only=True, tag="conversation.removed"):
    conversation: str
    code: str


class TypingNotice(ServerFrame, frozen=True, kw_only=True, tag="typing"):
    droppable: ClassVar[bool] = True
    conversation: str
    user: str
    on: bool


class Presence(ServerFrame, frozen=True, kw_only=True, tag="presence"):
    """One person, online or offline; in a conversation with very many present, only their `count`."""

    droppable: ClassVar[bool] = True
    conversation: str
    user: str | UnsetType = UNSET
    state: str | UnsetType = UNSET
    count: int | UnsetType = UNSET


class Receipt(ServerFrame, frozen=True, kw_only=True, tag="receipt"):
    """How far a member has come: at most one a second a conversation, none of others above 50 members. One's own, from
    another device, come in any conversation. What was missed stands in the list of members.
    """

    droppable: ClassVar[bool] = True
    conversation: str
    user: str
    delivered: int
    read: int


class Heads(ServerFrame, frozen=True, kw_only=True, tag="heads"):
    conversations: dict[str, int]


class Reset(ServerFrame, frozen=True, kw_only=True, tag="reset"):
    conversation: str
    head: int
    epoch: str


class Drain(ServerFrame, frozen=True, kw_only=True, tag="drain"):
    reconnect_in_ms: int


server_frame_types: tuple[type[ServerFrame], ...] = (
    Welcome, Subscribed, Ack, Pong, ErrorFrame, Event, DeltaFrame, ConversationAdded, ConversationRemoved, TypingNotice,
    Presence, Receipt, Heads, Reset, Drain,
)  # fmt: skip

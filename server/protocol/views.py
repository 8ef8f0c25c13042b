"""The shapes that HTTP shows: conversations, members, messages, pages."""

from typing import Literal

import msgspec

from server.protocol.events import Attachment, Mention
from server.protocol.frames import Actor, Event, UserSummary

ConversationKind = Literal["room", "private", "assistant"]
Visibility = Literal["public", "private"]
MemberRole = Literal["owner", "moderator", "member", "reader"]


class View(msgspec.Struct, frozen=True, kw_only=True):
    """The base of what is shown."""


class Conversation(View, frozen=True, kw_only=True):
    """`role`, `read` and `unread` are the caller's; `peer` is the other side of a private chat, `blocked_by_me` whether
    the caller takes no messages from there. `system_prompt` is null for those who may not change it.
    """

    id: str
    kind: str
    title: str | None
    visibility: str
    head: int
    epoch: str
    created_at: str
    updated_at: str
    created_by: str | None
    role: str | None
    member_count: int
    model: str | None
    system_prompt: str | None
    has_system_prompt: bool
    history: str
    retention_days: int | None
    read: int
    unread: int
    peer: UserSummary | None = None
    blocked_by_me: bool = False


class Member(View, frozen=True, kw_only=True):
    user: UserSummary
    role: str
    joined_at: str
    read: int
    delivered: int
    presence: str = "offline"


class Reaction(View, frozen=True, kw_only=True):
    emoji: str
    users: list[str]


class RunState(View, frozen=True, kw_only=True):
    id: str
    model: str
    status: str
    reply_to: str | None
    error: dict[str, str] | None


class Message(View, frozen=True, kw_only=True):
    """A message as it stands now. One that was deleted stays as an empty place with `deleted_at`."""

    id: str
    client_id: str | None
    seq: int
    at: str
    actor: Actor
    text: str
    edited_at: str | None
    deleted_at: str | None
    reply_to: str | None
    thread: str | None
    reactions: list[Reaction]
    attachments: list[Attachment]
    mentions: list[Mention]
    people_only: bool
    pinned: bool
    run: RunState | None


class MessagePage(View, frozen=True, kw_only=True):
    """Oldest first. The page and its `head` are one snapshot: subscribing from `head` misses nothing."""

    messages: list[Message]
    head: int
    epoch: str
    has_more: bool


class EventPage(View, frozen=True, kw_only=True):
    """`first` is the first seq that the caller may read: below it the log is not kept, or not theirs. A caller that
    stood below it has missed something."""

    events: list[Event]
    head: int
    first: int
    epoch: str


class Sent(View, frozen=True, kw_only=True):
    message: str
    seq: int
    at: str


class Done(View, frozen=True, kw_only=True):
    seq: int


class RunAsked(View, frozen=True, kw_only=True):
    run: str
    message: str
    seq: int

"""What the log holds: one class for the `data` of each event kind, as it stands on the wire and in the table.

Events hold ids; the name of an actor is looked up when an event is read or published, so a renamed person is renamed in
the past too.
"""

from typing import ClassVar

import msgspec
from msgspec import UNSET, UnsetType


class EventData(msgspec.Struct, frozen=True, kw_only=True):
    kind: ClassVar[str]


class Mention(msgspec.Struct, frozen=True):
    """`text[start:end]` in code points is `@name`; kind is user or model."""

    kind: str
    id: str
    start: int
    end: int


class Attachment(msgspec.Struct, frozen=True):
    id: str
    name: str
    size: int
    media_type: str


class MessageCreated(EventData, frozen=True, kw_only=True):
    kind: ClassVar[str] = "message.created"
    id: str
    client_id: str | None
    text: str
    reply_to: str | None = None
    thread: str | None = None
    attachments: list[Attachment] = []
    mentions: list[Mention] = []
    people_only: bool = False
    redacted: bool | UnsetType = UNSET


class MessageEdited(EventData, frozen=True, kw_only=True):
    kind: ClassVar[str] = "message.edited"
    id: str
    text: str
    redacted: bool | UnsetType = UNSET


class MessageDeleted(EventData, frozen=True, kw_only=True):
    kind: ClassVar[str] = "message.deleted"
    id: str


class ReactionAdded(EventData, frozen=True, kw_only=True):
    kind: ClassVar[str] = "reaction.added"
    id: str
    emoji: str


class ReactionRemoved(EventData, frozen=True, kw_only=True):
    kind: ClassVar[str] = "reaction.removed"
    id: str
    emoji: str


class MessagePinned(EventData, frozen=True, kw_only=True):
    kind: ClassVar[str] = "message.pinned"
    id: str
    on: bool


class MemberJoined(EventData, frozen=True, kw_only=True):
    kind: ClassVar[str] = "member.joined"
    user: str
    username: str
    role: str


class MemberLeft(EventData, frozen=True, kw_only=True):
    """`by` is the one who showed the door, or the same person."""

    kind: ClassVar[str] = "member.left"
    user: str
    by: str


class MemberRole(EventData, frozen=True, kw_only=True):
    kind: ClassVar[str] = "member.role"
    user: str
    role: str


class ConversationUpdated(EventData, frozen=True, kw_only=True):
    """Only what changed; an explicit null clears."""

    kind: ClassVar[str] = "conversation.updated"
    title: str | None | UnsetType = UNSET
    visibility: str | UnsetType = UNSET
    model: str | None | UnsetType = UNSET
    has_system_prompt: bool | UnsetType = UNSET  # the prompt itself is for those who may change it
    retention_days: int | None | UnsetType = UNSET  # null: as the studio keeps things


class SettingsDraft(ConversationUpdated, frozen=True, kw_only=True):
    """What is asked for; the log gets `shown`."""

    system_prompt: str | None | UnsetType = UNSET

    @property
    def shown(self) -> ConversationUpdated:
        """As everybody in the conversation may see it."""
        named = {name: getattr(self, name) for name in ConversationUpdated.__struct_fields__}
        if self.system_prompt is not UNSET:
            named["has_system_prompt"] = bool(self.system_prompt)
        return ConversationUpdated(**named)


class ConversationDeleted(EventData, frozen=True, kw_only=True):
    kind: ClassVar[str] = "conversation.deleted"


class RunStarted(EventData, frozen=True, kw_only=True):
    """Creates the model's message at this seq. `continues` names the run that was steered."""

    kind: ClassVar[str] = "run.started"
    run: str
    message: str
    model: str
    reply_to: str | None
    continues: str | UnsetType = UNSET


class RunSteered(EventData, frozen=True, kw_only=True):
    kind: ClassVar[str] = "run.steered"
    run: str
    text: str


class RunEnded(EventData, frozen=True, kw_only=True):
    """status: finished, stopped, failed or interrupted. `cost` is null where no price is known."""

    kind: ClassVar[str] = "run.ended"
    run: str
    message: str
    status: str
    text: str
    parts: list[dict[str, object]]
    usage: dict[str, int | bool] | None
    cost: float | None
    error: dict[str, str] | UnsetType = UNSET
    redacted: bool | UnsetType = UNSET


event_types: dict[str, type[EventData]] = {
    shape.kind: shape
    for shape in (
        MessageCreated,
        MessageEdited,
        MessageDeleted,
        ReactionAdded,
        ReactionRemoved,
        MessagePinned,
        MemberJoined,
        MemberLeft,
        MemberRole,
        ConversationUpdated,
        ConversationDeleted,
        RunStarted,
        RunSteered,
        RunEnded,
    )
}

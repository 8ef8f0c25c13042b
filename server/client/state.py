"""The state of a conversation, made from a snapshot and the entries that follow it. Pure.

In:   what HTTP shows of a conversation at some head: itself, its members, a page of messages; then entries of its log.
Out:  the same things at a later head.
Promises: a snapshot at n with all entries after n is the snapshot at the head, for every kind of entry. An entry that
the snapshot contains already changes nothing; one that does not follow is refused.

What no entry tells is no part of it: who is online, how far others have read, the order of reactions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import msgspec
from msgspec import UNSET

from server.client.items import Entry
from server.protocol.events import (
    ConversationDeleted,
    ConversationUpdated,
    MemberJoined,
    MemberLeft,
    MemberRole,
    MessageCreated,
    MessageDeleted,
    MessageEdited,
    MessagePinned,
    ReactionAdded,
    ReactionRemoved,
    RunEnded,
    RunStarted,
    RunSteered,
)
from server.protocol.frames import Actor
from server.protocol.views import Conversation, Member, Message, MessagePage, Reaction, RunState


class DoesNotFollow(ValueError):
    """An entry was applied before the one in front of it."""


@dataclass(frozen=True, slots=True)
class Person:
    """A member, as far as the log tells."""

    id: str
    username: str
    role: str
    joined_at: str


Change: TypeAlias = MessageEdited | MessageDeleted | MessagePinned | ReactionAdded | ReactionRemoved | RunEnded


@dataclass(frozen=True, slots=True)
class ConversationState:
    """`messages` are those of the page and all since, by id, in order; `members` by user id."""

    id: str
    head: int
    epoch: str
    title: str | None
    visibility: str
    model: str | None
    has_system_prompt: bool
    retention_days: int | None
    messages: Mapping[str, Message]
    members: Mapping[str, Person]
    is_deleted: bool = False

    @classmethod
    def of(cls, about: Conversation, page: MessagePage, members: Iterable[Member]) -> "ConversationState":
        """A snapshot. `about` and `members` are of the same head as the page."""
        people = [Person(member.user.id, member.user.username, member.role, member.joined_at) for member in members]
        return cls(
            id=about.id, head=page.head, epoch=page.epoch, title=about.title, visibility=about.visibility,
            model=about.model, has_system_prompt=about.has_system_prompt, retention_days=about.retention_days,
            messages={message.id: _in_order(message) for message in page.messages},
            members={person.id: person for person in people},
        )  # fmt: skip

    def after(self, entry: Entry) -> "ConversationState":
        """The state with one more entry."""
        if entry.seq <= self.head:
            return self
        if entry.seq != self.head + 1:
            raise DoesNotFollow(f"{entry.seq} does not follow {self.head}")
        return replace(self._changed(entry), head=entry.seq)

    def after_all(self, entries: Iterable[Entry]) -> "ConversationState":
        state = self
        for entry in entries:
            state = state.after(entry)
        return state

    def _changed(self, entry: Entry) -> "ConversationState":
        match entry.data:
            case MessageCreated() as data:
                return self._with_message(said(entry, data))
            case RunStarted() as data:
                return self._with_message(begun(entry, data))
            case MessageEdited() | MessageDeleted() | MessagePinned() | ReactionAdded() | ReactionRemoved() as data:
                return self._with_change(data.id, entry, data)
            case RunEnded() as data:
                return self._with_change(data.message, entry, data)
            case MemberJoined() as data:
                person = Person(data.user, data.username, data.role, entry.at)
                return replace(self, members={**self.members, data.user: person})
            case MemberLeft() as data:
                return replace(self, members={user: p for user, p in self.members.items() if user != data.user})
            case MemberRole() as data if data.user in self.members:
                person = replace(self.members[data.user], role=data.role)
                return replace(self, members={**self.members, data.user: person})
            case ConversationUpdated() as data:
                return self._with_settings(data)
            case ConversationDeleted():
                return replace(self, is_deleted=True)
            case RunSteered() | MemberRole() | None | _:
                return self  # a steered run is followed by entries that say what changed; unknown kinds are ignored

    def _with_message(self, message: Message) -> "ConversationState":
        return replace(self, messages={**self.messages, message.id: message})

    def _with_change(self, message: str, entry: Entry, data: Change) -> "ConversationState":
        before = self.messages.get(message)
        if before is None:
            return self  # one from before the page
        return self._with_message(changed(before, entry, data))

    def _with_settings(self, data: ConversationUpdated) -> "ConversationState":
        return replace(
            self,
            title=self.title if data.title is UNSET else data.title,
            visibility=self.visibility if data.visibility is UNSET else data.visibility,
            model=self.model if data.model is UNSET else data.model,
            has_system_prompt=self.has_system_prompt if data.has_system_prompt is UNSET else data.has_system_prompt,
            retention_days=self.retention_days if data.retention_days is UNSET else data.retention_days,
        )


def said(entry: Entry, data: MessageCreated) -> Message:
    """The message that a person makes."""
    return Message(
        id=data.id, client_id=data.client_id, seq=entry.seq, at=entry.at, actor=entry.actor, text=data.text,
        edited_at=None, deleted_at=None, reply_to=data.reply_to, thread=data.thread, reactions=[],
        attachments=data.attachments, mentions=data.mentions, people_only=data.people_only, pinned=False, run=None,
    )  # fmt: skip


def begun(entry: Entry, data: RunStarted) -> Message:
    """The message that a model begins; the actor of the entry is whoever asked."""
    return Message(
        id=data.message, client_id=None, seq=entry.seq, at=entry.at, actor=Actor("model", data.model, data.model),
        text="", edited_at=None, deleted_at=None, reply_to=data.reply_to, thread=None, reactions=[], attachments=[],
        mentions=[], people_only=False, pinned=False,
        run=RunState(id=data.run, model=data.model, status="running", reply_to=data.reply_to, error=None),
    )  # fmt: skip


def changed(message: Message, entry: Entry, data: Change) -> Message:
    """The message after an entry that is about it. A deleted one stays empty, whatever comes."""
    replaced = msgspec.structs.replace
    match data:
        case MessageEdited():
            # A redacted one is followed by the deletion, and its blank text was never said.
            text = message.text if data.redacted is True else data.text
            return replaced(message, text=text, edited_at=entry.at, mentions=[])
        case MessageDeleted():
            return replaced(
                message, text="", mentions=[], attachments=[], reactions=[], pinned=False, deleted_at=entry.at
            )
        case MessagePinned():
            return replaced(message, pinned=data.on)
        case ReactionAdded():
            return _in_order(message, {(data.emoji, entry.actor.id)} | _reactions(message))
        case ReactionRemoved():
            return _in_order(message, _reactions(message) - {(data.emoji, entry.actor.id)})
        case RunEnded():
            return ended(message, data)


def ended(message: Message, data: RunEnded) -> Message:
    """The answer of a model, whole."""
    error = None if data.error is UNSET else data.error
    run = message.run and msgspec.structs.replace(message.run, status=data.status, error=error)
    text = data.text if message.deleted_at is None else ""
    return msgspec.structs.replace(message, text=text, run=run)


def _reactions(message: Message) -> set[tuple[str, str]]:
    return {(reaction.emoji, user) for reaction in message.reactions for user in reaction.users}


def _in_order(message: Message, reactions: set[tuple[str, str]] | None = None) -> Message:
    """By emoji and user: in the order of their time they cannot be kept, since no view tells the times."""
    users: dict[str, list[str]] = {}
    for emoji, user in sorted(_reactions(message) if reactions is None else reactions):
        users.setdefault(emoji, []).append(user)
    in_order = [Reaction(emoji=emoji, users=found) for emoji, found in users.items()]
    return msgspec.structs.replace(message, reactions=in_order)

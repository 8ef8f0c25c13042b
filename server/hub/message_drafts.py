"""From what a client asks for to a draft of the log: checks that need no I/O, the same for sockets and HTTP."""

import hashlib

from server.hub.identity import Identity
from server.hub.permissions import Permission
from server.protocol.codec import encode
from server.protocol.errors import BadFrame, NotFound, Rejected, TooLarge
from server.protocol.events import (
    EventData,
    Mention,
    MessageCreated,
    MessageDeleted,
    MessageEdited,
    MessagePinned,
    ReactionAdded,
    ReactionRemoved,
)
from server.protocol.frames import MAX_TEXT_LENGTH, Delete, Durable, Edit, Pin, React, Send
from server.protocol.ids import is_id, new_id
from server.storage.message_log import Draft


def body_hash(*body: object) -> bytes:
    """Tells whether the same id came with the same body: 16 bytes over its canonical form."""
    return hashlib.blake2b(encode(body), digest_size=16).digest()


def draft_of(identity: Identity, conversation: str, frame: Durable, mentions: list[Mention] | None = None) -> Draft:
    """The draft of a durable frame; raises what the frame itself already shows to be wrong."""
    match frame:
        case Send():
            return draft_of_send(identity, conversation, frame, mentions or [])
        case Edit():
            _check_text(frame.text)
            data: EventData = MessageEdited(id=frame.message, text=frame.text)
            return _draft(identity, conversation, frame, data, Permission.EDIT, ("edit", frame.message, frame.text))
        case Delete():
            data = MessageDeleted(id=frame.message)
            return _draft(identity, conversation, frame, data, Permission.DELETE, ("delete", frame.message))
        case React():
            shape = ReactionAdded if frame.on else ReactionRemoved
            _check_emoji(frame.emoji)
            data = shape(id=frame.message, emoji=frame.emoji)
            return _draft(
                identity, conversation, frame, data, Permission.REACT, ("react", frame.message, frame.emoji, frame.on)
            )
        case Pin():
            data = MessagePinned(id=frame.message, on=frame.on)
            return _draft(identity, conversation, frame, data, Permission.PIN, ("pin", frame.message, frame.on))
    raise TypeError(f"{type(frame).__name__} makes no draft")


def draft_of_send(identity: Identity, conversation: str, frame: Send, mentions: list[Mention]) -> Draft:
    if frame.attachments:
        raise NotFound("there is no such file")  # this studio takes no files yet
    _check_text(frame.text)
    for target in (frame.reply_to, frame.thread):
        if target is not None and not is_id(target):
            raise NotFound("there is no such message here")
    data = MessageCreated(
        id=new_id(), client_id=frame.id, text=frame.text, reply_to=frame.reply_to, thread=frame.thread,
        mentions=mentions, people_only=frame.people_only,
    )  # fmt: skip
    # Mentions are ours to find and no part of what the client said: a name made since must not turn a repeat into a
    # conflict.
    body = ("send", frame.text, frame.reply_to, frame.thread, frame.people_only)
    return Draft(
        conversation, identity.actor, data, frame.id, body_hash(*body), Permission.SEND, frame.reply_to or frame.thread,
        identity.account_role,
    )  # fmt: skip


def _draft(
    identity: Identity, conversation: str, frame: Edit | Delete | React | Pin, data: EventData,
    permission: Permission, body: tuple[object, ...],
) -> Draft:  # fmt: skip
    return Draft(
        conversation, identity.actor, data, frame.id, body_hash(*body), permission, frame.message, identity.account_role
    )


def _check_text(text: str) -> None:
    if not text:
        raise BadFrame("a message has a text")
    if len(text) > MAX_TEXT_LENGTH:
        raise TooLarge(f"a message may have {MAX_TEXT_LENGTH} characters, this one has {len(text)}")


def _check_emoji(emoji: str) -> None:
    """Any single symbol will do; words and spaces are no reaction."""
    if any(
        character.isspace() or (character.isalnum() and character.isascii() and len(emoji) > 3) for character in emoji
    ):
        raise Rejected("a reaction is one emoji")

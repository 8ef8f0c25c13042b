"""From a stored event to the bytes on the wire: encoded once, the same for every observer."""

from msgspec import Raw

from server.bus.bus import EventNotice
from server.protocol.clock import rfc3339
from server.protocol.codec import decode_stored, encode
from server.protocol.events import ConversationUpdated, SettingsDraft
from server.protocol.frames import Actor, Event
from server.storage.message_log import Stored


def event_of(stored: Stored, actor: Actor) -> Event:
    return Event(
        conversation=stored.conversation,
        seq=stored.seq,
        kind=stored.kind,
        at=rfc3339(stored.at),
        actor=actor,
        data=Raw(_shown(stored)),
    )


def _shown(stored: Stored) -> bytes:
    if stored.kind != ConversationUpdated.kind or '"system_prompt"' not in stored.data:
        return stored.data.encode()
    return encode(decode_stored(stored.data, SettingsDraft).shown)  # older versions wrote the prompt into the log


def notice_of(stored: Stored, actor: Actor) -> EventNotice:
    return EventNotice(stored.seq, stored.kind, encode(event_of(stored, actor)))

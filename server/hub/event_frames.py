"""From a stored event to the bytes on the wire: encoded once, the same for every observer."""

from msgspec import Raw

from server.bus.bus import EventNotice
from server.protocol.clock import rfc3339
from server.protocol.codec import encode
from server.protocol.frames import Actor, Event
from server.storage.message_log import Stored


def event_of(stored: Stored, actor: Actor) -> Event:
    return Event(
        conversation=stored.conversation,
        seq=stored.seq,
        kind=stored.kind,
        at=rfc3339(stored.at),
        actor=actor,
        data=Raw(stored.data.encode()),
    )


def notice_of(stored: Stored, actor: Actor) -> EventNotice:
    return EventNotice(stored.seq, stored.kind, encode(event_of(stored, actor)))

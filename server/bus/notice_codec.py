"""How a notice travels between nodes.

In:   notices; and bytes that came from other nodes, perhaps of an older or a newer version.
Out:  one or several messages, none above 16 KB but where said below; and notices.

A message is one byte of version, eight bytes that name the sending node, and the notice in MessagePack. The node stands
in front so that an echo of one's own is known without decoding anything. Old and new workers run side by side in an
upgrade: fields and kinds that a reader does not know are ignored, so a new field needs a default, and the version moves
only where even that does not do.
"""

import msgspec

from server.bus.bus import EventNotice, EventsNotice, HeadMoved, Notice
from server.telemetry import metrics

VERSION = b"\x01"
NODE_BYTES = 8
HEADER_BYTES = len(VERSION) + NODE_BYTES
MAX_MESSAGE_BYTES = 16 * 1024  # above, only what is needed to read the events from the log travels
MAX_SPLIT_BYTES = 4 * MAX_MESSAGE_BYTES  # a busy tick of short messages; more is cheaper to read than to carry
EVENT_OVERHEAD_BYTES = 48  # of one event around its payload; its kind is the longest part
NOTICE_OVERHEAD_BYTES = 128


class Gap(msgspec.Struct, frozen=True, tag="gap"):
    """The sending node could not send some notices: whoever gets this compares. For buses among themselves."""


class NoticeCodec:
    """`node` names this node: eight bytes that no other has."""

    def __init__(self, node: bytes) -> None:
        assert len(node) == NODE_BYTES
        self.header = VERSION + node
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Notice | Gap] = msgspec.msgpack.Decoder(Notice | Gap)

    def encode(self, notice: Notice | Gap) -> list[bytes]:
        """Events are split, and those too large to travel become a `HeadMoved`. All else goes as it is, whatever its
        size: the only large frame that passes is the text of a running answer, no log holds it and nothing could
        be sent in its place; Redis itself takes 512 MB.
        """
        if isinstance(notice, EventsNotice):
            return [self.header + self._encoder.encode(part) for part in _parts(notice)]
        return [self.header + self._encoder.encode(notice)]

    def is_own(self, message: bytes) -> bool:
        return message.startswith(self.header)

    def decode(self, message: bytes) -> Notice | Gap | None:
        """None: nothing for this version."""
        if not message.startswith(VERSION):
            metrics.bus_ignored.labels("version").inc()
            return None
        try:
            return self._decoder.decode(memoryview(message)[HEADER_BYTES:])
        except msgspec.ValidationError:
            metrics.bus_ignored.labels("kind").inc()
        except msgspec.DecodeError:
            metrics.bus_ignored.labels("malformed").inc()
        return None


def _parts(notice: EventsNotice) -> list[EventsNotice | HeadMoved]:
    """In the order of `seq`, which is the order in which they are sent and arrive."""
    events = notice.events
    sizes = [len(event.payload) + EVENT_OVERHEAD_BYTES for event in events]
    total = sum(sizes) + NOTICE_OVERHEAD_BYTES
    if total <= MAX_MESSAGE_BYTES:
        return [notice]
    if total > MAX_SPLIT_BYTES or max(sizes) + NOTICE_OVERHEAD_BYTES > MAX_MESSAGE_BYTES:
        return [HeadMoved(notice.conversation, events[-1].seq)]
    parts: list[EventsNotice | HeadMoved] = []
    part: list[EventNotice] = []
    filled = NOTICE_OVERHEAD_BYTES
    for event, size in zip(events, sizes, strict=True):
        if filled + size > MAX_MESSAGE_BYTES:
            parts.append(EventsNotice(notice.conversation, part))
            part, filled = [], NOTICE_OVERHEAD_BYTES
        part.append(event)
        filled += size
    parts.append(EventsNotice(notice.conversation, part))
    return parts

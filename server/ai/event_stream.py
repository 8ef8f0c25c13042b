"""Server-sent events, from bytes in pieces of any size. No I/O.

In:   bytes as they come, cut anywhere: inside a character, a field's name, a line's end.
Out:  events, each as soon as its empty line is there. Comments, ids and retry times are skipped.
Source: the HTML standard, section "Server-sent events". Unlike there, what stands unfinished at the end is handed out
by `close`: some servers leave out the last empty line, and what they said is still an answer. After an event of more
than `MAX_EVENT_BYTES` nothing comes any more; what was whole before it does.
"""

from dataclasses import dataclass

MAX_EVENT_BYTES = 16 * 1024 * 1024  # a picture in base64 may be large; more than this is no answer


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """`event` is the empty string where none was named. `data` is not decoded yet."""

    event: str
    data: bytes


class EventStream:
    """Feed it, and take what is whole; then look whether it `is_too_large`."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_new = True
        self._after_return = False  # the last byte was \r: a \n that comes next belongs to it
        self._event = ""
        self._data: list[bytes] = []
        self._size = 0
        self.is_too_large = False

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        if not piece or self.is_too_large:
            return []
        if self._after_return and piece.startswith(b"\n"):
            piece = piece[1:]
        self._after_return = piece.endswith(b"\r")
        text = self._rest + piece
        if self._is_new:
            if len(text) < 3 and b"\xef\xbb\xbf".startswith(text):
                self._rest = text  # perhaps a byte order mark
                return []
            text = text.removeprefix(b"\xef\xbb\xbf")
            self._is_new = False
        *lines, self._rest = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        events = self._take_all(lines)
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            self.is_too_large = True
        return events

    def close(self) -> list[ServerSentEvent]:
        """What was not finished by an empty line."""
        rest, self._rest = self._rest, b""
        return [] if self.is_too_large else self._take_all([rest, b""])

    def _take_all(self, lines: list[bytes]) -> list[ServerSentEvent]:
        events = []
        for line in lines:
            self._size += len(line)
            if self._size > MAX_EVENT_BYTES:
                self.is_too_large = True
                break
            if (event := self._take(line)) is not None:
                events.append(event)
        return events

    def _take(self, line: bytes) -> ServerSentEvent | None:
        if not line:
            event, data = self._event, self._data
            self._event, self._data, self._size = "", [], 0
            return ServerSentEvent(event, b"\n".join(data)) if data else None
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode(errors="replace")
        return None

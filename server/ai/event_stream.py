"""Server-sent events, from bytes in pieces of any size. No I/O.

In:   bytes as they come, cut anywhere: inside a character, a field's name, a line's end.
Out:  events, each as soon as its empty line is there. Comments, ids and retry times are skipped.
Source: the HTML standard, section "Server-sent events". Unlike there, what stands unfinished at the end is handed out
by `close`: some servers leave out the last empty line, and what they said is still an answer.
"""

from dataclasses import dataclass

MAX_EVENT_BYTES = 16 * 1024 * 1024  # a picture in base64 may be large; more than this is no answer


class EventTooLarge(Exception):
    """One event has more than `MAX_EVENT_BYTES`."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """`event` is the empty string where none was named. `data` is not decoded yet."""

    event: str
    data: bytes


class EventStream:
    """Feed it, and take what is whole."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_new = True
        self._after_return = False  # the last byte was \r: a \n that comes next belongs to it
        self._event = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        if not piece:
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
        if len(self._rest) + self._size > MAX_EVENT_BYTES:
            raise EventTooLarge
        return [event for line in lines if (event := self._take(line)) is not None]

    def close(self) -> list[ServerSentEvent]:
        """What was not finished by an empty line."""
        rest, self._rest = self._rest, b""
        return [event for line in (rest, b"") if (event := self._take(line)) is not None]

    def _take(self, line: bytes) -> ServerSentEvent | None:
        if not line:
            event, data = self._event, self._data
            self._event, self._data, self._size = "", [], 0
            return ServerSentEvent(event, b"\n".join(data)) if data else None
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._size += len(value) + 1
            if self._size > MAX_EVENT_BYTES:
                raise EventTooLarge
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode(errors="replace")
        return None

"""What the readers of all wire formats have in common: bytes in, events out, and exactly one end.

In:   the bytes of a stream of server-sent events, cut anywhere; no I/O.
Out:  the events of the contract (`adapter`), each as soon as it is known.
Promises: every open part is ended before the one end of the answer, and nothing follows it. What a stream said before
it broke is said, however it was cut. Half an event is what a broken connection leaves, and is `truncated`, which may be
tried again; a whole event of the wrong shape is a `bad_response`, which may not.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from server.ai.adapter import AnswerEvent, Cancelled, Failed, Finished
from server.ai.event_stream import EventStream, ServerSentEvent
from server.ai.failures import failed
from server.ai.parts import PartBook
from server.protocol.errors import BadJson

End = Finished | Failed | Cancelled


class StreamReader(ABC):
    """Feed it, then close it. A format says what one event means."""

    family: ClassVar[str]  # whose opaque data the parts hold

    def __init__(self) -> None:
        self._stream = EventStream()
        self._book = PartBook(self.family)
        self._is_over = False

    def feed(self, piece: bytes) -> list[AnswerEvent]:
        return self._read(self._stream.feed(piece))

    def close(self) -> list[AnswerEvent]:
        """The bytes are over."""
        events = self._read(self._stream.close(), is_cut=True)
        if not self._is_over:
            self._end(self._outcome(), events)
        return events

    @abstractmethod
    def _take(self, data: bytes, events: list[AnswerEvent]) -> None:
        """Add to `events` what one event of the stream says. Raises `BadJson` for one of the wrong shape."""

    def _outcome(self) -> End:
        """What the end of the bytes means, where no event was the end."""
        return failed("truncated")

    def _last_words(self) -> list[AnswerEvent]:
        """What is known and was not said yet, before open parts are ended."""
        return []

    def _end(self, end: End, events: list[AnswerEvent]) -> None:
        self._is_over = True
        is_cut = not isinstance(end, Finished) or end.reason == "length"
        events += [*self._last_words(), *self._book.end_all(is_cut=is_cut), end]

    def _read(self, found: list[ServerSentEvent], *, is_cut: bool = False) -> list[AnswerEvent]:
        """`is_cut`: no empty line came behind it."""
        events: list[AnswerEvent] = []
        for event in found:
            if self._is_over:
                return events
            try:
                self._take(event.data, events)
            except BadJson:
                bad = failed("bad_response", "an event of it has no shape of this format")
                self._end(self._outcome() if is_cut else bad, events)
        if self._stream.is_too_large and not self._is_over:
            self._end(failed("bad_response", "one event of it is too large"), events)
        return events

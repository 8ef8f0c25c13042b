"""The stream of OpenAI's Responses, read without I/O.

In:   the bytes of the stream, cut anywhere.
Out:  the events of the contract (`adapter`), each as soon as it is known.
Promises: every open part is ended before the one end of the answer, and nothing follows it. What comes only with a
`done` is said then. A stream without an end of its own is `truncated`. Items of tools that run at the provider are kept
whole, since they must go back as they came.
"""

from typing import Any

from msgspec import Struct

from server.ai.adapter import AnswerEvent, Cancelled, Failed, Finished, PartKind, Usage
from server.ai.event_stream import EventStream, EventTooLarge, ServerSentEvent
from server.ai.failures import failed, failure_of_error
from server.ai.parts import PartBook
from server.protocol.codec import encode, foreign_decoder
from server.protocol.errors import BadJson

FAMILY = "openai_responses"
End = Finished | Failed | Cancelled
Key = tuple[int, str, int]  # the item's place, what of it, and the place of that

PIECES: dict[str, tuple[str, PartKind]] = {
    "response.output_text": ("content", "text"),
    "response.refusal": ("content", "refusal"),
    "response.reasoning_text": ("content", "reasoning"),
    "response.reasoning_summary_text": ("summary", "reasoning"),
}
ARGUMENTS = {"response.function_call_arguments", "response.custom_tool_call_input"}
OURS = {"function_call", "custom_tool_call"}
SPOKEN = {"message", "reasoning"}


class _Details(Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Incomplete(Struct):
    reason: str | None = None


class _Response(Struct):
    usage: _Usage | None = None
    error: Any = None
    incomplete_details: _Incomplete | None = None


class _Event(Struct):
    type: str
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    delta: Any = None
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    input: str | None = None
    item: dict[str, Any] | None = None
    annotation: dict[str, Any] | None = None
    response: _Response | None = None
    error: Any = None
    code: str | None = None
    message: str | None = None


_decode = foreign_decoder(_Event)


class ResponsesReader:
    """Feed it, then close it."""

    def __init__(self) -> None:
        self._stream = EventStream()
        self._book = PartBook(FAMILY)
        self._said: set[Key] = set()  # of which something was streamed
        self._thought: dict[int, list[Key]] = {}  # the open reasoning parts of each item, until the item is whole
        self._has_called = False
        self._is_over = False

    def feed(self, piece: bytes) -> list[AnswerEvent]:
        if self._is_over:
            return []
        try:
            return self._read(self._stream.feed(piece))
        except EventTooLarge:
            return self._end(failed("bad_response", "one event of it is too large"))

    def close(self) -> list[AnswerEvent]:
        """The bytes are over."""
        if self._is_over:
            return []
        try:
            events = self._read(self._stream.close())
        except EventTooLarge:
            return self._end(failed("bad_response", "one event of it is too large"))
        if not events or not isinstance(events[-1], End):
            events += self._end(failed("truncated"))
        return events

    def _read(self, found: list[ServerSentEvent]) -> list[AnswerEvent]:
        events: list[AnswerEvent] = []
        for each in found:
            if self._is_over:
                break
            if each.data == b"[DONE]":
                continue  # some say so after the end, or before the last event
            try:
                event = _decode(each.data)
            except BadJson:
                events += self._end(failed("bad_response", "an event of it has no shape of this format"))
                continue
            self._take(event, events)
        return events

    def _end(self, end: End) -> list[AnswerEvent]:
        self._is_over = True
        return [*self._book.end_all(), end]

    def _take(self, event: _Event, events: list[AnswerEvent]) -> None:
        stem, _, verb = event.type.rpartition(".")
        if stem in PIECES and verb in ("delta", "done"):
            self._take_piece(event, stem, verb, events)
        elif stem in ARGUMENTS and verb in ("delta", "done"):
            whole = event.arguments if event.arguments is not None else event.input
            self._say((event.output_index, "call", 0), event.delta if verb == "delta" else whole, verb, events)
        elif event.type == "response.output_text.annotation.added" and event.annotation is not None:
            key = (event.output_index, "content", event.content_index)
            if key in self._book:
                events.append(self._book.annotate(key, event.annotation))
        elif event.type == "response.output_item.added" and event.item is not None:
            self._begin_item(event.output_index, event.item, events)
        elif event.type == "response.output_item.done" and event.item is not None:
            self._finish_item(event.output_index, event.item, events)
        else:
            self._take_end(event, events)

    def _take_piece(self, event: _Event, stem: str, verb: str, events: list[AnswerEvent]) -> None:
        place, kind = PIECES[stem]
        key = (event.output_index, place, event.summary_index if place == "summary" else event.content_index)
        whole = event.refusal if kind == "refusal" else event.text
        text = event.delta if verb == "delta" else whole
        if key not in self._book and key not in self._said and isinstance(text, str) and text:
            events.append(self._book.start(key, kind))
            if kind == "reasoning":
                self._thought.setdefault(event.output_index, []).append(key)
        self._say(key, text, verb, events)

    def _say(self, key: Key, text: object, verb: str, events: list[AnswerEvent]) -> None:
        """A `done` repeats what was streamed, and is news only where nothing was."""
        if not isinstance(text, str) or not text or key not in self._book or (verb == "done" and key in self._said):
            return
        self._said.add(key)
        events.append(self._book.add(key, text))

    def _begin_item(self, place: int, item: dict[str, Any], events: list[AnswerEvent]) -> None:
        if item.get("type") in OURS:
            self._has_called = True
            call, name = item.get("call_id"), item.get("name")
            events.append(self._book.start((place, "call", 0), "tool_call", call=call, name=name))

    def _finish_item(self, place: int, item: dict[str, Any], events: list[AnswerEvent]) -> None:
        kind = item.get("type")
        if kind in OURS:
            key = (place, "call", 0)
            if key not in self._book:
                self._begin_item(place, item, events)
            self._say(key, item.get("arguments", item.get("input")), "done", events)
            events.append(self._book.end(key))
        elif kind == "reasoning":
            self._finish_thought(place, item, events)
        elif kind == "message":
            self._say_what_was_not_streamed(place, item, events)
        elif isinstance(kind, str):
            key = (place, "item", 0)
            events.append(self._book.start(key, "tool_result"))
            events.append(self._book.add(key, encode(item).decode()))
            self._book.keep(key, item=item)
            events.append(self._book.end(key))

    def _finish_thought(self, place: int, item: dict[str, Any], events: list[AnswerEvent]) -> None:
        """Its id and what is encrypted of it go back with its first part; one without a word is a part all the same."""
        keys = self._thought.pop(place, [])
        if not keys:
            keys = [(place, "summary", 0)]
            events.append(self._book.start(keys[0], "reasoning"))
        kept = {name: item[name] for name in ("id", "encrypted_content") if item.get(name)}
        if kept:
            self._book.keep(keys[0], **kept)
        events += [self._book.end(key) for key in keys]

    def _say_what_was_not_streamed(self, place: int, item: dict[str, Any], events: list[AnswerEvent]) -> None:
        content = item.get("content")
        for index, piece in enumerate(content if isinstance(content, list) else ()):
            key = (place, "content", index)
            if key not in self._book and isinstance(piece, dict):
                kind: PartKind = "refusal" if piece.get("type") == "refusal" else "text"
                text = piece.get(kind)
                if not isinstance(text, str) or not text:
                    continue
                events.append(self._book.start(key, kind))
                self._say(key, text, "done", events)
            if key in self._book:
                events.append(self._book.end(key))

    def _take_end(self, event: _Event, events: list[AnswerEvent]) -> None:
        response = event.response or _Response()
        end: End
        match event.type:
            case "response.completed":
                end = Finished("tool_calls" if self._has_called else "stop")
            case "response.incomplete":
                reason = (response.incomplete_details or _Incomplete()).reason
                end = Finished("content_filter" if reason == "content_filter" else "length")
            case "response.failed":
                end = failure_of_error(response.error)
            case "response.cancelled":
                end = Cancelled()
            case "error":
                said = {"code": event.code, "message": event.message}
                end = failure_of_error(event.error if event.error is not None else said)
            case _:
                return  # progress, and what came after this was written
        if response.usage is not None:
            events.append(_usage(response.usage))
        events += self._end(end)


def _usage(found: _Usage) -> Usage:
    asked, said = found.input_tokens_details or _Details(), found.output_tokens_details or _Details()
    return Usage(
        input_tokens=found.input_tokens or 0,
        output_tokens=found.output_tokens or 0,
        cached_tokens=asked.cached_tokens or 0,
        reasoning_tokens=said.reasoning_tokens or 0,
    )

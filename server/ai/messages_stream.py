"""The stream of Anthropic's Messages, read without I/O.

In:   the bytes of the stream, cut anywhere.
Out:  the events of the contract (`adapter`), each as soon as it is known.
Promises: every open part is ended before the one end of the answer, and nothing follows it. A stream without
`message_stop` is `truncated`. Blocks and events of kinds that came after this was written are passed over, but what a
server tool brought is kept whole, since it must go back as it came.
"""

from typing import Any

from msgspec import Struct

from server.ai.adapter import AnswerEvent, Failed, Finished, Usage
from server.ai.event_stream import EventStream, EventTooLarge, ServerSentEvent
from server.ai.failures import failed, failure_of_error
from server.ai.parts import PartBook
from server.protocol.codec import encode, foreign_decoder
from server.protocol.errors import BadJson

FAMILY = "anthropic"
CALLS = {"tool_use", "server_tool_use", "mcp_tool_use"}
REASONS: dict[str, Finished] = {
    "max_tokens": Finished("length"),
    "model_context_window_exceeded": Finished("length"),
    "tool_use": Finished("tool_calls"),
    "refusal": Finished("content_filter"),
}


class _Usage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Message(Struct):
    usage: _Usage | None = None


class _Delta(Struct):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    citation: dict[str, Any] | None = None
    stop_reason: str | None = None


class _Event(Struct):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: dict[str, Any] | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = foreign_decoder(_Event)


class MessagesReader:
    """Feed it, then close it."""

    def __init__(self) -> None:
        self._stream = EventStream()
        self._book = PartBook(FAMILY)
        self._usage: dict[str, int] = {}
        self._inputs: dict[int, str] = {}  # arguments that came with the block, until it shows that they come in pieces
        self._end_of_turn = Finished()
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
        if not events or not isinstance(events[-1], Finished | Failed):
            events += self._end(failed("truncated"))
        return events

    def _read(self, found: list[ServerSentEvent]) -> list[AnswerEvent]:
        events: list[AnswerEvent] = []
        for each in found:
            if self._is_over:
                break
            try:
                event = _decode(each.data)
            except BadJson:
                events += self._end(failed("bad_response", "an event of it has no shape of this format"))
                continue
            self._take(event, events)
        return events

    def _end(self, end: Finished | Failed) -> list[AnswerEvent]:
        self._is_over = True
        return [*self._book.end_all(), end]

    def _take(self, event: _Event, events: list[AnswerEvent]) -> None:
        match event.type:
            case "message_start" if event.message is not None:
                self._count(event.message.usage, events)
            case "content_block_start" if event.content_block is not None:
                self._start(event.index, event.content_block, events)
            case "content_block_delta" if event.delta is not None and event.index in self._book:
                self._add(event.index, event.delta, events)
            case "content_block_stop" if event.index in self._book:
                if given := self._inputs.pop(event.index, ""):
                    events.append(self._book.add(event.index, given))
                events.append(self._book.end(event.index))
            case "message_delta":
                self._count(event.usage, events)
                if event.delta is not None and event.delta.stop_reason:
                    self._end_of_turn = REASONS.get(event.delta.stop_reason, Finished())
            case "message_stop":
                events += self._end(self._end_of_turn)
            case "error":
                events += self._end(failure_of_error(event.error))

    def _start(self, key: int, block: dict[str, Any], events: list[AnswerEvent]) -> None:
        kind = block.get("type")
        if not isinstance(kind, str):
            return
        if kind == "text":
            events.append(self._book.start(key, "text"))
            self._say(key, block.get("text"), events)
        elif kind == "thinking":
            events.append(self._book.start(key, "reasoning"))
            self._say(key, block.get("thinking"), events)
            if block.get("signature"):
                self._book.keep(key, signature=block["signature"])
        elif kind == "redacted_thinking":
            events.append(self._book.start(key, "reasoning"))
            self._book.keep(key, redacted=block.get("data"))
        elif kind in CALLS:
            call, name = block.get("id"), block.get("name")
            events.append(self._book.start(key, "tool_call", call=call, name=name))
            if kind != "tool_use":
                self._book.keep(key, type=kind)  # the provider calls it itself: nobody here has anything to do
            if block.get("input"):
                self._inputs[key] = encode(block["input"]).decode()
        elif kind.endswith("_tool_result"):
            events.append(self._book.start(key, "tool_result", call=block.get("tool_use_id")))
            self._say(key, encode(block.get("content")).decode(), events)
            self._book.keep(key, block=block)

    def _add(self, key: int, delta: _Delta, events: list[AnswerEvent]) -> None:
        match delta.type:
            case "text_delta":
                self._say(key, delta.text, events)
            case "thinking_delta":
                self._say(key, delta.thinking, events)
            case "input_json_delta" if delta.partial_json:
                self._inputs.pop(key, None)
                self._say(key, delta.partial_json, events)
            case "signature_delta":
                self._book.keep(key, signature=delta.signature)
            case "citations_delta" if delta.citation is not None:
                events.append(self._book.annotate(key, delta.citation))

    def _say(self, key: int, text: object, events: list[AnswerEvent]) -> None:
        if isinstance(text, str) and text:
            events.append(self._book.add(key, text))

    def _count(self, usage: _Usage | None, events: list[AnswerEvent]) -> None:
        """Each word is final for its field: the last one of each counts."""
        if usage is None:
            return
        for name in _Usage.__struct_fields__:
            value = getattr(usage, name)
            if value is not None:
                self._usage[name] = value
        cached = self._usage.get("cache_read_input_tokens", 0)
        written = self._usage.get("cache_creation_input_tokens", 0)
        events.append(
            Usage(
                input_tokens=self._usage.get("input_tokens", 0) + cached + written,
                output_tokens=self._usage.get("output_tokens", 0),
                cached_tokens=cached,
                cache_write_tokens=written,
            )
        )

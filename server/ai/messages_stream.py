"""The stream of Anthropic's Messages, read without I/O.

In:   the bytes of the stream, cut anywhere.
Out:  the events of the contract (`adapter`), each as soon as it is known.
Promises: those of every reader (`stream_reader`). A stream without `message_stop` is `truncated`. Events, blocks and
deltas of kinds that nobody here knows are passed over, whatever their shape. What a server tool brought is one delta,
its content as JSON, and is kept whole, since it must go back as it came.
"""

from typing import Any

from msgspec import Raw, Struct

from server.ai.adapter import AnswerEvent, Finished, Usage
from server.ai.failures import failure_of_error
from server.ai.stream_reader import StreamReader
from server.protocol.codec import encode, foreign_decoder

CALLS = {"tool_use", "server_tool_use", "mcp_tool_use"}
BLOCKS = {"text", "thinking", "redacted_thinking", *CALLS}
DELTAS = {"text_delta", "thinking_delta", "input_json_delta", "signature_delta", "citations_delta"}
REASONS: dict[str, Finished] = {
    "max_tokens": Finished("length"),
    "model_context_window_exceeded": Finished("length"),
    "tool_use": Finished("tool_calls"),
    "refusal": Finished("content_filter"),
}


class _Kind(Struct):
    type: str


class _OutputDetails(Struct):
    thinking_tokens: int | None = None


class _Usage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _Message(Struct):
    usage: _Usage | None = None


class _MessageStart(Struct):
    message: _Message | None = None


class _Reason(Struct):
    stop_reason: str | None = None


class _MessageDelta(Struct):
    delta: _Reason | None = None
    usage: _Usage | None = None


class _BlockStart(Struct):
    index: int
    content_block: Raw


class _Block(Struct):
    type: str
    text: str | None = None
    citations: list[dict[str, Any]] | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    server_name: str | None = None
    input: Any = None


class _Result(Struct):
    tool_use_id: str | None = None
    content: Any = None


class _BlockDelta(Struct):
    index: int
    delta: Raw


class _Delta(Struct):
    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    citation: dict[str, Any] | None = None


class _BlockStop(Struct):
    index: int


class _Error(Struct):
    error: Any = None


# The kind first, then the shape: what nobody here knows may have any.
_kind_of = foreign_decoder(_Kind)
_message_start = foreign_decoder(_MessageStart)
_message_delta = foreign_decoder(_MessageDelta)
_block_start = foreign_decoder(_BlockStart)
_block = foreign_decoder(_Block)
_result = foreign_decoder(_Result)
_any_block = foreign_decoder(dict[str, Any])
_block_delta = foreign_decoder(_BlockDelta)
_delta = foreign_decoder(_Delta)
_block_stop = foreign_decoder(_BlockStop)
_error = foreign_decoder(_Error)


class MessagesReader(StreamReader):
    family = "anthropic"

    def __init__(self) -> None:
        super().__init__()
        self._usage = _Usage()
        self._inputs: dict[int, str] = {}  # arguments that came with the block, until it shows that they come in pieces
        self._end_of_turn = Finished()

    def _take(self, data: bytes, events: list[AnswerEvent]) -> None:
        match _kind_of(data).type:
            case "message_start":
                if (message := _message_start(data).message) is not None:
                    self._count(message.usage, events)
            case "content_block_start":
                begun = _block_start(data)
                self._start(begun.index, bytes(begun.content_block), events)
            case "content_block_delta":
                more = _block_delta(data)
                if more.index in self._book:
                    self._add(more.index, bytes(more.delta), events)
            case "content_block_stop":
                self._stop(_block_stop(data).index, events)
            case "message_delta":
                change = _message_delta(data)
                self._count(change.usage, events)
                if change.delta is not None and change.delta.stop_reason:
                    self._end_of_turn = REASONS.get(change.delta.stop_reason, Finished())
            case "message_stop":
                self._end(self._end_of_turn, events)
            case "error":
                self._end(failure_of_error(_error(data).error), events)

    def _last_words(self) -> list[AnswerEvent]:
        return [self._book.add(key, given) for key, given in self._inputs.items()]

    def _start(self, key: int, raw: bytes, events: list[AnswerEvent]) -> None:
        self._stop(key, events)  # a number that comes again without a stop: the first part is whole
        kind = _kind_of(raw).type
        if kind.endswith("_tool_result"):
            result = _result(raw)
            events.append(self._book.start(key, "tool_result", call=result.tool_use_id))
            self._say(key, encode(result.content).decode(), events)
            self._book.keep(key, block=_any_block(raw))
            return
        if kind not in BLOCKS:
            return
        block = _block(raw)
        if kind == "text":
            events.append(self._book.start(key, "text"))
            self._say(key, block.text, events)
            events += [self._book.annotate(key, citation) for citation in block.citations or ()]
        elif kind == "thinking":
            events.append(self._book.start(key, "reasoning"))
            self._say(key, block.thinking, events)
            if block.signature:
                self._book.keep(key, signature=block.signature)
        elif kind == "redacted_thinking":
            events.append(self._book.start(key, "reasoning"))
            self._book.keep(key, data=block.data)
        else:
            events.append(self._book.start(key, "tool_call", call=block.id, name=block.name))
            if kind != "tool_use":
                self._book.keep(key, type=kind)  # the provider calls it itself: nobody here has anything to do
            if block.server_name is not None:
                self._book.keep(key, server_name=block.server_name)
            if block.input:
                self._inputs[key] = encode(block.input).decode()

    def _add(self, key: int, raw: bytes, events: list[AnswerEvent]) -> None:
        if _kind_of(raw).type not in DELTAS:
            return
        delta = _delta(raw)
        match delta.type:
            case "text_delta":
                self._say(key, delta.text, events)
            case "thinking_delta":
                self._say(key, delta.thinking, events)
            case "input_json_delta" if delta.partial_json:
                self._inputs.pop(key, None)
                self._say(key, delta.partial_json, events)
            case "signature_delta" if delta.signature:
                self._book.keep(key, signature=delta.signature)
            case "citations_delta" if delta.citation is not None:
                events.append(self._book.annotate(key, delta.citation))

    def _stop(self, key: int, events: list[AnswerEvent]) -> None:
        if key in self._book:
            self._say(key, self._inputs.pop(key, None), events)
            events.append(self._book.end(key))

    def _say(self, key: int, text: str | None, events: list[AnswerEvent]) -> None:
        if text:
            events.append(self._book.add(key, text))

    def _count(self, usage: _Usage | None, events: list[AnswerEvent]) -> None:
        """Each word is final for its field: the last one of each counts."""
        if usage is None:
            return
        for name in _Usage.__struct_fields__:
            if (value := getattr(usage, name)) is not None:
                setattr(self._usage, name, value)
        known = self._usage
        cached, written = known.cache_read_input_tokens or 0, known.cache_creation_input_tokens or 0
        details = known.output_tokens_details or _OutputDetails()
        events.append(
            Usage(
                input_tokens=(known.input_tokens or 0) + cached + written,
                output_tokens=known.output_tokens or 0,
                cached_tokens=cached,
                cache_write_tokens=written,
                reasoning_tokens=details.thinking_tokens or 0,
            )
        )

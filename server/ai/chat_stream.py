"""The stream of Chat Completions, read without I/O: OpenAI's, and that of everybody who took over its format.

In:   the bytes of the stream, cut anywhere.
Out:  the events of the contract (`adapter`), each as soon as it is known.
Promises: those of every reader (`stream_reader`). A stream that is over with neither a reason nor `[DONE]` is
`truncated`, however finished it looks. What servers do differently (calls without an
index, thoughts under three names, usage in three places) is told by what is there, never by whose server it is. A tool
call starts when its id, its name and the first of its arguments are known, or when nothing more can come of them.
"""

from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from server.ai.adapter import AnswerEvent, ErrorKind, Failed, Finished, PartKind
from server.ai.failures import failed, failure_of_error
from server.ai.openai_usage import Details, usage_of
from server.ai.stream_reader import StreamReader
from server.protocol.codec import foreign_decoder

SPOKEN: tuple[PartKind, ...] = ("text", "reasoning", "refusal")
REASONS: dict[str, Finished] = {
    "length": Finished("length"),
    "max_tokens": Finished("length"),
    "model_length": Finished("length"),
    "tool_calls": Finished("tool_calls"),
    "function_call": Finished("tool_calls"),
    "content_filter": Finished("content_filter"),
    "sensitive": Finished("content_filter"),
}
BROKEN: dict[str, ErrorKind] = {  # reasons that are failures, given without an error object
    "error": "unavailable",
    "network_error": "unavailable",
    "insufficient_system_resource": "overloaded",
}


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    extra_content: Any = None  # Gemini's signature of a thought


class _Delta(Struct):
    content: str | list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[Any] | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    annotations: list[dict[str, Any]] | None = None


class _Choice(Struct):
    index: int | None = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None


class _Groq(Struct):
    usage: _Usage | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    x_groq: _Groq | None = None
    error: Any = None


_decode = foreign_decoder(_Chunk)


@dataclass(slots=True, eq=False)
class _Call:
    """A tool call as far as it has come; itself the key of its part."""

    id: str = ""
    name: str = ""
    is_started: bool = False
    early: list[str] = field(default_factory=list)  # arguments that came before the start
    extra_content: Any = None


class ChatReader(StreamReader):
    family = "openai_chat"

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[_Call] = []  # in the order in which they came
        self._by_index: dict[int, _Call] = {}
        self._details: list[Any] = []  # of the reasoning that is open
        self._reason: str | None = None

    def _take(self, data: bytes, events: list[AnswerEvent]) -> None:
        if data.strip() == b"[DONE]":
            if self._calls or not self._book.is_empty:
                self._reason = self._reason or "stop"  # some never give a reason, and still say that they are done
            self._end(self._outcome(), events)
            return
        chunk = _decode(data)
        for choice in chunk.choices or ():
            if choice.index not in (0, None):
                continue  # one answer was asked for
            if choice.delta is not None:
                self._take_delta(choice.delta, events)
            if choice.finish_reason:
                self._reason = choice.finish_reason
        usage = chunk.usage or (chunk.x_groq.usage if chunk.x_groq is not None else None)
        if usage is not None:
            cached = usage.prompt_cache_hit_tokens or usage.cached_tokens
            details = usage.prompt_tokens_details, usage.completion_tokens_details
            events.append(usage_of(usage.prompt_tokens, usage.completion_tokens, *details, cached=cached))
        if chunk.error is not None:  # last: what came with it was said, and is paid for
            self._end(failure_of_error(chunk.error), events)

    def _outcome(self) -> Finished | Failed:
        if self._reason is None:
            return failed("truncated")
        if self._reason in BROKEN:
            return failed(BROKEN[self._reason])
        # Some say "stop" after calls; whoever reads the reason must not miss them.
        if self._calls and self._reason == "stop":
            return Finished("tool_calls")
        return REASONS.get(self._reason, Finished())

    def _last_words(self) -> list[AnswerEvent]:
        events: list[AnswerEvent] = []
        for call in self._calls:
            self._start(call, events)
        return events

    def _take_delta(self, delta: _Delta, events: list[AnswerEvent]) -> None:
        self._say("reasoning", delta.reasoning_content or delta.reasoning or "", events)
        if delta.reasoning_content:
            self._book.keep("reasoning", field="reasoning_content")  # who says it there wants it back there
        if delta.reasoning_details:
            # Encrypted thoughts come without words, and often behind the text: then they are a part of their own.
            self._open("reasoning", events)
            self._details += delta.reasoning_details
            self._book.keep("reasoning", reasoning_details=self._details)
        if isinstance(delta.content, list):
            for piece in delta.content:
                self._say_piece(piece, events)
        else:
            self._say("text", delta.content or "", events)
        self._say("refusal", delta.refusal or "", events)
        for annotation in delta.annotations or ():
            self._open("text", events)  # sources may come before the first word
            events.append(self._book.annotate("text", annotation))
        for call in delta.tool_calls or ():
            self._take_call(call, events)

    def _say_piece(self, piece: dict[str, Any], events: list[AnswerEvent]) -> None:
        """Mistral's lists: words as `text`, thoughts as `thinking`, which is a list again."""
        if isinstance(text := piece.get("text"), str):
            self._say("text", text, events)
        thinking = piece.get("thinking")
        if isinstance(thinking, str):
            self._say("reasoning", thinking, events)
        for thought in thinking if isinstance(thinking, list) else ():
            if isinstance(thought, dict) and isinstance(text := thought.get("text"), str):
                self._say("reasoning", text, events)

    def _say(self, kind: PartKind, text: str, events: list[AnswerEvent]) -> None:
        if text:
            self._open(kind, events)
            events.append(self._book.add(kind, text))

    def _open(self, kind: PartKind, events: list[AnswerEvent]) -> None:
        if kind in self._book:
            return
        self._start_named(events)
        self._hush(events)
        if kind == "reasoning":
            self._details = []
        events.append(self._book.start(kind, kind))

    def _hush(self, events: list[AnswerEvent]) -> None:
        """Something else begins: what was spoken so far is whole. Calls may go on in any order until the end."""
        events += [self._book.end(kind) for kind in SPOKEN if kind in self._book]

    def _take_call(self, piece: _ToolCall, events: list[AnswerEvent]) -> None:
        function = piece.function or _Function()
        call = self._call_of(piece, events)
        if not call.is_started:
            call.id = _joined(call.id, piece.id)
            call.name = _joined(call.name, function.name)
        if piece.extra_content is not None:
            call.extra_content = piece.extra_content
            if call.is_started:
                self._book.keep(call, extra_content=piece.extra_content)
        if not function.arguments:
            return
        if call.is_started:
            events.append(self._book.add(call, function.arguments))
            return
        call.early.append(function.arguments)
        if call.id and call.name:
            self._start(call, events)

    def _call_of(self, piece: _ToolCall, events: list[AnswerEvent]) -> _Call:
        """By its index; where there is none, an id that is new is a new call, and no id goes on with the last."""
        if piece.index is not None:
            call = self._by_index.get(piece.index)
            # Some number every call 0: another id and a name, after arguments, can only be another call.
            if call and not (call.is_started and piece.id not in (None, "", call.id) and _name_of(piece)):
                return call
        elif not piece.id and self._calls:
            return self._calls[-1]
        elif call := next((call for call in self._calls if piece.id and call.id == piece.id), None):
            return call
        self._start_named(events)
        call = _Call()
        self._calls.append(call)
        if piece.index is not None:
            self._by_index[piece.index] = call
        return call

    def _start_named(self, events: list[AnswerEvent]) -> None:
        """Something else begins: calls without arguments stand where they were made."""
        for call in self._calls:
            if call.id and call.name:
                self._start(call, events)

    def _start(self, call: _Call, events: list[AnswerEvent]) -> None:
        if call.is_started:
            return
        call.is_started = True
        self._hush(events)
        events.append(self._book.start(call, "tool_call", call=call.id or None, name=call.name or None))
        if call.extra_content is not None:
            self._book.keep(call, extra_content=call.extra_content)
        events += [self._book.add(call, text) for text in call.early]


def _name_of(piece: _ToolCall) -> str:
    return (piece.function.name if piece.function is not None else None) or ""


def _joined(so_far: str, piece: str | None) -> str:
    """Some send a name in pieces, and some send all of it with every piece."""
    return so_far if not piece or piece == so_far else so_far + piece

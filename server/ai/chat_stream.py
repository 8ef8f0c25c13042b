"""The stream of Chat Completions, read without I/O: OpenAI's, and that of everybody who took over its format.

In:   the bytes of the stream, cut anywhere.
Out:  the events of the contract (`adapter`), each as soon as it is known.
Promises: every open part is ended before the one end of the answer, and nothing follows it. A stream that is over with
neither a reason nor `[DONE]` is `truncated`, however finished it looks. What servers do differently (calls without an
index, thoughts under three names, usage in three places) is told by what is there, never by whose server it is.
"""

from typing import Any

import msgspec
from msgspec import Struct

from server.ai.adapter import AnswerEvent, Failed, Finished, PartKind, Usage
from server.ai.event_stream import EventStream, EventTooLarge, ServerSentEvent
from server.ai.failures import failed, failure_of_error
from server.ai.parts import PartBook

FAMILY = "openai_chat"
SPOKEN: tuple[PartKind, ...] = ("text", "reasoning", "refusal")
REASONS: dict[str, Finished] = {
    "length": Finished("length"),
    "max_tokens": Finished("length"),
    "tool_calls": Finished("tool_calls"),
    "function_call": Finished("tool_calls"),
    "content_filter": Finished("content_filter"),
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


class _Details(Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: int | None = None


class _Groq(Struct):
    usage: _Usage | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    x_groq: _Groq | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class ChatReader:
    """Feed it, then close it."""

    def __init__(self) -> None:
        self._stream = EventStream()
        self._book = PartBook(FAMILY)
        self._calls: list[object] = []  # keys of the tool calls, in the order in which they came
        self._reason: str | None = None
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
        if not events or not isinstance(events[-1], Finished | Failed):
            events += self._end(self._outcome())
        return events

    def _read(self, found: list[ServerSentEvent]) -> list[AnswerEvent]:
        events: list[AnswerEvent] = []
        for event in found:
            if self._is_over:
                break
            if event.data == b"[DONE]":
                if not self._book.is_empty:
                    self._reason = self._reason or "stop"  # some never give a reason, and still say that they are done
                events += self._end(self._outcome())
                continue
            try:
                chunk = _decode(event.data)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                events += self._end(failed("bad_response", "an event of it has no shape of this format"))
                continue
            self._take(chunk, events)
        return events

    def _outcome(self) -> Finished | Failed:
        if self._reason is None:
            return failed("truncated")
        # Some say "stop" after calls; whoever reads the reason must not miss them.
        if self._has_called and self._reason == "stop":
            return Finished("tool_calls")
        return REASONS.get(self._reason, Finished())

    def _end(self, end: Finished | Failed) -> list[AnswerEvent]:
        self._is_over = True
        return [*self._book.end_all(), end]

    def _take(self, chunk: _Chunk, events: list[AnswerEvent]) -> None:
        if chunk.error is not None:
            events += self._end(failure_of_error(chunk.error))
            return
        for choice in chunk.choices or ():
            if choice.index not in (0, None):
                continue  # one answer was asked for
            if choice.delta is not None:
                self._take_delta(choice.delta, events)
            if choice.finish_reason:
                self._reason = choice.finish_reason
        usage = chunk.usage or (chunk.x_groq.usage if chunk.x_groq is not None else None)
        if usage is not None:
            events.append(_usage(usage))

    def _take_delta(self, delta: _Delta, events: list[AnswerEvent]) -> None:
        self._say("reasoning", delta.reasoning_content or delta.reasoning or "", events)
        if delta.reasoning_details and "reasoning" in self._book:
            self._book.keep("reasoning", reasoning_details=delta.reasoning_details)
        if isinstance(delta.content, list):
            for piece in delta.content:
                self._say_piece(piece, events)
        else:
            self._say("text", delta.content or "", events)
        self._say("refusal", delta.refusal or "", events)
        if "text" in self._book:
            events += [self._book.annotate("text", annotation) for annotation in delta.annotations or ()]
        for call in delta.tool_calls or ():
            self._take_call(call, events)

    def _say_piece(self, piece: dict[str, Any], events: list[AnswerEvent]) -> None:
        """Mistral's lists: words as `text`, thoughts as `thinking`, which is a list again."""
        if isinstance(text := piece.get("text"), str):
            self._say("text", text, events)
        thinking = piece.get("thinking")
        for thought in thinking if isinstance(thinking, list) else ():
            if isinstance(thought, dict) and isinstance(text := thought.get("text"), str):
                self._say("reasoning", text, events)

    def _say(self, kind: PartKind, text: str, events: list[AnswerEvent]) -> None:
        if not text:
            return
        if kind not in self._book:
            self._hush(events)
            events.append(self._book.start(kind, kind))
        events.append(self._book.add(kind, text))

    def _hush(self, events: list[AnswerEvent]) -> None:
        """Something else begins: what was spoken so far is whole. Calls may go on in any order until the end."""
        events += [self._book.end(kind) for kind in SPOKEN if kind in self._book]

    def _take_call(self, call: _ToolCall, events: list[AnswerEvent]) -> None:
        function = call.function or _Function()
        key = self._key_of(call)
        if key not in self._book:
            self._hush(events)
            events.append(self._book.start(key, "tool_call", call=call.id, name=function.name))
            self._calls.append(key)
            self._has_called = True
        if call.extra_content is not None:
            self._book.keep(key, extra_content=call.extra_content)
        if function.arguments:
            events.append(self._book.add(key, function.arguments))

    def _key_of(self, call: _ToolCall) -> object:
        """By its index; where there is none, an id that is new is a new call, and no id goes on with the last."""
        if call.index is not None:
            return call.index
        if call.id is None and self._calls:
            return self._calls[-1]
        return call.id or "a call without a name"


def _usage(found: _Usage) -> Usage:
    asked, said = found.prompt_tokens_details or _Details(), found.completion_tokens_details or _Details()
    return Usage(
        input_tokens=found.prompt_tokens or 0,
        output_tokens=found.completion_tokens or 0,
        cached_tokens=asked.cached_tokens or found.prompt_cache_hit_tokens or 0,
        reasoning_tokens=said.reasoning_tokens or 0,
    )

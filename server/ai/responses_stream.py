"""The stream of OpenAI's Responses, read without I/O.

In:   the bytes of the stream, cut anywhere.
Out:  the events of the contract (`adapter`), each as soon as it is known.
Promises: those of every reader (`stream_reader`). What comes only with a `done` is said then, whether that of a text,
of a part or of an item; an item that was begun and has no `done` is taken from the last event. A stream without an end
of its own is `truncated`. Events of a type that nobody here knows are passed over, whatever their shape. Items of tools
that run at the provider are kept whole, since they must go back as they came.
"""

from typing import Any

from msgspec import Struct

from server.ai.adapter import AnswerEvent, Cancelled, Finished, PartKind
from server.ai.failures import failed, failure_of_error
from server.ai.openai_usage import Details, usage_of
from server.ai.stream_reader import End, StreamReader
from server.protocol.codec import encode, foreign_decoder
from server.protocol.errors import BadJson

Key = tuple[int, str, int]  # the item's place, what of it, and the place of that

PIECES: dict[str, tuple[str, PartKind]] = {
    "response.output_text": ("content", "text"),
    "response.refusal": ("content", "refusal"),
    "response.reasoning_text": ("content", "reasoning"),
    "response.reasoning_summary_text": ("summary", "reasoning"),
}
PARTS: dict[str, tuple[str, PartKind]] = {  # the same by the type of a finished part
    "output_text": ("content", "text"),
    "refusal": ("content", "refusal"),
    "reasoning_text": ("content", "reasoning"),
    "summary_text": ("summary", "reasoning"),
}
ARGUMENTS = {"response.function_call_arguments", "response.custom_tool_call_input"}
PART_DONE = {"response.content_part.done", "response.reasoning_summary_part.done"}
ANNOTATED = "response.output_text.annotation.added"
ITEM_ADDED, ITEM_DONE = "response.output_item.added", "response.output_item.done"
ENDS = {"response.completed", "response.incomplete", "response.failed", "response.cancelled", "error"}
KNOWN = frozenset({
    *(f"{stem}.{verb}" for stem in (*PIECES, *ARGUMENTS) for verb in ("delta", "done")),
    *PART_DONE, ANNOTATED, ITEM_ADDED, ITEM_DONE, *ENDS,
})  # fmt: skip
OURS = {"function_call", "custom_tool_call"}
SPOKEN = {"message", "reasoning"}


class _Usage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: Details | None = None
    output_tokens_details: Details | None = None


class _Incomplete(Struct):
    reason: str | None = None


class _Response(Struct):
    usage: _Usage | None = None
    error: Any = None
    incomplete_details: _Incomplete | None = None
    output: list[Any] | None = None


class _Event(Struct):
    type: str = ""
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    delta: str | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    input: str | None = None
    item: dict[str, Any] | None = None
    part: dict[str, Any] | None = None
    annotation: dict[str, Any] | None = None
    response: _Response | None = None
    error: Any = None
    code: Any = None
    message: Any = None


class _Kind(Struct):
    type: str


_decode = foreign_decoder(_Event)
_decode_kind = foreign_decoder(_Kind)


class ResponsesReader(StreamReader):
    family = "openai_responses"

    def __init__(self) -> None:
        super().__init__()
        self._open_keys: dict[int, list[Key]] = {}  # the open parts of each item, until the item is whole
        self._said: set[Key] = set()  # of which something was said, of the items that are not whole yet
        self._annotations: dict[Key, int] = {}  # how many were told
        self._begun: dict[int, str] = {}  # the id of the item at each place, until it is whole
        self._whole: set[int] = set()  # the places of items that are done
        self._has_called = False

    def _take(self, data: bytes, events: list[AnswerEvent]) -> None:
        if data.strip() == b"[DONE]":
            return  # some say so after the end, or before the last event
        try:
            event = _decode(data)
        except BadJson:
            if _is_unknown(data):
                return
            raise
        stem, _, verb = event.type.rpartition(".")
        if stem in PIECES and verb in ("delta", "done"):
            place, kind = PIECES[stem]
            key = (event.output_index, place, event.summary_index if place == "summary" else event.content_index)
            if verb == "delta":
                self._say(key, kind, event.delta, events)
            else:
                self._say_whole(key, kind, event.refusal if kind == "refusal" else event.text, events)
        elif stem in ARGUMENTS and verb in ("delta", "done"):
            key = (event.output_index, "call", 0)
            if key not in self._book:
                return  # whose arguments they are, its item says when it is done, and says them again
            if verb == "delta":
                self._say(key, "tool_call", event.delta, events)
            else:
                whole = event.arguments if event.arguments is not None else event.input
                self._say_whole(key, "tool_call", whole, events)
        elif event.type in PART_DONE and event.part is not None:
            index = event.summary_index if event.type.startswith("response.reasoning_summary") else event.content_index
            self._finish_part(event.output_index, index, event.part, events)
        elif event.type == ANNOTATED and event.annotation is not None:
            self._annotate((event.output_index, "content", event.content_index), event.annotation, events)
        elif event.type == ITEM_ADDED and event.item is not None:
            self._begin_item(event.output_index, event.item, events)
        elif event.type == ITEM_DONE and event.item is not None:
            self._finish_item(event.output_index, event.item, events)
        else:
            self._take_end(event, events)

    def _say(self, key: Key, kind: PartKind, text: object, events: list[AnswerEvent]) -> None:
        if isinstance(text, str) and text:
            self._open(key, kind, events)
            self._said.add(key)
            events.append(self._book.add(key, text))

    def _say_whole(self, key: Key, kind: PartKind, text: object, events: list[AnswerEvent]) -> None:
        """A `done` repeats what was said, and is news only where nothing was."""
        if key not in self._said and key[0] not in self._whole:
            self._say(key, kind, text, events)

    def _open(
        self, key: Key, kind: PartKind, events: list[AnswerEvent], *, call: str | None = None, name: str | None = None
    ) -> None:
        if key in self._book:
            return
        self._whole.discard(key[0])
        self._open_keys.setdefault(key[0], []).append(key)
        events.append(self._book.start(key, kind, call=call, name=name))

    def _annotate(self, key: Key, data: dict[str, Any], events: list[AnswerEvent]) -> None:
        if key[0] in self._whole:
            return
        self._open(key, "text", events)  # sources may come before the first word
        self._annotations[key] = self._annotations.get(key, 0) + 1
        events.append(self._book.annotate(key, data))

    def _begin_item(self, place: int, item: dict[str, Any], events: list[AnswerEvent]) -> None:
        self._close_item(place, events)  # some number every item 0
        self._whole.discard(place)
        if found := _text(item.get("id")):
            self._begun[place] = found
        if _text(item.get("type")) in OURS:
            self._has_called = True
            call, name = _text(item.get("call_id")), _text(item.get("name"))
            self._open((place, "call", 0), "tool_call", events, call=call, name=name)

    def _finish_item(self, place: int, item: dict[str, Any], events: list[AnswerEvent]) -> None:
        kind = item.get("type")
        if not isinstance(kind, str):
            return
        self._whole.discard(place)
        if kind in OURS:
            key = (place, "call", 0)
            if key not in self._book:
                self._begin_item(place, item, events)
            self._say_whole(key, "tool_call", item.get("arguments", item.get("input")), events)
        elif kind in SPOKEN:
            for name in ("summary", "content"):
                pieces = item.get(name)
                for index, piece in enumerate(pieces if isinstance(pieces, list) else ()):
                    self._finish_part(place, index, piece, events)
            if kind == "reasoning":
                self._keep_thought(place, item, events)
        else:
            key = (place, "item", 0)
            self._say(key, "tool_result", encode(item).decode(), events)
            self._book.keep(key, item=item)
        self._close_item(place, events)

    def _finish_part(self, place: int, index: int, part: object, events: list[AnswerEvent]) -> None:
        """Its end is that of its item: sources may still come."""
        if not isinstance(part, dict) or (found := PARTS.get(_text(part.get("type")) or "")) is None:
            return
        name, kind = found
        key = (place, name, index)
        self._say_whole(key, kind, part.get("refusal" if kind == "refusal" else "text"), events)
        sources = part.get("annotations")
        for source in sources[self._annotations.get(key, 0) :] if isinstance(sources, list) else ():
            if isinstance(source, dict):
                self._annotate(key, source, events)

    def _keep_thought(self, place: int, item: dict[str, Any], events: list[AnswerEvent]) -> None:
        """Its id and what is encrypted of it go back with its first part; one without a word is a part all the same."""
        if not self._open_keys.get(place):
            self._open((place, "summary", 0), "reasoning", events)
        kept = {name: item[name] for name in ("id", "encrypted_content") if item.get(name)}
        if kept:
            self._book.keep(self._open_keys[place][0], **kept)

    def _close_item(self, place: int, events: list[AnswerEvent]) -> None:
        self._whole.add(place)
        self._begun.pop(place, None)
        for key in self._open_keys.pop(place, ()):
            self._said.discard(key)
            self._annotations.pop(key, None)
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
            case "" if event.error is not None:
                end = failure_of_error(event.error)  # of a server on the way, in the shape of an HTTP answer
            case "":
                end = failed("bad_response", "an event of it has no type")
            case _:
                return  # progress, and what came after this was written
        begun = {found: place for place, found in self._begun.items()}
        for item in response.output or ():
            # OpenAI leaves out the `done` of some items (lists of MCP tools), and has them whole only here.
            if isinstance(item, dict) and (place := begun.get(_text(item.get("id")) or "")) is not None:
                self._finish_item(place, item, events)
        if response.usage is not None:
            found = response.usage
            details = found.input_tokens_details, found.output_tokens_details
            events.append(usage_of(found.input_tokens, found.output_tokens, *details))
        self._end(end, events)


def _is_unknown(data: bytes) -> bool:
    """Whether it is an event all the same, of a type that need not be read."""
    try:
        return _decode_kind(data).type not in KNOWN
    except BadJson:
        return False


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None

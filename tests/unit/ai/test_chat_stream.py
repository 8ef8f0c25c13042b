"""Chat Completions: recorded streams, cut anywhere, and one small stream for each thing that servers do differently."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.ai.adapter import (
    AnswerEvent,
    Failed,
    Finished,
    PartAnnotation,
    PartDelta,
    PartEnded,
    PartStarted,
    ProviderData,
    Usage,
)
from server.ai.chat_stream import ChatReader

RECORDED = Path(__file__).resolve().parents[4] / "shared" / "data" / "provider-streams"


def read(pieces: Iterable[bytes]) -> list[AnswerEvent]:
    reader = ChatReader()
    return [event for piece in pieces for event in reader.feed(piece)] + reader.close()


def stream(*deltas: dict[str, Any] | bytes, reason: str | None = "stop", done: bool = True) -> bytes:
    """A stream of these deltas; bytes stand as they are."""
    chunks = [
        delta if isinstance(delta, bytes) else msgspec.json.encode({"choices": [{"index": 0, "delta": delta}]})
        for delta in deltas
    ]
    if reason is not None:
        chunks.append(msgspec.json.encode({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
    return b"".join(b"data: " + chunk + b"\n\n" for chunk in (*chunks, *([b"[DONE]"] if done else [])))


def ended(events: list[AnswerEvent]) -> list[PartEnded]:
    return [event for event in events if isinstance(event, PartEnded)]


def call(index: int | None = None, call_id: str | None = None, name: str | None = None, arguments: str = "") -> Any:
    fields = {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}
    return {"tool_calls": [{name: value for name, value in fields.items() if value is not None}]}


def recorded() -> list[Path]:
    if not RECORDED.is_dir():
        return []
    index = csv.DictReader((RECORDED / "INDEX.csv").read_text().splitlines())
    return [
        RECORDED / row["file"]
        for row in index
        if row["endpoint"].partition("#")[0].endswith("/chat/completions") and row["status"] == "200"
    ]


def test_recorded_streams_are_there() -> None:
    if not RECORDED.is_dir():
        pytest.skip("NO RECORDED STREAMS: ../shared/data/provider-streams is not there")
    assert len(recorded()) > 20


@pytest.mark.parametrize("path", recorded(), ids=lambda path: path.name)
def test_a_recorded_stream_keeps_the_contract_wherever_it_is_cut(path: Path) -> None:
    whole = path.read_bytes()
    events = read([whole])
    assert read([bytes([byte]) for byte in whole]) == events
    assert read([whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")]) == events
    assert isinstance(events[-1], Failed if b'"error":{' in whole else Finished), path.name
    assert sum(isinstance(event, Finished | Failed) for event in events) == 1
    started = [event.index for event in events if isinstance(event, PartStarted)]
    assert started == list(range(len(started)))
    assert started
    assert sorted(event.index for event in ended(events)) == started
    for part in ended(events):
        deltas = [event.text for event in events if isinstance(event, PartDelta) and event.index == part.index]
        assert "".join(deltas) == part.text
        if part.kind == "tool_call":
            assert (part.arguments is None) == (part.error is not None)
            assert part.call
            assert part.name


@pytest.mark.parametrize("path", recorded(), ids=lambda path: path.name)
def test_a_recorded_stream_holds_what_a_plain_reading_of_it_finds(path: Path) -> None:
    """The text by hand: every `content` of choice 0, one after the other."""
    chunks = [msgspec.json.decode(line[6:]) for line in path.read_bytes().splitlines() if line.startswith(b"data: {")]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices") or () if choice.get("delta")]
    plain = "".join(delta["content"] for delta in deltas if isinstance(delta.get("content"), str))
    # Some repeat a call's name with each piece of it.
    names = {
        (each.get("index"), each.get("id")): named
        for delta in deltas
        for each in delta.get("tool_calls") or ()
        if (named := (each.get("function") or {}).get("name"))
    }
    events = read([path.read_bytes()])
    texts = "".join(part.text for part in ended(events) if part.kind == "text")
    if plain:
        assert texts == plain
    assert [event.name for event in events if isinstance(event, PartStarted) and event.kind == "tool_call"] == list(
        names.values()
    )


def test_thoughts_under_any_name_come_before_the_text() -> None:
    for thought in ({"reasoning_content": "hm"}, {"reasoning": "hm"}):
        events = read([stream(thought, {"content": "yes"})])
        assert events == [
            PartStarted(0, "reasoning"), PartDelta(0, "hm"), PartEnded(0, "reasoning", "hm"),
            PartStarted(1, "text"), PartDelta(1, "yes"), PartEnded(1, "text", "yes"), Finished(),
        ]  # fmt: skip


def test_a_list_of_pieces_is_words_and_thoughts() -> None:
    thinking = {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}
    parts = ended(read([stream(thinking, {"content": [{"type": "text", "text": "yes"}]})]))
    assert [(part.kind, part.text) for part in parts] == [("reasoning", "hm"), ("text", "yes")]


def test_calls_side_by_side_are_told_apart_by_their_index() -> None:
    events = read([
        stream(
            call(0, "a", "one", '{"x'), call(1, "b", "two", "{"), call(0, arguments='":1}'), call(1, arguments="}"),
            reason="tool_calls",
        )
    ])  # fmt: skip
    assert ended(events) == [
        PartEnded(0, "tool_call", '{"x":1}', "a", "one", {"x": 1}),
        PartEnded(1, "tool_call", "{}", "b", "two", {}),
    ]
    assert events[-1] == Finished("tool_calls")


def test_calls_without_an_index_are_told_apart_by_their_id() -> None:
    events = read([stream(call(None, "a", "one", "{"), call(None, arguments="}"), call(None, "b", "two", "{}"))])
    assert [(part.call, part.arguments) for part in ended(events)] == [("a", {}), ("b", {})]
    assert events[-1] == Finished("tool_calls")  # although it said "stop"


def test_arguments_that_are_no_json_are_an_error_and_no_guess() -> None:
    [part] = ended(read([stream(call(0, "a", "one", '{"x": '), reason="length")]))
    assert (part.arguments, bool(part.error)) == (None, True)


def test_a_signature_stays_with_its_call() -> None:
    signed = {"tool_calls": [{"id": "a", "function": {"name": "one", "arguments": "{}"}, "extra_content": {"s": 1}}]}
    [part] = ended(read([stream(signed)]))
    assert part.provider_data == ProviderData("openai_chat", {"extra_content": {"s": 1}})


def test_a_refusal_and_an_annotation_are_parts_of_the_answer() -> None:
    events = read([stream({"content": "see"}, {"annotations": [{"url": "x"}]}, {"refusal": "no"})])
    assert PartAnnotation(0, {"url": "x"}) in events
    assert [part.kind for part in ended(events)] == ["text", "refusal"]


@pytest.mark.parametrize(
    "usage",
    [
        b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},'
        b'"completion_tokens_details":{"reasoning_tokens":3}}}',
        b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,"prompt_cache_hit_tokens":4,'
        b'"completion_tokens_details":{"reasoning_tokens":3}}}',
        b'{"x_groq":{"usage":{"prompt_tokens":9,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},'
        b'"completion_tokens_details":{"reasoning_tokens":3}}}}',
    ],
)
def test_usage_is_found_where_it_is(usage: bytes) -> None:
    assert Usage(9, 5, cached_tokens=4, reasoning_tokens=3) in read([stream({"content": "x"}, usage)])


@pytest.mark.parametrize(
    ("reason", "told"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("something new", "stop")],
)
def test_the_reason_is_told(reason: str, told: str) -> None:
    assert read([stream({"content": "x"}, reason=reason)])[-1] == Finished(told)  # type: ignore[arg-type]


def test_a_stream_that_stops_with_a_reason_and_without_done_is_whole() -> None:
    assert read([stream({"content": "x"}, done=False)])[-1] == Finished()


def test_a_stream_without_a_reason_is_truncated_and_keeps_its_text() -> None:
    *_, part, end = read([stream({"content": "x"}, reason=None, done=False)])
    assert part == PartEnded(0, "text", "x")
    assert isinstance(end, Failed)
    assert end.kind == "truncated"


def test_done_ends_an_answer_that_gives_no_reason_if_it_said_anything() -> None:
    assert read([stream({"content": "x"}, reason=None)])[-1] == Finished()
    [nothing] = read([stream(reason=None)])
    assert isinstance(nothing, Failed)


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (b'{"error":{"message":"busy","type":"overloaded_error"}}', "overloaded"),
        (b'{"error":"broke"}', "unavailable"),
        (b"<html>", "bad_response"),
        (b'{"choices": 7}', "bad_response"),
        (b'{"choices":[{"delta":{"content":"\xff"}}]}', "bad_response"),
    ],
)
def test_what_breaks_the_stream_ends_it_once(broken: bytes, kind: str) -> None:
    events = read([stream({"content": "x"}, broken, {"content": "never"})])
    assert events[:2] == [PartStarted(0, "text"), PartDelta(0, "x")]
    assert events[2] == PartEnded(0, "text", "x")
    [end] = events[3:]
    assert isinstance(end, Failed)
    assert end.kind == kind


def test_other_choices_and_unknown_fields_are_passed_over() -> None:
    other = b'{"new":1,"choices":[{"index":1,"delta":{"content":"no"}}]}'
    assert [part.text for part in ended(read([stream(other, {"content": "yes", "new": {}})]))] == ["yes"]

"""Responses: recorded streams, cut anywhere and held against what they say of themselves, and each rule alone."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.ai.adapter import (
    AnswerEvent,
    Cancelled,
    Failed,
    Finished,
    PartAnnotation,
    PartDelta,
    PartEnded,
    PartStarted,
    ProviderData,
    Usage,
)
from server.ai.responses_stream import ResponsesReader

RECORDED = Path(__file__).resolve().parents[4] / "shared" / "data" / "provider-streams"

DONE = {"type": "response.completed", "response": {"usage": {"input_tokens": 5, "output_tokens": 7}}}


def read(pieces: Iterable[bytes]) -> list[AnswerEvent]:
    reader = ResponsesReader()
    return [event for piece in pieces for event in reader.feed(piece)] + reader.close()


def stream(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events)


def item(verb: str, place: int, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.output_item.{verb}", "output_index": place, "item": fields}


def piece(kind: str, place: int, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "output_index": place, **fields}


def ended(events: list[AnswerEvent]) -> list[PartEnded]:
    return [event for event in events if isinstance(event, PartEnded)]


def recorded() -> list[Path]:
    if not RECORDED.is_dir():
        return []
    index = csv.DictReader((RECORDED / "INDEX.csv").read_text().splitlines())
    return [
        RECORDED / row["file"] for row in index if row["endpoint"].endswith("/responses") and row["status"] == "200"
    ]


def test_recorded_streams_are_there() -> None:
    if not RECORDED.is_dir():
        pytest.skip("NO RECORDED STREAMS: ../shared/data/provider-streams is not there")
    assert len(recorded()) > 10


@pytest.mark.parametrize("path", recorded(), ids=lambda path: path.name)
def test_a_recorded_stream_keeps_the_contract_wherever_it_is_cut(path: Path) -> None:
    whole = path.read_bytes()
    events = read([whole])
    assert read([bytes([byte]) for byte in whole]) == events
    assert read([whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")]) == events
    assert isinstance(events[-1], Finished), events[-1]
    assert sum(isinstance(event, Finished | Failed | Cancelled) for event in events) == 1
    started = [event.index for event in events if isinstance(event, PartStarted)]
    assert started == list(range(len(started)))
    assert sorted(event.index for event in ended(events)) == started
    for part in ended(events):
        deltas = [event.text for event in events if isinstance(event, PartDelta) and event.index == part.index]
        assert "".join(deltas) == part.text
        if part.kind == "tool_call":
            assert (part.arguments is None) == (part.error is not None)


@pytest.mark.parametrize("path", recorded(), ids=lambda path: path.name)
def test_a_recorded_stream_holds_what_its_own_last_event_says(path: Path) -> None:
    """The whole answer stands once more in `response.completed`."""
    whole = path.read_bytes()
    found = [msgspec.json.decode(line[6:]) for line in whole.splitlines() if line.startswith(b"data: {")]
    [response] = [
        event["response"] for event in found if event["type"] in ("response.completed", "response.incomplete")
    ]
    parts, output = ended(read([whole])), response["output"]
    texts = [
        piece["text"]
        for each in output
        if each["type"] == "message"
        for piece in each["content"]
        if piece["type"] == "output_text"
    ]
    calls = [
        (each["call_id"], each["name"], msgspec.json.decode(each["arguments"] or "{}"))
        for each in output
        if each["type"] == "function_call"
    ]
    assert [part.text for part in parts if part.kind == "text"] == [text for text in texts if text]
    assert [(part.call, part.name, part.arguments) for part in parts if part.kind == "tool_call"] == calls
    if response.get("usage"):
        usage = [event for event in read([whole]) if isinstance(event, Usage)][-1]
        assert (usage.input_tokens, usage.output_tokens) == (
            response["usage"]["input_tokens"],
            response["usage"]["output_tokens"],
        )


def test_thoughts_words_and_calls_are_parts() -> None:
    events = read([
        stream(
            item("added", 0, type="reasoning", id="r"),
            piece("reasoning_summary_text.delta", 0, summary_index=0, delta="hm"),
            piece("reasoning_summary_text.done", 0, summary_index=0, text="hm"),
            item("done", 0, type="reasoning", id="r", encrypted_content="e"),
            item("added", 1, type="message"),
            piece("output_text.delta", 1, content_index=0, delta="Hi"),
            piece("output_text.annotation.added", 1, content_index=0, annotation={"url": "x"}),
            piece("output_text.done", 1, content_index=0, text="Hi"),
            item("done", 1, type="message", content=[{"type": "output_text", "text": "Hi"}]),
            item("added", 2, type="function_call", call_id="c", name="look", arguments=""),
            piece("function_call_arguments.delta", 2, delta='{"a"'),
            piece("function_call_arguments.delta", 2, delta=":1}"),
            piece("function_call_arguments.done", 2, arguments='{"a":1}'),
            item("done", 2, type="function_call", call_id="c", name="look", arguments='{"a":1}'),
            DONE,
        )
    ])  # fmt: skip
    assert ended(events) == [
        PartEnded(0, "reasoning", "hm", provider_data=ProviderData("openai_responses", {
            "id": "r", "encrypted_content": "e",
        })),
        PartEnded(1, "text", "Hi"),
        PartEnded(2, "tool_call", '{"a":1}', "c", "look", {"a": 1}),
    ]  # fmt: skip
    assert PartAnnotation(1, {"url": "x"}) in events
    assert events[-2:] == [Usage(5, 7), Finished("tool_calls")]


def test_what_was_never_streamed_is_said_when_it_is_done() -> None:
    message = item("done", 0, type="message", content=[{"type": "output_text", "text": "Hi"}])
    call = item("done", 1, type="function_call", call_id="c", name="look", arguments='{"a":1}')
    parts = ended(read([stream(message, call, DONE)]))
    assert [(part.kind, part.text) for part in parts] == [("text", "Hi"), ("tool_call", '{"a":1}')]


def test_what_the_provider_did_by_itself_is_kept_whole() -> None:
    search = {"type": "web_search_call", "id": "w", "status": "completed"}
    [part] = ended(read([stream(item("added", 0, **search), item("done", 0, **search), DONE)]))
    assert part.kind == "tool_result"
    assert msgspec.json.decode(part.text) == search
    assert part.provider_data == ProviderData("openai_responses", {"item": search})


def test_a_refusal_is_a_part_of_its_own() -> None:
    [part] = ended(read([stream(piece("refusal.delta", 0, content_index=0, delta="no"), DONE)]))
    assert (part.kind, part.text) == ("refusal", "no")


@pytest.mark.parametrize(
    ("last", "end"),
    [
        (
            {"type": "response.incomplete", "response": {"incomplete_details": {"reason": "max_output_tokens"}}},
            "length",
        ),
        (
            {"type": "response.incomplete", "response": {"incomplete_details": {"reason": "content_filter"}}},
            "content_filter",
        ),
        ({"type": "response.failed", "response": {"error": {"code": "server_error", "message": "oh"}}}, "unavailable"),
        ({"type": "error", "code": "rate_limit_exceeded", "message": "slow"}, "rate_limited"),
        ({"type": "error", "error": {"code": "context_length_exceeded", "message": "long"}}, "context_window"),
        ({"type": "response.in_progress"}, "truncated"),
        ({"type": "response.completed", "response": 7}, "bad_response"),
    ],
)
def test_each_end_has_its_kind_and_keeps_the_text(last: dict[str, Any], end: str) -> None:
    *_, part, told = read([stream(piece("output_text.delta", 0, delta="Hi"), last)])
    assert part == PartEnded(0, "text", "Hi")
    assert isinstance(told, Finished | Failed)
    assert (told.reason if isinstance(told, Finished) else told.kind) == end


def test_a_cancelled_answer_says_so() -> None:
    assert read([stream({"type": "response.cancelled"})]) == [Cancelled()]

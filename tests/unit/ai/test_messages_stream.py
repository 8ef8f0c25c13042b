"""Messages: recorded streams, cut anywhere and held against the SDK, and one small stream for each rule."""

from collections.abc import Iterable
from typing import Any

import anthropic
import httpx2
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
from server.ai.event_stream import MAX_EVENT_BYTES
from server.ai.messages_stream import MessagesReader
from tests import recorded_streams
from tests.recorded_streams import check_contract, ended, recorded

RECORDED = recorded("/v1/messages")

START = {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}}
STOP = {"type": "message_stop"}


def read(pieces: Iterable[bytes]) -> list[AnswerEvent]:
    return recorded_streams.read(MessagesReader(), pieces)


def stream(*events: dict[str, Any] | bytes) -> bytes:
    encoded = [event if isinstance(event, bytes) else msgspec.json.encode(event) for event in events]
    return b"".join(b"data: " + event + b"\n\n" for event in encoded)


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


@pytest.mark.parametrize("whole", RECORDED)
def test_a_recorded_stream_keeps_the_contract_wherever_it_is_cut(whole: bytes) -> None:
    for part in ended(check_contract(MessagesReader, whole)):
        if part.kind == "tool_result":
            assert part.provider_data is not None
            assert msgspec.json.decode(part.text) == part.provider_data.data["block"]["content"]


@pytest.mark.parametrize("whole", RECORDED)
async def test_a_recorded_stream_says_what_the_sdk_reads_in_it(whole: bytes) -> None:
    answer = httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=whole)
    transport = httpx2.MockTransport(lambda request: answer)
    async with (
        httpx2.AsyncClient(transport=transport) as http,
        anthropic.AsyncAnthropic(api_key="none", http_client=http, max_retries=0) as client,
        client.beta.messages.stream(
            model="a-model", max_tokens=9, messages=[{"role": "user", "content": "hello"}]
        ) as opened,
    ):
        message = await opened.get_final_message()
    events = read([whole])
    parts = ended(events)
    content: list[Any] = message.content  # narrower types would need a branch for each kind
    texts = [each.text for each in message.content if each.type == "text"]
    calls = [(each.id, each.name, each.input) for each in content if each.type.endswith("tool_use")]
    thoughts = [(each.thinking, each.signature) for each in message.content if each.type == "thinking"]
    assert [part.text for part in parts if part.kind == "text"] == texts
    assert [(part.call, part.name, part.arguments) for part in parts if part.kind == "tool_call"] == calls
    results = [each.tool_use_id for each in content if each.type.endswith("_tool_result")]
    assert [part.call for part in parts if part.kind == "tool_result"] == results
    assert [
        (part.text, part.provider_data.data.get("signature"))
        for part in parts
        if part.kind == "reasoning" and part.provider_data is not None and "data" not in part.provider_data.data
    ] == thoughts
    usage = [event for event in events if isinstance(event, Usage)][-1]
    cached, written = message.usage.cache_read_input_tokens or 0, message.usage.cache_creation_input_tokens or 0
    assert (usage.cached_tokens, usage.cache_write_tokens) == (cached, written)
    assert usage.input_tokens == message.usage.input_tokens + cached + written
    assert usage.output_tokens == message.usage.output_tokens


def test_words_thoughts_and_calls_are_parts() -> None:
    thought = block(0, {"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": "hm"},
                    {"type": "signature_delta", "signature": "s"})  # fmt: skip
    words = block(1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Hi"},
                  {"type": "citations_delta", "citation": {"url": "x"}})  # fmt: skip
    call = block(2, {"type": "tool_use", "id": "c", "name": "look", "input": {}},
                 {"type": "input_json_delta", "partial_json": ""},
                 {"type": "input_json_delta", "partial_json": '{"a":1}'})  # fmt: skip
    reason = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}}
    events = read([stream(START, {"type": "ping"}, *thought, *words, *call, reason, STOP)])
    assert ended(events) == [
        PartEnded(0, "reasoning", "hm", provider_data=ProviderData("anthropic", {"signature": "s"})),
        PartEnded(1, "text", "Hi"),
        PartEnded(2, "tool_call", '{"a":1}', "c", "look", {"a": 1}),
    ]
    assert PartAnnotation(1, {"url": "x"}) in events
    assert [event for event in events if isinstance(event, Usage)] == [Usage(5, 1), Usage(5, 7)]
    assert events[-1] == Finished("tool_calls")


def test_arguments_that_come_with_the_block_count_once() -> None:
    whole = block(0, {"type": "tool_use", "id": "c", "name": "look", "input": {"a": 1}})
    pieces = block(0, {"type": "tool_use", "id": "c", "name": "look", "input": {"a": 1}},
                   {"type": "input_json_delta", "partial_json": '{"b":2}'})  # fmt: skip
    assert ended(read([stream(START, *whole, STOP)]))[0].arguments == {"a": 1}
    assert ended(read([stream(START, *pieces, STOP)]))[0].arguments == {"b": 2}
    assert ended(read([stream(START, whole[0], STOP)]))[0].arguments == {"a": 1}


@pytest.mark.parametrize("broken", ['{"a":', "[1]"])
def test_arguments_that_are_no_object_are_none_and_say_why(broken: str) -> None:
    call = block(0, {"type": "tool_use", "id": "c", "name": "look", "input": {}},
                 {"type": "input_json_delta", "partial_json": broken})  # fmt: skip
    [part] = ended(read([stream(START, *call, STOP)]))
    assert (part.text, part.arguments) == (broken, None)
    assert part.error


def test_a_hidden_thought_is_kept_for_the_provider() -> None:
    events = read([stream(*block(0, {"type": "redacted_thinking", "data": "sealed"}), STOP)])
    assert ended(events) == [PartEnded(0, "reasoning", "", provider_data=ProviderData("anthropic", {"data": "sealed"}))]


@pytest.mark.parametrize(
    ("start", "kept"),
    [
        ({"type": "server_tool_use"}, {"type": "server_tool_use"}),
        ({"type": "mcp_tool_use", "server_name": "far"}, {"type": "mcp_tool_use", "server_name": "far"}),
    ],
)
def test_a_call_that_the_provider_makes_itself_can_be_told(start: dict[str, Any], kept: dict[str, Any]) -> None:
    call = block(0, {**start, "id": "s", "name": "seek", "input": {}},
                 {"type": "input_json_delta", "partial_json": '{"q":'},
                 {"type": "input_json_delta", "partial_json": '"x"}'})  # fmt: skip
    [part] = ended(read([stream(*call, STOP)]))
    assert (part.kind, part.call, part.name, part.arguments) == ("tool_call", "s", "seek", {"q": "x"})
    assert part.provider_data == ProviderData("anthropic", kept)


def test_words_and_sources_that_come_with_the_block_count() -> None:
    events = read([stream(*block(0, {"type": "text", "text": "Hi", "citations": [{"url": "x"}]}), STOP)])
    assert events == [
        PartStarted(0, "text"), PartDelta(0, "Hi"), PartAnnotation(0, {"url": "x"}), PartEnded(0, "text", "Hi"),
        Finished(),
    ]  # fmt: skip


def test_what_a_server_tool_brought_is_kept_whole() -> None:
    result = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"title": "t"}]}
    [part] = ended(read([stream(START, *block(0, result), STOP)]))
    assert (part.kind, part.text, part.call) == ("tool_result", '[{"title":"t"}]', "s")
    assert part.provider_data == ProviderData("anthropic", {"block": result})


def test_tokens_of_the_cache_are_input_too() -> None:
    usage = {"input_tokens": 2, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 4, "output_tokens": 1}
    events = read([stream({"type": "message_start", "message": {"usage": usage}}, STOP)])
    assert events == [Usage(36, 1, cached_tokens=30, cache_write_tokens=4), Finished()]


def test_the_last_word_of_each_count_replaces() -> None:
    first = {"input_tokens": 2, "cache_read_input_tokens": 30, "output_tokens": 1}
    last = {"input_tokens": 3, "cache_read_input_tokens": None, "output_tokens": 9}
    details = {"output_tokens_details": {"thinking_tokens": 4}}
    events = read([stream({"type": "message_start", "message": {"usage": first}},
                          {"type": "message_delta", "delta": {}, "usage": {**last, **details}}, STOP)])  # fmt: skip
    assert events == [
        Usage(32, 1, cached_tokens=30), Usage(33, 9, cached_tokens=30, reasoning_tokens=4), Finished(),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("a reason of tomorrow", "stop"),
    ],
)
def test_the_reason_is_told(reason: str, told: str) -> None:
    delta = {"type": "message_delta", "delta": {"stop_reason": reason}}
    assert read([stream(START, delta, STOP)])[-1] == Finished(told)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', "overloaded"),
        (b"<html>", "bad_response"),
        (b"", "bad_response"),
        (b'{"type":"message_delta","usage":7}', "bad_response"),
        (None, "truncated"),
    ],
)
def test_what_breaks_the_stream_ends_it_once_and_keeps_its_text(broken: bytes | None, kind: str) -> None:
    [opened, *_] = block(0, {"type": "text", "text": "Hi"})
    events = read([stream(START, opened), b"" if broken is None else stream(broken, STOP)])
    *_, part, end = events
    assert part == PartEnded(0, "text", "Hi")
    assert isinstance(end, Failed)
    assert end.kind == kind


def test_an_event_without_end_is_a_bad_answer() -> None:
    [opened, *_] = block(0, {"type": "text", "text": "Hi"})
    *_, part, end = read([stream(opened), b"data: " + b"x" * MAX_EVENT_BYTES, b"x", stream(STOP)])
    assert part == PartEnded(0, "text", "Hi")
    assert isinstance(end, Failed)
    assert end.kind == "bad_response"


def test_half_an_event_at_the_end_is_truncated_and_a_whole_one_counts() -> None:
    whole = stream(START, *block(0, {"type": "text", "text": "Hi"}), STOP)
    end = read([whole[:-5]])[-1]
    assert isinstance(end, Failed)
    assert end.kind == "truncated"
    assert read([whole[:-2]]) == read([whole])


def test_no_bytes_at_all_are_truncated() -> None:
    [end] = read([])
    assert isinstance(end, Failed)
    assert end.kind == "truncated"


def test_nothing_follows_the_end() -> None:
    reader = MessagesReader()
    more = stream(*block(1, {"type": "text", "text": "more"}), STOP)
    assert reader.feed(stream(START, STOP) + more) == [Usage(5, 1), Finished()]
    assert reader.feed(more) == []
    assert reader.close() == []


def test_a_number_that_comes_again_ends_the_part_that_had_it() -> None:
    [first, *_], [second, *_] = block(0, {"type": "text", "text": "a"}), block(0, {"type": "text", "text": "b"})
    assert ended(read([stream(first, second, STOP)])) == [PartEnded(0, "text", "a"), PartEnded(1, "text", "b")]


def test_kinds_that_nobody_knew_are_passed_over() -> None:
    unknown = block(0, {"type": "hologram", "text": 7}, {"type": "hologram_delta", "text": 7})
    known = block(1, {"type": "text", "text": "Hi", "font": []}, {"type": "smell_delta", "text": 7})
    events = read([stream(START, {"type": "weather", "delta": 7, "index": "x"}, *unknown, *known, STOP)])
    assert ended(events) == [PartEnded(0, "text", "Hi")]
    assert events[-1] == Finished()

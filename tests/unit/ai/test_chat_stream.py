"""Chat Completions: recorded streams, cut anywhere and held against the SDK, and one small stream for each thing that
servers do differently."""

from collections.abc import Iterable
from typing import Any

import httpx2
import msgspec
import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState

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
from server.ai.event_stream import MAX_EVENT_BYTES
from tests import recorded_streams
from tests.recorded_streams import check_contract, ended, recorded

RECORDED = recorded("/chat/completions")


def read(pieces: Iterable[bytes]) -> list[AnswerEvent]:
    return recorded_streams.read(ChatReader(), pieces)


def stream(*deltas: dict[str, Any] | bytes, reason: str | None = "stop", done: bool = True) -> bytes:
    """A stream of these deltas; bytes stand as they are."""
    chunks = [
        delta if isinstance(delta, bytes) else msgspec.json.encode({"choices": [{"index": 0, "delta": delta}]})
        for delta in deltas
    ]
    if reason is not None:
        chunks.append(msgspec.json.encode({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
    return b"".join(b"data: " + chunk + b"\n\n" for chunk in (*chunks, *([b"[DONE]"] if done else [])))


def call(index: int | None = None, call_id: str | None = None, name: str | None = None, arguments: str = "") -> Any:
    fields = {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}
    return {"tool_calls": [{name: value for name, value in fields.items() if value is not None}]}


@pytest.mark.parametrize("whole", RECORDED)
def test_a_recorded_stream_keeps_the_contract_wherever_it_is_cut(whole: bytes) -> None:
    check_contract(ChatReader, whole)


@pytest.mark.parametrize("whole", RECORDED)
def test_a_recorded_stream_holds_what_a_plain_reading_of_it_finds(whole: bytes) -> None:
    """The text by hand: every `content` of choice 0, one after the other."""
    chunks = [msgspec.json.decode(line[6:]) for line in whole.splitlines() if line.startswith(b"data: {")]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices") or () if choice.get("delta")]
    plain = "".join(delta["content"] for delta in deltas if isinstance(delta.get("content"), str))
    # Some repeat a call's name with each piece of it.
    names = {
        (each.get("index"), each.get("id")): named
        for delta in deltas
        for each in delta.get("tool_calls") or ()
        if (named := (each.get("function") or {}).get("name"))
    }
    events = read([whole])
    texts = "".join(part.text for part in ended(events) if part.kind == "text")
    if plain:
        assert texts == plain
    assert [event.name for event in events if isinstance(event, PartStarted) and event.kind == "tool_call"] == list(
        names.values()
    )


@pytest.mark.parametrize("whole", RECORDED)
# Lists of pieces are unknown to the SDK's types.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
async def test_a_recorded_stream_says_what_the_sdk_reads_in_it(whole: bytes) -> None:
    events = read([whole])
    answer = httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=whole)
    state = ChatCompletionStreamState()
    usage = None
    is_broken = False
    async with (
        httpx2.AsyncClient(transport=httpx2.MockTransport(lambda request: answer)) as http,
        openai.AsyncOpenAI(api_key="none", base_url="http://none", http_client=http, max_retries=0) as client,
    ):
        asked = await client.chat.completions.create(
            model="a-model", messages=[{"role": "user", "content": "hello"}], stream=True
        )
        try:
            async for chunk in asked:
                if chunk.choices and isinstance(chunk.choices[0].delta.content, list):
                    pytest.skip("the SDK does not know content in lists")
                state.handle_chunk(chunk)
                usage = chunk.usage or usage
        except openai.APIError:
            is_broken = True
    assert isinstance(events[-1], Failed) == is_broken
    if is_broken:
        return
    message = state.current_completion_snapshot.choices[0].message
    parts = ended(events)
    assert "".join(part.text for part in parts if part.kind == "text") == (message.content or "")
    ours = [part for part in parts if part.kind == "tool_call"]
    theirs = message.tool_calls or []
    assert [part.text for part in ours] == [each.function.arguments for each in theirs]
    # The start only: an id or a name that is sent twice, the SDK has twice.
    for part, each in zip(ours, theirs, strict=True):
        assert each.id.startswith(part.call or "-")
        assert each.function.name.startswith(part.name or "-")
    if usage is not None:
        told = [event for event in events if isinstance(event, Usage)][-1]
        assert (told.input_tokens, told.output_tokens) == (usage.prompt_tokens, usage.completion_tokens)
        if usage.prompt_tokens_details is not None:
            assert told.cached_tokens == (usage.prompt_tokens_details.cached_tokens or 0)
        if usage.completion_tokens_details is not None:
            assert told.reasoning_tokens == (usage.completion_tokens_details.reasoning_tokens or 0)


def test_thoughts_under_any_name_come_before_the_text() -> None:
    back = ProviderData("openai_chat", {"field": "reasoning_content"})
    for name, kept in (("reasoning_content", back), ("reasoning", None)):
        assert read([stream({name: "hm"}, {"content": "yes"})]) == [
            PartStarted(0, "reasoning"), PartDelta(0, "hm"), PartEnded(0, "reasoning", "hm", provider_data=kept),
            PartStarted(1, "text"), PartDelta(1, "yes"), PartEnded(1, "text", "yes"), Finished(),
        ]  # fmt: skip


def test_a_list_of_pieces_is_words_and_thoughts() -> None:
    thinking = {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}
    parts = ended(read([stream(thinking, {"content": [{"type": "text", "text": "yes"}]})]))
    assert [(part.kind, part.text) for part in parts] == [("reasoning", "hm"), ("text", "yes")]
    [bare] = ended(read([stream({"content": [{"type": "thinking", "thinking": "hm"}]})]))
    assert (bare.kind, bare.text) == ("reasoning", "hm")


def test_details_of_thoughts_add_up_and_stay_with_them() -> None:
    first = {"reasoning": "h", "reasoning_details": [{"text": "h"}]}
    second = {"reasoning": "m", "reasoning_details": [{"text": "m"}]}
    thought, words = ended(read([stream(first, second, {"content": "yes", "reasoning_details": []})]))
    details = {"reasoning_details": [{"text": "h"}, {"text": "m"}]}
    assert thought == PartEnded(0, "reasoning", "hm", provider_data=ProviderData("openai_chat", details))
    assert words.provider_data is None


def test_encrypted_thoughts_behind_the_text_are_a_part_without_words() -> None:
    words, thought = ended(read([stream({"content": "yes"}, {"reasoning_details": [{"data": "e"}]})]))
    assert words == PartEnded(0, "text", "yes")
    details = {"reasoning_details": [{"data": "e"}]}
    assert thought == PartEnded(1, "reasoning", "", provider_data=ProviderData("openai_chat", details))


def test_each_thought_keeps_its_own_details() -> None:
    one, two = ({"reasoning": text, "reasoning_details": [{"text": text}]} for text in ("a", "b"))
    first, _, second = ended(read([stream(one, {"content": "yes"}, two)]))
    assert first.provider_data == ProviderData("openai_chat", {"reasoning_details": [{"text": "a"}]})
    assert second.provider_data == ProviderData("openai_chat", {"reasoning_details": [{"text": "b"}]})


def test_a_part_ends_when_another_kind_begins_and_calls_stay_open() -> None:
    pieces = ({"content": "a"}, call(0, "c", "one", "{"), {"content": "b"}, call(0, arguments="}"))
    assert read([stream(*pieces)]) == [
        PartStarted(0, "text"), PartDelta(0, "a"), PartEnded(0, "text", "a"),
        PartStarted(1, "tool_call", "c", "one"), PartDelta(1, "{"),
        PartStarted(2, "text"), PartDelta(2, "b"),
        PartDelta(1, "}"),
        PartEnded(1, "tool_call", "{}", "c", "one", {}),
        PartEnded(2, "text", "b"),
        Finished("tool_calls"),
    ]  # fmt: skip


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


@pytest.mark.parametrize(
    "pieces",
    [
        [call(0, "a", "look_up", '{"x":'), call(0, arguments="1}")],
        [call(0, "a"), call(0, name="look_up"), call(0, arguments='{"x":'), call(0, arguments="1}")],
        [call(0, name="look_"), call(0, name="up"), call(0, arguments='{"x":'), call(0, "a", arguments="1}")],
        [call(0, "a", "look_up"), call(0, "a", "look_up", '{"x":'), call(0, "a", "look_up", "1}")],
        [call(0, "a", "look_up"), call(0, "", "", '{"x":1}')],
        [call(None, "a", "look_up"), call(None, "", None, '{"x":'), call(None, "a", None, "1}")],
    ],
    ids=["at once", "one after the other", "in pieces", "again and again", "then empty", "without an index"],
)
def test_the_id_and_the_name_of_a_call_come_as_they_like(pieces: list[Any]) -> None:
    events = read([stream(*pieces)])
    assert events[0] == PartStarted(0, "tool_call", "a", "look_up")
    assert ended(events) == [PartEnded(0, "tool_call", '{"x":1}', "a", "look_up", {"x": 1})]


def test_a_call_without_arguments_stands_where_it_was_made() -> None:
    parts = ended(read([stream(call(0, "a", "one"), {"content": "so"}, call(1, "b", "two"))]))
    assert sorted((part.index, part.name, part.arguments) for part in parts) == [
        (0, "one", {}), (1, None, None), (2, "two", {}),
    ]  # fmt: skip


def test_calls_that_all_have_the_number_0_are_told_apart_by_their_id() -> None:
    parts = ended(read([stream(call(0, "a", "one", "{}"), call(0, "b", "two", '{"x":1}'))]))
    assert [(part.call, part.arguments) for part in parts] == [("a", {}), ("b", {"x": 1})]


def test_a_call_without_any_id_is_still_a_call() -> None:
    [part] = ended(read([stream(call(None, None, "one", "{"), call(None, None, None, "}"))]))
    assert (part.call, part.name, part.arguments) == (None, "one", {})


def test_arguments_that_are_no_json_are_an_error_and_no_guess() -> None:
    [part] = ended(read([stream(call(0, "a", "one", '{"x": '), reason="length")]))
    assert (part.arguments, bool(part.error)) == (None, True)


@pytest.mark.parametrize(("reason", "arguments"), [("tool_calls", {}), ("length", None), (None, None)])
def test_a_call_that_was_cut_before_its_arguments_is_not_taken_for_one_without(
    reason: str | None, arguments: dict[str, Any] | None
) -> None:
    [part] = ended(read([stream(call(0, "a", "one"), reason=reason, done=False)]))
    assert (part.arguments, bool(part.error)) == (arguments, arguments is None)


def test_a_signature_stays_with_its_call() -> None:
    signed = {"tool_calls": [{"id": "a", "function": {"name": "one", "arguments": "{}"}, "extra_content": {"s": 1}}]}
    [part] = ended(read([stream(signed)]))
    assert part.provider_data == ProviderData("openai_chat", {"extra_content": {"s": 1}})


def test_a_signature_may_come_after_the_start_of_its_call() -> None:
    signature = {"tool_calls": [{"index": 0, "extra_content": {"s": 1}}]}
    [part] = ended(read([stream(call(0, "a", "one", "{}"), signature)]))
    assert part.provider_data == ProviderData("openai_chat", {"extra_content": {"s": 1}})


def test_a_refusal_and_an_annotation_are_parts_of_the_answer() -> None:
    events = read([stream({"content": "see"}, {"annotations": [{"url": "x"}]}, {"refusal": "no"})])
    assert PartAnnotation(0, {"url": "x"}) in events
    assert [part.kind for part in ended(events)] == ["text", "refusal"]


def test_sources_may_come_before_the_first_word() -> None:
    events = read([stream({"annotations": [{"url": "x"}]}, {"content": "see"})])
    assert events[:2] == [PartStarted(0, "text"), PartAnnotation(0, {"url": "x"})]
    assert ended(events) == [PartEnded(0, "text", "see")]


@pytest.mark.parametrize(
    "usage",
    [
        b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},'
        b'"completion_tokens_details":{"reasoning_tokens":3}}}',
        b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,"prompt_cache_hit_tokens":4,'
        b'"completion_tokens_details":{"reasoning_tokens":3}}}',
        b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,"cached_tokens":4,'
        b'"prompt_tokens_details":null,"completion_tokens_details":{"reasoning_tokens":3}}}',
        b'{"x_groq":{"usage":{"prompt_tokens":9,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},'
        b'"completion_tokens_details":{"reasoning_tokens":3}}}}',
    ],
)
def test_usage_is_found_where_it_is(usage: bytes) -> None:
    assert Usage(9, 5, cached_tokens=4, reasoning_tokens=3) in read([stream({"content": "x"}, usage)])


def test_what_was_written_to_the_cache_is_told() -> None:
    usage = b'{"usage":{"prompt_tokens":9,"completion_tokens":5,"prompt_tokens_details":{"cache_write_tokens":4}}}'
    assert Usage(9, 5, cache_write_tokens=4) in read([stream({"content": "x"}, usage)])


def test_usage_replaces_and_never_adds() -> None:
    first, second = (
        msgspec.json.encode({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": n}}) for n in (1, 5)
    )
    events = read([stream({"content": "x"}, first, second)])
    assert [event for event in events if isinstance(event, Usage)] == [Usage(9, 1), Usage(9, 5)]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("something new", "stop"),
    ],
)
def test_the_reason_is_told(reason: str, told: str) -> None:
    assert read([stream({"content": "x"}, reason=reason)])[-1] == Finished(told)  # type: ignore[arg-type]


def test_blanks_around_done_do_not_matter() -> None:
    assert read([stream({"content": "x"}, b" [DONE] ", done=False)])[-1] == Finished()


def test_a_stream_that_stops_with_a_reason_and_without_done_is_whole() -> None:
    assert read([stream({"content": "x"}, done=False)])[-1] == Finished()


@pytest.mark.parametrize(("reason", "kind"), [("error", "unavailable"), ("insufficient_system_resource", "overloaded")])
def test_a_reason_that_is_a_failure_is_told_as_one(reason: str, kind: str) -> None:
    end = read([stream({"content": "x"}, reason=reason)])[-1]
    assert isinstance(end, Failed)
    assert end.kind == kind


def test_half_an_event_at_the_end_is_truncated_and_no_bad_answer() -> None:
    end = read([stream({"content": "x"}, reason=None, done=False) + b'data: {"choices":[{"del'])[-1]
    assert isinstance(end, Failed)
    assert end.kind == "truncated"
    assert read([stream({"content": "x"}, done=False) + b'data: {"usa'])[-1] == Finished()


def test_an_event_that_is_too_large_is_a_bad_answer() -> None:
    events = read([stream({"content": "x"}, reason=None, done=False), b"data: " + b"x" * (MAX_EVENT_BYTES + 1)])
    *_, part, end = events
    assert part == PartEnded(0, "text", "x")
    assert isinstance(end, Failed)
    assert end.kind == "bad_response"


def test_nothing_comes_after_the_end() -> None:
    reader = ChatReader()
    assert reader.feed(stream({"content": "x"}))[-1] == Finished()
    assert reader.feed(stream({"content": "y"})) + reader.close() + reader.close() == []


def test_what_comes_with_an_error_was_said_and_counts() -> None:
    usage = b'{"error":{"message":"broke"},"usage":{"prompt_tokens":9,"completion_tokens":5}}'
    *_, told, part, end = read([stream({"content": "x"}, usage)])
    assert (told, part) == (Usage(9, 5), PartEnded(0, "text", "x"))
    assert isinstance(end, Failed)


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

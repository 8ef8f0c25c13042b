"""Responses: recorded streams, cut anywhere and held against the SDK, and each rule alone."""

from collections.abc import Iterable
from typing import Any

import httpx2
import msgspec
import openai
import pytest
from openai.types.responses import Response

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
from server.ai.event_stream import MAX_EVENT_BYTES
from server.ai.responses_stream import ResponsesReader
from tests import recorded_streams
from tests.recorded_streams import check_contract, ended, recorded

RECORDED = recorded("/responses")

DONE = {"type": "response.completed", "response": {"usage": {"input_tokens": 5, "output_tokens": 7}}}


def read(pieces: Iterable[bytes]) -> list[AnswerEvent]:
    return recorded_streams.read(ResponsesReader(), pieces)


def stream(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events)


def item(verb: str, place: int, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.output_item.{verb}", "output_index": place, "item": fields}


def piece(kind: str, place: int, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "output_index": place, **fields}


@pytest.mark.parametrize("whole", RECORDED)
def test_a_recorded_stream_keeps_the_contract_wherever_it_is_cut(whole: bytes) -> None:
    check_contract(ResponsesReader, whole)


@pytest.mark.parametrize("whole", RECORDED)
async def test_a_recorded_stream_says_what_the_sdk_reads_in_it(whole: bytes) -> None:
    answer = httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=whole)
    response: Response | None = None
    async with (
        httpx2.AsyncClient(transport=httpx2.MockTransport(lambda request: answer)) as http,
        openai.AsyncOpenAI(api_key="none", base_url="http://none", http_client=http, max_retries=0) as client,
    ):
        async for event in await client.responses.create(model="a-model", input="hello", stream=True):
            if event.type in ("response.completed", "response.incomplete"):
                response = event.response
    assert response is not None
    events = read([whole])
    parts = ended(events)
    assert "".join(part.text for part in parts if part.kind == "text") == response.output_text
    theirs = [each for each in response.output if each.type == "function_call"]
    ours = [part for part in parts if part.kind == "tool_call"]
    assert [(part.call, part.name) for part in ours] == [(each.call_id, each.name) for each in theirs]
    assert [part.arguments for part in ours] == [msgspec.json.decode(each.arguments or "{}") for each in theirs]
    thoughts = [
        piece.text
        for each in response.output
        if each.type == "reasoning"
        for piece in (*(each.summary or ()), *(each.content or ()))
    ]
    assert [part.text for part in parts if part.kind == "reasoning" and part.text] == [
        text for text in thoughts if text
    ]
    hosted = [each for each in response.output if each.type not in ("message", "reasoning", "function_call")]
    results = [msgspec.json.decode(part.text)["id"] for part in parts if part.kind == "tool_result"]
    assert sorted(results) == sorted(each.id for each in hosted if each.id)
    assert events[-1] == Finished("tool_calls" if theirs else "stop")
    assert response.usage is not None
    [told] = [event for event in events if isinstance(event, Usage)]
    asked, said = response.usage.input_tokens_details, response.usage.output_tokens_details
    assert (told.input_tokens, told.output_tokens) == (response.usage.input_tokens, response.usage.output_tokens)
    # The SDK takes an answer without details all the same, and says None against its own types.
    assert told.cached_tokens == (getattr(asked, "cached_tokens", None) or 0)
    assert told.cache_write_tokens == (getattr(asked, "cache_write_tokens", None) or 0)
    assert told.reasoning_tokens == (getattr(said, "reasoning_tokens", None) or 0)


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


def test_usage_has_every_count() -> None:
    counts = {
        "input_tokens": 9, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens": 8, "output_tokens_details": {"reasoning_tokens": 3},
    }  # fmt: skip
    for kind in ("completed", "incomplete", "failed"):
        usage, _ = read([stream({"type": f"response.{kind}", "response": {"usage": counts}})])
        assert usage == Usage(9, 8, cached_tokens=4, cache_write_tokens=2, reasoning_tokens=3)


@pytest.mark.parametrize(
    ("whole", "kind"),
    [
        (piece("output_text.done", 0, text="tea"), "text"),
        (piece("refusal.done", 0, refusal="tea"), "refusal"),
        (piece("reasoning_text.done", 0, text="tea"), "reasoning"),
        (piece("reasoning_summary_text.done", 0, text="tea"), "reasoning"),
        (piece("content_part.done", 0, part={"type": "output_text", "text": "tea"}), "text"),
        (piece("content_part.done", 0, part={"type": "refusal", "refusal": "tea"}), "refusal"),
        (piece("content_part.done", 0, part={"type": "reasoning_text", "text": "tea"}), "reasoning"),
        (piece("reasoning_summary_part.done", 0, part={"type": "summary_text", "text": "tea"}), "reasoning"),
        (item("done", 0, type="message", content=[{"type": "refusal", "refusal": "tea"}]), "refusal"),
        (item("done", 0, type="reasoning", summary=[{"type": "summary_text", "text": "tea"}]), "reasoning"),
        (item("done", 0, type="reasoning", content=[{"type": "reasoning_text", "text": "tea"}]), "reasoning"),
    ],
)
def test_a_done_of_any_kind_says_what_was_not_streamed_and_says_it_once(whole: dict[str, Any], kind: Any) -> None:
    again = () if "item" in whole else (whole,)  # the same item twice is two
    assert read([stream(whole, *again, DONE)]) in [
        [PartStarted(0, kind), PartDelta(0, "tea"), *middle, Finished()]
        for middle in (
            (PartEnded(0, kind, "tea"), Usage(5, 7)),
            (Usage(5, 7), PartEnded(0, kind, "tea")),
        )
    ]


def test_arguments_that_come_whole_are_said_and_not_repeated() -> None:
    for late in ([], [item("done", 0, type="function_call", call_id="c", name="pour", arguments='{"cups":2}')]):
        events = read(
            [
                stream(
                    item("added", 0, type="function_call", call_id="c", name="pour", arguments=""),
                    piece("function_call_arguments.done", 0, arguments='{"cups":2}'),
                    *late,
                    DONE,
                )
            ]
        )
        assert ended(events) == [PartEnded(0, "tool_call", '{"cups":2}', "c", "pour", {"cups": 2})]
        assert events[-1] == Finished("tool_calls")


def test_a_tool_with_free_text_is_a_call_whose_arguments_are_none() -> None:
    events = read(
        [
            stream(
                item("added", 0, type="custom_tool_call", call_id="c", name="draw", input=""),
                piece("custom_tool_call_input.delta", 0, delta="a "),
                piece("custom_tool_call_input.delta", 0, delta="cat"),
                piece("custom_tool_call_input.done", 0, input="a cat"),
                item("done", 0, type="custom_tool_call", call_id="c", name="draw", input="a cat"),
                DONE,
            )
        ]
    )
    [part] = ended(events)
    assert (part.kind, part.text, part.call, part.name, part.arguments) == ("tool_call", "a cat", "c", "draw", None)
    assert part.error
    assert events[-1] == Finished("tool_calls")


@pytest.mark.parametrize(
    "kind",
    ["code_interpreter_call", "file_search_call", "image_generation_call", "mcp_call", "a_tool_of_tomorrow"],
)
def test_a_tool_at_the_provider_is_one_delta_and_no_call_of_ours(kind: str) -> None:
    ran = {"type": kind, "id": "h", "status": "completed", "result": {"rows": [1, 2]}}
    events = read([stream(item("added", 0, type=kind, id="h"), item("done", 0, **ran), DONE)])
    [delta] = [event for event in events if isinstance(event, PartDelta)]
    assert msgspec.json.decode(delta.text) == ran
    assert events[-1] == Finished()


def test_an_item_without_its_done_is_taken_from_the_last_event_and_no_other_is() -> None:
    listed, ran = {"type": "mcp_list_tools", "id": "l", "tools": [1]}, {"type": "mcp_call", "id": "m", "output": "tea"}
    words = {"type": "message", "id": "w", "content": [{"type": "output_text", "text": "Hi"}]}
    last = {"type": "response.completed", "response": {"output": [listed, ran, words, {"type": "mcp_call"}, 7]}}
    events = read(
        [
            stream(
                item("added", 0, type="mcp_list_tools", id="l"),
                item("added", 1, type="mcp_call", id="m"),
                item("done", 1, **ran),
                item("added", 2, type="message", id="w"),
                piece("output_text.delta", 2, delta="Hi"),
                last,
            )
        ]
    )
    assert [(part.index, part.kind) for part in ended(events)] == [(0, "tool_result"), (2, "tool_result"), (1, "text")]
    assert [msgspec.json.decode(part.text) for part in ended(events) if part.kind == "tool_result"] == [ran, listed]


def test_a_source_before_the_first_word_and_one_known_only_at_the_end_are_told_once() -> None:
    early, late = {"url": "early"}, {"url": "late"}
    content = [{"type": "output_text", "text": "Hi", "annotations": [early, late]}]
    events = read(
        [
            stream(
                piece("output_text.annotation.added", 0, annotation=early),
                piece("output_text.delta", 0, delta="Hi"),
                piece("content_part.done", 0, part=content[0]),
                item("done", 0, type="message", content=content),
                piece("output_text.annotation.added", 0, annotation=late),
                DONE,
            )
        ]
    )
    told = [event for event in events if isinstance(event, PartAnnotation)]
    assert told == [PartAnnotation(0, early), PartAnnotation(0, late)]
    assert ended(events) == [PartEnded(0, "text", "Hi")]


def test_a_thought_without_a_word_goes_back_all_the_same() -> None:
    [part] = ended(read([stream(item("done", 0, type="reasoning", id="r", encrypted_content="e", summary=[]), DONE)]))
    assert part == PartEnded(
        0, "reasoning", "", provider_data=ProviderData("openai_responses", {"id": "r", "encrypted_content": "e"})
    )


def test_items_that_share_a_place_are_parts_of_their_own() -> None:
    """Some servers number nothing: every item stands at 0."""
    calls = [{"type": "function_call", "call_id": each, "name": "pour", "arguments": '{"cups":1}'} for each in "ab"]
    for verbs in (("done",), ("added", "done")):
        parts = ended(read([stream(*(item(verb, 0, **call) for call in calls for verb in verbs), DONE)]))
        assert [(part.call, part.arguments) for part in parts] == [("a", {"cups": 1}), ("b", {"cups": 1})]
    unfinished = ended(read([stream(*(item("added", 0, **call) for call in calls), DONE)]))
    assert [part.call for part in unfinished] == ["a", "b"]


def test_words_whose_place_was_taken_by_another_item_are_not_said_again_at_the_end() -> None:
    words = {"type": "message", "id": "w", "content": [{"type": "output_text", "text": "Hi"}]}
    call = {"type": "function_call", "id": "f", "call_id": "c", "name": "pour", "arguments": "{}"}
    events = read(
        [
            stream(
                item("added", 0, type="message", id="w"),
                piece("output_text.delta", 0, delta="Hi"),
                item("added", 0, **call),
                {"type": "response.completed", "response": {"output": [words, call]}},
            )
        ]
    )
    assert [(part.kind, part.text) for part in ended(events)] == [("text", "Hi"), ("tool_call", "{}")]


def test_words_after_their_item_was_done_are_a_new_part_and_its_echo_is_none() -> None:
    message = item("done", 0, type="message", content=[{"type": "output_text", "text": "Hi"}])
    echo = piece("output_text.done", 0, text="Hi")
    parts = ended(read([stream(message, echo, piece("output_text.delta", 0, delta=" you"), DONE)]))
    assert [part.text for part in parts] == ["Hi", " you"]


def test_what_nobody_here_knows_is_passed_over() -> None:
    words = piece("output_text.delta", 0, delta="Hi", logprobs=[], obfuscation="zz", more={"a": 1})
    unknown = {"type": "response.of_tomorrow", "delta": {"a": 1}, "item": "b", "output_index": "c", "code": 4}
    odd = [
        item("added", 1, type=["odd"]),
        item("done", 1, type=None),
        item("done", 2, type="message", content=["odd", {"type": {}, "text": 3}, {"type": "output_text", "text": 4}]),
    ]
    events = read([stream(unknown, words, *odd, DONE)])
    assert ended(events) == [PartEnded(0, "text", "Hi")]
    assert events[-1] == Finished()


def test_a_mark_of_the_end_is_no_end() -> None:
    words = stream(piece("output_text.delta", 0, delta="Hi"))
    assert read([words + b"data: [DONE]\n\n"])[-1] == read([words])[-1]
    assert read([b"data: [DONE] \n\n" + words + stream(DONE) + b"data: [DONE]\n\n"])[-1] == Finished()


def test_nothing_follows_the_end() -> None:
    reader = ResponsesReader()
    more = stream(piece("output_text.delta", 0, delta="Hi"), DONE)
    assert reader.feed(stream(DONE) + more) == [Usage(5, 7), Finished()]
    assert reader.feed(more) == []
    assert reader.close() == []


def test_the_last_event_counts_without_its_empty_line() -> None:
    assert read([stream(DONE).rstrip()])[-1] == Finished()


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", "truncated"),
        (b'data: {"type": "response.comp', "truncated"),
        (b'data: {"type": "response.comp\n\n', "bad_response"),
        (b"data: 7\n\n", "bad_response"),
        (b"data: {}\n\n", "bad_response"),
        (b'data: {"type": "response.output_text.delta", "delta": 7}\n\n', "bad_response"),
        (b"data: \xff\n\n", "bad_response"),
        (b"data: " + b"x" * (MAX_EVENT_BYTES + 1), "bad_response"),
        (b'data: {"type": "error", "code": 429, "message": null}\n\n', "rate_limited"),
        (b'data: {"error": {"code": "rate_limit_exceeded", "message": "slow"}}\n\n', "rate_limited"),
    ],
    ids=range(10),
)
def test_a_broken_stream_says_how_it_is_broken(raw: bytes, kind: str) -> None:
    begun = stream(piece("output_text.delta", 0, delta="Hi"))
    *_, part, told = read([begun, raw])
    assert part == PartEnded(0, "text", "Hi")
    assert isinstance(told, Failed)
    assert told.kind == kind

"""Chat Completions over real HTTP: what is asked, and what comes of every way in which a provider goes wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from server.ai.adapter import (
    AnswerEvent,
    Failed,
    FilePart,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    ProviderData,
    ReasoningPart,
    Request,
    ToolCallPart,
    ToolResultPart,
    ToolSpec,
    Turn,
    Usage,
    said,
)
from server.ai.listening import Deadlines
from server.ai.openai_chat import OpenAiChat, body_of
from server.outbound.outbound import Outbound
from tests.provider_double import HANG, Provider, provider_double, refusing, streaming

KEY = "sk-hush-0123456789abcdef"
HELLO = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"}}]}\n\n'
LO = b'data: {"choices":[{"index":0,"delta":{"content":"lo"}}]}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}\n\ndata: [DONE]\n\n'
REQUEST = Request("a-model", (said("user", "ana", "hello"),), "Be brief.")


@asynccontextmanager
async def model_of(
    provider: Provider, *, may_be_called: bool = True, key: str = KEY, **deadlines: float
) -> AsyncIterator[OpenAiChat]:
    outbound = Outbound([provider.origin] if may_be_called else [])
    try:
        yield OpenAiChat("a model", f"{provider.origin}/v1", key, outbound, deadlines=Deadlines(**deadlines))
    finally:
        await outbound.close()


async def answer_to(script: list[bytes | None], **more: Any) -> list[AnswerEvent]:
    async with provider_double(script) as provider, model_of(provider, **more) as model:
        async with asyncio.timeout(10):
            return [event async for event in model.answer(REQUEST)]


async def test_an_answer_streams_and_the_request_is_as_the_format_has_it() -> None:
    async with provider_double(streaming(HELLO, LO + STOP, USAGE)) as provider, model_of(provider) as model:
        events = [event async for event in model.answer(REQUEST)]
        assert events == [
            PartStarted(0, "text"), PartDelta(0, "Hel"), PartDelta(0, "lo"), Usage(7, 2), PartEnded(0, "text", "Hello"),
            Finished("stop"),
        ]  # fmt: skip
        [asked], [head] = provider.asked, provider.headers
        assert head.startswith("POST /v1/chat/completions ")
        assert f"authorization: bearer {KEY}" in head.lower()
        assert asked == {
            "model": "a-model",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (refusing(401, b'{"error":{"message":"wrong key ' + KEY.encode() + b'"}}'), "auth"),
        (refusing(402, b'{"error":{"message":"pay"}}'), "quota"),
        (refusing(404, b'{"error":{"message":"no"}}'), "model_not_found"),
        (refusing(429, b'{"error":{"message":"slow"}}', "application/json", "retry-after: 7"), "rate_limited"),
        (refusing(500, b"<html>oh</html>", "text/html"), "unavailable"),
        (refusing(529, b'{"error":{"message":"busy"}}'), "overloaded"),
        (refusing(200, b"<html>sign in</html>", "text/html"), "bad_response"),
        (refusing(302, b"", "text/html", "location: http://127.0.0.1:1/"), "bad_response"),
        (streaming(b'data: {"error":{"message":"broke","code":502}}\n\n'), "unavailable"),
        (streaming(b"data: {no json\n\n"), "bad_response"),
        (streaming(), "truncated"),
        (streaming(HELLO), "truncated"),
        ([b"no HTTP at all\r\n\r\n"], "connection"),
        ([], "connection"),
    ],
)
async def test_each_way_to_fail_has_its_kind_and_ends_the_answer(script: list[bytes | None], kind: str) -> None:
    events = await answer_to(script)
    end = events[-1]
    assert isinstance(end, Failed)
    assert end.kind == kind
    assert KEY not in end.message
    assert sum(isinstance(event, Finished | Failed) for event in events) == 1
    if kind == "rate_limited":
        assert end.retry_after_s == 7


@pytest.mark.parametrize(
    ("script", "deadlines", "kind", "text"),
    [
        ([HANG], {"first_event_s": 0.3}, "timeout_connect", ""),
        (streaming(HANG), {"first_event_s": 0.3}, "timeout_first_event", ""),
        (streaming(b": only a comment\n\n", HANG), {"first_event_s": 0.3}, "timeout_first_event", ""),
        (streaming(HELLO, HANG), {"idle_s": 0.3}, "timeout_idle", "Hel"),
        (streaming(HELLO, HANG), {"total_s": 0.3}, "timeout_total", "Hel"),
    ],
)
async def test_a_provider_that_hangs_is_left_with_what_it_said(
    script: list[bytes | None], deadlines: dict[str, float], kind: str, text: str
) -> None:
    events = await answer_to(script, **deadlines)
    assert isinstance(events[-1], Failed)
    assert events[-1].kind == kind
    assert "".join(event.text for event in events if isinstance(event, PartEnded)) == text


async def test_a_connection_that_stays_open_after_the_end_of_the_answer_is_no_failure() -> None:
    events = await answer_to(streaming(HELLO, STOP, HANG), idle_s=0.3)
    assert events[-2:] == [PartEnded(0, "text", "Hel"), Finished()]


async def test_a_reader_who_leaves_closes_the_connection_at_once() -> None:
    async with provider_double(streaming(HELLO, HANG)) as provider, model_of(provider) as model:
        async with aclosing(model.answer(REQUEST)) as events:
            async for event in events:
                if isinstance(event, PartDelta):
                    break
        async with asyncio.timeout(2):
            await provider.left.wait()


async def test_an_address_that_nobody_allowed_is_not_called() -> None:
    async with provider_double(streaming(HELLO, STOP)) as provider, model_of(provider, may_be_called=False) as model:
        [end] = [event async for event in model.answer(REQUEST)]
        assert isinstance(end, Failed)
        assert "not called" in end.message
        assert provider.asked == []


async def test_a_key_that_no_header_can_hold_fails_and_is_not_shown() -> None:
    [end] = await answer_to(streaming(HELLO, STOP), key="hush\nx-more: 1")
    assert isinstance(end, Failed)
    assert "hush" not in end.message


def test_files_tools_and_thoughts_stand_where_the_format_wants_them() -> None:
    ours = ProviderData("openai_chat", {"extra_content": {"s": "x"}})
    plain = ProviderData("openai_chat", {"field": "reasoning_content"})
    secret = ProviderData("openai_chat", {"reasoning_details": [{"data": "x"}]})
    turns = (
        Turn("user", "ana", (*said("user", "ana", "what is this?").parts, FilePart("a.png", "image/png", b"\x00"))),
        Turn(
            "assistant",
            "m",
            (ReasoningPart("hm", plain), ReasoningPart("", secret), ToolCallPart("c1", "look", {"at": "it"}, ours)),
        ),
        Turn("user", "tools", (ToolResultPart("c1", "look", "a cat"),)),
        Turn("user", "ben", (FilePart("n.txt", "text/plain", b"hi", "hi"),)),
    )
    tool = ToolSpec("look", "looks", {"type": "object"})
    body = body_of(Request("m", turns, tools=(tool,), tool_choice="look", max_output_tokens=9, stop=("END",)))
    image, calls, result, note = body["messages"]
    assert image["content"][1]["image_url"]["url"] == "data:image/png;base64,AA=="
    assert calls["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"at":"it"}'}
    assert calls["tool_calls"][0]["extra_content"] == {"s": "x"}
    assert calls["reasoning_content"] == "hm"
    assert calls["reasoning_details"] == [{"data": "x"}]
    assert result == {"role": "tool", "tool_call_id": "c1", "content": "a cat"}
    assert note == {"role": "user", "content": "n.txt:\nhi"}
    assert body["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert (body["max_completion_tokens"], body["stop"]) == (9, ["END"])


def test_what_another_family_thought_stays_at_home() -> None:
    theirs = ProviderData("anthropic", {"signature": "x"})
    turn = Turn("assistant", "m", (ReasoningPart("hm", theirs), ToolCallPart("c1", "look", {}, theirs)))
    [message] = body_of(Request("m", (turn,)))["messages"]
    assert "reasoning_content" not in message
    assert "signature" not in message["tool_calls"][0]

"""Models that speak Chat Completions: OpenAI, and everybody who took over its format.

In:   a `Request`.
Out:  the events of the contract (`adapter`).
Promises: the SDK makes the request and types its errors; the stream is read raw by `chat_stream`. Nothing is tried
again here. Leaving the iterator closes the connection to the provider.
"""

import base64
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from server.ai.adapter import (
    AnswerEvent,
    Failed,
    FilePart,
    ReasoningPart,
    Request,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Turn,
)
from server.ai.chat_stream import ChatReader
from server.ai.failures import failed, failure_of_answer
from server.ai.listening import Deadlines, listen
from server.outbound.outbound import Outbound, OutboundRefused
from server.protocol.codec import encode

if TYPE_CHECKING:
    from openai import AsyncOpenAI

EVENT_STREAM = "text/event-stream"
MAX_ERROR_BYTES = 64 * 1024


class OpenAiChat:
    """`base_url` ends before `/chat/completions`. `headers` go along with every request."""

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str,
        outbound: Outbound,
        *,
        headers: Mapping[str, str] | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self.name = name
        self._base_url = base_url
        self._api_key = api_key
        self._outbound = outbound
        self._headers = dict(headers or {})
        self._deadlines = deadlines or Deadlines()
        self._client: AsyncOpenAI | None = None

    async def answer(self, request: Request) -> AsyncGenerator[AnswerEvent, None]:
        import openai

        try:
            asked = self._sdk().chat.completions.with_streaming_response.create(**body_of(request))
            async with asked as response:
                if EVENT_STREAM not in response.headers.get("content-type", ""):
                    yield await _refusal(response.http_response)
                    return
                async with aclosing(listen(response.iter_bytes(), ChatReader(), self._deadlines)) as events:
                    async for event in events:
                        yield event
        except openai.APIStatusError as error:
            yield failure_of_answer(error.status_code, error.response.content, error.response.headers)
        except openai.APITimeoutError:
            yield failed("timeout_connect")
        except openai.APIConnectionError:
            yield failed("connection")
        except OutboundRefused as refused:
            yield failed("connection", refused.detail)

    def _sdk(self) -> "AsyncOpenAI":
        """Imported on first use: it takes seconds and tens of megabytes."""
        if self._client is None:
            import httpx2
            import openai

            # How long a model may take to begin is `listen`'s to judge; here it is only the way to it.
            wait = httpx2.Timeout(self._deadlines.first_event_s, connect=self._deadlines.connect_s)
            http = httpx2.AsyncClient(
                transport=self._outbound.transport(), timeout=wait, follow_redirects=False, trust_env=False
            )
            self._client = openai.AsyncOpenAI(
                api_key=self._api_key, base_url=self._base_url, default_headers=self._headers, http_client=http,
                max_retries=0, timeout=wait, organization="", project="",
            )  # fmt: skip
        return self._client


async def _refusal(response: Any) -> Failed:
    """Of an answer with a good status that is no stream: an error in JSON, or somebody's sign-in page."""
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MAX_ERROR_BYTES:
            break
    return failure_of_answer(response.status_code, bytes(body), response.headers)


def body_of(request: Request) -> dict[str, Any]:
    """The request as the format has it. What is None is left out: some servers refuse fields that they do not know."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": _messages(request),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.schema)},
            }
            for tool in request.tools
        ]
        if request.tool_choice in ("none", "required"):
            body["tool_choice"] = request.tool_choice
        elif request.tool_choice != "auto":
            body["tool_choice"] = {"type": "function", "function": {"name": request.tool_choice}}
    if request.response_schema is not None:
        schema = {"name": "answer", "schema": dict(request.response_schema), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if request.stop:
        body["stop"] = list(request.stop)
    given = {
        "max_completion_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "reasoning_effort": request.reasoning_effort,
    }
    return body | {name: value for name, value in given.items() if value is not None}


def _messages(request: Request) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if request.system_prompt:
        messages.append({"role": "system", "content": request.system_prompt})
    for turn in request.turns:
        messages += _of_assistant(turn) if turn.role == "assistant" else _of_user(turn)
    return messages


def _of_assistant(turn: Turn) -> list[dict[str, Any]]:
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
    calls = [part for part in turn.parts if isinstance(part, ToolCallPart)]
    if calls:
        message["tool_calls"] = [_call(part) for part in calls]
    # Some models refuse a conversation whose tool calls come back without what they thought before them.
    if calls:
        for part in turn.parts:
            if isinstance(part, ReasoningPart):
                _give_back(part, message)
    return [message] if message["content"] or calls else []


def _give_back(thought: ReasoningPart, message: dict[str, Any]) -> None:
    """As `chat_stream` kept it: the words under the name they came by, opaque details as they are."""
    kept = _ours(thought)
    if (name := kept.get("field")) is not None:
        message[name] = message.get(name, "") + thought.text
    if (details := kept.get("reasoning_details")) is not None:
        message["reasoning_details"] = [*message.get("reasoning_details", ()), *details]


def _ours(part: ReasoningPart | ToolCallPart) -> Mapping[str, Any]:
    """What this format kept with it; nothing of another family's."""
    data = part.provider_data
    return data.data if data is not None and data.family == ChatReader.family else {}


def _call(part: ToolCallPart) -> dict[str, Any]:
    call: dict[str, Any] = {
        "id": part.call,
        "type": "function",
        "function": {"name": part.name, "arguments": encode(part.arguments).decode()},
    }
    return call | dict(_ours(part))


def _of_user(turn: Turn) -> list[dict[str, Any]]:
    """Results of tools are messages of their own, and stand directly behind the calls."""
    results = [part for part in turn.parts if isinstance(part, ToolResultPart)]
    messages: list[dict[str, Any]] = [
        {"role": "tool", "tool_call_id": part.call, "content": part.content} for part in results
    ]
    content = [_content(part) for part in turn.parts if isinstance(part, TextPart | FilePart)]
    if all(part["type"] == "text" for part in content):
        text = "\n".join(part["text"] for part in content)
        return [*messages, {"role": "user", "content": text}] if text else messages
    return [*messages, {"role": "user", "content": content}]


def _content(part: TextPart | FilePart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if part.media_type.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": _data_url(part)}}
    if part.text is not None:
        return {"type": "text", "text": f"{part.name}:\n{part.text}"}
    return {"type": "file", "file": {"filename": part.name, "file_data": _data_url(part)}}


def _data_url(part: FilePart) -> str:
    return f"data:{part.media_type};base64,{base64.b64encode(part.data).decode()}"

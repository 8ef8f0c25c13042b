"""The contract between the studio and a model: what is asked, and the events of an answer.

In:   a `Request`: the system prompt, the turns so far, the tools on offer.
Out:  for each part `PartStarted`, any number of `PartDelta` and `PartAnnotation`, and `PartEnded`, which is
      authoritative; `Usage`, which replaces and never adds; `Notice`; then exactly one of `Finished`, `Failed` and
      `Cancelled`, and nothing after it.
Promises: indexes are 0, 1, 2 … without gaps; the deltas of a part add up to the text of its `PartEnded`; the arguments
of a tool call are a dict, or the part says why they are none, and never a guess. A reader who has heard enough closes
the iterator (`aclosing`), and the model lets go of its connection at once.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

PartKind = Literal["text", "reasoning", "tool_call", "tool_result", "file", "refusal"]

ErrorKind = Literal[
    "auth",  # the key is wrong, or may not use this
    "quota",  # the account is out of money
    "rate_limited",
    "overloaded",
    "unavailable",  # the provider is broken: 5xx
    "connection",  # no way to it, or it broke off
    "timeout_connect",
    "timeout_first_event",
    "timeout_idle",
    "timeout_total",
    "truncated",  # the stream ended without saying so
    "invalid_request",
    "context_window",
    "model_not_found",
    "content_filter",
    "bad_response",  # nothing that this format knows
]

# What is asked


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True)
class FilePart:
    """An image, a PDF, or text. `text` is what a model reads that cannot take the file itself."""

    name: str
    media_type: str
    data: bytes
    text: str | None = None


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """What a model thought. It goes back to the provider family that it came from, and to no other."""

    text: str
    provider_data: "ProviderData | None" = None


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    call: str
    name: str
    arguments: Mapping[str, Any]
    provider_data: "ProviderData | None" = None


@dataclass(frozen=True, slots=True)
class ToolResultPart:
    """The answer to `call`, as data."""

    call: str
    name: str
    content: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class ProviderData:
    """Opaque to everybody but the provider family that it came from (a signature, a thought's id …)."""

    family: str
    data: Mapping[str, Any]


TurnPart = TextPart | FilePart | ReasoningPart | ToolCallPart | ToolResultPart


@dataclass(frozen=True, slots=True)
class Turn:
    """`author` is the name of the person, or of the model that spoke. Results of tools are a user's turn."""

    role: Literal["user", "assistant"]
    author: str
    parts: tuple[TurnPart, ...]

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.parts if isinstance(part, TextPart))


def said(role: Literal["user", "assistant"], author: str, text: str) -> Turn:
    """A turn of words alone."""
    return Turn(role, author, (TextPart(text),))


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """`schema` is the JSON Schema of its arguments, an object."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """`model` is the remote id. `tool_choice`: auto, none, required, or the name of a tool. `response_schema`: the
    answer is JSON of this shape. None leaves a thing to the provider."""

    model: str
    turns: tuple[Turn, ...]
    system_prompt: str | None = None
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str = "auto"
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = None
    response_schema: Mapping[str, Any] | None = None


# What is answered


@dataclass(frozen=True, slots=True)
class PartStarted:
    """`call` and `name` are those of a tool call."""

    index: int
    kind: PartKind
    call: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class PartDelta:
    """`text` of a tool call is a piece of its arguments' JSON."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class PartAnnotation:
    """A citation, a source: as the provider says it."""

    index: int
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PartEnded:
    """The authoritative part. Of a tool call `text` is the JSON as it came, `arguments` what it holds, or None and
    `error` says why it holds nothing."""

    index: int
    kind: PartKind
    text: str
    call: str | None = None
    name: str | None = None
    arguments: Mapping[str, Any] | None = None
    error: str | None = None
    provider_data: ProviderData | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `input_tokens` has those of `cached_tokens` and `cache_write_tokens` in it, `output_tokens` those of
    `reasoning_tokens`. `estimated`: counted by us, because the provider said nothing."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a reader should know and that ends nothing: a retry, another model in its place."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Finished:
    """`reason`: stop, length (cut at the limit of tokens), tool_calls, or content_filter."""

    reason: Literal["stop", "length", "tool_calls", "content_filter"] = "stop"


@dataclass(frozen=True, slots=True)
class Failed:
    """`message` is fit for the room: no key, no address with a secret in it. `status` is the provider's, if it had
    one."""

    kind: ErrorKind
    message: str
    retry_after_s: float | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The reader has heard enough. A model says so only when it can be told apart from a failure."""


AnswerEvent = PartStarted | PartDelta | PartAnnotation | PartEnded | Usage | Notice | Finished | Failed | Cancelled


class Model(Protocol):
    """One model behind one connection. Failures are `Failed`, never exceptions."""

    name: str

    def answer(self, request: Request) -> AsyncGenerator[AnswerEvent, None]: ...


@dataclass(frozen=True, slots=True)
class Target:
    """A model that can be called now. `name` is what people call it (and what stands in the log), `remote_id` what its
    provider calls it."""

    name: str
    remote_id: str
    model: Model

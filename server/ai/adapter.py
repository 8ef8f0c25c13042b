"""The contract between the studio and a model: what is asked, and the events of an answer.

In:   a `Request`: the system prompt and the turns so far.
Out:  `PartStarted`, `PartDelta` and `PartEnded` for each part, perhaps `Usage` (which replaces, never adds), then
exactly one of `Finished` and `Failed`. A reader who has heard enough closes the iterator; the model then lets go of
what it holds.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol

PartKind = Literal["text", "reasoning", "tool_call"]


@dataclass(frozen=True, slots=True)
class Turn:
    """`author` is the name of the person, or of the model that spoke."""

    role: Literal["user", "assistant"]
    author: str
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    model: str
    turns: tuple[Turn, ...]
    system_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class PartStarted:
    index: int
    kind: PartKind


@dataclass(frozen=True, slots=True)
class PartDelta:
    index: int
    text: str


@dataclass(frozen=True, slots=True)
class PartEnded:
    """The authoritative part."""

    index: int
    kind: PartKind
    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `estimated`: counted by us, because the provider said nothing."""

    input_tokens: int
    output_tokens: int
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    pass


@dataclass(frozen=True, slots=True)
class Failed:
    """`kind` is one of the error kinds of the interface, `message` fit for the room."""

    kind: str
    message: str


AnswerEvent = PartStarted | PartDelta | PartEnded | Usage | Finished | Failed


class Model(Protocol):
    name: str

    def answer(self, request: Request) -> AsyncGenerator[AnswerEvent, None]: ...

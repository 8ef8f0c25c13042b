"""A second try: only before the first content, as patient as the provider asks, and then the next model."""

from collections.abc import AsyncGenerator, Sequence

import pytest

from server.ai.adapter import (
    AnswerEvent,
    Failed,
    Finished,
    Notice,
    PartDelta,
    PartEnded,
    PartStarted,
    Request,
    Target,
    said,
)
from server.ai.failures import failed
from server.ai.fallback import MAX_PAUSE_S, TRIES, answer_of

GOOD: list[AnswerEvent] = [PartStarted(0, "text"), PartDelta(0, "hi"), PartEnded(0, "text", "hi"), Finished()]
BUSY: list[AnswerEvent] = [failed("overloaded")]
BROKEN: list[AnswerEvent] = [PartStarted(0, "text"), PartDelta(0, "h"), PartEnded(0, "text", "h"), failed("truncated")]


class Model:
    """Gives one answer after the other, the last one for ever."""

    def __init__(self, name: str, *answers: Sequence[AnswerEvent]) -> None:
        self.name = name
        self.asked: list[str] = []
        self._answers = list(answers)

    async def answer(self, request: Request) -> AsyncGenerator[AnswerEvent, None]:
        self.asked.append(request.model)
        for event in self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]:
            yield event


class Clock:
    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


async def ask(*models: Model, clock: Clock | None = None) -> list[AnswerEvent]:
    targets = [Target(model.name, f"remote {model.name}", model) for model in models]
    request = Request("a name", (said("user", "ana", "hello"),))
    return [event async for event in answer_of(targets, request, sleep=clock or Clock())]


def without_notices(events: list[AnswerEvent]) -> list[AnswerEvent]:
    return [event for event in events if not isinstance(event, Notice)]


async def test_a_model_that_answers_is_asked_once_by_its_own_name() -> None:
    model, other = Model("one", GOOD), Model("two", GOOD)
    assert await ask(model, other) == GOOD
    assert (model.asked, other.asked) == (["remote one"], [])


async def test_a_busy_model_is_asked_again_after_a_growing_pause() -> None:
    model, clock = Model("one", BUSY, BUSY, GOOD), Clock()
    events = await ask(model, clock=clock)
    assert without_notices(events) == GOOD
    assert [event.kind for event in events if isinstance(event, Notice)] == ["retry", "retry"]
    assert len(clock.slept) == 2
    assert clock.slept[0] < clock.slept[1]


async def test_the_provider_says_how_long_to_wait() -> None:
    clock = Clock()
    await ask(Model("one", [failed("rate_limited", retry_after_s=3.0)], GOOD), clock=clock)
    assert clock.slept == [3.0]


async def test_one_that_asks_for_too_much_patience_is_passed_over() -> None:
    slow, other, clock = (
        Model("one", [failed("rate_limited", retry_after_s=MAX_PAUSE_S + 1)]),
        Model("two", GOOD),
        Clock(),
    )
    assert without_notices(await ask(slow, other, clock=clock)) == GOOD
    assert (len(slow.asked), clock.slept) == (1, [])


async def test_the_next_model_answers_when_the_first_does_not_recover() -> None:
    model, other = Model("one", BUSY), Model("two", GOOD)
    events = await ask(model, other)
    assert without_notices(events) == GOOD
    assert len(model.asked) == TRIES
    last = [event for event in events if isinstance(event, Notice)][-1]
    assert (last.kind, "two answers instead" in last.message) == ("fallback", True)


async def test_what_was_seen_is_never_begun_again() -> None:
    model, other = Model("one", BROKEN), Model("two", GOOD)
    assert await ask(model, other) == BROKEN
    assert (len(model.asked), other.asked) == (1, [])


@pytest.mark.parametrize(
    ("kind", "asks_the_next"), [("auth", True), ("invalid_request", False), ("content_filter", False)]
)
async def test_what_no_patience_mends_is_not_asked_again(kind: str, asks_the_next: bool) -> None:
    model, other = Model("one", [Failed(kind, "no")]), Model("two", GOOD)  # type: ignore[arg-type]
    events = await ask(model, other)
    assert len(model.asked) == 1
    assert bool(other.asked) is asks_the_next
    if not asks_the_next:
        assert events == [Failed(kind, "no")]  # type: ignore[arg-type]


async def test_when_all_fail_the_last_failure_is_told() -> None:
    events = await ask(Model("one", [failed("auth")]), Model("two", [failed("quota")]))
    assert without_notices(events) == [failed("quota")]

"""One policy for a second try: the same model again, then the next one of an alias, and both only before the first
content.

In:   the targets of a name, in order, and what is asked of them.
Out:  the events of one answer, with a `Notice` for each try that came before it.
Promises: what a reader has seen is never begun again. Between two tries the provider's own `retry_after_s` is kept to;
one that asks for more patience than `MAX_PAUSE_S` is passed over.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from server.ai.adapter import AnswerEvent, Failed, Notice, PartStarted, Request, Target
from server.ai.failures import ADVICE

TRIES = 3  # of one model
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 15.0  # a room waits that long for a word; after it, no answer is the better answer

Sleep = Callable[[float], Awaitable[None]]


async def answer_of(
    targets: Sequence[Target], request: Request, *, sleep: Sleep = asyncio.sleep
) -> AsyncGenerator[AnswerEvent, None]:
    """The first target that begins to answer; the request's `model` is replaced by each one's own."""
    for place, target in enumerate(targets):
        is_last = place == len(targets) - 1
        failure: Failed | None = None
        for attempt in range(1, TRIES + 1):
            failure, has_begun = None, False
            async with aclosing(target.model.answer(replace(request, model=target.remote_id))) as events:
                async for event in events:
                    has_begun = has_begun or isinstance(event, PartStarted)
                    if isinstance(event, Failed) and not has_begun:
                        failure = event
                        break
                    yield event
            if failure is None:
                return
            pause_s = _pause_s(failure, attempt)
            if pause_s is None:
                break
            yield Notice("retry", f"{target.name}: {failure.message}; trying again")
            await sleep(pause_s)
        assert failure is not None
        if is_last or not ADVICE[failure.kind].fallback:
            yield failure
            return
        yield Notice("fallback", f"{target.name}: {failure.message}; {targets[place + 1].name} answers instead")


def _pause_s(failure: Failed, attempt: int) -> float | None:
    """How long to wait before this model is asked again; None when it is not."""
    if attempt >= TRIES or not ADVICE[failure.kind].retry:
        return None
    if failure.retry_after_s is not None:
        return failure.retry_after_s if failure.retry_after_s <= MAX_PAUSE_S else None
    return FIRST_PAUSE_S * 2.0 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - so that many do not come at once

"""The event loop's lag, with a clock that the test turns."""

import asyncio
from collections.abc import Callable

from server.telemetry import metrics
from server.telemetry.loop_lag import EVERY_S, LoopLag


class TurnedLoop(asyncio.SelectorEventLoop):
    """Nothing runs by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.planned: list[tuple[float, Callable[[], object]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *args: object, context: object = None):  # type: ignore[no-untyped-def]
        self.planned.append((when, lambda: callback(*args)))
        return asyncio.TimerHandle(when, callback, args, self)


def samples() -> dict[str, float]:
    """How many looks were at most so late."""
    found = {}
    for sample in next(iter(metrics.loop_lag_seconds.collect())).samples:
        found[sample.labels.get("le", sample.name)] = sample.value
    return found


def test_a_loop_that_stood_still_counts_each_look_it_missed() -> None:
    loop = TurnedLoop()
    try:
        LoopLag(loop).start()
        before = samples()
        when, look = loop.planned.pop()
        loop.now = when + 10 * EVERY_S + 0.001
        look()
        after = samples()
        looks = {le: after[le] - before[le] for le in after}
        assert looks["+Inf"] == 11
        assert looks["0.25"] == 3  # the last three were due within the last quarter of a second
        when, look = loop.planned.pop()
        assert when > loop.now
        loop.now = when
        look()
        assert samples()["+Inf"] - after["+Inf"] == 1
        assert samples()["0.0005"] - after["0.0005"] == 1
    finally:
        loop.close()

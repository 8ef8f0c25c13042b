"""The drain against parts that never come to an end, by a clock that skips the waiting."""

import asyncio
import selectors
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from server.app import Parts
from server.drain import Drain
from server.serving import PUT_AWAY_TIMEOUT_S, Server

PROMISED_S = 30.0


class Skipping(selectors.DefaultSelector):
    """Where it would wait, that much time has passed."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now_s += timeout or 0.0
        return super().select(0)


class HurriedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = Skipping()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now_s


class DeafSocket:
    """It takes every frame, and neither it nor its person goes."""

    def tell(self, _: object) -> None: ...

    def end(self, _: int, __: str) -> None: ...

    def end_when_answered(self, _: int, __: str) -> None: ...


async def never() -> None:
    await asyncio.sleep(3600)


@pytest.mark.parametrize("sockets", [0, 1, 20_000])
@pytest.mark.parametrize("others_serve", [True, False])
def test_whatever_does_not_end_the_drain_does_and_leaves_time_to_put_things_away(
    others_serve: bool, sockets: int
) -> None:
    stuck: Mapping[str, Any] = {
        "studio": SimpleNamespace(is_draining=False),
        "hub": SimpleNamespace(connections=lambda: [DeafSocket()] * sockets, connection_count=sockets),
        "assistant": SimpleNamespace(settle=never),
        "queue": SimpleNamespace(settle=never),
    }
    server = SimpleNamespace(servers=[], should_exit=False)

    async def drain() -> float:
        loop = asyncio.get_running_loop()
        serving = loop.create_task(never())
        began = loop.time()
        await Drain(cast(Parts, SimpleNamespace(**stuck)), cast(Server, server), serving).run(others_serve=others_serve)
        took_s = loop.time() - began
        serving.cancel()
        return took_s

    with asyncio.Runner(loop_factory=HurriedLoop) as runner:
        took_s = runner.run(drain())
    assert server.should_exit
    assert took_s <= PROMISED_S - PUT_AWAY_TIMEOUT_S + 0.1

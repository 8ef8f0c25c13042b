"""Readers of the log on a real database, with effects that do as the test says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from server.hub import log_readers
from server.hub.deliveries import Delivered, Delivery, Failed, Outcome, RetryPolicy
from server.hub.log_readers import LogReaders
from server.storage.database import Database
from server.storage.dead_letters import DeadLetters
from server.storage.delivery_notes import DeliveryNotes
from server.storage.log_cursors import LogCursors
from server.storage.log_reader import LogReader
from tests.integration.storage.test_log_cursors import READER, Bench
from tests.integration.storage.test_message_log import person, room
from tests.waiting import until

QUICK = RetryPolicy(first_s=0.01, most_s=0.01, tries=2)


class Target:
    """Takes everything; `deliver` is the test's."""

    kinds = None
    is_ending = False

    def __init__(self, deliver: Callable[[Delivery], Awaitable[Outcome]]) -> None:
        self._deliver = deliver

    async def deliver(self, delivery: Delivery) -> Outcome:
        return await self._deliver(delivery)

    async def end(self) -> None:
        raise AssertionError("nothing ends here")


@pytest.fixture
async def bench(database: Database) -> Bench:
    ana = await person(database, "ana")
    return Bench(database, ana, await room(database, ana))


@asynccontextmanager
async def readers(database: Database, deliver: Callable[[Delivery], Awaitable[Outcome]]) -> AsyncIterator[LogReaders]:
    async def target(_: str) -> Target:
        return Target(deliver)

    made = LogReaders(
        LogCursors(database), DeliveryNotes(database), DeadLetters(database), LogReader(database), policy=QUICK
    )
    made.add(READER, target)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


async def test_an_effect_that_breaks_ends_as_a_dead_letter(bench: Bench) -> None:
    seen: list[int] = []

    async def deliver(delivery: Delivery) -> Outcome:
        seen.append(delivery.event.seq)
        if delivery.event.seq == 1:
            raise KeyError("a fault of ours")
        return Delivered()

    key = await bench.add()
    await bench.say(2)
    async with readers(bench.database, deliver):
        await until(lambda: stands_at(bench, {key.target: 2}))
    assert seen == [1, 1, 2]
    (letter,), _ = await bench.letters.page()
    assert (letter.seq, letter.attempts, letter.reason) == (1, 2, "something broke on our side")


async def test_targets_that_hang_and_fail_leave_room_for_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_readers, "MAX_AT_ONCE", 4)
    monkeypatch.setattr(log_readers, "MAX_FAILING", 2)
    hanging = {(await bench.add()).target for _ in range(6)}
    hangs, once, in_flight = asyncio.Event(), set(), set()

    async def deliver(delivery: Delivery) -> Outcome:
        if delivery.target not in hanging:
            return Delivered()
        if delivery.target in once:
            in_flight.add(delivery.target)
            await hangs.wait()
        once.add(delivery.target)
        return Failed("it hangs")

    await bench.say()
    async with readers(bench.database, deliver) as running:
        await until(lambda: _is(lambda: once == hanging and len(in_flight) >= 2))
        await asyncio.sleep(0.5)  # as many hang as may
        assert len(in_flight) == 2
        healthy = (await bench.add()).target
        await bench.say(3)
        running.look_at(bench.conversation)
        await until(lambda: stands_at(bench, {healthy: 4}))
        assert not hangs.is_set()
        hangs.set()


async def test_an_attempt_that_never_left_does_not_count(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from server.hub import delivery_turn

    monkeypatch.setattr(delivery_turn, "POSTPONE_S", 0.01)
    calls = 0

    async def deliver(_: Delivery) -> Outcome:
        nonlocal calls
        calls += 1
        return Failed("busy", counts=False) if calls < 10 else Delivered()

    key = await bench.add()
    await bench.say()
    async with readers(bench.database, deliver):
        await until(lambda: stands_at(bench, {key.target: 1}))
    assert calls == 10
    assert await bench.letters.page() == ([], 0)


async def test_without_subscriptions_a_look_is_one_query_and_nothing_is_woken(bench: Bench) -> None:
    async def deliver(_: Delivery) -> Outcome:
        raise AssertionError("nobody has subscribed")

    class Counting(LogCursors):
        claims = 0

        async def claim(self, *given: object, **more: object) -> list[object]:  # type: ignore[override]
            self.claims += 1
            return []

    cursors = Counting(bench.database)
    made = LogReaders(cursors, DeliveryNotes(bench.database), bench.letters, LogReader(bench.database))
    made.add(READER, lambda _: _nothing())
    await made.open()
    await bench.say()
    await asyncio.sleep(0.2)
    await made.close()
    assert cursors.claims == 0


async def _nothing() -> None:
    return None


async def _is(condition: Callable[[], bool]) -> bool:
    return condition()


async def stands_at(bench: Bench, seqs: dict[str, int]) -> bool:
    rows = await bench.database.fetch(
        "SELECT target, seq FROM log_cursors WHERE target = ANY($1::uuid[]) AND holder IS NULL", list(seqs)
    )
    return {row["target"]: row["seq"] for row in rows} == seqs

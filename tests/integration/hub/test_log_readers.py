"""Readers of the log on a real database, with effects that do as the test says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from server.hub import log_readers
from server.hub.deliveries import Delivered, Delivery, Failed, Outcome, RetryPolicy
from server.hub.event_frames import event_of
from server.hub.log_readers import LogReaders
from server.protocol.frames import Actor, Event
from server.storage.database import Database
from server.storage.dead_letters import DeadLetters
from server.storage.delivery_notes import DeliveryNotes
from server.storage.log_cursors import LogCursors
from server.storage.log_reader import LogReader
from server.storage.message_log import Stored
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
async def readers(
    database: Database, deliver: Callable[[Delivery], Awaitable[Outcome]], policy: RetryPolicy = QUICK
) -> AsyncIterator[LogReaders]:
    async def target(_: str) -> Target:
        return Target(deliver)

    made = LogReaders(
        LogCursors(database), DeliveryNotes(database), DeadLetters(database), LogReader(database), policy=policy
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


async def test_an_event_that_cannot_be_read_ends_as_a_dead_letter(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from server.hub import delivery_turn

    def broken_event_of(stored: Stored, actor: Actor) -> Event:
        if stored.seq == 1:
            raise ValueError("an event that no version understands")
        return event_of(stored, actor)

    async def deliver(_: Delivery) -> Outcome:
        return Delivered()

    monkeypatch.setattr(delivery_turn, "event_of", broken_event_of)
    key = await bench.add()
    await bench.say(2)
    async with readers(bench.database, deliver):
        await until(lambda: stands_at(bench, {key.target: 2}))
    (letter,), _ = await bench.letters.page()
    assert (letter.seq, letter.attempts, letter.reason) == (1, 2, "something broke on our side")


async def test_targets_that_failed_have_places_that_no_others_take(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_readers, "MAX_AT_ONCE", 4)
    monkeypatch.setattr(log_readers, "MAX_FAILING", 2)
    monkeypatch.setattr(log_readers, "KEPT_FOR_FAILING", 1, raising=False)
    failing = (await bench.add()).target
    hangs = asyncio.Event()
    in_flight: set[str] = set()

    async def deliver(delivery: Delivery) -> Outcome:
        if delivery.target == failing:
            return Delivered() if len(in_flight) >= 3 else Failed("not yet")
        in_flight.add(delivery.target)
        await hangs.wait()
        return Delivered()

    await bench.say()
    async with readers(bench.database, deliver, RetryPolicy(first_s=0.5, most_s=0.5, tries=1000)) as running:
        await until(lambda: has_failed(bench, failing))
        for _ in range(6):
            await bench.add()
        await bench.say()
        running.look_at(bench.conversation)
        await until(lambda: stands_at(bench, {failing: 2}))
        assert not hangs.is_set()
        hangs.set()


async def has_failed(bench: Bench, target: str) -> bool:
    return bool(await bench.database.fetch_value("SELECT failures > 0 FROM log_cursors WHERE target = $1", target))


async def test_a_turn_that_is_cancelled_twice_leaves_nothing_behind(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_flight, gives_back = asyncio.Event(), asyncio.Event()

    async def deliver(_: Delivery) -> Outcome:
        in_flight.set()
        await asyncio.Event().wait()
        raise AssertionError("it waits for ever")

    async def give_back(*_: object) -> None:
        gives_back.set()
        await asyncio.Event().wait()

    await bench.add()
    await bench.say()
    async with readers(bench.database, deliver) as running:
        await in_flight.wait()
        with monkeypatch.context() as patch:
            patch.setattr(running._cursors, "give_back", give_back)
            ((_, task),) = running._turns.values()
            task.cancel()
            await gives_back.wait()
            task.cancel()
            await asyncio.wait([task])
        assert running._turns == {}


async def test_targets_that_hang_and_fail_leave_room_for_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_readers, "MAX_AT_ONCE", 4)
    monkeypatch.setattr(log_readers, "MAX_FAILING", 2)
    monkeypatch.setattr(log_readers, "KEPT_FOR_FAILING", 1)
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


async def test_a_dead_letter_that_never_left_is_not_tried_either(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from server.hub import delivery_turn

    monkeypatch.setattr(delivery_turn, "POSTPONE_S", 0.01)
    calls = 0

    async def deliver(_: Delivery) -> Outcome:
        nonlocal calls
        calls += 1
        if calls <= QUICK.tries:
            return Failed("away")
        return Failed("busy", counts=False) if calls < 10 else Delivered()

    key = await bench.add()
    await bench.say()
    async with readers(bench.database, deliver) as running:
        await until(lambda: stands_at(bench, {key.target: 1}))
        await bench.letters.retry()
        running.look_at(bench.conversation)
        await until(lambda: _is(lambda: calls == 10))
        await until(lambda: stands_at(bench, {key.target: 1}))
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

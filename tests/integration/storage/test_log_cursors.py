"""Cursors on a real Postgres: who may move them, and what is written down when they move."""

import asyncio
from dataclasses import replace

import pytest

from server.hub.permissions import ROLES_ALLOWED, Permission
from server.protocol.frames import Actor
from server.protocol.ids import new_id
from server.storage.database import Database
from server.storage.dead_letters import DeadLetters
from server.storage.delivery_notes import ATTEMPTS_KEPT, Attempt, DeliveryNotes
from server.storage.log_cursors import Claim, CursorKey, LogCursors, subscribe, unsubscribe
from server.storage.message_log import MessageLog
from tests.integration.storage.test_message_log import judge, message, person, room

READER = "tests"


class Bench:
    """A conversation, its cursors, and what one does to them."""

    def __init__(self, database: Database, ana: Actor, conversation: str) -> None:
        self.database = database
        self.ana = ana
        self.conversation = conversation
        self.cursors = LogCursors(database)
        self.notes = DeliveryNotes(database)
        self.letters = DeadLetters(database)
        self.log = MessageLog(database, judge, sending_roles=sorted(ROLES_ALLOWED[Permission.SEND]))

    async def say(self, count: int = 1) -> None:
        for _ in range(count):
            await self.log.append([message(self.conversation, self.ana, "hello")])

    async def add(self) -> CursorKey:
        key = CursorKey(READER, new_id())
        async with self.database.transaction() as connection:
            await subscribe(connection, key, self.conversation)
        return key

    async def claim(self, *, failing: bool = False, limit: int = 10) -> list[Claim]:
        return await self.cursors.claim([READER], limit, failing=failing)

    async def one(self) -> Claim:
        (claim,) = await self.claim()
        return claim

    async def seq(self, key: CursorKey) -> int:
        found: int = await self.database.fetch_value("SELECT seq FROM log_cursors WHERE target = $1", key.target)
        return found

    async def run_out(self) -> None:
        """All leases."""
        await self.database.execute("UPDATE log_cursors SET held_until = now() - interval '1 second'")


@pytest.fixture
async def bench(database: Database) -> Bench:
    ana = await person(database, "ana")
    return Bench(database, ana, await room(database, ana))


def attempt(seq: int, number: int = 1) -> Attempt:
    return Attempt(seq, "message.created", number, "retried", 500, "no", 3)


async def test_a_new_cursor_starts_at_the_head(bench: Bench) -> None:
    await bench.say(3)
    key = await bench.add()
    assert await bench.seq(key) == 3
    assert await bench.claim() == []
    await bench.say()
    assert (await bench.one()).seq == 3
    assert await bench.cursors.watched([READER]) == {bench.conversation}
    assert await bench.cursors.watched(["others"]) == frozenset()


async def test_of_many_who_claim_at_once_one_gets_it(bench: Bench) -> None:
    keys = {await bench.add() for _ in range(20)}
    await bench.say()
    claimed = await asyncio.gather(*(bench.claim(limit=6) for _ in range(8)))
    found = [claim.key for claims in claimed for claim in claims]
    assert len(found) == len(set(found))
    found += [claim.key for claim in await bench.claim(limit=100)]
    assert sorted(found, key=str) == sorted(keys, key=str)


async def test_who_has_lost_the_lease_writes_nothing(bench: Bench) -> None:
    key = await bench.add()
    await bench.say(2)
    first = await bench.one()
    assert await bench.claim() == []
    await bench.run_out()
    second = await bench.one()
    assert second.token != first.token
    assert not await bench.notes.delivered(first, attempt(1))
    assert await bench.notes.retried(first, attempt(1), 0.0) is None
    assert await bench.notes.dead(first, attempt(1), 0.0) is None
    assert not await bench.notes.gone(first, attempt(1))
    assert not await bench.notes.skip(first, 2)
    assert not await bench.notes.lost(first, 1, 2, "gone")
    assert not await bench.cursors.release(first)
    await bench.notes.postponed(first, 1, 100.0)
    await bench.cursors.give_back([first])
    assert await bench.cursors.renew([first]) == set()
    assert await bench.seq(key) == 0
    assert await bench.notes.attempts(key, 10) == []
    assert await bench.letters.page() == ([], 0)
    assert await bench.cursors.renew([second]) == {key}
    assert await bench.claim() == []  # the second one's lease is untouched
    assert await bench.notes.delivered(second, attempt(1))
    assert not await bench.notes.delivered(second, attempt(1))  # once
    assert await bench.seq(key) == 1


async def test_a_lease_that_is_renewed_does_not_run_out(bench: Bench) -> None:
    await bench.add()
    await bench.say()
    claim = await bench.one()
    await bench.run_out()
    assert await bench.cursors.renew([claim]) == {claim.key}
    assert await bench.claim() == []


async def test_a_cursor_is_not_let_go_while_there_is_more(bench: Bench) -> None:
    await bench.add()
    await bench.say()
    claim = await bench.one()
    assert await bench.notes.delivered(claim, attempt(1))
    await bench.say()
    assert not await bench.cursors.release(claim)
    assert await bench.notes.delivered(claim, attempt(2))
    assert await bench.cursors.release(claim)
    assert await bench.claim() == []


async def test_a_failed_event_waits_for_its_pause_and_keeps_its_count(bench: Bench) -> None:
    key = await bench.add()
    await bench.say(3)
    claim = await bench.one()
    assert await bench.notes.retried(claim, attempt(2), 100.0) == 0.0
    assert await bench.seq(key) == 1  # what stood before it was not wanted
    assert await bench.claim(failing=True) == []
    async with bench.database.transaction() as connection:
        await bench.cursors.try_now(connection, key)
    again = await bench.one()
    assert (again.seq, again.tries, again.failures) == (1, 1, 0)
    await bench.notes.retried(again, attempt(2, 2), 0.0)
    assert await bench.claim() == []  # it counts among those that fail
    (failing,) = await bench.claim(failing=True)
    assert (failing.tries, failing.failures) == (2, 1)
    assert await bench.notes.delivered(failing, attempt(2, 3))
    await bench.cursors.give_back([failing])
    assert (await bench.one()).failures == 0


async def test_a_dead_letter_and_the_step_past_it_are_one_thing(bench: Bench) -> None:
    key = await bench.add()
    await bench.say(2)
    claim = await bench.one()
    assert await bench.notes.dead(claim, attempt(1, 12), 0.0) is not None
    assert await bench.seq(key) == 1
    (letter,), total = await bench.letters.page()
    assert (total, letter.key, letter.seq, letter.kind, letter.attempts) == (1, key, 1, "message.created", 12)
    assert await bench.letters.counts() == {READER: 1}
    assert [past.attempt.attempt for past in await bench.notes.attempts(key, 10)] == [12]


async def test_a_cursor_without_news_is_claimed_for_a_dead_letter_that_is_to_be_retried(bench: Bench) -> None:
    key = await bench.add()
    await bench.say()
    await bench.notes.dead(await bench.one(), attempt(1), 1000.0)
    assert await bench.claim(failing=True) == []
    assert await bench.letters.retry(reader="others") == []
    assert await bench.letters.retry() == [bench.conversation]
    (claim,) = await bench.claim(failing=True)  # at once, whatever the pause was
    (letter,) = await bench.letters.due(key, 10)
    assert await bench.notes.letter_failed(claim, attempt(1), letter.id, None)
    assert await bench.letters.due(key, 10) == []
    await bench.letters.retry(letter=letter.id)
    assert await bench.notes.letter_delivered(claim, attempt(1), letter.id)
    assert await bench.letters.page() == ([], 0)


async def test_a_disabled_cursor_is_nobodys_and_its_letters_are_not_retried(bench: Bench) -> None:
    key = await bench.add()
    await bench.say()
    await bench.notes.dead(await bench.one(), attempt(1), 0.0)
    await bench.say()
    await bench.cursors.disable(key, "enough")
    assert await bench.letters.retry() == []
    assert await bench.claim() == await bench.claim(failing=True) == []
    assert await bench.cursors.watched([READER]) == frozenset()
    async with bench.database.transaction() as connection:
        await bench.cursors.set_enabled(connection, key, from_head=False)
    assert (await bench.one()).seq == 1


async def test_a_cursor_takes_its_letters_and_attempts_with_it(bench: Bench) -> None:
    key = await bench.add()
    await bench.say()
    await bench.notes.dead(await bench.one(), attempt(1), 0.0)
    async with bench.database.transaction() as connection:
        await unsubscribe(connection, key)
    for table in ("log_cursors", "dead_letters", "delivery_attempts"):
        assert await bench.database.fetch_value(f"SELECT count(*) FROM {table}") == 0


async def test_only_the_latest_attempts_are_kept(bench: Bench) -> None:
    key, other = await bench.add(), await bench.add()
    await bench.say(ATTEMPTS_KEPT + 20)
    claims = {claim.key: claim for claim in await bench.claim()}
    await bench.notes.delivered(claims[other], attempt(1))
    for seq in range(1, ATTEMPTS_KEPT + 21):
        assert await bench.notes.delivered(claims[key], replace(attempt(seq), outcome="delivered"))
    kept = await bench.notes.attempts(key, 1000)
    assert kept[0].attempt.seq == ATTEMPTS_KEPT + 20
    assert ATTEMPTS_KEPT <= len(kept) <= ATTEMPTS_KEPT + 1
    assert len(await bench.notes.attempts(other, 1000)) == 1


async def test_lag_counts_events_and_the_age_of_the_oldest(bench: Bench) -> None:
    await bench.add()
    assert [(lag.reader, lag.events, lag.oldest_s) for lag in await bench.cursors.lags()] == [(READER, 0, 0.0)]
    await bench.say(3)
    (lag,) = await bench.cursors.lags()
    assert lag.events == 3
    await bench.database.execute("UPDATE events SET at = at - interval '1 hour' WHERE seq = 1")
    (lag,) = await bench.cursors.lags()
    assert lag.oldest_s > 3599

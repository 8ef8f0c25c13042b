"""The log's promises on a real Postgres, for the quick way of plain messages and for the general way alike."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from server.hub.permissions import ROLES_ALLOWED, Permission, refusal
from server.protocol import clock
from server.protocol.errors import ChatError, Conflict, Forbidden, NotFound, Overloaded
from server.protocol.events import MessageCreated, MessageDeleted, MessageEdited, ReactionAdded, RunEnded
from server.protocol.frames import Actor
from server.protocol.ids import new_id
from server.storage.blocks import Blocks
from server.storage.conversations import Conversations
from server.storage.database import Connection, Database
from server.storage.log_reader import LogReader
from server.storage.message_log import BUSY, Draft, MessageLog, Outcome, Stored
from server.storage.new_conversations import NewConversation
from server.storage.standings import Standing
from server.storage.users import NewUser, Users


def judge(permission: str, standing: Standing) -> ChatError | None:
    return refusal(Permission(permission), standing)


class GeneralLog(MessageLog):
    """The same log, which treats every draft as if it needed the general way."""

    async def _append_plain(self, drafts: Sequence[Draft], *, wait: bool) -> list[Outcome]:
        async with self._database.log_transaction() as connection:
            return await self._append(connection, drafts, wait=wait)


@pytest.fixture(params=[MessageLog, GeneralLog], ids=["plain", "general"])
def log(request: pytest.FixtureRequest, database: Database) -> MessageLog:
    made: MessageLog = request.param(database, judge, sending_roles=sorted(ROLES_ALLOWED[Permission.SEND]))
    return made


async def person(database: Database, name: str) -> Actor:
    async with database.transaction() as connection:
        user = await Users(database).add(connection, NewUser(username=name, key=name, role="member"), clock.now())
    return Actor("user", user.id, user.username)


async def room(database: Database, owner: Actor, *others: tuple[Actor, str], visibility: str = "private") -> str:
    members = [(owner.id, "owner"), *((actor.id, role) for actor, role in others)]
    plan = NewConversation("room", "a room", visibility, "joined", None, None, owner.id, members)
    made = await Conversations(database).create([plan], clock.now())
    return made[0][0]


async def private_chat(database: Database, one: Actor, other: Actor) -> str:
    sides = [(one.id, "member"), (other.id, "member")]
    plan = NewConversation("private", None, "private", "all", None, None, one.id, sides)
    made = await Conversations(database).create([plan], clock.now())
    return made[0].conversation


def message(conversation: str, actor: Actor, text: str, client_id: str | None = None) -> Draft:
    data = MessageCreated(id=new_id(), client_id=client_id, text=text)
    return Draft(conversation, actor, data, client_id, text.encode()[:16], Permission.SEND, account_role="member")


def seqs(outcomes: Sequence[Outcome]) -> list[Any]:
    return [outcome.seq if isinstance(outcome, Stored) else type(outcome) for outcome in outcomes]


async def test_seq_counts_from_one_without_holes(database: Database, log: MessageLog) -> None:
    ana = await person(database, "ana")
    first, second = await room(database, ana), await room(database, ana)
    drafts = [message(conversation, ana, f"{n}", f"c{n}") for n in range(3) for conversation in (first, second)]
    assert seqs(await log.append(drafts)) == [1, 1, 2, 2, 3, 3]
    assert seqs(await log.append([message(first, ana, "more")])) == [4]
    events = await LogReader(database).since(first, 0, 10)
    assert [(stored.seq, actor.name) for stored, actor in events] == [(n, "ana") for n in (1, 2, 3, 4)]


async def test_a_repeat_gets_the_first_answer_and_another_body_a_conflict(database: Database, log: MessageLog) -> None:
    ana = await person(database, "ana")
    conversation = await room(database, ana)
    first = (await log.append([message(conversation, ana, "once", "id-1")]))[0]
    assert isinstance(first, Stored)
    again, other, fresh = await log.append(
        [
            message(conversation, ana, "once", "id-1"),
            message(conversation, ana, "twice", "id-1"),
            message(conversation, ana, "x", "2"),
        ]
    )
    assert again == replace(first, repeat=True)
    assert isinstance(other, Conflict)
    assert isinstance(fresh, Stored)
    assert fresh.seq == 2


async def test_twins_in_one_batch_are_stored_once(database: Database, log: MessageLog) -> None:
    ana = await person(database, "ana")
    conversation = await room(database, ana)
    first, twin, other = await log.append([
        message(conversation, ana, "one", "id"), message(conversation, ana, "one", "id"),
        message(conversation, ana, "two", "id"),
    ])  # fmt: skip
    assert isinstance(first, Stored)
    assert isinstance(twin, Stored)
    assert (first.seq, first.repeat, twin.seq, twin.repeat) == (1, False, 1, True)
    assert isinstance(other, Conflict)
    assert len(await LogReader(database).since(conversation, 0, 10)) == 1


async def test_two_people_may_use_the_same_client_id(database: Database, log: MessageLog) -> None:
    ana, ben = await person(database, "ana"), await person(database, "ben")
    conversation = await room(database, ana, (ben, "member"))
    drafts = [message(conversation, ana, "hers", "same"), message(conversation, ben, "his", "same")]
    assert seqs(await log.append(drafts)) == [1, 2]


async def test_a_refused_draft_fails_alone(database: Database, log: MessageLog) -> None:
    ana, eve, rita = await person(database, "ana"), await person(database, "eve"), await person(database, "rita")
    conversation = await room(database, ana, (rita, "reader"))
    public = await room(database, ana, visibility="public")
    outcomes = await log.append([
        message(conversation, eve, "let me in"), message(conversation, ana, "first"),
        message(conversation, rita, "I only read"), message(public, eve, "I do not belong"),
        message(conversation, ana, "second"),
    ])  # fmt: skip
    assert seqs(outcomes) == [NotFound, 1, Forbidden, Forbidden, 2]


async def test_a_conversation_that_is_held_is_busy_and_its_neighbours_go_on(
    database: Database, log: MessageLog
) -> None:
    ana = await person(database, "ana")
    held, free = await room(database, ana), await room(database, ana)
    async with database.transaction() as connection:
        await connection.execute("SELECT 1 FROM heads WHERE conversation = $1 FOR UPDATE", held)
        busy, stored = await log.append([message(held, ana, "wait"), message(free, ana, "go")])
        assert busy is BUSY
        assert isinstance(stored, Stored)
        with pytest.raises(Overloaded):
            await log.append([message(held, ana, "wait")], wait=True)
    assert seqs(await log.append([message(held, ana, "wait")], wait=True)) == [1]


async def test_a_missing_conversation_is_told_only_by_who_waits(database: Database, log: MessageLog) -> None:
    ana = await person(database, "ana")
    assert await log.append([message(new_id(), ana, "hello")]) == [BUSY]
    assert seqs(await log.append([message(new_id(), ana, "hello")], wait=True)) == [NotFound]


async def test_twenty_writers_with_the_same_ids_store_each_once(database: Database, log: MessageLog) -> None:
    """Writers race on connections of their own; whoever loses gets the winner's answer."""
    ana = await person(database, "ana")
    conversations = [await room(database, ana) for _ in range(3)]

    async def write(writer: int) -> list[Outcome]:
        stored: list[Outcome] = []
        for n in range(10):
            drafts = [message(conversation, ana, f"{n}", f"id-{n}") for conversation in conversations]
            drafts.append(message(conversations[n % 3], ana, f"{writer} {n}", f"own-{writer}-{n}"))
            stored += await log.append(drafts, wait=True)
        return stored

    outcomes = [outcome for outcomes in await asyncio.gather(*(write(n) for n in range(20))) for outcome in outcomes]
    assert all(isinstance(outcome, Stored) for outcome in outcomes)
    for conversation in conversations:
        events = await LogReader(database).since(conversation, 0, 1000)
        assert [stored.seq for stored, _ in events] == list(range(1, len(events) + 1))
        ids = [stored.client_id for stored, _ in events]
        assert len(set(ids)) == len(ids)
        assert {f"id-{n}" for n in range(10)} <= set(ids)


async def test_the_general_way_continues_where_the_plain_one_ended(database: Database, log: MessageLog) -> None:
    ana = await person(database, "ana")
    conversation = await room(database, ana)
    sent = message(conversation, ana, "a text", "m")
    await log.append([sent])
    assert isinstance(sent.data, MessageCreated)
    target = sent.data.id
    react = Draft(
        conversation, ana, ReactionAdded(id=target, emoji="👍"), "r", b"r", Permission.REACT, target, "member"
    )
    edit = Draft(
        conversation, ana, MessageEdited(id=target, text="better"), "e", b"e", Permission.EDIT, target, "member"
    )
    delete = Draft(conversation, ana, MessageDeleted(id=target), "d", b"d", Permission.DELETE, target, "member")
    outcomes = await log.append([react, message(conversation, ana, "between"), edit, delete, edit])
    assert seqs(outcomes) == [2, 3, 4, 5, 4]
    texts = [stored.data for stored, _ in await LogReader(database).since(conversation, 0, 10)]
    assert not any("a text" in text or "better" in text for text in texts)
    assert any('"between"' in text for text in texts)
    late = Draft(conversation, ana, MessageEdited(id=target, text="x"), "late", b"l", Permission.EDIT, target, "member")
    assert seqs(await log.append([late])) == [NotFound]


async def test_a_repeat_of_a_message_that_was_deleted_still_gets_its_first_answer(
    database: Database, log: MessageLog
) -> None:
    ana = await person(database, "ana")
    conversation = await room(database, ana)
    sent = message(conversation, ana, "secret", "m")
    assert isinstance(sent.data, MessageCreated)
    await log.append([sent])
    delete = MessageDeleted(id=sent.data.id)
    await log.append([Draft(conversation, ana, delete, "d", b"d", Permission.DELETE, sent.data.id, "member")])
    again = (await log.append([message(conversation, ana, "secret", "m")]))[0]
    assert isinstance(again, Stored)
    assert (again.seq, again.repeat) == (1, True)
    assert "secret" not in again.data


async def test_a_run_ends_once(database: Database, log: MessageLog) -> None:
    from server.protocol.events import RunStarted

    ana = await person(database, "ana")
    conversation = await room(database, ana)
    run = RunStarted(run=new_id(), message=new_id(), model="demo", reply_to=None)
    end = RunEnded(run=run.run, message=run.message, status="finished", text="done", parts=[], usage=None, cost=None)
    model = Actor("model", "demo", "demo")
    outcomes = await log.append(
        [Draft(conversation, ana, run), Draft(conversation, model, end), Draft(conversation, model, end)]
    )
    assert seqs(outcomes) == [1, 2, Conflict]


async def test_nothing_is_stored_when_one_of_all_or_none_is_refused(database: Database, log: MessageLog) -> None:
    ana, eve = await person(database, "ana"), await person(database, "eve")
    hers, foreign = await room(database, ana), await room(database, eve)
    with pytest.raises(NotFound):
        await log.append_all([message(hers, ana, "one"), message(foreign, ana, "two")])
    assert await LogReader(database).since(hers, 0, 10) == []


async def test_what_breaks_in_mid_transaction_leaves_no_hole(database: Database, log: MessageLog) -> None:
    ana = await person(database, "ana")
    conversation = await room(database, ana)

    async def fail(connection: Connection) -> None:
        await connection.execute("SELECT 1 / 0")

    bad = message(conversation, ana, "a NUL \0 that no codec let through")
    with pytest.raises(Exception, match=r"NUL|0x00|invalid byte"):
        await log.append([message(conversation, ana, "good"), bad])
    assert seqs(await log.append([message(conversation, ana, "good")])) == [1]
    with pytest.raises(Exception, match="division by zero"):
        async with database.log_transaction() as connection:
            await log._append(connection, [message(conversation, ana, "undone")], wait=True)
            await fail(connection)
    assert seqs(await log.append([message(conversation, ana, "next")])) == [2]


async def test_behind_a_block_neither_side_sends_and_neighbours_do(database: Database, log: MessageLog) -> None:
    ana, ben, eve = [await person(database, name) for name in ("ana", "ben", "eve")]
    chat, other, shared = (
        await private_chat(database, ana, ben), await private_chat(database, ana, eve),
        await room(database, ana, (ben, "member")),
    )  # fmt: skip
    before = message(chat, ben, "hello", "b1")
    assert seqs(await log.append([before])) == [1]
    blocks = Blocks(database)
    assert await blocks.put(ana.id, ben.id, clock.now()) == chat
    outcomes = await log.append([
        message(chat, ben, "again", "b2"), message(chat, ana, "no", "a1"), message(other, ana, "hi", "a2"),
        message(shared, ben, "here I may", "b3"), message(shared, ana, "of course", "a3"), before,
    ])  # fmt: skip
    assert seqs(outcomes) == [Forbidden, Forbidden, 1, 1, 2, 1]
    assert "unblock" in str(outcomes[1])
    assert "block" not in str(outcomes[0])
    assert isinstance(outcomes[5], Stored)
    assert outcomes[5].repeat
    await blocks.put(ben.id, ana.id, clock.now())
    assert await blocks.drop(ana.id, ben.id) == chat
    outcomes = await log.append([message(chat, ana, "no", "a1"), message(chat, ben, "again", "b2")])
    assert seqs(outcomes) == [Forbidden, Forbidden]
    assert "unblock" in str(outcomes[1])
    await blocks.drop(ben.id, ana.id)
    assert seqs(await log.append([message(chat, ana, "no", "a1"), message(chat, ben, "again", "b2")])) == [2, 3]


async def test_a_block_that_was_committed_while_a_message_waited_refuses_it(
    database: Database, log: MessageLog
) -> None:
    """Somebody holds the chat's row; behind it waits the block, and behind the block the message."""
    ana, ben = await person(database, "ana"), await person(database, "ben")
    chat = await private_chat(database, ana, ben)
    async with database.transaction() as holder:
        await holder.execute("SELECT FROM heads WHERE conversation = $1 FOR NO KEY UPDATE", chat)
        blocking = asyncio.create_task(Blocks(database).put(ana.id, ben.id, clock.now()))
        await until_waiting(database, 1)
        sending = asyncio.create_task(log.append([message(chat, ben, "too late", "b1")], wait=True))
        await until_waiting(database, 2)
    await blocking
    assert seqs(await sending) == [Forbidden]
    assert await LogReader(database).since(chat, 0, 10) == []


async def test_a_message_whose_row_was_locked_first_comes_before_the_block(database: Database, log: MessageLog) -> None:
    ana, ben = await person(database, "ana"), await person(database, "ben")
    chat = await private_chat(database, ana, ben)
    async with database.transaction() as holder:
        await holder.execute("SELECT FROM heads WHERE conversation = $1 FOR NO KEY UPDATE", chat)
        sending = asyncio.create_task(log.append([message(chat, ben, "just in time", "b1")], wait=True))
        await until_waiting(database, 1)
        blocking = asyncio.create_task(Blocks(database).put(ana.id, ben.id, clock.now()))
        await until_waiting(database, 2)
        assert not blocking.done()
    assert seqs(await sending) == [1]
    await blocking
    assert seqs(await log.append([message(chat, ben, "too late", "b2")])) == [Forbidden]


async def until_waiting(database: Database, count: int) -> None:
    """Until so many wait for a lock that somebody holds."""
    async with asyncio.timeout(10):
        while (
            await database.fetch_value(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            < count
        ):
            await asyncio.sleep(0.01)

"""Blocks beside everything that may happen in the same moment: chats that are opened, invitations, older workers."""

import asyncio

import pytest

from server.app import judge
from server.hub.permissions import ROLES_ALLOWED, Permission
from server.protocol import clock
from server.protocol.codec import encode
from server.protocol.errors import Forbidden, NotFound
from server.protocol.events import MemberJoined, MessageCreated
from server.protocol.frames import Actor
from server.protocol.ids import new_id
from server.storage.blocks import Blocks
from server.storage.conversations import Conversations
from server.storage.database import Database
from server.storage.message_log import Draft, MessageLog, Stored
from server.storage.new_conversations import NewConversation, make_all
from server.storage.users import NewUser, Users

SENDERS = sorted(ROLES_ALLOWED[Permission.SEND])


async def person(database: Database, name: str, role: str = "member") -> Actor:
    async with database.transaction() as connection:
        user = await Users(database).add(connection, NewUser(username=name, key=name, role=role), clock.now())
    return Actor("user", user.id, user.username)


def private(one: Actor, other: Actor) -> NewConversation:
    sides = [(one.id, "member"), (other.id, "member")]
    return NewConversation("private", None, "private", "all", None, None, one.id, sides)


def room(owner: Actor, *others: Actor) -> NewConversation:
    members = [(owner.id, "owner"), *((other.id, "member") for other in others)]
    return NewConversation("room", "a room", "private", "joined", None, None, owner.id, members)


async def make(database: Database, *plans: NewConversation) -> list[str]:
    return [made.conversation for made in await Conversations(database).create(list(plans), clock.now())]


def invitation(conversation: str, by: Actor, invited: Actor) -> Draft:
    data = MemberJoined(user=invited.id, username=invited.name, role="member")
    return Draft(conversation, by, data, None, None, Permission.INVITE, account_role="member")


async def test_blocking_twice_and_unblocking_nobody_change_nothing(database: Database) -> None:
    ana, ben = await person(database, "ana"), await person(database, "ben")
    blocks = Blocks(database)
    for _ in range(2):
        assert await blocks.put(ana.id, ben.id, clock.now()) is None
    assert [user.id for user in await blocks.of(ana.id)] == [ben.id]
    assert list(await blocks.of(ben.id)) == []
    for _ in range(2):
        assert await blocks.drop(ana.id, ben.id) is None
    assert list(await blocks.of(ana.id)) == []
    with pytest.raises(NotFound):
        await blocks.put(ana.id, new_id(), clock.now())


async def test_no_new_chat_behind_a_block_and_the_old_one_stays_open(database: Database) -> None:
    ana, ben, eve = [await person(database, name) for name in ("ana", "ben", "eve")]
    (old,) = await make(database, private(ana, eve))
    blocks = Blocks(database)
    await blocks.put(ana.id, ben.id, clock.now())
    await blocks.put(ana.id, eve.id, clock.now())
    for one, other in ((ana, ben), (ben, ana)):
        with pytest.raises(Forbidden) as refused:
            await make(database, private(one, other))
        assert ("block" in str(refused.value)) == (one is ana)
    assert await make(database, private(eve, ana)) == await make(database, private(ana, eve)) == [old]


async def test_nobody_brings_those_who_block_them_into_a_room(database: Database) -> None:
    ana, ben = await person(database, "ana"), await person(database, "ben")
    hers, his = await make(database, room(ana), room(ben))
    await Blocks(database).put(ana.id, ben.id, clock.now())
    with pytest.raises(Forbidden):
        await make(database, room(ben, ana))
    log = MessageLog(database, judge, sending_roles=SENDERS)
    refused, welcome = await log.append([invitation(his, ben, ana), invitation(hers, ana, ben)])
    assert isinstance(refused, Forbidden)
    assert isinstance(welcome, Stored)
    joined = MemberJoined(user=ana.id, username="ana", role="member")
    assert isinstance((await log.append([Draft(his, ana, joined)]))[0], Stored)  # she comes by herself where she may


async def test_a_block_and_a_new_chat_in_the_same_moment(database: Database) -> None:
    """Either there is no chat, or there is one in which nobody may send."""
    log = MessageLog(database, judge, sending_roles=SENDERS)
    for n in range(15):
        ana, ben = await person(database, f"ana-{n}"), await person(database, f"ben-{n}")
        opened, chat = await asyncio.gather(
            make(database, private(ben, ana)), Blocks(database).put(ana.id, ben.id, clock.now()), return_exceptions=True
        )
        if isinstance(opened, Forbidden):
            assert chat is None
            continue
        assert [chat] == opened
        data = MessageCreated(id=new_id(), client_id="m", text="hello")
        draft = Draft(str(chat), ben, data, "m", b"m", Permission.SEND, account_role="member")
        assert isinstance((await log.append([draft]))[0], Forbidden)


async def test_a_block_waits_for_a_chat_that_is_being_opened(database: Database) -> None:
    ana, ben = await person(database, "ana"), await person(database, "ben")
    async with database.transaction() as opening:
        [made] = await make_all(opening, [private(ben, ana)], clock.now())
        blocking = asyncio.create_task(Blocks(database).put(ana.id, ben.id, clock.now()))
        await until_waiting(database)
    assert await blocking == made.conversation


async def test_an_invitation_waits_for_a_block_that_is_being_made(database: Database) -> None:
    ana, ben = await person(database, "ana"), await person(database, "ben")
    (his,) = await make(database, room(ben))
    log = MessageLog(database, judge, sending_roles=SENDERS)
    async with database.transaction() as blocking:
        await blocking.execute("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE", ana.id)
        await blocking.execute("INSERT INTO blocks VALUES ($1, $2, now())", ana.id, ben.id)
        inviting = asyncio.create_task(log.append([invitation(his, ben, ana)], wait=True))
        await until_waiting(database)
    assert isinstance((await inviting)[0], Forbidden)


async def test_many_chats_opened_at_once_from_all_sides_in_all_orders(database: Database) -> None:
    """Requests never deadlock, and there is one chat of each pair."""
    people = [await person(database, name) for name in "abcdefgh"]
    requests = []
    for one in people:
        plans = [private(one, other) for other in people if other is not one]
        requests += [plans, plans[::-1]]
    made = await asyncio.gather(*(make(database, *plans) for plans in requests))
    assert len({chat for chats in made for chat in chats}) == 8 * 7 // 2


async def test_a_chat_is_opened_with_people_who_can_be_there(database: Database) -> None:
    ana, ben, ghost = [await person(database, name) for name in ("ana", "ben", "ghost")]
    (chat,) = await make(database, private(ana, ben))
    await database.execute("UPDATE users SET disabled_at = now() WHERE id = $1", ben.id)
    await database.execute("UPDATE users SET origin = 'import' WHERE id = $1", ghost.id)
    assert await make(database, private(ana, ben)) == [chat]  # what was said with them can be read
    eve = await person(database, "eve")
    for other in (ben, ghost):
        with pytest.raises(NotFound):
            await make(database, private(eve, other))


async def test_older_workers_are_refused_too(database: Database) -> None:
    """They call the function of the version before, which tells them no reason."""
    ana, ben = await person(database, "ana"), await person(database, "ben")
    chat, shared = await make(database, private(ana, ben), room(ana, ben))

    async def send(conversation: str, client_id: str) -> object:
        data = MessageCreated(id=new_id(), client_id=client_id, text="x")
        rows = await database.log_fetch(
            "SELECT * FROM append_messages($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            [conversation], [ben.id], [client_id], [b"x"], [encode(data).decode()], [data.id], ["x"], [None], [False],
            [clock.now()], SENDERS, True,
        )  # fmt: skip
        assert list(rows[0].keys()) == [
            "n", "head_kind", "head_visibility", "role", "first_n", "new_seq", "old_seq", "old_hash", "old_kind",
            "old_at", "old_data",
        ]  # fmt: skip
        return rows[0]["new_seq"]

    assert [await send(chat, "1"), await send(shared, "1")] == [1, 1]
    await Blocks(database).put(ana.id, ben.id, clock.now())
    assert [await send(chat, "2"), await send(shared, "2")] == [None, 2]


async def until_waiting(database: Database) -> None:
    """Until somebody waits for a lock."""
    async with asyncio.timeout(10):
        while not await database.fetch_value(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ):
            await asyncio.sleep(0.01)

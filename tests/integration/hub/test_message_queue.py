"""The queue on a real log: batches, order, side lanes, and drafts that break."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from server.bus.memory_bus import MemoryBus
from server.gateway.websocket_protocol import prepare_frame
from server.hub.hub import Hub
from server.hub.message_queue import MessageQueue
from server.hub.permissions import ROLES_ALLOWED, Permission
from server.protocol.errors import ChatError, Internal, NotFound
from server.storage.database import Database
from server.storage.log_reader import LogReader
from server.storage.message_log import Draft, MessageLog, Outcome, Stored
from tests.integration.storage.test_message_log import judge, message, person, room


class WatchedLog(MessageLog):
    """Remembers the size of each batch."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, judge, sending_roles=sorted(ROLES_ALLOWED[Permission.SEND]))
        self.batches: list[int] = []

    async def append(self, drafts: Sequence[Draft], *, wait: bool = False) -> list[Outcome]:
        self.batches.append(len(drafts))
        return await super().append(drafts, wait=wait)


@pytest.fixture
def log(database: Database) -> WatchedLog:
    return WatchedLog(database)


@pytest.fixture
async def queue(database: Database, log: WatchedLog) -> AsyncIterator[MessageQueue]:
    made = MessageQueue(log, Hub(MemoryBus(), LogReader(database), prepare_frame))
    await made.open()
    yield made
    await made.close()


async def settled(queue: MessageQueue, drafts: list[Draft]) -> list[Stored | ChatError]:
    """Put all at once; their outcomes, in the order of the drafts."""
    futures = []
    for draft in drafts:
        future: asyncio.Future[Stored | ChatError] = asyncio.get_running_loop().create_future()
        queue.put(draft, future.set_result)
        futures.append(future)
    return list(await asyncio.gather(*futures))


async def test_what_gathers_while_a_commit_is_under_way_shares_the_next(
    database: Database, queue: MessageQueue, log: WatchedLog
) -> None:
    ana = await person(database, "ana")
    conversation = await room(database, ana)
    first = asyncio.create_task(queue.append(message(conversation, ana, "first")))
    await asyncio.sleep(0)
    outcomes = await settled(queue, [message(conversation, ana, f"{n}") for n in range(50)])
    assert isinstance(await first, Stored)
    assert [outcome.seq for outcome in outcomes if isinstance(outcome, Stored)] == list(range(2, 52))
    assert len(log.batches) <= 3


async def test_a_draft_that_breaks_the_statement_fails_alone(database: Database, queue: MessageQueue) -> None:
    ana = await person(database, "ana")
    conversation = await room(database, ana)
    drafts = [message(conversation, ana, text) for text in ("one", "no database takes this \0", "two")]
    one, broken, two = await settled(queue, drafts)
    assert isinstance(one, Stored)
    assert isinstance(broken, Internal)
    assert isinstance(two, Stored)
    assert (one.seq, two.seq) == (1, 2)


async def test_a_held_room_stops_nobody_else_and_keeps_its_order(database: Database, queue: MessageQueue) -> None:
    ana = await person(database, "ana")
    held, free = await room(database, ana), await room(database, ana)
    async with database.transaction() as connection:
        await connection.execute("SELECT 1 FROM heads WHERE conversation = $1 FOR UPDATE", held)
        waiting = [asyncio.create_task(queue.append(message(held, ana, f"{n}"))) for n in range(3)]
        await asyncio.sleep(0.05)
        assert isinstance(await queue.append(message(free, ana, "go")), Stored)
        waiting += [asyncio.create_task(queue.append(message(held, ana, f"{n}"))) for n in range(3, 6)]
        assert isinstance(await queue.append(message(free, ana, "on")), Stored)
        assert not any(task.done() for task in waiting)
    stored = await asyncio.gather(*waiting)
    assert [entry.seq for entry in stored] == [1, 2, 3, 4, 5, 6]
    events = await LogReader(database).since(held, 0, 10)
    assert [entry.data.split('"text":"')[1][0] for entry, _ in events] == ["0", "1", "2", "3", "4", "5"]


async def test_after_a_hold_the_room_is_back_in_the_main_lane(database: Database, queue: MessageQueue) -> None:
    ana = await person(database, "ana")
    held = await room(database, ana)
    async with database.transaction() as connection:
        await connection.execute("SELECT 1 FROM heads WHERE conversation = $1 FOR UPDATE", held)
        waiting = asyncio.create_task(queue.append(message(held, ana, "wait")))
        async with asyncio.timeout(1.5):
            while not queue._diverted:
                await asyncio.sleep(0.01)
    await waiting
    assert not queue._diverted
    assert (await queue.append(message(held, ana, "next"))).seq == 2


async def test_nonsense_as_a_conversation_is_not_found(database: Database, queue: MessageQueue) -> None:
    ana = await person(database, "ana")
    with pytest.raises(NotFound):
        await queue.append(message("nonsense", ana, "hello"))


async def test_closing_settles_what_was_accepted(database: Database, log: WatchedLog) -> None:
    ana = await person(database, "ana")
    conversation = await room(database, ana)
    queue = MessageQueue(log, Hub(MemoryBus(), LogReader(database), prepare_frame))
    await queue.open()
    answers = asyncio.gather(*(queue.append(message(conversation, ana, f"{n}")) for n in range(20)))
    await asyncio.sleep(0)
    await queue.close()
    assert len(await answers) == 20

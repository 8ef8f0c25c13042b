"""What every bus promises, whichever it is."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from server.bus.bus import Bus, EventNotice, EventsNotice, GrantsEnded, HeadMoved, Notice, PassingNotice, UserNotice
from server.bus.memory_bus import MemoryBus
from server.bus.redis_bus import RedisBus
from server.protocol.ids import new_id
from tests.redis_server import RedisServer
from tests.waiting import until

MakeBus = Callable[[], Bus]


@pytest.fixture(params=["memory", "redis"])
def make_bus(request: pytest.FixtureRequest) -> MakeBus:
    if request.param == "memory":
        return MemoryBus
    server: RedisServer = request.getfixturevalue("shared_redis")
    return lambda: RedisBus(server.url, namespace=new_id())


@pytest.fixture
async def bus(make_bus: MakeBus) -> AsyncIterator[Bus]:
    bus = make_bus()
    await bus.open()
    yield bus
    await bus.close()


def events(*numbers: int, conversation: str = "c") -> EventsNotice:
    return EventsNotice(conversation, [EventNotice(seq, "message.created", b"{}") for seq in numbers])


async def test_notices_reach_the_listener_of_their_topic_at_once_and_in_order(bus: Bus) -> None:
    heard: list[Notice] = []
    await bus.listen(["c"], heard.append)
    said: list[Notice] = [
        events(1),
        PassingNotice("c", b"{}", True),
        UserNotice("u", "removed", "c", "left"),
        events(2, 3),
    ]
    for notice in said:
        bus.publish("c", notice)
    assert heard == said
    bus.publish("another", events(4))
    assert heard == said


async def test_no_notice_is_heard_twice(bus: Bus) -> None:
    heard: list[Notice] = []
    await bus.listen(["c", "end"], heard.append)
    bus.publish("c", events(1))
    await asyncio.sleep(0.2)  # an echo would be here by now
    bus.publish("end", events(2))
    assert heard == [events(1), events(2)]


async def test_a_second_listener_replaces_the_first(bus: Bus) -> None:
    first: list[Notice] = []
    second: list[Notice] = []
    await bus.listen(["c"], first.append)
    await bus.listen(["c"], second.append)
    bus.publish("c", events(1))
    assert (first, second) == ([], [events(1)])


async def test_who_listens_no_more_hears_nothing(bus: Bus) -> None:
    heard: list[Notice] = []
    await bus.listen(["c", "d"], heard.append)
    await bus.unlisten(["c", "never listened to"])
    bus.publish("c", events(1))
    bus.publish("d", events(2))
    assert heard == [events(2)]


async def test_a_topic_that_was_left_can_be_listened_to_again_at_once(bus: Bus) -> None:
    heard: list[Notice] = []
    await bus.listen(["c"], heard.append)
    await asyncio.gather(bus.unlisten(["c"]), bus.listen(["c"], heard.append))
    bus.publish("c", events(1))
    assert heard == [events(1)]


async def test_many_topics_are_listened_to_in_one_call(bus: Bus) -> None:
    heard: list[Notice] = []
    topics = [f"topic {number}" for number in range(1200)]
    await bus.listen(topics, heard.append)
    for seq, topic in enumerate(topics):
        bus.publish(topic, events(seq))
    assert heard == [events(seq) for seq in range(1200)]


async def test_listening_to_nothing_is_allowed(bus: Bus) -> None:
    await bus.listen([], lambda _: None)
    await bus.unlisten([])


async def test_a_broken_listener_harms_neither_the_publisher_nor_other_topics(bus: Bus) -> None:
    heard: list[Notice] = []

    def break_down(_: Notice) -> None:
        raise RuntimeError("this listener is broken on purpose")

    await bus.listen(["broken"], break_down)
    await bus.listen(["whole"], heard.append)
    bus.publish("broken", events(1))
    bus.publish("whole", events(2))
    assert heard == [events(2)]


async def test_a_listener_may_publish_and_change_who_listens(bus: Bus) -> None:
    heard: list[Notice] = []
    leaving: list[asyncio.Task[None]] = []

    def answer(notice: Notice) -> None:
        leaving.append(asyncio.ensure_future(bus.unlisten(["question"])))
        bus.publish("answer", notice)

    await bus.listen(["question"], answer)
    await bus.listen(["answer"], heard.append)
    bus.publish("question", events(1))
    await leaving[0]
    bus.publish("question", events(2))
    assert heard == [events(1)]


async def test_what_is_large_reaches_the_own_node_whole(bus: Bus) -> None:
    heard: list[Notice] = []
    await bus.listen(["c"], heard.append)
    large = EventsNotice("c", [EventNotice(1, "message.created", b"x" * 100_000)])
    bus.publish("c", large)
    assert heard == [large]


async def test_an_open_bus_is_healthy(bus: Bus) -> None:
    async def is_healthy() -> bool:
        return bus.is_healthy()

    await until(is_healthy)


async def test_publishing_where_nobody_listens_and_after_the_end_raises_nothing(bus: Bus) -> None:
    bus.publish("nobody", HeadMoved("c", 7))
    await bus.close()
    bus.publish("nobody", GrantsEnded(["g"], 4500))
    await bus.close()

"""Presence where a studio has two nodes: two servers on one database, with a real Redis between them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from server.bus.bus import PRESENCE_TOPIC, Notice, PresenceChanged
from server.hub import presence
from server.storage.database import Database
from tests.redis_server import RedisServer
from tests.running_studio import Frame, Person, RunningStudio, Socket, run_studio
from tests.waiting import until

GRACE_S = 0.4
RELOAD_S = 3.0  # a busy machine takes long to come back
LEASE_S = 1.2


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "TELL_EVERY_S", 0.05)
    monkeypatch.setattr(presence, "RENEW_EVERY_S", 0.2)
    monkeypatch.setattr(presence, "GRACE_S", GRACE_S)
    monkeypatch.setattr(presence, "LEASE_S", LEASE_S)
    monkeypatch.setattr(presence, "MAX_LAG_S", 60.0)  # a slow machine is no reason to tell nothing here


@pytest.fixture
async def nodes(database: Database, redis_server: RedisServer) -> AsyncIterator[tuple[RunningStudio, RunningStudio]]:
    async with (
        run_studio(database, redis_url=redis_server.url) as first,
        run_studio(database, redis_url=redis_server.url) as second,
    ):
        yield first, second


@asynccontextmanager
async def at(node: RunningStudio, person: Person, *rooms: str) -> AsyncIterator[Socket]:
    """A socket of this person at that node."""
    port, person.port = person.port, node.port
    try:
        async with person.socket("/ws", *rooms) as socket:
            person.port = port
            yield socket
    finally:
        person.port = port


def states(socket: Socket, person: Person) -> list[str]:
    return [f["state"] for f in socket.seen if f["type"] == "presence" and f.get("user") == person.id]


def is_presence(person: Person, state: str) -> Callable[[Frame], bool]:
    return lambda f: f["type"] == "presence" and f.get("user") == person.id and f["state"] == state


def shows(node: RunningStudio, room: str, *people: Person) -> Callable[[], Awaitable[bool]]:
    """Whether exactly these are present, as that node knows it."""

    async def is_shown() -> bool:
        return set(node.parts.studio.presence.here(room)) == {person.id for person in people}

    return is_shown


async def test_who_comes_and_goes_at_another_node_is_told_once(
    nodes: tuple[RunningStudio, RunningStudio], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "GRACE_S", RELOAD_S)
    first, second = nodes
    ana, ben = await first.person("ana"), await first.person("ben")
    room = await ana.room(members=[ben.id])
    async with at(first, ana, room) as hers, at(second, ana, room) as also_hers:
        async with at(second, ben, room):
            for socket in (hers, also_hers):
                await socket.wait_for(is_presence(ben, "online"))
            members = await ana.call("GET", f"/api/conversations/{room}/members", expect=200)
            assert {m["user"]["username"]: m["presence"] for m in members["members"]} == {
                "ana": "online", "ben": "online",
            }  # fmt: skip
        async with at(first, ben, room):  # a reload, and the proxy has chosen the other node
            await asyncio.sleep(RELOAD_S * 1.5)
            for socket in (hers, also_hers):
                await socket.settle()
                assert states(socket, ben) == ["online"]
        for socket in (hers, also_hers):
            await socket.wait_for(is_presence(ben, "offline"))
            await socket.settle()
            assert states(socket, ben) == ["online", "offline"]
        assert states(hers, ana) == states(also_hers, ana) == ["online"]


async def test_somebody_at_another_node_is_online_in_a_chat_they_have_not_seen(
    nodes: tuple[RunningStudio, RunningStudio],
) -> None:
    first, second = nodes
    ana, ben = await first.person("ana"), await first.person("ben")
    room = await ben.room()
    async with at(second, ben, room):
        await until(shows(first, room, ben))
        chat = await ana.call("POST", "/api/conversations", {"kind": "private", "members": [ben.id]}, expect=201)
        members = await ana.call("GET", f"/api/conversations/{chat['id']}/members", expect=200)
        assert {m["user"]["username"]: m["presence"] for m in members["members"]} == {"ana": "offline", "ben": "online"}


async def test_a_node_that_begins_later_learns_who_is_here(database: Database, redis_server: RedisServer) -> None:
    async with run_studio(database, redis_url=redis_server.url) as first:
        ana, ben = await first.person("ana"), await first.person("ben")
        room = await ana.room(members=[ben.id])
        async with at(first, ana, room):
            await until(shows(first, room, ana))
            async with run_studio(database, redis_url=redis_server.url) as second:
                await until(shows(second, room, ana))
                async with at(second, ben, room):
                    await until(shows(first, room, ana, ben))


async def test_what_a_dead_node_said_ends_with_its_lease(nodes: tuple[RunningStudio, RunningStudio]) -> None:
    first, second = nodes
    ana, ben = await first.person("ana"), await first.person("ben")
    room = await ana.room(members=[ben.id])
    async with at(first, ana, room) as hers, at(second, ben, room):
        await hers.wait_for(is_presence(ben, "online"))
        await asyncio.sleep(LEASE_S * 2)  # it lives, so its lease does
        assert states(hers, ben) == ["online"]
        await second.parts.bus.close()  # from now on it says nothing any more, as one that was killed
        await hers.wait_for(is_presence(ben, "offline"))
        assert await shows(first, room, ana)()


async def test_nobody_goes_because_redis_does_and_what_was_missed_is_made_good(
    nodes: tuple[RunningStudio, RunningStudio], redis_server: RedisServer
) -> None:
    first, second = nodes
    ana, ben, cat, dan = [await first.person(name) for name in ("ana", "ben", "cat", "dan")]
    room = await ana.room(members=[ben.id, cat.id, dan.id])
    async with at(first, ana, room) as hers:
        async with at(second, ben, room):
            async with at(second, dan, room):
                await hers.wait_for(is_presence(ben, "online"))
                await until(shows(first, room, ana, ben, dan))
                await redis_server.kill()
            async with at(second, cat, room):
                await asyncio.sleep(LEASE_S * 2)
                assert await shows(first, room, ana, ben, dan)()
                await redis_server.start()
                await hers.wait_for(is_presence(cat, "online"), timeout_s=30.0)
                await until(shows(first, room, ana, ben, cat))
                assert states(hers, ben) == ["online"]
        await hers.wait_for(is_presence(ben, "offline"))


async def test_a_coming_or_going_that_was_not_heard_is_made_good(nodes: tuple[RunningStudio, RunningStudio]) -> None:
    first, second = nodes
    ana, ben, cat = [await first.person(name) for name in ("ana", "ben", "cat")]
    room = await ana.room(members=[ben.id, cat.id])
    listener, lost = first.parts.studio.presence._on_notice, list[Notice]()

    def lose_what_moved(notice: Notice) -> None:
        if isinstance(notice, PresenceChanged) and (notice.came or notice.went):
            lost.append(notice)
        else:
            listener(notice)

    async with at(first, ana, room) as hers, at(second, cat, room):
        await until(shows(first, room, ana, cat))
        await first.parts.bus.listen([PRESENCE_TOPIC], lose_what_moved)
        async with at(second, ben, room):
            await hers.wait_for(is_presence(ben, "online"))
            came = len(lost)  # one report, or two where the second node gathered twice
            assert came
        await hers.wait_for(is_presence(ben, "offline"))
        assert len(lost) > came
        assert await shows(first, room, ana, cat)()
        assert states(hers, cat) == ["online"]


async def test_a_crowd_is_counted_and_named_again_when_it_shrinks(
    nodes: tuple[RunningStudio, RunningStudio], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "MAX_TOLD", 2)
    monkeypatch.setattr(presence, "SINGLY_AGAIN", 1)
    first, second = nodes
    ana, ben, cat = [await first.person(name) for name in ("ana", "ben", "cat")]
    room = await ana.room(members=[ben.id, cat.id])
    async with at(first, ana, room) as hers:
        await hers.wait_for(is_presence(ana, "online"))
        async with at(second, ben, room):
            await hers.wait_for(is_presence(ben, "online"))
            async with at(second, cat, room):
                count = await hers.wait_for(lambda f: f["type"] == "presence" and "count" in f)
                assert count == {"type": "presence", "conversation": room, "count": 3}
            await hers.wait_for(lambda f: f.get("count") == 2)
        await hers.wait_for(is_presence(ben, "offline"))
        assert states(hers, cat) == []


async def test_while_a_node_has_too_much_to_do_presence_waits_and_messages_do_not(
    nodes: tuple[RunningStudio, RunningStudio], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = nodes
    ana, ben, cat = [await first.person(name) for name in ("ana", "ben", "cat")]
    room = await ana.room(members=[ben.id, cat.id])
    async with at(first, ana, room) as hers:
        await hers.wait_for(is_presence(ana, "online"))
        monkeypatch.setattr(presence, "MAX_LAG_S", -1.0)
        async with at(second, cat, room) as theirs:
            async with at(second, ben, room):
                await asyncio.sleep(GRACE_S)
            await asyncio.sleep(GRACE_S * 2)
            await theirs.say(room, "anybody here?")
            await hers.event("message.created")
            await hers.settle()
            assert states(hers, ben) == states(hers, cat) == []
            metrics = await first.person("dan")
            assert "chat_presence_shed 1.0" in (await metrics.http.get("/metrics")).text
            monkeypatch.setattr(presence, "MAX_LAG_S", 60.0)
            await hers.wait_for(is_presence(cat, "online"))
            assert states(hers, ben) == []  # came and went meanwhile: told in sum, which is nothing


async def test_presence_can_be_switched_off(database: Database, redis_server: RedisServer) -> None:
    async with run_studio(database, redis_url=redis_server.url, presence="off") as studio:
        ana, ben = await studio.person("ana"), await studio.person("ben")
        room = await ana.room(members=[ben.id])
        async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his:
            await asyncio.sleep(0.3)
            await his.say(room, "hello")
            await hers.event("message.created")
            assert [f for f in hers.seen if f["type"] == "presence"] == []
        members = await ana.call("GET", f"/api/conversations/{room}/members", expect=200)
        assert {m["presence"] for m in members["members"]} == {"offline"}

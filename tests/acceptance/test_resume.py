"""Coming back: everything missed, in order, in few steps; or the plain word `reset`."""

import asyncio

import asyncpg
import pytest

from server.hub import feeds
from server.hub.permissions import ROLES_ALLOWED, Permission
from server.protocol.events import MemberLeft, MessageCreated
from server.protocol.frames import Actor
from server.protocol.ids import new_id
from server.storage.message_log import Draft, MessageLog
from tests.running_studio import Person, RunningStudio


def log_of(studio: RunningStudio) -> MessageLog:
    """Another program that writes to the log and announces nothing."""
    return MessageLog(studio.parts.database, lambda *_: None, sending_roles=sorted(ROLES_ALLOWED[Permission.SEND]))


async def write(studio: RunningStudio, room: str, person: Person, texts: list[str]) -> None:
    log, actor = log_of(studio), Actor("user", person.id, person.name)
    drafts = [Draft(room, actor, MessageCreated(id=new_id(), client_id=None, text=text)) for text in texts]
    for start in range(0, len(drafts), 500):
        await log.append(drafts[start : start + 500])


async def test_many_conversations_are_resumed_with_a_handful_of_queries(
    studio: RunningStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = await studio.person("ana")
    rooms = [await ana.room(f"room {n}") for n in range(20)]
    for room in rooms:
        await write(studio, room, ana, [f"{n}" for n in range(50)])
    async with ana.socket() as socket:
        queries: list[str] = []
        fetch = studio.parts.database.fetch

        async def counting(sql: str, *arguments: object) -> list[asyncpg.Record]:
            queries.append(sql)
            return await fetch(sql, *arguments)

        monkeypatch.setattr(studio.parts.database, "fetch", counting)
        answer = await socket.subscribe({room: {"seq": 0} for room in rooms})
        assert not any(one["reset"] for one in answer["conversations"].values())
        for room in rooms:
            await socket.event("message.created", conversation=room, seq=50)
            assert [event["seq"] for event in socket.events(room)] == list(range(1, 51))
        assert len(queries) <= 6, queries


async def test_a_hole_too_long_to_send_is_a_reset_for_who_is_there(studio: RunningStudio) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his:
        head = (await ana.call("GET", f"/api/conversations/{room}"))["head"]
        await write(studio, room, ana, [f"{n}" for n in range(600)])
        # A kick that this node was never told of.
        await log_of(studio).append_all([_kick(room, ana, ben)])
        await write(studio, room, ana, [f"{n}" for n in range(600)])
        reset = await hers.wait_for(lambda frame: frame["type"] == "reset")
        assert reset["conversation"] == room
        assert reset["head"] == head + 1201
        ack = await hers.say(room, "after the reset")
        await hers.event("message.created", seq=ack["seq"])
        await his.settle()
        assert not any(event["seq"] > head for event in his.events(room))


def _kick(room: str, ana: Person, ben: Person) -> Draft:
    return Draft(room, Actor("user", ana.id, ana.name), MemberLeft(user=ben.id, by=ana.id))


async def test_another_log_under_the_same_name_sends_everybody_back(studio: RunningStudio) -> None:
    ana = await studio.person("ana")
    room = await ana.room()
    async with ana.socket() as socket:
        answer = await socket.subscribe({room: None})
        known = answer["conversations"][room]
        await studio.parts.database.execute("UPDATE heads SET epoch = 'another' WHERE conversation = $1", room)
        assert await socket.closed() == 4014
    async with ana.socket() as socket:
        answer = await socket.subscribe({room: {"seq": known["head"], "epoch": known["epoch"]}})
        assert answer["conversations"][room]["reset"] is True
        assert answer["conversations"][room]["epoch"] == "another"


async def test_a_feed_outlives_a_reconnect_and_no_longer(
    studio: RunningStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "LINGER_S", 0.2)
    ana = await studio.person("ana")
    room = await ana.room()
    async with ana.socket("/ws", room):
        feed = studio.parts.hub.feed(room)
    async with ana.socket("/ws", room):
        assert studio.parts.hub.feed(room) is feed
    async with asyncio.timeout(5):
        while studio.parts.hub.feed_count:
            await asyncio.sleep(0.02)

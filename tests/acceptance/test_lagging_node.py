"""A node that has not heard yet what another one has told: nobody gets more, less or anything twice because of it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from server.bus.bus import UserNotice
from server.gateway import heartbeat
from server.hub import feeds
from server.storage.database import Database
from tests.running_studio import Person, RunningStudio, run_studio


@pytest.fixture
async def deaf(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningStudio]:
    """A second node on the database of `studio` that hears nothing of it, and does not look either."""
    monkeypatch.setattr(feeds, "COMPARE_EVERY_S", 3600.0)
    async with run_studio(database) as running:
        yield running


def at(node: RunningStudio, person: Person) -> Person:
    """The same person, at another node."""
    there = Person(node.port, person.id, person.name)
    there.token = person.token
    there.http.headers["authorization"] = f"Bearer {person.token}"
    return there


async def test_a_cursor_from_a_node_that_knew_more_is_no_reason_for_a_reset(
    deaf: RunningStudio, studio: RunningStudio
) -> None:
    ana = await studio.person("ana")
    room = await ana.room()
    async with at(deaf, ana) as elsewhere, elsewhere.socket("/ws", room) as old, ana.socket("/ws", room) as socket:
        for number in range(5):
            await socket.say(room, f"{number}")
        seen = await socket.event("message.created", seq=5)
        epoch = next(c["epoch"] for c in socket.welcome["conversations"] if c["id"] == room)
        async with elsewhere.socket() as resumed:
            answer = await resumed.subscribe({room: {"seq": seen["seq"], "epoch": epoch}})
            assert answer["conversations"][room] | {"read": 0} == {
                "head": 5, "epoch": epoch, "first": 1, "reset": False, "read": 0,
            }  # fmt: skip
            await resumed.say(room, "after")
            await resumed.event("message.created", seq=6)
            await resumed.settle()
            assert [event["seq"] for event in resumed.events(room)] == [6]
        # The repair that the newcomer asked for served who was there before, too.
        await old.event("message.created", seq=6)
        assert [event["seq"] for event in old.events(room)] == [1, 2, 3, 4, 5, 6]


async def test_an_impossible_cursor_is_a_reset(deaf: RunningStudio, studio: RunningStudio) -> None:
    ana = await studio.person("ana")
    room = await ana.room()
    async with at(deaf, ana) as elsewhere, elsewhere.socket("/ws", room), ana.socket("/ws", room) as socket:
        await socket.say(room, "one")
        epoch = next(c["epoch"] for c in socket.welcome["conversations"] if c["id"] == room)
        async with elsewhere.socket() as resumed:
            answer = await resumed.subscribe({room: {"seq": 99, "epoch": epoch}})
            assert answer["conversations"][room]["reset"] is True


@pytest.mark.parametrize("is_cursor_given", [True, False])
async def test_who_comes_later_sees_nothing_from_before_at_a_node_that_lags(
    deaf: RunningStudio, studio: RunningStudio, is_cursor_given: bool
) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room()
    async with at(deaf, ana) as elsewhere, elsewhere.socket("/ws", room), ana.socket("/ws", room) as socket:
        for number in range(5):
            await socket.say(room, f"secret {number}")
        await ana.call("PUT", f"/api/conversations/{room}/members/{ben.id}", {"role": "member"}, expect=201)
        async with at(deaf, ben) as guest, guest.socket() as his:
            await his.subscribe({room: {"seq": 0} if is_cursor_given else None})
            await his.say(room, "hello")
            await his.event("message.created", seq=7)
            await his.settle()
            assert min(event["seq"] for event in his.events(room)) >= 6
            assert not any("secret" in str(event) for event in his.events(room))


async def test_a_kick_that_is_long_over_costs_nobody_the_room(deaf: RunningStudio, studio: RunningStudio) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room(members=[ben.id])
    async with at(deaf, ana) as elsewhere, elsewhere.socket("/ws", room), ana.socket("/ws", room) as socket:
        await ana.call("DELETE", f"/api/conversations/{room}/members/{ben.id}", expect=204)
        await ana.call("PUT", f"/api/conversations/{room}/members/{ben.id}", {"role": "member"}, expect=201)
        async with at(deaf, ben) as again, again.socket() as his:
            await his.subscribe({room: None})  # at a node that has heard neither of the kick nor of the return
            ack = await his.say(room, "here again")
            await his.event("message.created", seq=ack["seq"])
            last = await socket.say(room, "welcome back")
            await deaf.parts.hub._feeds.compare()
            await his.event("message.created", seq=last["seq"])


async def test_an_invitation_whose_notice_is_lost_is_told_by_the_heartbeat(
    deaf: RunningStudio, studio: RunningStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    await deaf.parts.heartbeat.stop()
    monkeypatch.setattr(heartbeat, "HEARTBEAT_S", 0.5)
    deaf.parts.heartbeat.start()
    async with at(deaf, ben) as elsewhere, elsewhere.socket() as his:
        room = await ana.room("invited", members=[ben.id])
        async with ana.socket("/ws", room) as hers:
            await hers.say(room, "are you there?")
        added = await his.wait_for(lambda frame: frame["type"] == "conversation.added")
        assert added["conversation"]["id"] == room
        async with ana.socket(f"/ws/private/{ben.id}") as private:
            chat = (await private.ask("send", text="and here?"))["conversation"]
        added = await his.wait_for(lambda f: f["type"] == "conversation.added" and f["conversation"]["id"] == chat)
        assert added["conversation"]["kind"] == "private"


async def test_a_late_word_of_a_kick_takes_nothing_from_who_is_a_member_again(studio: RunningStudio) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his:
        studio.parts.hub._on_notice(UserNotice(ben.id, "removed", room, "kicked"))
        await hers.say(room, "still here?")
        await his.event("message.created")
        await his.settle()
        assert not any(frame["type"] == "conversation.removed" for frame in his.seen)


async def test_a_block_whose_notice_is_lost_is_learnt_when_notices_may_have_been_lost(
    deaf: RunningStudio, studio: RunningStudio
) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    async with ana.socket(f"/ws/private/{ben.id}") as hers:
        chat = (await hers.ask("send", text="hello"))["conversation"]
    async with at(deaf, ana) as elsewhere, elsewhere.socket("/ws", chat):
        feed = deaf.parts.hub.feed(chat)
        assert feed is not None
        assert not feed.is_hushed
        await ben.call("PUT", f"/api/users/{ana.id}/block", expect=204)
        deaf.parts.bus.on_gap()
        async with asyncio.timeout(10):
            while not feed.is_hushed:
                await asyncio.sleep(0.02)


async def test_a_kick_whose_notice_is_lost_is_told_by_the_log_and_once(
    deaf: RunningStudio, studio: RunningStudio
) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room(members=[ben.id])
    async with at(deaf, ben) as elsewhere, elsewhere.socket("/ws", room) as his:
        for _ in range(2):
            await ana.call("DELETE", f"/api/conversations/{room}/members/{ben.id}", expect=204)
            await deaf.parts.hub._feeds.compare()
            removed = await his.wait_for(lambda frame: frame["type"] == "conversation.removed")
            assert (removed["conversation"], removed["code"]) == (room, "kicked")
            deaf.parts.hub._on_notice(UserNotice(ben.id, "removed", room, "kicked"))
            await his.settle()
            assert [frame["type"] for frame in his.seen].count("conversation.removed") == 1
            his.seen.clear()
            await ana.call("PUT", f"/api/conversations/{room}/members/{ben.id}", {"role": "member"}, expect=201)
            deaf.parts.hub.tell_added(ben.id, room)
            await his.wait_for(lambda frame: frame["type"] == "conversation.added")
            await his.subscribe({room: None})
            his.seen.clear()

"""Between history and live nothing is lost, doubled or out of order, whatever else happens meanwhile."""

import asyncio

import pytest

from server.ai.scripted import ScriptedModel
from server.hub import feeds
from server.protocol.events import MessageCreated
from server.protocol.frames import Actor
from server.protocol.ids import new_id
from server.storage.database import Database
from server.storage.message_log import Draft
from tests.running_studio import Person, RunningStudio, run_studio


async def fill(studio: RunningStudio, room: str, writer: Person, count: int, text: str = "x") -> None:
    """Messages that no ring of this node knows: they were committed before anybody followed the room."""
    drafts = [
        Draft(room, Actor("user", writer.id, writer.name), MessageCreated(id=new_id(), client_id=None, text=text))
        for _ in range(count)
    ]
    await studio.parts.queue.append_all(drafts)


async def test_subscribing_again_while_catching_up_starts_again_and_only_once(studio: RunningStudio) -> None:
    ana = await studio.person("ana")
    room = await ana.room()
    await fill(studio, room, ana, 900)
    async with ana.socket() as socket:
        first = await socket.send("subscribe", conversations={room: {"seq": 0}})
        second = await socket.send("subscribe", conversations={room: {"seq": 0}})
        await socket.wait_for(lambda frame: frame.get("id") == second and frame["type"] == "subscribed")
        ack = await socket.say(room, "live")
        await socket.wait_for(lambda frame: frame["type"] == "event" and frame["seq"] == ack["seq"], timeout_s=20)
        await socket.settle()
        frames = [f for f in socket.seen if f["type"] == "subscribed" or f["type"] == "event"]
        start = next(n for n, f in enumerate(frames) if f["type"] == "subscribed" and f["id"] == second)
        assert [f["seq"] for f in frames[start + 1 :]] == list(range(1, 902))
        assert frames[0]["id"] == first


async def test_large_messages_are_caught_up_with_in_small_portions(studio: RunningStudio) -> None:
    ana = await studio.person("ana")
    room = await ana.room()
    await fill(studio, room, ana, 150, "é" * 8_000)
    async with ana.socket() as socket:
        await socket.subscribe({room: {"seq": 0}})
        await socket.wait_for(lambda frame: frame["type"] == "event" and frame["seq"] == 150, timeout_s=20)
        assert [event["seq"] for event in socket.events(room)] == list(range(1, 151))


async def test_who_goes_while_subscribing_leaves_no_feed_behind(
    studio: RunningStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "LINGER_S", 0.05)
    ana = await studio.person("ana")
    rooms = [await ana.room(f"room {n}") for n in range(15)]
    for room in rooms:
        async with ana.socket() as socket:
            await socket.send("subscribe", conversations={room: None})
            socket.connection.transport.abort()
    async with asyncio.timeout(5):
        while studio.parts.hub.feed_count:
            await asyncio.sleep(0.02)


async def test_deleting_an_answer_that_is_still_being_written_stops_it_and_its_text_does_not_come_back(
    database: Database,
) -> None:
    async with run_studio(database, models=[ScriptedModel(pace_s=0.05)]) as studio:
        ana = await studio.person("ana")
        room = await ana.room()
        async with ana.socket("/ws", room) as socket:
            await socket.say(room, "a question")
            asked = await socket.ask("run", conversation=room)
            await socket.wait_for(lambda frame: frame["type"] == "delta")
            deleted = await socket.ask("delete", conversation=room, message=asked["message"])
            assert deleted["type"] == "ack"
            ended = await socket.event("run.ended")
            assert (ended["data"]["status"], ended["data"]["text"], ended["data"]["redacted"]) == ("stopped", "", True)
            place = socket.seen.index(next(f for f in socket.seen if f.get("kind") == "message.deleted"))
            await asyncio.sleep(0.3)
            await socket.settle()
            assert not [frame for frame in socket.seen[place:] if frame["type"] == "delta"]
            page = await ana.call("GET", f"/api/conversations/{room}/messages", expect=200)
            assert [message["text"] for message in page["messages"]] == ["a question", ""]


async def test_one_run_that_cannot_be_ended_keeps_no_other_from_it(database: Database) -> None:
    async with run_studio(database, models=[ScriptedModel(pace_s=5)]) as studio:
        ana = await studio.person("ana")
        gone, stays = await ana.room("gone"), await ana.room("stays")
        for room in (gone, stays):
            await ana.call("POST", f"/api/conversations/{room}/messages", {"id": "q", "text": "a question"}, expect=201)
            await ana.call("POST", f"/api/conversations/{room}/runs", {}, expect=201)
        await ana.call("DELETE", f"/api/conversations/{gone}", expect=204)
        states = await database.fetch("SELECT conversation, status FROM runs")
        assert {row["conversation"]: row["status"] for row in states} == {gone: "interrupted", stays: "running"}
        # Even one whose conversation went without its run, as an older version would have left it:
        await database.execute("UPDATE runs SET status = 'running', lease_until = now() - interval '2 h'")
        for carried in tuple(studio.parts.assistant._carrier._live.values()):
            assert carried.task is not None
            carried.task.cancel()
        await database.execute(
            "UPDATE runs SET lease_until = lease_until - interval '1 h' WHERE conversation = $1", gone
        )
        async with asyncio.timeout(12):
            while await database.fetch_value("SELECT status FROM runs WHERE conversation = $1", stays) == "running":
                await asyncio.sleep(0.1)


async def test_receipts_tell_what_is_so_and_not_what_was_claimed(studio: RunningStudio) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his:
        for n in range(3):
            await hers.say(room, f"{n}")
        await his.connection.send(f'{{"type":"read","conversation":"{room}","seq":9007199254740992}}')
        receipt = await hers.wait_for(lambda frame: frame["type"] == "receipt")
        assert (receipt["read"], receipt["delivered"]) == (3, 3)
        await his.connection.send(f'{{"type":"read","conversation":"{room}","seq":1}}')
        await studio.parts.studio.receipts.write()
        await asyncio.sleep(0.05)
        await hers.settle()
        assert len([frame for frame in hers.seen if frame["type"] == "receipt"]) == 1

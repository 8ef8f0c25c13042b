"""Presence, typing, receipts, heads, and sockets that have died."""

import asyncio

import asyncpg
import pytest

from server.gateway import connection as gateway_connection
from server.gateway import heartbeat
from server.hub import presence, receipts
from tests.running_studio import RunningStudio


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "TELL_EVERY_S", 0.05)
    monkeypatch.setattr(presence, "GRACE_S", 0.2)
    monkeypatch.setattr(receipts, "WRITE_EVERY_S", 0.05)


async def test_who_comes_and_goes_is_told_and_a_reload_is_no_goodbye(studio: RunningStudio) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as hers:
        async with ben.socket("/ws", room):
            came = await hers.wait_for(lambda frame: frame["type"] == "presence" and frame["user"] == ben.id)
            assert (came["state"], came["conversation"]) == ("online", room)
            members = await ana.call("GET", f"/api/conversations/{room}/members", expect=200)
            assert {m["user"]["username"]: m["presence"] for m in members["members"]} == {
                "ana": "online",
                "ben": "online",
            }
        async with ben.socket("/ws", room):
            await asyncio.sleep(0.4)
            states = [frame["state"] for frame in hers.seen if frame["type"] == "presence" and frame["user"] == ben.id]
            assert states == ["online"]
        gone = await hers.wait_for(lambda frame: frame["type"] == "presence" and frame["state"] == "offline")
        assert gone["user"] == ben.id


async def test_typing_reaches_the_others_and_only_from_those_who_may_write(studio: RunningStudio) -> None:
    ana, ben, rita = [await studio.person(name) for name in ("ana", "ben", "rita")]
    room = await ana.room(members=[ben.id, rita.id])
    await ana.call("PUT", f"/api/conversations/{room}/members/{rita.id}", {"role": "reader"}, expect=200)
    async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his, rita.socket("/ws", room) as reader:
        await his.connection.send(f'{{"type":"typing","conversation":"{room}","on":true}}')
        typing = await hers.wait_for(lambda frame: frame["type"] == "typing")
        assert (typing["user"], typing["on"]) == (ben.id, True)
        await reader.connection.send(f'{{"type":"typing","conversation":"{room}","on":true}}')
        refused = await reader.wait_for(lambda frame: frame["type"] == "error")
        assert refused["code"] == "forbidden"


async def test_reading_moves_the_cursor_forward_and_tells_the_others(studio: RunningStudio) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as hers:
        for number in range(5):
            await hers.say(room, f"{number}")
        async with ben.socket("/ws", room) as his:
            assert [(c["unread"], c["read"]) for c in his.welcome["conversations"]] == [(5, 0)]
            await his.connection.send(f'{{"type":"read","conversation":"{room}","seq":3}}')
            receipt = await hers.wait_for(lambda frame: frame["type"] == "receipt" and frame["user"] == ben.id)
            assert (receipt["read"], receipt["delivered"]) == (3, 3)
            await his.say(room, "my own line is not unread")
            await his.connection.send(f'{{"type":"read","conversation":"{room}","seq":1}}')
        async with ben.socket() as again:
            assert [(c["unread"], c["read"]) for c in again.welcome["conversations"]] == [(2, 3)]
            await ben.call("PUT", f"/api/conversations/{room}/read", {"seq": 999_999}, expect=204)
            seen = await ben.call("GET", f"/api/conversations/{room}", expect=200)
            assert (seen["unread"], seen["read"], seen["head"]) == (0, 6, 6)


async def test_a_heartbeat_tells_what_moved_elsewhere(
    database: object, monkeypatch: pytest.MonkeyPatch, studio: RunningStudio
) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room(members=[ben.id])
    await studio.parts.heartbeat.stop()
    monkeypatch.setattr(heartbeat, "HEARTBEAT_S", 0.5)
    studio.parts.heartbeat.start()
    async with ana.socket("/ws", room) as hers, ben.socket() as his:
        ack = await hers.say(room, "ben does not follow this room just now")
        heads = await his.wait_for(
            lambda frame: frame["type"] == "heads" and frame["conversations"].get(room) == ack["seq"]
        )
        assert heads["conversations"] == {room: 1}
        assert not his.events(room)


async def test_a_socket_without_life_is_closed_and_one_that_answers_pings_is_not(
    monkeypatch: pytest.MonkeyPatch, studio: RunningStudio
) -> None:
    ana = await studio.person("ana")
    await studio.parts.heartbeat.stop()
    monkeypatch.setattr(heartbeat, "HEARTBEAT_S", 0.5)
    monkeypatch.setattr(gateway_connection, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(gateway_connection, "PING_EVERY_S", 0.4)
    monkeypatch.setattr(gateway_connection, "NO_LIFE_S", 1.2)
    studio.parts.heartbeat.start()
    async with ana.socket() as living, ana.socket() as dead:
        dead.connection.transport.pause_reading()  # neither pings nor anything else reach it: it answers nothing
        async with asyncio.timeout(5):
            while studio.parts.hub.connection_count > 1:
                await asyncio.sleep(0.05)
        dead.connection.transport.resume_reading()
        assert await dead.closed() == 4012
        await asyncio.sleep(1.5)
        await living.settle()


def test_the_dead_are_found_within_40_s_and_the_living_hear_something_each_heartbeat() -> None:
    step_s = heartbeat.HEARTBEAT_S / heartbeat.STEPS
    assert gateway_connection.NO_LIFE_S + gateway_connection.LOOK_EVERY_S + step_s <= 40.0
    assert gateway_connection.PING_EVERY_S + gateway_connection.LOOK_EVERY_S <= heartbeat.HEARTBEAT_S
    assert gateway_connection.NO_LIFE_S - heartbeat.HEARTBEAT_S >= 8.0, "an answer needs its time"


async def test_a_changed_role_sends_the_socket_away_to_come_back_and_an_ended_session_for_good(
    studio: RunningStudio,
) -> None:
    ana, admin = await studio.person("ana"), await studio.person("root", role="admin")
    async with ana.socket() as socket:
        await admin.call("PATCH", f"/api/admin/users/{ana.id}", {"role": "guest"}, expect=200)
        assert await socket.closed() == 4014
    async with ana.socket() as socket:
        assert socket.welcome["user"]["role"] == "guest"
        await admin.call("PATCH", f"/api/admin/users/{ana.id}", {"disabled": True}, expect=200)
        assert await socket.closed() == 4500


async def test_a_database_that_stands_still_costs_no_living_socket(
    monkeypatch: pytest.MonkeyPatch, studio: RunningStudio, database_dsn: str
) -> None:
    ana = await studio.person("ana")
    await studio.parts.heartbeat.stop()
    monkeypatch.setattr(heartbeat, "HEARTBEAT_S", 0.5)
    monkeypatch.setattr(gateway_connection, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(gateway_connection, "PING_EVERY_S", 0.4)
    monkeypatch.setattr(gateway_connection, "NO_LIFE_S", 1.2)
    async with ana.socket() as living:
        other = await asyncpg.connect(database_dsn)
        try:
            async with other.transaction():
                await other.execute("LOCK TABLE memberships, heads IN ACCESS EXCLUSIVE MODE")
                studio.parts.heartbeat.start()
                await asyncio.sleep(2.5)
        finally:
            await other.close()
        await asyncio.sleep(0.5)
        await living.settle()


async def test_nobody_is_called_dead_who_was_not_asked(monkeypatch: pytest.MonkeyPatch, studio: RunningStudio) -> None:
    ana = await studio.person("ana")
    await studio.parts.heartbeat.stop()  # as on a machine that slept
    async with ana.socket() as living:
        await asyncio.sleep(0.1)
        monkeypatch.setattr(gateway_connection, "NO_LIFE_S", 0.05)
        monkeypatch.setattr(gateway_connection, "PING_EVERY_S", 0.02)
        monkeypatch.setattr(gateway_connection, "LOOK_EVERY_S", 0.0)
        for connection in studio.parts.hub.connections():
            connection.look(asyncio.get_running_loop().time())
        await living.settle()

"""What one socket hears, in which order, and that it hears an answer at all: at a subscription, and at the end."""

import asyncio

import asyncpg
import pytest

from server.bus.bus import EventNotice
from server.gateway import subscribing
from server.gateway.connection import Connection
from server.gateway.dispatch import Dispatcher
from server.protocol.codec import encode
from server.protocol.frames import Subscribed, SubscribedTo
from server.storage.standings import Standing, Standings
from tests.running_studio import RunningStudio


async def test_no_event_overtakes_the_answer_to_a_subscription(studio: RunningStudio) -> None:
    ana = await studio.person("ana")
    room = await ana.room()
    async with ana.socket() as socket:
        (connection,) = studio.parts.hub.connections()
        assert isinstance(connection, Connection)
        feed = (await studio.parts.hub.follow([room]))[room]
        subscription = connection.reserve(feed)
        connection.confirm(subscription, "owner", 1)
        feed.push([event(room, 1)])  # plans to write, behind everything that is done in this turn
        connection.tell(Subscribed(id="s", conversations={room: SubscribedTo(head=1)}))
        connection.start(subscription, 1)
        feed.push([event(room, 2)])
        assert [(await socket.receive())["type"] for _ in range(2)] == ["subscribed", "event"]


async def test_only_what_changed_meanwhile_is_asked_for_again(
    studio: RunningStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = await studio.person("ana")
    rooms = [await ana.room() for _ in range(5)]
    asked: list[list[str]] = []
    of_many = Standings.of_many

    async def noted(self: Standings, user: str, role: str, conversations: list[str]) -> dict[str, Standing]:
        found = await of_many(self, user, role, conversations)
        asked.append(conversations)
        feed = studio.parts.hub.feed(rooms[len(asked)]) if len(asked) < 3 else None
        if feed is not None:
            feed.note_rights_changed()  # while we read
        return found

    monkeypatch.setattr(Standings, "of_many", noted)
    async with ana.socket() as socket:
        answer = await socket.subscribe(dict.fromkeys(rooms))
        assert set(answer["conversations"]) == set(rooms)
        assert [sorted(conversations) for conversations in asked] == [sorted(rooms), [rooms[1]], [rooms[2]]]
        await socket.say(rooms[1], "in use")
        await socket.event("message.created")


async def test_rights_that_do_not_come_to_rest_are_asked_for_later(
    studio: RunningStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = await studio.person("ana")
    room = await ana.room()
    of_many, rounds = Standings.of_many, 0

    async def noted(self: Standings, user: str, role: str, conversations: list[str]) -> dict[str, Standing]:
        nonlocal rounds
        rounds += 1
        found = await of_many(self, user, role, conversations)
        feed = studio.parts.hub.feed(room)
        if feed is not None and rounds <= 50:
            feed.note_rights_changed()
        return found

    monkeypatch.setattr(Standings, "of_many", noted)
    async with ana.socket() as socket:
        answer = await socket.subscribe({room: None})
        assert (answer["type"], answer.get("code"), answer.get("retryable")) == ("error", "unavailable", True)
        assert rounds == subscribing.MAX_ROUNDS


async def test_who_is_sent_away_first_hears_the_answer_to_what_waits_in_line(
    studio: RunningStudio, database_dsn: str
) -> None:
    """A name that must be looked up, and what came behind it."""
    ana = await studio.person("ana")
    room = await ana.room()
    async with ana.socket() as socket:
        (connection,) = studio.parts.hub.connections()
        other = await asyncpg.connect(database_dsn)
        try:
            async with other.transaction():
                await other.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
                await socket.send("send", id="named", conversation=room, text="@ana hello")
                await socket.send("send", id="behind", conversation=room, text="hello")
                await until_in_line(connection)
                connection.end_when_answered(1012, "this server is about to restart")
                await asyncio.sleep(0.1)
        finally:
            await other.close()
        assert await socket.closed() == 1012
        assert [(frame["type"], frame["id"]) for frame in socket.seen if "id" in frame] == [
            ("ack", "named"),
            ("ack", "behind"),
        ]


def event(room: str, seq: int) -> EventNotice:
    payload = {"type": "event", "conversation": room, "seq": seq, "kind": "x"}
    return EventNotice(seq, "x", encode(payload))


async def until_in_line(connection: object) -> None:
    assert isinstance(connection, Connection)
    dispatcher = connection._socket._protocol.on_text.__self__  # type: ignore[attr-defined]
    assert isinstance(dispatcher, Dispatcher)
    async with asyncio.timeout(10):
        while not dispatcher._backlog:
            await asyncio.sleep(0.01)

"""What a conversation does not keep any more is gone for everybody, and nothing else breaks, in mid-traffic too."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from server.ai.scripted import ScriptedModel
from server.gateway.catch_up import CatchUp, Subscription
from server.hub.retention import Retention
from server.protocol import clock
from server.protocol.codec import parse
from server.protocol.ids import new_id
from server.storage import retention
from server.storage.advisory import if_alone
from server.storage.database import Database
from tests.running_studio import Person, RunningStudio, run_studio

LIMIT_DAYS = 30


async def kept_room(owner: Person, *others: Person, days: int = LIMIT_DAYS) -> str:
    """Its first event says how long it is kept."""
    room = await owner.room(members=[other.id for other in others])
    await owner.call("PATCH", f"/api/conversations/{room}", {"retention_days": days}, expect=200)
    return room


async def age(studio: RunningStudio, room: str, up_to: int, days: float = LIMIT_DAYS + 1) -> None:
    """As if everything up to that seq had happened so long ago."""
    for table in ("events", "messages"):
        await studio.parts.database.execute(
            f"UPDATE {table} SET at = at - make_interval(secs => $3) WHERE conversation = $1 AND seq <= $2",
            room,
            up_to,
            days * 86400.0,
        )


async def say(person: Person, room: str, text: str, client_id: str | None = None) -> dict[str, Any]:
    body = {"id": client_id or new_id(), "text": text}
    said: dict[str, Any] = await person.call("POST", f"/api/conversations/{room}/messages", body)
    return said


async def messages(person: Person, room: str) -> Any:
    return await person.call("GET", f"/api/conversations/{room}/messages", expect=200)


async def log(person: Person, room: str, after: int = 0) -> Any:
    return await person.call("GET", f"/api/conversations/{room}/events?after={after}&limit=1000", expect=200)


async def rows_of(studio: RunningStudio, room: str) -> str:
    """Everything the tables hold about the room, as one text to look into."""
    found = ""
    for table in ("events", "messages", "message_words", "reactions", "runs"):
        rows = await studio.parts.database.fetch(f"SELECT t::text FROM {table} t WHERE conversation = $1", room)
        found += "\n".join(row[0] for row in rows)
    return found


async def test_the_owner_says_how_long_and_everybody_hears_it(studio: RunningStudio) -> None:
    ana, ben, root = await studio.person("ana"), await studio.person("ben"), await studio.person("root", "admin")
    room = await ana.room(members=[ben.id], visibility="public")
    path = f"/api/conversations/{room}"
    async with ben.socket("/ws", room) as socket:
        changed = await ana.call("PATCH", path, {"retention_days": 30}, expect=200)
        assert changed["retention_days"] == 30
        event = await socket.event("conversation.updated")
        assert event["data"] == {"retention_days": 30}
    assert (await ben.call("GET", path, expect=200))["retention_days"] == 30
    await ana.call("PUT", f"{path}/members/{ben.id}", {"role": "moderator"}, expect=200)
    await ben.call("PATCH", path, {"retention_days": 1}, expect=403)
    await ben.call("PATCH", path, {"title": "a better one"}, expect=200)
    assert (await root.call("PATCH", path, {"retention_days": 7}, expect=200))["retention_days"] == 7
    await root.call("PATCH", path, {"retention_days": 8, "title": "not mine"}, expect=403)
    assert (await ana.call("PATCH", path, {"retention_days": None}, expect=200))["retention_days"] is None
    for wrong in (0, 3651, "30", 1.5):
        await ana.call("PATCH", path, {"retention_days": wrong}, expect=422)


async def test_what_is_too_old_is_gone_and_what_is_young_stays(studio: RunningStudio) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await kept_room(ana, ben)
    old = await say(ben, room, "marmalade from last month")
    await ben.call("PUT", f"/api/conversations/{room}/messages/{old['message']}/reactions/%F0%9F%91%8D", expect=200)
    await ana.call("GET", "/api/search?query=marmalade", expect=200)  # indexed
    await age(studio, room, 3)
    young = await say(ben, room, "and today bread", "today")
    assert await studio.parts.retention.run_once() == 3
    page = await messages(ana, room)
    assert [(m["seq"], m["text"]) for m in page["messages"]] == [(4, "and today bread")]
    assert (page["head"], page["has_more"]) == (4, False)
    assert (await ana.call("GET", f"/api/conversations/{room}/messages?before=4", expect=200))["messages"] == []
    found = await ana.call("GET", "/api/search?query=marmalade", expect=200)
    assert found["results"] == []
    page = await log(ana, room)
    assert ([event["seq"] for event in page["events"]], page["first"], page["head"]) == ([4], 4, 4)
    assert "marmalade" not in await rows_of(studio, room)
    answer = await say(ana, room, "still here?")
    assert answer["seq"] == young["seq"] + 1
    await ana.call(
        "POST", f"/api/conversations/{room}/messages", {"id": "r", "text": "re", "reply_to": old["message"]}, expect=404
    )
    assert await studio.parts.retention.run_once() == 0


@pytest.mark.parametrize(("seq", "is_reset"), [(0, True), (5, True), (6, False), (11, False)])
async def test_a_cursor_below_the_floor_is_reset_and_one_above_it_is_not(
    studio: RunningStudio, seq: int, is_reset: bool
) -> None:
    ana = await studio.person("ana")
    room = await kept_room(ana)
    for n in range(10):
        await say(ana, room, f"{n}")
    await age(studio, room, 6)
    await studio.parts.retention.run_once()
    async with ana.socket() as socket:
        epoch = socket.welcome["conversations"][0]["epoch"]
        answer = (await socket.subscribe({room: {"seq": seq, "epoch": epoch}}))["conversations"][room]
        assert (answer["reset"], answer["first"], answer["head"]) == (is_reset, 7, 11)
        await socket.say(room, "hello")
        await socket.event("message.created", seq=12)
        assert [event["seq"] for event in socket.events(room)] == ([12] if is_reset else list(range(seq + 1, 13)))


async def test_everything_may_be_too_old(studio: RunningStudio) -> None:
    ana = await studio.person("ana")
    room = await kept_room(ana)
    await say(ana, room, "one")
    await age(studio, room, 2)
    assert await studio.parts.retention.run_once() == 2
    assert (await messages(ana, room))["messages"] == []
    page = await log(ana, room)
    assert (page["events"], page["first"], page["head"]) == ([], 3, 2)
    async with ana.socket() as socket:
        answer = (await socket.subscribe({room: {"seq": 2, "epoch": page["epoch"]}}))["conversations"][room]
        assert (answer["reset"], answer["first"]) == (False, 3)
        assert (await socket.say(room, "two"))["seq"] == 3
        await socket.event("message.created", seq=3)


async def test_a_repeat_of_what_is_gone_still_gets_its_first_answer(studio: RunningStudio) -> None:
    ana = await studio.person("ana")
    room = await kept_room(ana)
    first = await say(ana, room, "once", "the-id")
    path = f"/api/conversations/{room}/messages/{first['message']}"
    key = {"Idempotency-Key": "an-edit"}
    edited = await ana.call("PATCH", path, {"text": "once more"}, expect=200, headers=key)
    run = await ana.call("POST", f"/api/conversations/{room}/runs", {}, expect=201, headers={"Idempotency-Key": "run"})
    async with ana.socket("/ws", room) as socket:
        await socket.subscribe({room: {"seq": 0}})
        await socket.event("run.ended")
    await age(studio, room, 5)
    assert await studio.parts.retention.run_once() == 5
    again = await ana.call("POST", f"/api/conversations/{room}/messages", {"id": "the-id", "text": "once"}, expect=200)
    assert (again["message"], again["seq"]) == (first["message"], first["seq"])
    assert await ana.call("PATCH", path, {"text": "once more"}, expect=200, headers=key) == edited
    repeat = await ana.call("POST", f"/api/conversations/{room}/runs", {}, headers={"Idempotency-Key": "run"})
    assert (repeat["run"], repeat["seq"]) == (run["run"], run["seq"])
    await ana.call("POST", f"/api/conversations/{room}/messages", {"id": "the-id", "text": "twice"}, expect=409)
    assert (await messages(ana, room))["messages"] == []
    assert (await log(ana, room))["events"] == []
    assert "once" not in await rows_of(studio, room)


async def test_unread_counts_only_what_is_there(studio: RunningStudio) -> None:
    ana, ben, eve = await studio.person("ana"), await studio.person("ben"), await studio.person("eve")
    room = await kept_room(ana, ben, eve)
    for n in range(6):
        await say(ana if n % 2 else ben, room, f"{n}")
    await eve.call("PUT", f"/api/conversations/{room}/read", {"seq": 6}, expect=204)
    await age(studio, room, 4)  # three messages: ben, ana, ben
    await studio.parts.retention.run_once()

    async def unread(person: Person) -> int:
        count: int = (await person.call("GET", f"/api/conversations/{room}", expect=200))["unread"]
        return count

    assert [await unread(person) for person in (ana, ben, eve)] == [1, 2, 1]
    await ben.call("PUT", f"/api/conversations/{room}/read", {"seq": 2}, expect=204)
    assert await unread(ben) == 2
    await ben.call("PUT", f"/api/conversations/{room}/read", {"seq": 5}, expect=204)
    assert await unread(ben) == 1
    await say(ana, room, "new")
    assert [await unread(person) for person in (ana, ben, eve)] == [1, 2, 2]


async def test_a_text_that_was_written_again_later_goes_with_its_message(studio: RunningStudio) -> None:
    """The edit is young, the message is not."""
    ana = await studio.person("ana")
    room = await kept_room(ana)
    old = await say(ana, room, "quince")
    await age(studio, room, 2)
    await ana.call("PATCH", f"/api/conversations/{room}/messages/{old['message']}", {"text": "quince!"}, expect=200)
    await studio.parts.retention.run_once()
    [event] = (await log(ana, room))["events"]
    assert (event["kind"], event["data"]) == ("message.edited", {"id": old["message"], "text": "", "redacted": True})
    assert "quince" not in await rows_of(studio, room)


async def test_an_answer_that_is_still_being_given_is_waited_for(database: Database) -> None:
    async with run_studio(database, models=[ScriptedModel(pace_s=30.0)]) as studio:
        ana = await studio.person("ana")
        room = await kept_room(ana)
        await say(ana, room, "a question")
        run = await ana.call("POST", f"/api/conversations/{room}/runs", {}, expect=201)
        await age(studio, room, 3)
        assert await studio.parts.retention.run_once() == 2
        await ana.call("POST", f"/api/runs/{run['run']}/stop", expect=200)
        assert await studio.parts.retention.run_once() == 1
        assert [event["kind"] for event in (await log(ana, room))["events"]] == ["run.ended"]


async def test_open_feeds_forget_what_is_gone(studio: RunningStudio) -> None:
    ana = await studio.person("ana")
    room = await kept_room(ana)
    async with ana.socket("/ws", room) as socket:
        for n in range(3):
            await socket.say(room, f"secret {n}")
        feed = studio.parts.hub.feed(room)
        assert feed is not None
        assert b"secret 1" in (feed.since(1) or b"")
        await age(studio, room, 3)
        await studio.parts.retention.run_once()
        async with asyncio.timeout(20):
            while feed.since(1) is not None:
                await asyncio.sleep(0.05)
        assert feed.first == 4
        ack = await socket.say(room, "next")
        await socket.event("message.created", seq=ack["seq"])


async def test_in_traffic_nobody_sees_a_hole(studio: RunningStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit follows the senders closely: by a clock that is a day ahead, less a quarter of a second."""
    monkeypatch.setattr(retention, "PIECE", 7)
    ana, ben, eve = await studio.person("ana"), await studio.person("ben"), await studio.person("eve")
    room = await kept_room(ana, ben, eve, days=1)
    keeper = Retention(
        studio.parts.database, None, clock=lambda: clock.now() + timedelta(days=1) - timedelta(milliseconds=250)
    )
    is_over = False
    taken = 0

    async def shorten() -> None:
        nonlocal taken
        while not is_over:
            taken += await keeper.run_once()
            await asyncio.sleep(0.01)

    async def talk(person: Person, acks: list[tuple[str, int]]) -> None:
        async with person.socket("/ws", room) as socket:
            for n in range(150):
                client_id = f"{person.name}-{n}"
                acks.append((client_id, (await socket.say(room, f"{n}", id=client_id))["seq"]))

    async with eve.socket("/ws", room) as listener:
        shortening = asyncio.create_task(shorten())
        acks: list[tuple[str, int]] = []
        await asyncio.gather(talk(ana, acks), talk(ben, acks))
        await listener.wait_for(lambda frame: frame["type"] == "event" and frame["seq"] == 301, timeout_s=30)
        is_over = True
        await shortening
        heard = [event["seq"] for event in listener.events(room)]
        assert heard == list(range(2, 302))
    assert taken > 50
    page = await log(ana, room)
    assert [event["seq"] for event in page["events"]] == list(range(page["first"], 302))
    shown = [message["seq"] for message in (await messages(ana, room))["messages"]]
    assert shown == list(range(max(page["first"], 302 - 50), 302))
    for client_id, seq in acks[::25]:
        author = ana if client_id.startswith("ana") else ben
        again = await say(author, room, client_id.rpartition("-")[2], client_id)
        assert again["seq"] == seq


async def test_one_node_at_a_time(studio: RunningStudio) -> None:
    ana = await studio.person("ana")
    room = await kept_room(ana)
    await age(studio, room, 1)
    async with if_alone(studio.parts.database, "retention") as is_alone:
        assert is_alone
        assert await studio.parts.retention.run_once() == 0
    assert await studio.parts.retention.run_once() == 1


async def test_a_held_room_stops_nobody_else(studio: RunningStudio) -> None:
    ana = await studio.person("ana")
    held, free = await kept_room(ana), await kept_room(ana)
    await age(studio, held, 1)
    await age(studio, free, 1)
    async with studio.parts.database.transaction() as connection:
        await connection.execute("SELECT FROM heads WHERE conversation = $1 FOR UPDATE", held)
        assert await studio.parts.retention.run_once() == 1
    assert await studio.parts.retention.run_once() == 1


async def test_the_studio_has_a_limit_for_those_without_one(database: Database) -> None:
    async with run_studio(database, retention_days=10) as studio:
        ana = await studio.person("ana")
        short, long = await ana.room(), await kept_room(ana, days=100)
        for room in (short, long):
            await say(ana, room, "hello")
            await age(studio, room, 2, days=50)
        assert await studio.parts.retention.run_once() == 1
        assert (await messages(ana, short))["messages"] == []
        assert len((await messages(ana, long))["messages"]) == 1


class SlowReader:
    """A socket that is being caught up."""

    is_full = False
    is_closed = False
    share_bytes = 2**20

    def __init__(self) -> None:
        self.written = b""
        self.live_from: int | None = None
        self.ended: int | None = None

    def holds(self, subscription: Subscription) -> bool:
        return True

    def go_live(self, subscription: Subscription, seq: int) -> bool:
        missing = subscription.feed.since(seq)
        if missing is None:
            return False
        self.live_from = seq
        return True

    def write(self, frames: bytes) -> None:
        self.written += frames

    def end(self, code: int, reason: str) -> None:
        self.ended = code


async def test_whoever_is_caught_up_with_in_the_middle_is_told(studio: RunningStudio) -> None:
    """The log is shortened between two reads, and this node does not know yet: no silent part."""
    ana = await studio.person("ana")
    room = await kept_room(ana)
    for n in range(5):
        await say(ana, room, f"{n}")
    feed = (await studio.parts.hub.follow([room]))[room]
    feed.forget_texts()
    await age(studio, room, 4)
    await studio.parts.retention.run_once()
    reader = SlowReader()
    catch_up = CatchUp(reader, studio.parts.reader)
    catch_up.later(Subscription(feed), 2)
    catch_up.go_on()
    async with asyncio.timeout(20):
        while reader.live_from is None:
            await asyncio.sleep(0.01)
    catch_up.close()
    studio.parts.hub.unfollow(feed)
    assert (reader.live_from, reader.ended) == (6, None)
    payload = reader.written[reader.written.index(b"{") :].decode()
    assert parse(payload) == {"type": "reset", "conversation": room, "head": 6, "epoch": feed.epoch}

"""An account that is erased: nobody comes in by it, and what it left behind goes, in mid-traffic and after a crash."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from server.hub.erasure import Eraser
from server.protocol.ids import new_id
from server.storage.users import Users
from tests.running_studio import PASSWORD, Person, RunningStudio

GENEROUS_S = 30.0


async def until(wanted: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(GENEROUS_S):
        while not await wanted():
            await asyncio.sleep(0.02)


async def erase(person: Person, messages: str = "erase") -> None:
    await person.call("DELETE", "/api/auth/me", {"messages": messages, "current_password": PASSWORD}, expect=204)


async def erased(studio: RunningStudio, person: Person) -> None:
    """Nothing of the account is left to be done."""

    async def is_finished() -> bool:
        return bool(
            await studio.parts.database.fetch_value(
                "SELECT finished_at IS NOT NULL FROM erasures WHERE user_id = $1", person.id
            )
        )

    await until(is_finished)


async def say(person: Person, room: str, text: str, **more: Any) -> dict[str, Any]:
    said: dict[str, Any] = await person.call(
        "POST", f"/api/conversations/{room}/messages", {"id": new_id(), "text": text, **more}, expect=201
    )
    return said


async def messages(person: Person, room: str) -> list[dict[str, Any]]:
    page = await person.call("GET", f"/api/conversations/{room}/messages?limit=200", expect=200)
    found: list[dict[str, Any]] = page["messages"]
    return found


async def log(person: Person, room: str) -> list[dict[str, Any]]:
    page = await person.call("GET", f"/api/conversations/{room}/events?limit=1000", expect=200)
    found: list[dict[str, Any]] = page["events"]
    return found


async def everything(studio: RunningStudio) -> str:
    """All that stands in any table, as one text to look into."""
    tables = await studio.parts.database.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename !~ '^events_'"
    )
    found = ""
    for table in tables:
        rows = await studio.parts.database.fetch(f"SELECT t::text FROM {table['tablename']} t")
        found += "\n".join(row[0] for row in rows)
    return found


async def nowhere(studio: RunningStudio, word: str) -> None:
    """The search index follows the log a moment later."""

    async def is_gone() -> bool:
        return word not in await everything(studio)

    await until(is_gone)


async def act(person: Person, method: str, room: str, message: str, rest: str) -> None:
    await person.call(method, f"/api/conversations/{room}/messages/{message}{rest}", expect=200)


async def test_sockets_are_cut_at_once_and_nobody_comes_in_any_more(studio: RunningStudio) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as one, ana.socket() as other:
        await erase(ana)
        assert [await one.closed(), await other.closed()] == [4503, 4503]
    await ana.call("GET", "/api/auth/me", expect=401)
    form = {"grant_type": "password", "username": "ana", "password": PASSWORD}
    assert (await ana.http.post("/api/auth/token", data=form)).status_code == 401
    again = await studio.person("ana")  # the name is free, at once
    assert again.id != ana.id
    await again.call("GET", f"/api/conversations/{room}", expect=404)


async def test_it_takes_the_password_and_a_choice(studio: RunningStudio) -> None:
    ana = await studio.person("ana")
    for body, status in (
        ({"messages": "erase"}, 422),
        ({"messages": "erase", "current_password": "wrong"}, 422),
        ({"current_password": PASSWORD}, 422),
        ({"messages": "burn", "current_password": PASSWORD}, 422),
    ):
        await ana.call("DELETE", "/api/auth/me", body, expect=status)
    await ana.call("GET", "/api/auth/me", expect=200)


async def test_kept_messages_are_those_of_a_former_member(studio: RunningStudio) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ben.room(members=[ana.id])
    hers, his = await say(ana, room, "I was here"), await say(ben, room, "so was I")
    await act(ana, "PUT", room, his["message"], "/reactions/%F0%9F%91%8D")
    async with ben.socket("/ws", room) as socket:
        await erase(ana, "keep")
        await socket.event("reaction.removed")
        await erased(studio, ana)
        left = next(event for event in socket.events(room) if event["kind"] == "member.left")
        assert left["data"] == {"user": ana.id, "by": ana.id}
    [first, second] = await messages(ben, room)
    assert (first["id"], first["text"], first["actor"]["name"]) == (hers["message"], "I was here", "former member")
    assert second["reactions"] == []
    assert [event["actor"]["name"] for event in await log(ben, room)][:1] == ["former member"]
    assert not any(row.startswith(("(ana", ",ana,")) for row in (await everything(studio)).splitlines())
    assert [
        m["user"]["username"] for m in (await ben.call("GET", f"/api/conversations/{room}/members"))["members"]
    ] == ["ben"]


async def test_nothing_of_it_is_left(studio: RunningStudio) -> None:
    """Whoever looks into any table of the database finds neither name nor word."""
    ana, ben = await studio.person("quirinius"), await studio.person("ben")
    room, hers = await ben.room(), await ana.room("her own", members=[ben.id])
    alone, public = await ana.room("only hers"), await ana.room("open to all", visibility="public")
    chat = (await ana.call("POST", "/api/conversations", {"kind": "private", "members": [ben.id]}))["id"]
    await ben.call("PUT", f"/api/conversations/{room}/members/{ana.id}", {"role": "member"}, expect=201)
    for place in (room, hers, alone, public, chat):
        said = await say(ana, place, "zabaglione")
        await ana.call(
            "PATCH", f"/api/conversations/{place}/messages/{said['message']}", {"text": "more zabaglione"}, expect=200
        )
    await ana.call("POST", f"/api/conversations/{room}/leave", expect=204)  # what was said there stays hers
    gone = await ana.room("deleted before")
    await say(ana, gone, "zabaglione")
    await ana.call("DELETE", f"/api/conversations/{gone}", expect=204)
    await ana.call("GET", "/api/search?query=zabaglione", expect=200)  # indexed
    await erase(ana)
    await erased(studio, ana)
    await nowhere(studio, "zabaglione")
    await nowhere(studio, "quirinius")
    for place in (room, hers, chat):
        [message] = await messages(ben, place)
        assert (message["text"], message["deleted_at"] is not None) == ("", True)
        created = next(event for event in await log(ben, place) if event["kind"] == "message.created")
        assert (created["data"]["text"], created["data"]["redacted"]) == ("", True)
        await say(ben, place, "life goes on")
    await ben.call("GET", f"/api/conversations/{alone}", expect=404)


@pytest.mark.parametrize("is_signed_in", [True, False])
async def test_rings_of_rooms_that_were_left_before_forget_the_name(studio: RunningStudio, is_signed_in: bool) -> None:
    """No event comes there that would empty them."""
    ana, ben, root = await studio.person("quirinius"), await studio.person("ben"), await studio.person("root", "admin")
    room = await ben.room()
    async with ben.socket("/ws", room) as socket:
        await ben.call("PUT", f"/api/conversations/{room}/members/{ana.id}", {"role": "member"}, expect=201)
        await say(ana, room, "I shall not stay")
        await ana.call("POST", f"/api/conversations/{room}/leave", expect=204)
        await socket.event("member.left")
        feed = studio.parts.hub.feed(room)
        assert feed is not None
        assert b"quirinius" in (feed.since(0) or b"")
        if not is_signed_in:
            await studio.parts.database.execute("DELETE FROM grants WHERE user_id = $1", ana.id)
        await root.call("DELETE", f"/api/admin/users/{ana.id}?messages=keep", expect=204)
        await erased(studio, ana)

        async def is_forgotten() -> bool:
            return b"quirinius" not in (feed.since(0) or b"")

        await until(is_forgotten)


async def test_a_room_gets_a_new_owner(studio: RunningStudio) -> None:
    ana, ben, eve = await studio.person("ana"), await studio.person("ben"), await studio.person("eve")
    room = await ana.room(members=[eve.id])
    await ana.call("PUT", f"/api/conversations/{room}/members/{ben.id}", {"role": "moderator"}, expect=201)
    async with ben.socket("/ws", room) as socket:
        await erase(ana, "keep")
        event = await socket.event("member.role")
        assert (event["data"], event["actor"]["kind"]) == ({"user": ben.id, "role": "owner"}, "system")
        await socket.event("member.left")
    await ben.call("PATCH", f"/api/conversations/{room}", {"retention_days": 30}, expect=200)


async def test_an_empty_public_room_goes_to_an_admin(studio: RunningStudio) -> None:
    root, ana = await studio.person("root", "admin"), await studio.person("ana")
    room = await ana.room(visibility="public")
    await say(ana, room, "come in")
    await erase(ana, "keep")
    await erased(studio, ana)
    assert (await root.call("GET", f"/api/conversations/{room}", expect=200))["role"] == "owner"
    assert [message["text"] for message in await messages(root, room)] == ["come in"]


async def test_a_private_chat_stays_for_the_other_side(studio: RunningStudio) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    chat = (await ana.call("POST", "/api/conversations", {"kind": "private", "members": [ben.id]}, expect=201))["id"]
    await say(ana, chat, "only between us")
    await erase(ana, "keep")
    await erased(studio, ana)
    seen = await ben.call("GET", f"/api/conversations/{chat}", expect=200)
    assert (seen["member_count"], seen["peer"]) == (1, None)
    assert [message["text"] for message in await messages(ben, chat)] == ["only between us"]
    await erase(ben, "keep")
    await erased(studio, ben)
    is_deleted = await studio.parts.database.fetch_value("SELECT deleted_at FROM conversations WHERE id = $1", chat)
    assert is_deleted is not None


async def test_an_admin_erases_others_but_never_the_last_admin(studio: RunningStudio) -> None:
    root, ana = await studio.person("root", "admin"), await studio.person("ana")
    room = await root.room(members=[ana.id])
    await say(ana, room, "a slip of the tongue")
    await ana.call("DELETE", f"/api/admin/users/{root.id}", expect=403)
    await root.call("DELETE", f"/api/admin/users/{root.id}", expect=409)
    await root.call("DELETE", "/api/auth/me", {"messages": "keep", "current_password": PASSWORD}, expect=409)
    await root.call("DELETE", f"/api/admin/users/{new_id()}", expect=404)
    await root.call("DELETE", f"/api/admin/users/{ana.id}?messages=perhaps", expect=422)
    async with ana.socket() as socket:
        await root.call("DELETE", f"/api/admin/users/{ana.id}?messages=erase", expect=204)
        assert await socket.closed() == 4503
    await erased(studio, ana)
    assert [message["text"] for message in await messages(root, room)] == [""]
    await root.call("DELETE", f"/api/admin/users/{ana.id}", expect=404)
    other = await studio.person("other", "admin")
    await erase(root, "keep")
    await erased(studio, root)
    await other.call("GET", "/api/admin/users", expect=200)


@pytest.fixture
async def room_in_traffic(studio: RunningStudio) -> tuple[Person, Person, Person, str]:
    ana, ben, eve = await studio.person("ana"), await studio.person("ben"), await studio.person("eve")
    room = await ben.room(members=[ana.id, eve.id])
    async with ana.socket("/ws", room) as socket:
        for n in range(120):
            await socket.say(room, f"hers {n}")
    return ana, ben, eve, room


async def test_in_traffic_everybody_sees_the_same_log(
    studio: RunningStudio, room_in_traffic: tuple[Person, Person, Person, str]
) -> None:
    ana, ben, eve, room = room_in_traffic
    own = await studio.parts.database.fetch_value("SELECT last_seq FROM heads WHERE conversation = $1", room)
    is_over = False

    async def talk(person: Person) -> int:
        said = 0
        async with person.socket("/ws", room) as socket:
            while not is_over:
                await socket.say(room, f"{person.name} {said}")
                said += 1
        return said

    async def talk_until_cut() -> None:
        async with ana.socket("/ws", room) as socket:
            while True:
                await socket.send("send", conversation=room, text="hers, late")
                await asyncio.sleep(0.005)

    async with eve.socket("/ws", room) as listener:
        late = asyncio.create_task(talk_until_cut())
        talking = asyncio.create_task(talk(ben))
        await asyncio.sleep(0.1)
        await erase(ana)
        await erased(studio, ana)
        is_over = True
        await talking
        await asyncio.gather(late, return_exceptions=True)
        head = await studio.parts.database.fetch_value("SELECT last_seq FROM heads WHERE conversation = $1", room)
        await listener.wait_for(lambda frame: frame["type"] == "event" and frame["seq"] == head, timeout_s=GENEROUS_S)
        assert [event["seq"] for event in listener.events(room)] == list(range(own + 1, head + 1))
    events = await log(ben, room)
    assert [event["seq"] for event in events] == list(range(1, head + 1))
    deleted = [event["data"]["id"] for event in events if event["kind"] == "message.deleted"]
    assert len(deleted) == len(set(deleted)) >= 120
    await nowhere(studio, "hers")


async def test_it_goes_on_where_it_was_broken_off(
    studio: RunningStudio, room_in_traffic: tuple[Person, Person, Person, str]
) -> None:
    ana, ben, _, room = room_in_traffic
    parts = studio.parts
    await parts.eraser.close()  # as if this node had died in the moment of asking
    await erase(ana)

    async def blanked() -> int:
        count: int = await parts.database.fetch_value(
            "SELECT count(*) FROM messages WHERE conversation = $1 AND deleted_at IS NOT NULL", room
        )
        return count

    broken_off = []
    for _ in range(3):
        eraser = Eraser(parts.database, parts.queue, Users(parts.database))
        before = await blanked()
        task = asyncio.create_task(eraser.run_once())
        async with asyncio.timeout(GENEROUS_S):
            while await blanked() == before and not task.done():
                await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        broken_off.append(await blanked())
    assert 0 < broken_off[0] < 120, "it was to be broken off in the middle"
    await asyncio.gather(*(Eraser(parts.database, parts.queue, Users(parts.database)).run_once() for _ in range(3)))
    await erased(studio, ana)
    events = await log(ben, room)
    kinds = [event["kind"] for event in events]
    assert (kinds.count("message.deleted"), kinds.count("member.left")) == (120, 1)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    await nowhere(studio, "hers")

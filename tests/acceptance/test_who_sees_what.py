"""Who sees what: from the moment of joining, or everything where the room says so; nothing above the moment of leaving;
and of a deleted message nobody anything, nowhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from server.protocol.ids import new_id
from tests.acceptance.conftest import MakePeople
from tests.running_studio import Frame, Person, RunningStudio

SECRET, SECOND_SECRET = "xylophonquark", "zirkelbratsche"  # words that stand nowhere else


# -- history ----------------------------------------------------------------------------------------------------------


async def test_a_private_room_shows_a_newcomer_what_comes_after(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    room = await ana.room()
    async with ana.socket("/ws", room) as hers:
        for number in range(3):
            await hers.say(room, f"before {number}")
        await invite(ana, room, ben)
        await hers.say(room, "after")
        head = 5
        async with ben.socket() as his:
            (mine,) = [c for c in his.welcome["conversations"] if c["id"] == room]
            assert (mine["head"], mine["unread"]) == (head, 1)
            answer = (await his.subscribe({room: {"seq": 0}}))["conversations"][room]
            assert (answer["first"], answer["head"], answer["reset"]) == (4, head, False)
            await his.event("message.created", seq=head)
            assert [event["kind"] for event in his.events(room)] == ["member.joined", "message.created"]
        assert await seqs(ben, room, "messages") == [5]
        assert await seqs(ben, room, "events") == [4, 5]
        for query in ("before=4", "before=5", "after=0&limit=2"):
            page = await ben.call("GET", f"/api/conversations/{room}/messages?{query}", expect=200)
            assert [message["seq"] for message in page["messages"]] == ([5] if query == "after=0&limit=2" else [])
        assert await seqs(ana, room, "messages") == [1, 2, 3, 5]


async def test_a_room_may_open_its_past(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    room = await ana.room(history="all")
    async with ana.socket("/ws", room) as hers:
        await hers.say(room, "before")
        await invite(ana, room, ben)
        async with ben.socket() as his:
            (mine,) = [c for c in his.welcome["conversations"] if c["id"] == room]
            assert mine["unread"] == 0  # nothing of before counts as missed
            answer = (await his.subscribe({room: {"seq": 0}}))["conversations"][room]
            assert answer["first"] == 1
            await his.event("member.joined")
            assert [event["seq"] for event in his.events(room)] == [1, 2]
        assert await seqs(ben, room, "messages") == [1]


async def test_a_public_room_is_read_without_joining_and_not_by_guests(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    (guest,) = await people("guest", role="guest")
    title = f"public {new_id()}"
    room = await ana.room(title, visibility="public")
    async with ana.socket("/ws", room) as hers, ben.socket() as his, guest.socket() as theirs:
        await hers.say(room, "to everybody")
        assert (await his.subscribe({room: {"seq": 0}}))["conversations"][room]["first"] == 1
        await his.event("message.created", seq=1)
        await hers.say(room, "live")
        await his.event("message.created", seq=2)
        assert (await his.ask("send", conversation=room, text="from outside"))["code"] == "forbidden"
        assert await seqs(ben, room, "messages") == [1, 2]
        listed = await ben.call("GET", f"/api/conversations/public?query={title}", expect=200)
        assert [found["id"] for found in listed["conversations"]] == [room]
        assert await ben.call("GET", "/api/conversations", expect=200) | {"total": 0} == await nothing(ben)

        assert (await theirs.subscribe({room: None}))["conversations"][room] == {"error": "not_found"}
        for path in ("", "/messages", "/events", "/members"):
            await guest.call("GET", f"/api/conversations/{room}{path}", expect=404)
        await guest.call("POST", f"/api/conversations/{room}/join", expect=404)
        await guest.call("GET", "/api/conversations/public", expect=403)
        await invite(ana, room, guest)
        added = await theirs.wait_for(lambda frame: frame["type"] == "conversation.added")
        assert (added["conversation"]["id"], added["conversation"]["role"]) == (room, "member")
        assert await seqs(guest, room, "messages") == [1, 2]


async def test_a_room_that_closes_sends_its_visitors_away(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    room = await ana.room(visibility="public")
    async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his, ben.socket(f"/ws/room/{room}") as bound:
        await ana.call("PATCH", f"/api/conversations/{room}", {"visibility": "private"}, expect=200)
        removed = await his.wait_for(lambda frame: frame["type"] == "conversation.removed")
        assert (removed["conversation"], removed["code"]) == (room, "not_found")
        assert await bound.closed() == 4507
        await hers.say(room, "among us")
        await his.settle()
        assert [event["kind"] for event in his.events(room)] == ["conversation.updated"]
        await ben.call("GET", f"/api/conversations/{room}/messages", expect=404)


# -- leaving ----------------------------------------------------------------------------------------------------------


async def test_who_is_shown_the_door_gets_nothing_above_it(people: MakePeople, shared_studio: RunningStudio) -> None:
    ana, ben, cas = await people("ana", "ben", "cas")
    room = await ana.room(members=[ben.id, cas.id])
    async with (
        ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his, ben.socket(f"/ws/room/{room}") as bound,
        cas.socket("/ws", room) as others,
    ):  # fmt: skip
        early = (await hers.say(room, "early"))["message"]
        async with held(shared_studio, room):
            await hers.send("send", conversation=room, text="before")
            await asyncio.sleep(0.1)  # it waits for the row now, and what follows is committed together behind it
            kick = ana.call("DELETE", f"/api/conversations/{room}/members/{ben.id}", expect=204)
            kicking = asyncio.create_task(kick)
            await until_waiting(shared_studio, 1)
            for number in range(50):
                await hers.send("send", conversation=room, text=f"after {number}")
            await hers.send("delete", conversation=room, message=early)
            await until_waiting(shared_studio, 52)
        await kicking
        left = await others.event("member.left")
        assert left["data"] == {"user": ben.id, "by": ana.id}
        deleted = await others.event("message.deleted")
        assert deleted["seq"] == left["seq"] + 51
        removed = await his.wait_for(lambda frame: frame["type"] == "conversation.removed")
        assert (removed["conversation"], removed["code"]) == (room, "kicked")
        assert await bound.closed() == 4507
        await his.settle()
        for socket in (his, bound):
            assert [event["seq"] for event in socket.events(room)] == list(range(1, left["seq"] + 1))
        # Nothing brings it back: no cursor, no frame, no request.
        epoch = hers.welcome["conversations"][0]["epoch"]
        for cursor in (None, {"seq": 3, "epoch": epoch}):
            assert (await his.subscribe({room: cursor}))["conversations"][room] == {"error": "not_found"}
        assert (await his.ask("send", conversation=room, text="x"))["code"] == "not_found"
        await his.connection.send(f'{{"type": "typing", "conversation": "{room}", "on": true}}')
        for path in ("", "/messages", "/events", "/members"):
            await ben.call("GET", f"/api/conversations/{room}{path}", expect=404)
        await others.settle()
        assert not [frame for frame in others.seen if frame["type"] == "typing"]


async def test_who_comes_back_sees_what_comes_after(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his:
        await hers.say(room, "together")
        await ben.call("POST", f"/api/conversations/{room}/leave", expect=204)
        removed = await his.wait_for(lambda frame: frame["type"] == "conversation.removed")
        assert removed["code"] == "left"
        await hers.say(room, "without him")
        await invite(ana, room, ben)
        await his.wait_for(lambda frame: frame["type"] == "conversation.added")
        await his.subscribe({room: {"seq": 0}})
        await hers.say(room, "together again")
        await his.event("message.created", seq=5)
        texts = [event["data"].get("text") for event in his.events(room) if event["kind"] == "message.created"]
        assert texts == ["together", "together again"]
        assert await seqs(ben, room, "messages") == [5]


async def test_a_deleted_conversation_is_gone_for_everybody(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his, ben.socket(f"/ws/room/{room}") as bound:
        await hers.say(room, "soon gone")
        await ana.call("DELETE", f"/api/conversations/{room}", expect=204)
        for socket in (hers, his):
            removed = await socket.wait_for(lambda frame: frame["type"] == "conversation.removed")
            assert (removed["conversation"], removed["code"]) == (room, "deleted")
            assert (await socket.ask("send", conversation=room, text="x"))["code"] == "not_found"
            assert (await socket.subscribe({room: None}))["conversations"][room] == {"error": "not_found"}
        assert await bound.closed() == 4507
        for person in (ana, ben):
            await person.call("GET", f"/api/conversations/{room}/messages", expect=404)
            assert await person.call("GET", "/api/conversations", expect=200) == await nothing(person)


# -- one message, and what is for moderators --------------------------------------------------------------------------


async def test_one_message_is_shown_as_on_a_page_and_to_those_who_see_that_page(people: MakePeople) -> None:
    ana, ben, eve = await people("ana", "ben", "eve")
    room, elsewhere = await ana.room(), await ana.room()
    async with ana.socket("/ws", room) as hers:
        before = (await hers.say(room, "before"))["message"]
        await invite(ana, room, ben)
        after = (await hers.say(room, "after", reply_to=before))["message"]
        await hers.ask("react", conversation=room, message=after, emoji="👍", on=True)

        async def one(person: Person, message: str, conversation: str = room, expect: int = 200) -> Frame:
            found: Frame = await person.call(
                "GET", f"/api/conversations/{conversation}/messages/{message}", expect=expect
            )
            return found

        page = (await ana.call("GET", f"/api/conversations/{room}/messages", expect=200))["messages"]
        assert [await one(ana, before), await one(ana, after)] == page
        assert await one(ben, after) == page[1]
        missing = await one(ben, before, expect=404)  # said before he came
        for person, message, conversation in (
            (ben, new_id(), room), (ben, "x", room), (ana, after, elsewhere), (eve, after, room),
            (eve, after, new_id()),
        ):  # fmt: skip
            answer = await one(person, message, conversation, expect=404)
            assert person is eve or answer["detail"] == missing["detail"]
        await hers.ask("delete", conversation=room, message=after)
        gone = await one(ben, after)
        assert (gone["text"], gone["reactions"], gone["deleted_at"] is None) == ("", [], False)


async def test_the_system_prompt_is_for_those_who_may_change_it(
    people: MakePeople, shared_studio: RunningStudio
) -> None:
    prompt, second_prompt = "you are a parrot", "you are a raven"
    owner, moderator, member, reader, visitor = await people("owner", "moderator", "member", "reader", "visitor")
    room = await owner.room(
        visibility="public", system_prompt=prompt, members=[person.id for person in (moderator, member, reader)]
    )
    for person, role in ((moderator, "moderator"), (reader, "reader")):
        await owner.call("PUT", f"/api/conversations/{room}/members/{person.id}", {"role": role}, expect=200)

    async def shown(person: Person) -> tuple[str | None, bool]:
        found = await person.call("GET", f"/api/conversations/{room}", expect=200)
        return found["system_prompt"], found["has_system_prompt"]

    everybody = (owner, moderator, member, reader, visitor)
    assert [await shown(person) for person in everybody] == [(prompt, True)] * 2 + [(None, True)] * 3
    async with member.socket("/ws", room) as socket, visitor.socket("/ws", room) as outside:
        changed = await moderator.call(
            "PATCH", f"/api/conversations/{room}", {"system_prompt": second_prompt, "title": "a title"}, expect=200
        )
        assert changed["system_prompt"] == second_prompt
        for listener in (socket, outside):
            event = await listener.event("conversation.updated")
            assert event["data"] == {"title": "a title", "has_system_prompt": True}
        await owner.call("PATCH", f"/api/conversations/{room}", {"system_prompt": None}, expect=200)
        last = await socket.event("conversation.updated")
        assert last["data"] == {"has_system_prompt": False}
    assert [await shown(person) for person in everybody] == [(None, False)] * 5
    database = shared_studio.parts.database
    written = await database.fetch("SELECT data FROM events WHERE conversation = $1", room)
    assert not any(prompt in row["data"] or second_prompt in row["data"] for row in written)
    # As a version that still wrote the prompt into the log left it there.
    await database.execute(
        "UPDATE events SET data = $3::json WHERE conversation = $1 AND seq = $2",
        room, last["seq"], f'{{"title":"old","system_prompt":"{prompt}"}}',
    )  # fmt: skip
    page = await member.call("GET", f"/api/conversations/{room}/events?after={last['seq'] - 1}", expect=200)
    assert page["events"][0]["data"] == {"title": "old", "has_system_prompt": True}
    async with reader.socket() as socket:
        await socket.subscribe({room: {"seq": 0}})
        await socket.event("conversation.updated", seq=last["seq"])
        assert prompt not in str(socket.seen)
        assert second_prompt not in str(socket.seen)


# -- deleting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("was_subscribed", [True, False], ids=["from the ring", "from the log"])
async def test_a_deleted_text_is_nowhere(
    people: MakePeople, shared_studio: RunningStudio, was_subscribed: bool
) -> None:
    ana, ben = await people("ana", "ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", *([room] if was_subscribed else [])) as hers:
        before = (await hers.say(room, "before"))["seq"]
        sent = await hers.say(room, f"@{ben.name} {SECRET}", id=f"id-{before}")
        message = sent["message"]
        for act, fields in (
            ("edit", {"text": SECOND_SECRET}),
            ("react", {"emoji": "👍", "on": True}),
            ("pin", {"on": True}),
        ):
            assert (await hers.ask(act, conversation=room, message=message, **fields))["type"] == "ack"
        await until_found(ana, SECOND_SECRET)
        assert (await hers.ask("delete", conversation=room, message=message))["type"] == "ack"
        head = (await hers.say(room, "after"))["seq"]

        epoch = (await ana.call("GET", f"/api/conversations/{room}", expect=200))["epoch"]
        async with ben.socket() as his:
            await his.subscribe({room: {"seq": before, "epoch": epoch}})
            await his.event("message.created", seq=head)
            resumed = his.events(room)
            assert [event["seq"] for event in resumed] == list(range(before + 1, head + 1))
            assert (resumed[0]["data"]["text"], resumed[0]["data"]["redacted"]) == ("", True)
            assert resumed[0]["data"]["mentions"] == []
            assert SECRET not in str(his.seen)
            assert SECOND_SECRET not in str(his.seen)
        for path in ("messages", "events"):
            page = await ben.call("GET", f"/api/conversations/{room}/{path}", expect=200)
            assert SECRET not in str(page)
            assert SECOND_SECRET not in str(page)
        messages = (await ben.call("GET", f"/api/conversations/{room}/messages", expect=200))["messages"]
        (gone,) = [found for found in messages if found["id"] == message]
        assert (gone["text"], gone["reactions"], gone["pinned"], gone["deleted_at"] is None) == ("", [], False, False)
        # The same id still names that message, and no other.
        assert await hers.ask("send", conversation=room, text=f"@{ben.name} {SECRET}", id=f"id-{before}") == sent
        await until_nowhere(shared_studio, SECRET)
        await until_nowhere(shared_studio, SECOND_SECRET)


async def test_a_deleted_answer_is_nowhere(people: MakePeople, shared_studio: RunningStudio) -> None:
    (ana,) = await people("ana")
    room = await ana.room()
    async with ana.socket("/ws", room) as hers:
        asked = await hers.say(room, f"@demo {SECRET}")  # which it repeats
        ended = await hers.event("run.ended")
        assert SECRET in ended["data"]["text"]
        for message in (asked["message"], ended["data"]["message"]):
            assert (await hers.ask("delete", conversation=room, message=message))["type"] == "ack"
        for path in ("messages", "events"):
            assert SECRET not in str(await ana.call("GET", f"/api/conversations/{room}/{path}", expect=200))
        await until_nowhere(shared_studio, SECRET)


# -- tools ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def held(studio: RunningStudio, room: str) -> AsyncIterator[None]:
    """Somebody holds the room's row: meanwhile all that is sent there gathers, and then it is committed at once."""
    async with studio.parts.database.transaction() as connection:
        await connection.execute("SELECT FROM heads WHERE conversation = $1 FOR UPDATE", room)
        yield


async def until_waiting(studio: RunningStudio, count: int) -> None:
    """Until so many drafts wait; on a very slow machine they may have been taken before the last one came."""
    with suppress(TimeoutError):
        async with asyncio.timeout(1.5):
            while studio.parts.queue.depth < count:
                await asyncio.sleep(0.005)


async def invite(owner: Person, room: str, person: Person) -> None:
    await owner.call("PUT", f"/api/conversations/{room}/members/{person.id}", {"role": "member"}, expect=201)


async def seqs(person: Person, room: str, what: str) -> list[int]:
    page = await person.call("GET", f"/api/conversations/{room}/{what}?limit=200", expect=200)
    return [entry["seq"] for entry in page[what]]


async def nothing(person: Person) -> Frame:
    """The list of conversations of somebody who has none."""
    return {"page": 1, "page_size": 20, "total": 0, "total_pages": 0, "conversations": []}


async def until_found(person: Person, word: str) -> None:
    """Until the search, which follows the log, has come that far."""
    async with asyncio.timeout(10):
        while not (await person.call("GET", f"/api/search?query={word}", expect=200))["results"]:
            await asyncio.sleep(0.05)


async def until_nowhere(studio: RunningStudio, word: str) -> None:
    """In no row of any table; what follows the log may come a moment later."""
    database = studio.parts.database
    tables = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    async with asyncio.timeout(10):
        while True:
            found = [
                table["tablename"]
                for table in tables
                if await database.fetch_value(
                    f"SELECT count(*) FROM \"{table['tablename']}\" AS t WHERE t::text LIKE '%{word}%'"
                )
            ]
            if not found:
                return
            assert "events" not in found, "the log itself is cleaned in the same transaction"
            assert "messages" not in found
            await asyncio.sleep(0.05)

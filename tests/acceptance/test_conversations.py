"""Lists and pages: what is counted, in which order it comes, and what many people do at the same moment."""

import asyncio
from typing import Any

import pytest

from server.protocol.ids import new_id
from tests.acceptance.conftest import MakePeople
from tests.running_studio import Frame, Person

# -- my conversations -------------------------------------------------------------------------------------------------


async def test_the_list_comes_in_pages_of_the_order_asked_for(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    titles = [f"room {number:02}" for number in range(23)]
    drafts = [{"kind": "room", "title": title} for title in (*titles[1::2], *titles[0::2])]
    await ana.call("POST", "/api/conversations/batch", {"conversations": drafts}, expect=201)
    made = [draft["title"] for draft in drafts]
    await ana.call("POST", "/api/conversations", {"kind": "private", "members": [ben.id]}, expect=201)
    await ana.call("POST", "/api/conversations", {"kind": "assistant", "title": "Zoë"}, expect=201)

    assert await all_titles(ana, "kind=room&sort_by=title&sort_order=asc") == titles
    assert await all_titles(ana, "kind=room&sort_by=title&sort_order=desc") == titles[::-1]
    assert set(await all_titles(ana, "kind=room&sort_by=created_at")) == set(titles)
    assert (await all_titles(ana, "sort_by=title&sort_order=asc"))[0] is None  # the chat, under its peer's name: ben
    assert await all_titles(ana, "kind=assistant") == ["Zoë"]
    assert await all_titles(ana, "kind=private") == [None]

    everything = await ana.call("GET", "/api/conversations?page_size=100", expect=200)
    assert (everything["total"], everything["total_pages"], len(everything["conversations"])) == (25, 1, 25)
    oldest = next(c["id"] for c in everything["conversations"] if c["title"] == made[0])
    async with ana.socket() as socket:
        await socket.say(oldest, "a sign of life")
    assert (await all_titles(ana, ""))[0] == made[0]
    assert (await all_titles(ana, "sort_order=asc"))[-1] == made[0]
    beyond = await ana.call("GET", "/api/conversations?page=9&page_size=10", expect=200)
    assert (beyond["page"], beyond["total"], beyond["total_pages"], beyond["conversations"]) == (9, 25, 3, [])


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=-1",
        "page=x",
        "page_size=0",
        "page_size=101",
        "sort_by=colour",
        "sort_order=up",
        "kind=x",
        "colour=red",
    ],
)
async def test_a_list_that_cannot_be_is_refused(people: MakePeople, query: str) -> None:
    (ana,) = await people("ana")
    assert (await ana.call("GET", f"/api/conversations?{query}", expect=422))["code"] == "bad_frame"


async def all_titles(person: Person, query: str) -> list[str | None]:
    titles: list[str | None] = []
    page, total_pages = 1, 1
    while page <= total_pages:
        answer = await person.call(
            "GET", f"/api/conversations?{query}&page={page}&page_size=7".replace("?&", "?"), expect=200
        )
        total_pages = answer["total_pages"]
        assert len(answer["conversations"]) == (7 if page < total_pages else answer["total"] - 7 * (total_pages - 1))
        titles += [conversation["title"] for conversation in answer["conversations"]]
        page += 1
    return titles


# -- all or none ------------------------------------------------------------------------------------------------------


async def test_many_are_made_together_or_not_at_all(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    good: Frame = {"kind": "room", "title": "good", "members": [ben.id]}
    async with ben.socket() as his:
        for bad, status in (
            ({"kind": "room", "title": "bad", "members": [new_id()]}, 404),
            ({"kind": "room", "title": "bad", "members": ["x"]}, 404),
            ({"kind": "room"}, 422),
            ({"kind": "private", "members": [ana.id]}, 422),
        ):
            await ana.call("POST", "/api/conversations/batch", {"conversations": [good, good, bad]}, expect=status)
        for size in (0, 101):
            await ana.call("POST", "/api/conversations/batch", {"conversations": [good] * size}, expect=422)
        assert (await ana.call("GET", "/api/conversations", expect=200))["total"] == 0
        made = await ana.call("POST", "/api/conversations/batch", {"conversations": [good, good]}, expect=201)
        ids = [conversation["id"] for conversation in made["conversations"]]
        assert len(set(ids)) == 2
        for _ in ids:
            added = await his.wait_for(lambda frame: frame["type"] == "conversation.added")
            assert added["conversation"]["id"] in ids
        await his.settle()
        assert len([frame for frame in his.seen if frame["type"] == "conversation.added"]) == 2


async def test_many_are_deleted_together_or_not_at_all(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    mine = [await ana.room(), await ana.room()]
    where_i_am_guest, foreign = await ben.room(members=[ana.id]), await ben.room()
    async with ana.socket("/ws", *mine) as hers:
        for others, status in (
            ([where_i_am_guest], 403), ([foreign], 404), ([new_id()], 404), (["x"], 404),
            ([where_i_am_guest, foreign], None),
        ):  # fmt: skip
            answer = await ana.call("DELETE", "/api/conversations/batch", {"ids": [*mine, *others]})
            assert answer["status"] == status or (status is None and answer["status"] in (403, 404))
        for room in (*mine, where_i_am_guest):
            await hers.say(room, "still here")
        deleted = await ana.call("DELETE", "/api/conversations/batch", {"ids": [*mine, mine[0]]}, expect=200)
        assert sorted(deleted["deleted"]) == sorted(mine)
        for _ in mine:
            removed = await hers.wait_for(lambda frame: frame["type"] == "conversation.removed")
            assert removed["code"] == "deleted"
    assert [c["id"] for c in (await ana.call("GET", "/api/conversations", expect=200))["conversations"]] == [
        where_i_am_guest
    ]


# -- private chats ----------------------------------------------------------------------------------------------------


async def test_two_people_have_one_private_chat_however_often_it_is_opened(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    async with ana.socket() as hers, ben.socket() as his:

        async def open_by_request(person: Person, peer: Person) -> tuple[int, str]:
            answer = await person.http.post("/api/conversations", json={"kind": "private", "members": [peer.id]})
            return answer.status_code, answer.json()["id"]

        async def open_by_socket(person: Person, peer: Person) -> tuple[int, str]:
            async with person.socket(f"/ws/private/{peer.id}") as socket:
                return 0, (await socket.ask("send", text="hello"))["conversation"]

        opened: list[Any] = []
        for _ in range(5):
            opened += [open_by_request(ana, ben), open_by_request(ben, ana)]
        opened += [open_by_socket(ana, ben), open_by_socket(ben, ana)]
        answers = await asyncio.gather(*opened)
        assert len({conversation for _, conversation in answers}) == 1, answers
        assert sum(status == 201 for status, _ in answers) <= 1
        chat = answers[0][1]
        for socket, peer in ((hers, ben), (his, ana)):
            added = await socket.wait_for(lambda frame: frame["type"] == "conversation.added")
            assert (added["conversation"]["id"], added["conversation"]["peer"]["id"]) == (chat, peer.id)
            await socket.settle()
            assert len([frame for frame in socket.seen if frame["type"] == "conversation.added"]) == 1
        for person in (ana, ben):
            assert (await person.call("GET", "/api/conversations", expect=200))["total"] == 1
        # Who deletes it may begin anew.
        await ben.call("DELETE", f"/api/conversations/{chat}", expect=204)
        status, anew = await open_by_request(ana, ben)
        assert (status, anew == chat) == (201, False)


async def test_of_ten_who_join_at_once_each_is_in_once(people: MakePeople) -> None:
    ana, *others = await people("ana", *"bcdefghijk")
    room = await ana.room(visibility="public")
    async with ana.socket("/ws", room) as hers:
        joins = [
            other.call("POST", f"/api/conversations/{room}/join", expect=200) for other in others for _ in range(2)
        ]
        await asyncio.gather(*joins)
        await hers.event("member.joined", seq=len(others))
        await hers.settle()
        assert [event["seq"] for event in hers.events(room)] == list(range(1, len(others) + 1))
        assert {event["data"]["user"] for event in hers.events(room)} == {other.id for other in others}
    members = (await ana.call("GET", f"/api/conversations/{room}/members", expect=200))["members"]
    assert sorted(member["user"]["id"] for member in members) == sorted(person.id for person in (ana, *others))


# -- counting ---------------------------------------------------------------------------------------------------------


async def test_unread_counts_messages_of_others_and_nothing_else(people: MakePeople) -> None:
    ana, ben, cas = await people("ana", "ben", "cas")
    room = await ana.room(members=[ben.id, cas.id])
    async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his:
        first = await hers.say(room, "one of hers")
        await his.say(room, "one of his")
        await hers.ask("edit", conversation=room, message=first["message"], text="edited")
        await hers.ask("react", conversation=room, message=first["message"], emoji="👍", on=True)
        await hers.ask("pin", conversation=room, message=first["message"], on=True)
        assert [await unread(person, room) for person in (ana, ben, cas)] == [1, 1, 2]
        await hers.ask("run", conversation=room)
        head = (await hers.event("run.ended"))["seq"]
        assert [await unread(person, room) for person in (ana, ben, cas)] == [2, 2, 3]  # an answer is a message
        await cas.call("PUT", f"/api/conversations/{room}/read", {"seq": 1}, expect=204)
        assert await unread(cas, room) == 2
        await cas.call("PUT", f"/api/conversations/{room}/read", {"seq": head}, expect=204)
        assert await unread(cas, room) == 0
        await his.say(room, "and another")
        assert [await unread(person, room) for person in (ana, ben, cas)] == [3, 2, 1]
        async with cas.socket() as theirs:
            (mine,) = (c for c in theirs.welcome["conversations"] if c["id"] == room)
            assert (mine["unread"], mine["read"]) == (1, head)
        assert [c["unread"] for c in (await cas.call("GET", "/api/conversations", expect=200))["conversations"]] == [1]


async def unread(person: Person, room: str) -> int:
    return int((await person.call("GET", f"/api/conversations/{room}", expect=200))["unread"])


# -- pages of messages ------------------------------------------------------------------------------------------------


async def test_pages_go_back_and_forth_without_a_gap(people: MakePeople) -> None:
    (ana,) = await people("ana")
    room = await ana.room()
    async with ana.socket("/ws", room) as socket:
        messages = [(await socket.say(room, f"{number}"))["message"] for number in range(30)]
        for message in messages[::3]:  # events between the messages: a page counts messages, a cursor is a seq
            await socket.ask("react", conversation=room, message=message, emoji="👍", on=True)
        messages += [(await socket.say(room, f"{number}"))["message"] for number in range(30, 60)]
    newest = await ana.call("GET", f"/api/conversations/{room}/messages", expect=200)
    assert ([m["id"] for m in newest["messages"]], newest["has_more"], newest["head"]) == (messages[-50:], True, 70)
    for limit in (7, 60, 200):
        assert [m["id"] for m in await walk(ana, room, "before", limit)] == messages
        assert [m["id"] for m in await walk(ana, room, "after", limit)] == messages
    for query in ("before=0", "before=1", "after=70", "after=9007199254740992"):
        page = await ana.call("GET", f"/api/conversations/{room}/messages?{query}", expect=200)
        assert (page["messages"], page["has_more"], page["head"]) == ([], False, 70)


async def walk(person: Person, room: str, direction: str, limit: int) -> list[Frame]:
    """The whole room, oldest first, page by page."""
    found: list[Frame] = []
    cursor = "after=0" if direction == "after" else ""
    while True:
        page = await person.call(
            "GET", f"/api/conversations/{room}/messages?limit={limit}&{cursor}".rstrip("&"), expect=200
        )
        messages = page["messages"]
        assert messages, "the page before said that there was more"
        assert [m["seq"] for m in messages] == sorted(m["seq"] for m in messages)
        assert len(messages) == limit or not page["has_more"]
        found = found + messages if direction == "after" else messages + found
        if not page["has_more"]:
            return found
        cursor = f"{direction}={messages[-1 if direction == 'after' else 0]['seq']}"


async def test_a_page_and_a_subscription_from_its_head_miss_nothing(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as hers:

        async def write() -> None:
            for number in range(300):
                await hers.send("send", conversation=room, text=f"{number}")
                await asyncio.sleep(0.001)

        writing = asyncio.create_task(write())
        rounds = 0
        while not writing.done():
            async with ben.socket() as his:
                page = await ben.call("GET", f"/api/conversations/{room}/messages?limit=200", expect=200)
                seqs = [message["seq"] for message in page["messages"]]
                assert not seqs or seqs[-1] == page["head"]
                await his.subscribe({room: {"seq": page["head"], "epoch": page["epoch"]}})
                await asyncio.sleep(0.02)
                await his.settle()
                seqs += [event["seq"] for event in his.events(room)]
                assert seqs == list(range(seqs[0], seqs[0] + len(seqs))) if seqs else True
                rounds += 1
        await writing
        assert rounds > 1

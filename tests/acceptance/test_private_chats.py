"""Private chats: opened once, kept quiet until something is said, ended by a block and begun again without it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest
import websockets

from server.hub import presence, receipt_pace, receipts
from server.protocol.codec import parse
from server.protocol.ids import new_id
from server.storage.database import Database
from tests.acceptance.conftest import MakePeople
from tests.redis_server import RedisServer
from tests.running_studio import Frame, Person, RunningStudio, Socket, run_studio
from tests.studio_process import make_people


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "TELL_EVERY_S", 0.05)
    monkeypatch.setattr(presence, "GRACE_S", 0.1)
    monkeypatch.setattr(receipts, "WRITE_EVERY_S", 0.05)
    monkeypatch.setattr(receipt_pace, "TELL_EVERY_S", 0.05)


# -- opening ----------------------------------------------------------------------------------------------------------


async def test_an_empty_chat_stands_in_the_list_of_whoever_opened_it_alone(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    async with ana.socket() as hers, ben.socket() as his, ana.socket(f"/ws/private/{ben.id}") as bound:
        chat = (await hers.wait_for(is_added))["conversation"]["id"]
        assert [c["id"] for c in bound.welcome["conversations"]] == [chat]
        await his.settle()
        assert (his.of_type("conversation.added"), await chats_of(ben)) == ([], [])
        assert await chats_of(ana) == [chat]
        assert (await titles_found(ana, ben.name), await titles_found(ben, ana.name)) == ([chat], [])
        async with ben.socket() as later:
            assert later.welcome["conversations"] == []
        await bound.ask("send", text="hello")
        added = (await his.wait_for(is_added))["conversation"]
        assert (added["id"], added["peer"]["id"], added["unread"], added["head"]) == (chat, ana.id, 1, 1)
        assert await chats_of(ben) == await titles_found(ben, ana.name) == [chat]
        await his.subscribe({chat: {"seq": 0}})
        assert (await his.event("message.created"))["data"]["text"] == "hello"
        await bound.ask("send", text="once more")
        await his.event("message.created", seq=2)
        assert len(his.of_type("conversation.added")) == 1


async def test_who_opens_an_empty_chat_from_the_other_side_has_it_on_all_devices(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    made = await open_chat(ana, ben)
    async with ben.socket() as first, ben.socket() as second:
        assert await open_chat(ben, ana) == made
        for socket in (first, second):
            assert (await socket.wait_for(is_added))["conversation"]["id"] == made
    assert await chats_of(ben) == [made]


async def test_two_sides_who_open_at_once_on_two_workers_meet_in_one_chat(database: Database) -> None:
    async with run_studio(database) as one, run_studio(database) as other, AsyncExitStack() as stack:
        for _ in range(5):
            ana, ben = await make_people(database, one.port, [f"ana-{new_id()}", f"ben-{new_id()}"])
            for person in (ana, ben):
                await stack.enter_async_context(person)
            ben.port = other.port

            async def say(person: Person, peer: Person) -> Frame:
                async with person.socket(f"/ws/private/{peer.id}") as socket:
                    return await socket.ask("send", text="hello")

            said = await asyncio.gather(*(say(*pair) for pair in [(ana, ben), (ben, ana)] * 3))
            assert len({answer["conversation"] for answer in said}) == 1, said
            assert sorted(answer["seq"] for answer in said) == [1, 2, 3, 4, 5, 6]


async def test_with_whom_no_chat_is_opened(people: MakePeople, shared_studio: RunningStudio) -> None:
    ana, ben = await people("ana", "ben")
    (guest,) = await people("guest", role="guest")
    database = shared_studio.parts.database
    with_guest, old = await open_chat(ana, guest), await open_chat(ana, ben)
    await disable(database, ben)
    eve, kim = await people("eve", "kim")
    refused = [
        (ana, ana.id, 404), (ana, new_id(), 404), (ana, "x", 404), (eve, ben.id, 404), (guest, eve.id, 403),
        (guest, new_id(), 403), (guest, guest.id, 404),
    ]  # fmt: skip
    for person, peer, status in refused:
        with pytest.raises(websockets.InvalidStatus) as answer:
            async with person.socket(f"/ws/private/{peer}"):
                pass
        assert (person.name, answer.value.response.status_code) == (person.name, status)
    async with ana.socket(f"/ws/private/{ben.id}") as socket:  # an old chat can be read
        assert [c["id"] for c in socket.welcome["conversations"] if c["peer"]["id"] == ben.id] == [old]
    async with ana.socket(f"/ws/private/{guest.id}") as hers:
        await hers.ask("send", text="welcome")
        async with guest.socket(f"/ws/private/{ana.id}") as theirs:
            assert (await theirs.ask("send", text="thank you"))["conversation"] == with_guest
    # Whom somebody has blocked opens nothing new, and does not learn that it is a block.
    await block(kim, eve)
    for person, other in ((eve, kim), (kim, eve)):
        for answered in (await opening_by_socket(person, other), await opening_by_request(person, other)):
            assert (answered["status"], answered["code"]) == (403, "forbidden")
            assert ("unblock" in answered["detail"]) == (person is kim)
            assert person is kim or "block" not in answered["detail"]


# -- blocks -----------------------------------------------------------------------------------------------------------


async def test_a_block_ends_everything_in_both_directions_and_its_end_brings_it_back(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    async with devices(ana, ben) as (chat, hers, his):
        said = await hers[0].say(chat, "from ana"), await his[0].say(chat, "from ben")
        own = {ana: said[0]["message"], ben: said[1]["message"]}
        await block(ana, ben)
        for person, sockets in ((ana, hers), (ben, his)):
            for socket in sockets:
                for kind, fields in (
                    ("send", {"text": "x"}), ("edit", {"message": own[person], "text": "x"}), ("run", {}),
                    ("react", {"message": own[person], "emoji": "👍", "on": True}),
                    ("pin", {"message": own[person], "on": True}),
                ):  # fmt: skip
                    answer = await socket.ask(kind, conversation=chat, **fields)
                    assert (kind, answer.get("code")) == (kind, "forbidden")
                    assert ("unblock" in answer["message"]) == (person is ana)
                assert (await type_in(socket, chat)).get("code") == "forbidden"
            page = await person.call("GET", f"/api/conversations/{chat}/messages", expect=200)
            assert [message["text"] for message in page["messages"]] == ["from ana", "from ben"]
        for socket in (*hers, *his):
            await socket.settle()
            assert socket.of_type("typing") == []
            assert [event["seq"] for event in socket.events(chat)] == [1, 2]
        await unblock(ana, ben)
        assert (await his[0].say(chat, "back again"))["seq"] == 3
        await type_in(his[0], chat)
        for socket in hers:
            await socket.event("message.created", seq=3)
            await socket.wait_for(lambda frame: frame["type"] == "typing" and frame["user"] == ben.id)


async def test_every_device_of_who_blocks_is_told_and_the_other_side_is_not(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    async with devices(ana, ben) as (chat, hers, his):
        await hers[0].say(chat, "hello")
        for act, is_blocked in ((block, True), (unblock, False)):
            await act(ana, ben)
            for socket in hers:
                added = (await socket.wait_for(is_added))["conversation"]
                assert (added["id"], added["blocked_by_me"]) == (chat, is_blocked)
            seen = [(await person.call("GET", f"/api/conversations/{chat}", expect=200)) for person in (ana, ben)]
            assert [view["blocked_by_me"] for view in seen] == [is_blocked, False]
            async with ana.socket() as another:
                assert [c["blocked_by_me"] for c in another.welcome["conversations"]] == [is_blocked]
            listed = (await ana.call("GET", "/api/users/blocked", expect=200))["users"]
            assert listed == ([{"id": ben.id, "username": ben.name, "role": "member"}] if is_blocked else [])
            assert (await ben.call("GET", "/api/users/blocked", expect=200))["users"] == []
        for socket in his:
            await socket.settle()
            assert [f for f in socket.of_type("conversation.added") if f["conversation"]["head"] > 1] == []
            assert "block" not in str([frame for frame in socket.seen if frame["type"] != "conversation.added"])


async def test_what_no_log_keeps_stays_on_its_side_of_a_block(people: MakePeople) -> None:
    """Presence, typing and receipts; a person's own devices stay in step."""
    ana, ben = await people("ana", "ben")
    async with devices(ana, ben) as (chat, hers, his):
        for n in range(3):
            await hers[0].say(chat, f"{n}")
        await read(his[0], chat, 1)
        await hers[0].wait_for(lambda frame: frame["type"] == "receipt" and frame["read"] == 1)
        await block(ana, ben)
        for socket in (*hers, *his):
            await socket.settle()  # what was sent before the block
            socket.forget()
        await read(his[0], chat, 3)
        await his[1].wait_for(lambda frame: frame["type"] == "receipt" and frame["read"] == 3)
        async with ben.socket("/ws", chat) as third:
            await type_in(third, chat)
        await read(hers[0], chat, 3)
        await hers[1].wait_for(lambda frame: frame["type"] == "receipt" and frame["user"] == ana.id)
        for person, sockets, peer in ((ana, hers, ben), (ben, his, ana)):
            for socket in sockets:
                await socket.settle()
                assert [f for f in socket.seen if f.get("user") == peer.id] == []
            members = (await person.call("GET", f"/api/conversations/{chat}/members", expect=200))["members"]
            shown = {member["user"]["id"]: (member["read"], member["presence"]) for member in members}
            assert shown == {person.id: (3, "online"), peer.id: (1 if person is ana else 0, "offline")}
        await unblock(ana, ben)
        members = (await ana.call("GET", f"/api/conversations/{chat}/members", expect=200))["members"]
        assert {member["user"]["id"]: member["read"] for member in members} == {ana.id: 3, ben.id: 3}
        await hers[0].say(chat, "new")
        await read(his[0], chat, 4)
        await hers[1].wait_for(lambda frame: frame["type"] == "receipt" and frame["read"] == 4)


async def test_who_subscribes_behind_a_block_hears_nothing_either(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    chat = await open_chat(ana, ben)
    await block(ana, ben)
    async with ana.socket(f"/ws/private/{ben.id}") as hers, ben.socket("/ws", chat) as his:
        for socket in (hers, his):
            assert (await type_in(socket, chat)).get("code") == "forbidden"
        await unblock(ana, ben)
        await type_in(his, chat)
        await hers.wait_for(lambda frame: frame["type"] == "typing")


async def test_who_comes_and_goes_behind_a_block_is_told_in_shared_rooms_alone(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    chat, shared = await open_chat(ana, ben), await ana.room(members=[ben.id])
    await block(ben, ana)
    async with ana.socket("/ws", chat, shared) as hers:
        async with ben.socket("/ws", chat, shared):
            await hers.wait_for(lambda frame: is_presence(frame, ben, "online"))
        await hers.wait_for(lambda frame: is_presence(frame, ben, "offline"))
        await hers.settle()
        assert {frame["conversation"] for frame in hers.of_type("presence") if frame["user"] == ben.id} == {shared}


async def test_both_may_block_and_both_must_unblock(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    async with devices(ana, ben) as (chat, hers, his):
        await asyncio.gather(block(ana, ben), block(ben, ana), block(ana, ben))
        for socket in (hers[0], his[0]):
            assert "unblock" in (await socket.ask("send", conversation=chat, text="x"))["message"]
        await unblock(ana, ben)
        assert "unblock" not in (await hers[0].ask("send", conversation=chat, text="x"))["message"]
        assert "unblock" in (await his[0].ask("send", conversation=chat, text="x"))["message"]
        await unblock(ben, ana)
        await hers[0].say(chat, "at last")
        await his[1].event("message.created")


async def test_a_shared_room_knows_nothing_of_a_block_and_invitations_do(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    shared, his_room, her_room = await ana.room(members=[ben.id]), await ben.room(), await ana.room()
    await block(ana, ben)
    async with ana.socket("/ws", shared) as hers, ben.socket("/ws", shared) as his:
        await his.say(shared, f"hello @{ana.name}")
        await hers.event("message.created")
        await type_in(his, shared)
        await hers.wait_for(lambda frame: frame["type"] == "typing")
        await read(hers, shared, 1)
        await his.wait_for(lambda frame: frame["type"] == "receipt" and frame["user"] == ana.id)
    refused = await ben.call("PUT", f"/api/conversations/{his_room}/members/{ana.id}", {"role": "member"}, expect=403)
    assert "block" not in refused["detail"]
    await ben.call("POST", "/api/conversations", {"kind": "room", "title": "x", "members": [ana.id]}, expect=403)
    await ana.call("PUT", f"/api/conversations/{her_room}/members/{ben.id}", {"role": "member"}, expect=201)
    await unblock(ana, ben)
    await ben.call("PUT", f"/api/conversations/{his_room}/members/{ana.id}", {"role": "member"}, expect=201)


async def test_whom_nobody_blocks(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    for user, status in ((ana.id, 422), (new_id(), 404), ("x", 404)):
        await ana.call("PUT", f"/api/users/{user}/block", expect=status)
    for _ in range(2):
        await ana.call("DELETE", f"/api/users/{ben.id}/block", expect=204)
        await block(ana, ben)
        await block(ana, ben)
        await unblock(ana, ben)


async def test_a_deleted_chat_does_not_lift_the_block(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    chat = await open_chat(ana, ben)
    await block(ana, ben)
    await ben.call("DELETE", f"/api/conversations/{chat}", expect=204)
    assert (await opening_by_request(ben, ana))["status"] == 403
    await unblock(ana, ben)
    assert await open_chat(ben, ana) != chat


# -- two nodes --------------------------------------------------------------------------------------------------------


async def test_blocks_and_receipts_reach_the_devices_on_another_node(
    database: Database, shared_redis: RedisServer
) -> None:
    """Each has one device on either node."""
    async with (
        run_studio(database, redis_url=shared_redis.url) as one,
        run_studio(database, redis_url=shared_redis.url) as other,
    ):
        ana, ben = await make_people(database, one.port, ["ana", "ben"])
        async with ana, ben, devices(ana, ben, other.port) as (chat, hers, his):
            await hers[0].say(chat, "hello")
            await read(his[0], chat, 1)
            for socket in (*hers, *his):
                await socket.wait_for(lambda frame: frame["type"] == "receipt" and frame["user"] == ben.id)
            for act, is_blocked in ((block, True), (unblock, False)):
                await act(ana, ben)
                for socket in hers:
                    await socket.wait_for(partial(shows_block, is_blocked))
                feed = other.parts.hub.feed(chat)
                assert feed is not None
                async with asyncio.timeout(10):
                    while feed.is_hushed is not is_blocked:
                        await asyncio.sleep(0.01)
            await type_in(his[1], chat)
            for socket in hers:
                await socket.wait_for(lambda frame: frame["type"] == "typing")


# -- tools ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def devices(
    ana: Person, ben: Person, second_port: int | None = None
) -> AsyncIterator[tuple[str, list[Socket], list[Socket]]]:
    """A chat of the two, and two open devices of each, the second perhaps on another node."""
    chat = await open_chat(ana, ben)
    async with AsyncExitStack() as stack:
        sockets: list[list[Socket]] = []
        for person in (ana, ben):
            ports = person.port, second_port or person.port
            sockets.append([])
            for port in ports:
                person.port = port
                sockets[-1].append(await stack.enter_async_context(person.socket("/ws", chat)))
            person.port = ports[0]
        yield chat, sockets[0], sockets[1]


def is_added(frame: Frame) -> bool:
    return bool(frame["type"] == "conversation.added")


def is_presence(frame: Frame, person: Person, state: str) -> bool:
    return bool(frame["type"] == "presence" and frame["user"] == person.id and frame["state"] == state)


def shows_block(is_blocked: bool, frame: Frame) -> bool:
    return is_added(frame) and frame["conversation"]["blocked_by_me"] is is_blocked


async def block(person: Person, other: Person) -> None:
    await person.call("PUT", f"/api/users/{other.id}/block", expect=204)


async def unblock(person: Person, other: Person) -> None:
    await person.call("DELETE", f"/api/users/{other.id}/block", expect=204)


async def open_chat(person: Person, peer: Person) -> str:
    made = await person.call("POST", "/api/conversations", {"kind": "private", "members": [peer.id]})
    return str(made["id"])


async def opening_by_request(person: Person, peer: Person) -> Any:
    return await person.call("POST", "/api/conversations", {"kind": "private", "members": [peer.id]})


async def opening_by_socket(person: Person, peer: Person) -> Any:
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with person.socket(f"/ws/private/{peer.id}"):
            pass
    return parse((refused.value.response.body or b"").decode())


async def chats_of(person: Person) -> list[str]:
    page = await person.call("GET", "/api/conversations?kind=private", expect=200)
    assert page["total"] == len(page["conversations"])
    return [chat["id"] for chat in page["conversations"]]


async def titles_found(person: Person, query: str) -> list[str]:
    found = await person.call("GET", f"/api/search?query={query}", expect=200)
    return [conversation["id"] for conversation in found["conversations"]]


async def type_in(socket: Socket, conversation: str) -> Frame:
    """The error that came of it, or nothing."""
    before = len(socket.seen)
    await socket.send_raw(f'{{"type": "typing", "conversation": "{conversation}", "on": true}}')
    await socket.settle()
    return next((frame for frame in socket.seen[before:] if frame["type"] == "error"), {})


async def read(socket: Socket, conversation: str, seq: int) -> None:
    await socket.send_raw(f'{{"type": "read", "conversation": "{conversation}", "seq": {seq}}}')


async def disable(database: Database, person: Person) -> None:
    await database.execute("UPDATE users SET disabled_at = now() WHERE id = $1", person.id)

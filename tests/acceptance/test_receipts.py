"""The ladder of a message, accepted, delivered, read, as both sides see it on all their devices, and who was away."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from server.hub import receipt_pace, receipts
from server.storage.database import Database
from tests.acceptance.conftest import MakePeople
from tests.running_studio import Frame, Person, RunningStudio, Socket, run_studio
from tests.studio_process import make_people

FOR_EVER_S = 1e6


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "WRITE_EVERY_S", 0.02)
    monkeypatch.setattr(receipt_pace, "TELL_EVERY_S", 0.02)


async def test_accepted_then_delivered_then_read(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    chat = await open_chat(ana, ben)
    async with AsyncExitStack() as stack:
        hers, his = [
            [await stack.enter_async_context(person.socket("/ws", chat)) for _ in range(2)] for person in (ana, ben)
        ]
        assert (await hers[0].say(chat, "hello"))["seq"] == 1
        assert await cursors(ana, chat) == await cursors(ben, chat) == {ana.id: (0, 0), ben.id: (0, 0)}
        await report(his[0], "delivered", chat, 1)
        for socket in (*hers, *his):
            assert await receipt(socket, ben) == {"conversation": chat, "user": ben.id, "delivered": 1, "read": 0}
        assert await cursors(ana, chat) == await cursors(ben, chat) == {ana.id: (0, 0), ben.id: (1, 0)}
        await report(his[1], "read", chat, 1)
        for socket in (*hers, *his):
            assert await receipt(socket, ben) == {"conversation": chat, "user": ben.id, "delivered": 1, "read": 1}
        assert await cursors(ana, chat) == await cursors(ben, chat) == {ana.id: (0, 0), ben.id: (1, 1)}
        async with ben.socket() as third:
            assert [(c["read"], c["unread"]) for c in third.welcome["conversations"]] == [(1, 0)]


async def test_what_one_device_has_read_no_other_shows_as_unread(people: MakePeople) -> None:
    """Also one that does not follow the conversation, and also in a room that is too large for receipts of others."""
    ana, ben, *crowd = await people("ana", "ben", *(f"c{n}" for n in range(50)))
    chat, room = await open_chat(ana, ben), await ana.room(members=[ben.id, *(person.id for person in crowd)])
    async with ana.socket("/ws", chat, room) as hers, ben.socket() as his, ben.socket("/ws", chat, room) as other:
        for conversation in (chat, room):
            await hers.say(conversation, "hello")
            await report(other, "read", conversation, 1)
            for socket in (his, other):
                assert (await receipt(socket, ben))["conversation"] == conversation
            await other.settle()
            assert len(other.of_type("receipt")) == (1 if conversation == chat else 2)  # each once, whatever its way
        await report(hers, "read", chat, 1)
        await receipt(hers, ana)
        assert [f["conversation"] for f in hers.of_type("receipt") if f["user"] == ben.id] == [chat]


async def test_a_cursor_moves_forward_and_not_beyond_the_head(people: MakePeople) -> None:
    ana, ben, eve = await people("ana", "ben", "eve")
    room = await ana.room(members=[ben.id], visibility="public")
    async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his, eve.socket("/ws", room) as visitor:
        for n in range(3):
            await hers.say(room, f"{n}")
        await report(visitor, "read", room, 3)  # who is no member has no cursor
        for kind, seq, expected in (
            ("read", 2, (2, 2)), ("delivered", 1, None), ("read", 1, None), ("delivered", 3, (3, 2)),
            ("read", 2**53, (3, 3)), ("delivered", 2**53, None), ("read", 0, None),
        ):  # fmt: skip
            await report(his, kind, room, seq)
            if expected is not None:
                told = await receipt(hers, ben)
                assert (told["delivered"], told["read"]) == expected
        await his.settle()
        assert (await cursors(ana, room))[ben.id] == (3, 3)
        assert [frame["user"] for frame in hers.of_type("receipt")] == [ben.id] * 3
        await hers.say(room, "one more")
        assert (await ben.call("GET", f"/api/conversations/{room}", expect=200))["unread"] == 1


async def test_many_readers_are_told_one_at_a_time_and_found_in_the_list(
    studio: RunningStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipt_pace, "TELL_EVERY_S", FOR_EVER_S)  # no second passes
    ana, *readers = [await studio.person(name) for name in ("ana", "ben", "eve", "kim", "lou")]
    room = await ana.room(members=[reader.id for reader in readers])
    async with ana.socket("/ws", room) as hers, AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(reader.socket("/ws", room)) for reader in readers]
        await hers.say(room, "hello")
        for socket in sockets:
            await report(socket, "read", room, 1)
            await socket.settle()
        await studio.parts.studio.receipts.write()
        await receipt(hers)
        await hers.settle()
        assert len(hers.of_type("receipt")) == 1
        assert await cursors(ana, room) == {ana.id: (0, 0), **{reader.id: (1, 1) for reader in readers}}


async def test_who_was_away_finds_how_much_waits_and_gets_it(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    async with ana.socket(f"/ws/private/{ben.id}") as hers:
        chat = (await hers.ask("send", text="0"))["conversation"]
        async with ben.socket("/ws", chat) as his:
            await report(his, "read", chat, 1)
            await receipt(hers, ben)
        for n in range(1, 6):
            await hers.ask("send", text=f"{n}")
        async with ben.socket() as his:
            (mine,) = his.welcome["conversations"]
            assert (mine["id"], mine["unread"], mine["read"], mine["head"]) == (chat, 5, 1, 6)
            assert mine["peer"]["id"] == ana.id
            answer = await his.subscribe({chat: {"seq": mine["read"], "epoch": mine["epoch"]}})
            assert (answer["conversations"][chat]["reset"], answer["conversations"][chat]["read"]) == (False, 1)
            await his.event("message.created", seq=6)
            assert [event["data"]["text"] for event in his.events(chat)] == ["1", "2", "3", "4", "5"]
            await report(his, "read", chat, 6)
            await receipt(hers, ben)
        async with ben.socket() as his:
            assert [c["unread"] for c in his.welcome["conversations"]] == [0]
            await his.subscribe({chat: {"seq": 0}})
            await his.event("message.created", seq=6)
            assert [event["seq"] for event in his.events(chat)] == [1, 2, 3, 4, 5, 6]


async def test_cursors_that_two_workers_gather_for_one_person_add_up(database: Database) -> None:
    async with run_studio(database) as one, run_studio(database) as other:
        ana, ben = await make_people(database, one.port, ["ana", "ben"])
        async with ana, ben:
            rooms = [await ana.room(members=[ben.id]) for _ in range(12)]
            async with ana.socket() as hers, ben.socket() as here:
                ben.port = other.port
                async with ben.socket() as there:
                    for room in rooms:
                        for n in range(9):
                            await hers.say(room, f"{n}")
                    for number, room in enumerate(rooms):
                        await report(here, "read", room, number % 5)
                        await report(there, "delivered", rooms[-1 - number], 7)
                        await report(there, "read", room, 4)
                    await here.settle()
                    await there.settle()
                await asyncio.gather(*(studio.parts.studio.receipts.write() for studio in (one, other)))
            for room in rooms:
                assert (await cursors(ana, room))[ben.id] == (7, 4)


# -- tools ------------------------------------------------------------------------------------------------------------


async def open_chat(person: Person, peer: Person) -> str:
    made = await person.call("POST", "/api/conversations", {"kind": "private", "members": [peer.id]}, expect=201)
    return str(made["id"])


async def report(socket: Socket, kind: str, conversation: str, seq: int) -> None:
    await socket.send_raw(f'{{"type": "{kind}", "conversation": "{conversation}", "seq": {seq}}}')


async def receipt(socket: Socket, of: Person | None = None) -> Frame:
    """The next one, without its type."""
    frame = await socket.wait_for(lambda frame: frame["type"] == "receipt" and (of is None or frame["user"] == of.id))
    return {name: value for name, value in frame.items() if name != "type"}


async def cursors(person: Person, conversation: str) -> dict[str, tuple[int, int]]:
    """(delivered, read) of every member, as this person sees them."""
    members = (await person.call("GET", f"/api/conversations/{conversation}/members", expect=200))["members"]
    return {member["user"]["id"]: (member["delivered"], member["read"]) for member in members}

"""The door of the sockets: those for one conversation alone, those that begin with a ticket, and who is not let in."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import connect

from server.gateway import endpoint
from server.hub import access
from server.protocol.codec import encode, parse
from server.protocol.ids import new_id
from server.storage.database import Database
from tests.acceptance.conftest import MakePeople
from tests.running_studio import Person, Socket, run_studio
from tests.studio_process import make_people

# -- one conversation alone -------------------------------------------------------------------------------------------


async def test_on_a_socket_for_one_room_frames_need_not_name_it(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    room, other = await ana.room(members=[ben.id]), await ana.room()
    async with ana.socket("/ws", room, other) as hers, ben.socket(f"/ws/room/{room}") as his:
        said = await his.ask("send", text="from here")
        assert (said["conversation"], said["seq"]) == (room, 1)
        message = said["message"]
        for frame_type, fields in (
            ("edit", {"message": message, "text": "edited"}),
            ("react", {"message": message, "emoji": "👍", "on": True}),
            ("react", {"message": message, "emoji": "👍", "on": False}),
            ("run", {"message": message}),
            ("delete", {"message": message}),
        ):
            answer = await his.ask(frame_type, **fields)
            assert answer["type"] == "ack", answer
        await his.event("run.ended")
        await his.connection.send('{"type": "typing", "on": true}')
        typing = await hers.wait_for(lambda frame: frame["type"] == "typing")
        assert typing == {"type": "typing", "conversation": room, "user": ben.id, "on": True}
        await his.connection.send('{"type": "read", "seq": 1}')
        await hers.wait_for(lambda frame: frame["type"] == "receipt" and frame["user"] == ben.id and frame["read"] == 1)
        await hers.say(other, "elsewhere")
        last = await hers.say(room, "here")
        assert (await his.event("message.created", seq=last["seq"]))["conversation"] == room
        assert {frame["conversation"] for frame in his.seen if frame["type"] == "event"} == {room}
        assert [event["seq"] for event in his.events(room)] == list(range(1, last["seq"] + 1))
        # Leaving it and coming back with a cursor works without its name, too.
        assert (await his.ask("unsubscribe"))["type"] == "ack"
        await hers.say(room, "missed")
        assert list((await his.ask("subscribe"))["conversations"]) == [room]
        after = await hers.say(room, "heard")
        await his.event("message.created", seq=after["seq"])
        assert last["seq"] + 1 not in [event["seq"] for event in his.events(room)]


async def test_a_socket_for_a_person_opens_the_private_chat(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    async with ben.socket() as his, ana.socket(f"/ws/private/{ben.id}") as hers:
        chat = (await hers.ask("send", text="hello"))["conversation"]
        added = await his.wait_for(lambda frame: frame["type"] == "conversation.added")
        found = added["conversation"]
        assert (found["id"], found["kind"], found["peer"]["id"]) == (chat, "private", ana.id)
        async with ben.socket(f"/ws/private/{ana.id}") as there:
            assert (await there.ask("send", text="hello yourself"))["conversation"] == chat
            await hers.event("message.created", seq=2)
    chats = await ana.call("GET", "/api/conversations?kind=private", expect=200)
    assert [found["id"] for found in chats["conversations"]] == [chat]


async def test_what_is_not_there_or_not_ours_is_refused_before_the_upgrade(people: MakePeople) -> None:
    ana, eve = await people("ana", "eve")
    foreign = await ana.room()
    bodies = []
    for path in (
        f"/ws/room/{foreign}", f"/ws/room/{new_id()}", "/ws/room/x", "/ws/room/%00", f"/ws/room/{foreign}/x",
        "/ws/room/", f"/ws/private/{new_id()}",
        "/ws/private/x", f"/ws/private/{eve.id}", "/ws/private/", "/ws/nothing", "/nothing",
        f"/ws/room/{foreign.upper()}",
    ):  # fmt: skip
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with eve.socket(path):
                pass
        response = refused.value.response
        assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json"), path
        problem = parse(response.body.decode())
        assert isinstance(problem, dict)
        assert problem["code"] == "not_found"
        bodies.append(problem)
    assert bodies[0] == bodies[1] == bodies[2]


# -- tickets ----------------------------------------------------------------------------------------------------------


async def test_a_ticket_opens_a_socket_for_one_conversation(people: MakePeople) -> None:
    ana, eve = await people("ana", "eve")
    room = await ana.room()
    async with stranger(ana.port, f"/ws/room/{room}") as socket:
        await say_hello(socket, await ticket_of(ana))
        assert (await socket.wait_for(lambda frame: frame["type"] == "welcome"))["user"]["id"] == ana.id
        assert (await socket.ask("send", text="in"))["conversation"] == room
        await socket.event("message.created")
        again = await socket.ask("hello", id="x")  # `hello` takes no id
        assert again["code"] == "bad_frame"
        await say_hello(socket, await ticket_of(ana))
        refused = await socket.wait_for(lambda frame: frame["type"] == "error" and "id" not in frame)
        assert refused["code"] == "bad_frame"
        await socket.settle()
    for path, person in ((f"/ws/room/{room}", eve), (f"/ws/room/{new_id()}", eve), ("/ws/private/x", eve)):
        async with stranger(ana.port, path) as socket:
            await say_hello(socket, await ticket_of(person))
            assert await socket.closed() == 4507
            assert [frame["type"] for frame in socket.seen] == []


async def test_who_brings_no_valid_ticket_is_closed(people: MakePeople, monkeypatch: pytest.MonkeyPatch) -> None:
    (ana,) = await people("ana")
    used = await ticket_of(ana)
    async with stranger(ana.port) as socket:
        await say_hello(socket, used)
        await socket.wait_for(lambda frame: frame["type"] == "welcome")
    monkeypatch.setattr(access, "TICKET_LIFETIME", timedelta(0))
    expired = await ticket_of(ana)
    for first in (
        encode({"type": "hello", "ticket": used}).decode(),
        encode({"type": "hello", "ticket": expired}).decode(),
        encode({"type": "hello", "ticket": "x" * 43}).decode(),
        encode({"type": "hello", "ticket": ana.token}).decode(),
        '{"type": "ping"}',
        "{",
    ):
        async with stranger(ana.port) as socket:
            await socket.send_raw(first)
            assert await socket.closed() == 4502
            assert socket.seen == []
    async with stranger(ana.port) as socket:
        await socket.send_raw(b"hello")
        assert await socket.closed() == 1003


async def test_who_says_nothing_is_closed_in_time(people: MakePeople, monkeypatch: pytest.MonkeyPatch) -> None:
    (ana,) = await people("ana")
    monkeypatch.setattr(endpoint, "HELLO_TIMEOUT_S", 0.2)
    async with stranger(ana.port) as socket:
        assert await socket.closed() == 4502


async def test_a_ticket_of_a_grant_that_has_ended_is_worth_nothing(people: MakePeople) -> None:
    (ana,) = await people("ana")
    ticket = await ticket_of(ana)
    await ana.call("POST", "/api/auth/logout", expect=204)
    async with stranger(ana.port) as socket:
        await say_hello(socket, ticket)
        assert await socket.closed() == 4502


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [([], None), (["chat-studio.v1"], "chat-studio.v1"), (["x", "chat-studio.v1"], "chat-studio.v1"), (["x"], None)],
)
async def test_a_client_is_served_whatever_protocols_it_offers(
    people: MakePeople, offered: list[str], chosen: str | None
) -> None:
    (ana,) = await people("ana")
    room = await ana.room()
    async with stranger(ana.port, token=ana.token, subprotocols=offered or None) as socket:
        assert socket.connection.subprotocol == chosen
        assert (await socket.ask("send", conversation=room, text="x"))["type"] == "ack"


async def test_the_twenty_first_socket_of_a_person_is_refused(database: Database) -> None:
    async with run_studio(database, rate_limits=True) as studio, AsyncExitStack() as open_sockets:
        (ana,) = await make_people(database, studio.port, ["ana"])
        await open_sockets.enter_async_context(ana)
        for _ in range(19):
            await open_sockets.enter_async_context(ana.socket())
        for _ in range(3):  # one that was closed leaves its place to the next
            async with ana.socket():
                with pytest.raises(websockets.InvalidStatus) as refused:
                    await open_sockets.enter_async_context(ana.socket())
                assert refused.value.response.status_code == 429


# -- tools ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def stranger(port: int, path: str = "/ws", token: str = "", **more: Any) -> AsyncIterator[Socket]:
    """A socket that has shown no credential yet."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with connect(
        f"ws://127.0.0.1:{port}{path}", compression=None, max_queue=None, additional_headers=headers, **more
    ) as connection:
        yield Socket(connection)


async def ticket_of(person: Person) -> str:
    return str((await person.call("POST", "/api/auth/ticket", expect=200))["ticket"])


async def say_hello(socket: Socket, ticket: str) -> None:
    await socket.send_raw(encode({"type": "hello", "ticket": ticket}).decode())


async def test_a_handshake_that_breaks_gives_its_place_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_studio(database, rate_limits=True) as studio:
        (ana,) = await make_people(database, studio.port, ["ana"])
        async with ana:
            room = await ana.room()
            with monkeypatch.context() as broken:

                async def of(*_: object) -> None:
                    raise RuntimeError("on purpose")

                broken.setattr(studio.parts.studio.standings, "of", of)
                for _ in range(20):
                    with pytest.raises(websockets.InvalidStatus) as refused:
                        async with ana.socket(f"/ws/room/{room}"):
                            pass
                    assert refused.value.response.status_code == 500
            async with ana.socket(f"/ws/room/{room}"):
                pass

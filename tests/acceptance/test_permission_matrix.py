"""Every route and every frame, for every role and every stranger, over real HTTP and real sockets.

What is expected stands in tests/permission_table.py. Every answer is also held against /openapi.json: its status must
be named there, and its body must have the shape that is described.
"""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import websockets
from openapi_schema_validator import OAS31Validator
from websockets.asyncio.client import connect

from server.ai.scripted import ScriptedModel
from server.gateway.documents.examples import example_of
from server.hub.permissions import STUDIO_WIDE, Permission
from server.protocol.codec import encode, parse
from server.protocol.frames import client_frame_types
from server.protocol.ids import new_id
from server.storage.database import Database
from tests.permission_table import (
    BLOCKED_ROWS,
    FRAME_ROWS,
    HTTP_ROWS,
    PRIVATE_CHAT_ROWS,
    ROLES,
    WITHOUT_A_CONVERSATION,
    Row,
)
from tests.route_table import ROUTES
from tests.running_studio import Person, RunningStudio, Socket, run_studio

MEMBERS = ("owner", "deputy", "moderator", "member", "reader", "somebody")
STRANGERS = ("stranger", "admin")  # to private rooms; a studio's admin is no exception
OTHERS = ("visitor", "newcomer", "guest", *STRANGERS)
SLOW_S = 60.0  # an answer that is still being given when it is stopped
# After these the next one needs a new room: there the message, the member or the answer is still as it was.
CHANGES_WHAT_FOLLOWS = re.compile(
    r"DELETE .*({conversation}|{message}|{user}|{webhook})$|/(join|leave|stop|steer)$|PUT .*{user}$"
)
WEBHOOK_URL = "https://hooks.invalid/"  # where nobody listens
BODIES: dict[str, object] = {
    "PATCH /api/conversations/{conversation}": {"title": "another title"},
    "PUT /api/conversations/{conversation}/members/{user}": {"role": "member"},
    "POST /api/conversations/{conversation}/messages": {"id": "draft-1", "text": "hello"},
    "PATCH /api/conversations/{conversation}/messages/{message}": {"text": "changed"},
    "PUT /api/conversations/{conversation}/read": {"seq": 1},
    "POST /api/conversations/{conversation}/runs": {},
    "POST /api/conversations/{conversation}/webhooks": {"url": WEBHOOK_URL},
    "PATCH /api/conversations/{conversation}/webhooks/{webhook}": {"description": "changed"},
    "POST /api/runs/{run}/steer": {"text": "shorter"},
    "POST /api/runs/{run}/decide": {"call": "call-1", "approve": True},
}


@dataclass
class Room:
    """`messages` by who wrote them."""

    id: str
    messages: dict[str, str] = field(default_factory=dict)
    run: str = ""
    webhook: str = ""

    def message(self, which: str, role: str) -> str:
        return self.messages["somebody" if which == "other" else role if role in self.messages else "somebody"]


@dataclass
class Cast:
    """Everybody in the play, and the rooms they meet in."""

    studio: RunningStudio
    people: dict[str, Person]
    nobody: httpx2.AsyncClient
    openapi: dict[str, Any]
    secret: Room = field(default_factory=lambda: Room(""))
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def room(self, act: str = "{run}{message:own}", visibility: str = "public") -> Room:
        """A room with every role in it, and what the act needs besides: messages of everybody, or an answer."""
        owner, *others = (self.people[name] for name in MEMBERS)
        made = Room(
            await owner.room(f"room {next(self.numbers)}", visibility=visibility, members=[p.id for p in others])
        )
        path = f"/api/conversations/{made.id}"
        for name in MEMBERS if ":own" in act else ("somebody",):
            said = await self.people[name].call("POST", f"{path}/messages", {"id": "first", "text": "hi"}, expect=201)
            made.messages[name] = said["message"]
        for name, role in (("deputy", "owner"), ("moderator", "moderator"), ("reader", "reader")):
            await owner.call("PUT", f"{path}/members/{self.people[name].id}", {"role": role}, expect=200)
        if "run" in act or act in ("stop", "steer", "decide"):
            made.run = (await owner.call("POST", f"{path}/runs", {}, expect=201))["run"]
        if "{webhook}" in act:
            made.webhook = (await owner.call("POST", f"{path}/webhooks", {"url": WEBHOOK_URL}, expect=201))["id"]
        return made

    async def private_chat(self) -> Room:
        """Between the member and somebody: the one they have, or a new one where it was deleted."""
        mine, other = self.people["member"], self.people["somebody"]
        chat = await mine.call("POST", "/api/conversations", {"kind": "private", "members": [other.id]})
        made = Room(chat["id"])
        for name in ("member", "somebody"):
            text = {"id": new_id(), "text": "hi"}
            said = await self.people[name].call("POST", f"/api/conversations/{made.id}/messages", text, expect=201)
            made.messages[name] = said["message"]
        return made

    async def call(self, role: str, row: Row, room: Room) -> str:
        """Do it as `role`; what came of it, in the words of the table."""
        path = row.act.partition(":as-")[0].removesuffix(":retention")
        for name, which in re.findall(r"{(\w+)(?::(\w+))?}", path):
            path = re.sub(rf"{{{name}(:\w+)?}}", self.value(name, which, role, room), path, count=1)
        body = BODIES.get(f"{row.method} {row.path}")
        if ":as-" in row.act:
            body = {"role": row.act.partition(":as-")[2]}
        if row.act.endswith(":retention"):
            body = {"retention_days": 30}
        content: dict[str, Any] = {}
        if body is not None:
            content = {"content": encode(body), "headers": {"content-type": "application/json"}}
        answer = await self.request(role, row.method, path, **content)
        check_documented(self.openapi, row.method, row.path, answer)
        return word_of(answer)

    async def request(self, role: str, method: str, path: str, **more: Any) -> httpx2.Response:
        http = self.people[role].http if role in self.people else self.nobody
        return await http.request(method, path, **more)

    def value(self, name: str, which: str, role: str, room: Room) -> str:
        match name:
            case "conversation":
                return room.id
            case "message":
                return room.message(which, role)
            case "run":
                return room.run
            case "webhook":
                return room.webhook or new_id()
            case "emoji":
                return "%F0%9F%91%8D"
            case _:
                return self.people[
                    role if which == "self" and role in self.people else which.replace("self", "member")
                ].id

    async def tell(self, role: str, row: Row, room: Room) -> str:
        """Send the frame as `role`, on a socket that follows nothing; what came of it, in the words of the table."""
        async with self.people[role].socket() as socket:
            return await self.tell_on(socket, role, row, room)

    async def tell_on(self, socket: Socket, role: str, row: Row, room: Room) -> str:
        which = row.act.partition(":")[2] or "other"
        fields = frame_fields(row.frame, room, room.message(which, role))
        if "id" not in client_frame_types[row.frame].__struct_fields__:
            before = len(socket.seen)
            await socket.send_raw(encode({"type": row.frame, **fields}).decode())
            await socket.settle()
            errors = [frame for frame in socket.seen[before:] if frame["type"] == "error"]
            return word(errors[0]["code"]) if errors else "yes"
        answer = await socket.ask(row.frame, **fields)
        if answer["type"] == "error":
            return word(answer["code"], answer["message"])
        if answer["type"] == "subscribed":
            return word(answer["conversations"][room.id].get("error", "yes"))
        return "yes"


def word_of(answer: httpx2.Response) -> str:
    return "yes" if answer.is_success else word(answer.json()["code"], answer.json()["detail"])


def word(code: str, detail: str = "") -> str:
    """As the table puts it."""
    if "proposed no such call" in detail:
        return "none"
    return "no" if code == "forbidden" else code


def frame_fields(name: str, room: Room, message: str) -> dict[str, object]:
    fields = {key: value for key, value in example_of(client_frame_types[name]).items() if key not in ("type", "id")}
    known: dict[str, object] = {"conversation": room.id, "message": message, "run": room.run, "seq": 1}
    if name == "run":
        known.pop("message")
    if "conversations" in client_frame_types[name].__struct_fields__:
        known["conversations"] = {room.id: None} if name == "subscribe" else [room.id]
    taken = client_frame_types[name].__struct_fields__
    return {**fields, **{key: value for key, value in known.items() if key in taken}}


def check_documented(openapi: dict[str, Any], method: str, path: str, answer: httpx2.Response) -> None:
    documented = openapi["paths"][path][method.lower()]["responses"]
    place = f"{method} {path} answered {answer.status_code}"
    assert str(answer.status_code) in documented, f"{place}, which is not documented: {answer.text}"
    response = documented[str(answer.status_code)]
    if "$ref" in response:
        response = openapi["components"]["responses"][response["$ref"].rpartition("/")[2]]
    if "content" not in response:
        assert answer.content == b"", place
        return
    media_type = answer.headers["content-type"].partition(";")[0]
    schema = response["content"][media_type]["schema"]
    errors = OAS31Validator({**schema, "components": openapi["components"]}).iter_errors(answer.json())
    assert [error.message for error in errors] == [], place


@pytest.fixture(scope="module")
async def cast(module_database: Database) -> AsyncIterator[Cast]:
    model = ScriptedModel(pace_s=SLOW_S)
    async with run_studio(module_database, models=[model]) as studio:
        people = {}
        for name in (*MEMBERS, *OTHERS):
            people[name] = await studio.person(name, name if name in ("admin", "guest") else "member")
        openapi = await people["member"].call("GET", "/openapi.json", expect=200)
        nobody = await studio.stack.enter_async_context(httpx2.AsyncClient(base_url=studio.url, verify=False))
        made = Cast(studio, people, nobody, openapi)
        made.secret = await made.room(visibility="private")
        yield made


@pytest.mark.parametrize("row", HTTP_ROWS, ids=str)
async def test_a_route(cast: Cast, row: Row) -> None:
    expected = dict(zip(ROLES, row.words, strict=True)) | {"guest": "not_found", "nobody": "unauthenticated"}
    room, found = await cast.room(row.act), {}
    for role in expected:
        found[role] = await cast.call(role, row, room)
        if found[role] == "yes" and CHANGES_WHAT_FOLLOWS.search(f"{row.method} {row.path}"):
            room = await cast.room(row.act)
    assert found == expected
    for role in STRANGERS:
        assert (role, await cast.call(role, row, cast.secret)) == (role, "not_found")
        missing = Room(new_id(), dict.fromkeys(MEMBERS, new_id()), new_id())
        assert (role, await cast.call(role, row, missing)) == (role, "not_found")


@pytest.mark.parametrize("row", FRAME_ROWS, ids=str)
async def test_a_frame(cast: Cast, row: Row) -> None:
    is_free = row.frame in WITHOUT_A_CONVERSATION
    expected = dict(zip(ROLES, row.words, strict=True)) | {"guest": "yes" if is_free else "not_found"}
    room, found = await cast.room(row.act), {}
    for role in expected:
        found[role] = await cast.tell(role, row, room)
        if found[role] == "yes" and row.frame in ("delete", "stop", "steer"):
            room = await cast.room(row.act)
    assert found == expected
    for role in STRANGERS:
        assert (role, await cast.tell(role, row, cast.secret)) == (role, "yes" if is_free else "not_found")


@pytest.mark.parametrize("name", client_frame_types)
async def test_a_frame_of_somebody_who_is_not_signed_in(cast: Cast, name: str) -> None:
    """Before `hello` with a valid ticket nothing is heard."""
    frame = encode(example_of(client_frame_types[name])).decode()
    async with connect(f"ws://127.0.0.1:{cast.studio.port}/ws", compression=None) as socket:
        await socket.send(frame)
        with pytest.raises(websockets.ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 5)
        assert socket.close_code == 4502


async def test_a_hello_of_somebody_who_is_signed_in(cast: Cast) -> None:
    async with cast.people["member"].socket() as socket:
        await socket.send_raw(encode(example_of(client_frame_types["hello"])).decode())
        error = await socket.wait_for(lambda frame: frame["type"] == "error")
        assert error["code"] == "bad_frame"


async def test_the_door_of_a_room(cast: Cast) -> None:
    room = await cast.room("")
    for role in ROLES:
        async with cast.people[role].socket(f"/ws/room/{room.id}") as socket:
            assert socket.welcome["user"]["id"] == cast.people[role].id
    doors = [("guest", room.id), *((role, cast.secret.id) for role in STRANGERS), ("member", new_id()), ("member", "x")]
    for role, conversation in doors:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with cast.people[role].socket(f"/ws/room/{conversation}"):
                pass
        assert refused.value.response.status_code == 404
        assert parse((refused.value.response.body or b"").decode())["code"] == "not_found"  # type: ignore[index]
    ticket = (await cast.people["stranger"].call("POST", "/api/auth/ticket", expect=200))["ticket"]
    async with connect(f"ws://127.0.0.1:{cast.studio.port}/ws/room/{cast.secret.id}", compression=None) as late:
        await late.send(encode({"type": "hello", "ticket": ticket}).decode())
        with pytest.raises(websockets.ConnectionClosed):
            while True:
                await asyncio.wait_for(late.recv(), 5)
        assert late.close_code == 4507


@pytest.mark.parametrize("row", PRIVATE_CHAT_ROWS, ids=str)
async def test_a_private_chat(cast: Cast, row: Row) -> None:
    room = await cast.private_chat()
    for role in ("stranger", "admin", "guest"):
        assert (role, await cast.call(role, row, room)) == (role, "not_found")
    assert await cast.call("member", row, room) == row.words[0]


@pytest.mark.parametrize("side", [0, 1], ids=["who blocks", "who is blocked"])
@pytest.mark.parametrize("row", BLOCKED_ROWS, ids=str)
async def test_behind_a_block(cast: Cast, row: Row, side: int) -> None:
    """The member does it, who has blocked somebody or was blocked by them."""
    blocker, blocked = [("member", "somebody"), ("somebody", "member")][side]
    room = await cast.private_chat()
    if row.frame in ("stop", "steer"):
        made = await cast.people["member"].call("POST", f"/api/conversations/{room.id}/runs", {}, expect=201)
        room.run = made["run"]
    block = f"/api/users/{cast.people[blocked].id}/block"
    await cast.people[blocker].call("PUT", block, expect=204)
    try:
        found = await cast.call("member", row, room) if row.method else await cast.tell("member", row, room)
    finally:
        await cast.people[blocker].call("DELETE", block, expect=204)
    assert found == row.words[side]


async def test_routes_that_look_at_the_account_alone(cast: Cast) -> None:
    """Only refusals are tried: what is allowed would sign people out."""
    refused_to: dict[Permission, dict[str, str]] = {
        Permission.ANYONE: {},
        Permission.SIGNED_IN: {"nobody": "unauthenticated"},
        Permission.STUDIO_MEMBER: {"nobody": "unauthenticated", "guest": "no"},
        Permission.ADMIN: {"nobody": "unauthenticated", "guest": "no", "member": "no"},
    }
    for route in ROUTES:
        if route.permission in STUDIO_WIDE:
            expected = refused_to[route.permission]
            path = re.sub(r"{\w+}", new_id(), route.path)
            found = {role: word_of(await cast.request(role, route.method, path)) for role in expected}
            assert (path, found) == (path, expected)


async def test_the_guest_opens_no_private_chat_by_any_door(cast: Cast) -> None:
    guest, newcomer = cast.people["guest"], cast.people["newcomer"]
    await guest.call("POST", "/api/conversations", {"kind": "private", "members": [newcomer.id]}, expect=403)
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with guest.socket(f"/ws/private/{newcomer.id}"):
            pass
    assert refused.value.response.status_code == 403


async def test_deleting_several_takes_the_right_for_each(cast: Cast) -> None:
    mine, theirs = await cast.room(""), await cast.room("")
    for role, room, status in (
        ("moderator", mine, 403),
        ("visitor", mine, 403),
        ("stranger", cast.secret, 404),
        ("guest", mine, 404),
    ):
        await cast.people[role].call("DELETE", "/api/conversations/batch", {"ids": [room.id]}, expect=status)
    own = await cast.people["member"].room("my own")
    await cast.people["member"].call("DELETE", "/api/conversations/batch", {"ids": [own, theirs.id]}, expect=403)
    await cast.people["member"].call("GET", f"/api/conversations/{own}", expect=200)
    await cast.people["owner"].call("DELETE", "/api/conversations/batch", {"ids": [mine.id, theirs.id]}, expect=200)

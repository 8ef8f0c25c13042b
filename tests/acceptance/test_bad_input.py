"""What is wrong with what was sent is said with a stable code, on sockets and over HTTP alike; the socket lives on where it
can, nothing is stored, and nobody else notices."""

import re
from typing import Any

import pytest

from server.protocol.codec import encode
from server.protocol.ids import new_id
from tests.acceptance.conftest import MakePeople
from tests.route_table import ROUTES
from tests.running_studio import Frame, Socket

LONGEST = 16_000
NO_ID = ["x", "0", "%00", "%2e%2e", "é", "00000000-0000-0000-0000-00000000000G", "a" * 5000, "%0a", "'", "%ff", "None"]


# -- too large --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("character", ["a", "é", "字", "👋"])
async def test_a_text_has_16_000_characters_whatever_their_bytes(people: MakePeople, character: str) -> None:
    (ana,) = await people("ana")
    room = await ana.room()
    path = f"/api/conversations/{room}/messages"
    async with ana.socket("/ws", room) as socket:
        long = await socket.say(room, character * LONGEST)
        too_long = await socket.ask("send", conversation=room, text="a" + character * LONGEST)
        assert code_of(too_long) == ("too_large", False)
        edited = await socket.ask("edit", conversation=room, message=long["message"], text="a" + character * LONGEST)
        assert code_of(edited) == ("too_large", False)
        await ana.call("POST", path, {"id": new_id(), "text": character * LONGEST}, expect=201)
        refused = await ana.call("POST", path, {"id": new_id(), "text": "a" + character * LONGEST}, expect=413)
        assert code_of(refused) == ("too_large", False)
        await socket.settle()
        assert [event["data"]["text"] for event in socket.events(room)] == [character * LONGEST] * 2


async def test_a_frame_beyond_64_kib_closes_this_socket_and_no_other(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    room = await ana.room(members=[ben.id])
    async with ben.socket("/ws", room) as his:
        for raw, code in (
            (encode({"type": "send", "id": "x", "conversation": room, "text": "x" * 65_536}).decode(), 1009),
            (b"binary", 1003),
        ):
            async with ana.socket("/ws", room) as hers:
                await hers.send_raw(raw)
                assert await hers.closed() == code
        await his.say(room, "still here")


async def test_a_body_beyond_a_mebibyte_is_refused_while_it_comes(people: MakePeople) -> None:
    (ana,) = await people("ana")
    body = b'{"id": "x", "text": "' + b"x" * 1024 * 1024 + b'"}'
    headers = {"content-type": "application/json"}
    room = await ana.room()
    answer = await ana.http.post(f"/api/conversations/{room}/messages", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


# -- the wrong shape --------------------------------------------------------------------------------------------------


async def test_a_frame_of_the_wrong_shape_is_told_which_and_the_socket_lives_on(people: MakePeople) -> None:
    (ana,) = await people("ana")
    room = await ana.room()
    send = {"type": "send", "conversation": room, "text": "x"}
    message = new_id()
    wrong: list[Frame] = [
        {"type": "shout", "id": "w"},
        {"type": None, "id": "w"},
        {"id": "w"},
        {"type": "ack", "id": "w"},
        {**send, "id": "w", "colour": "red"},
        {**send, "id": "w", "text": 7},
        {**send, "id": "w", "text": None},
        {**send, "id": "w", "text": ""},
        {**send, "id": "w", "conversation": 7},
        {"type": "send", "id": "w", "text": "x"},  # this socket is bound to no conversation
        {**send, "id": "w", "people_only": "yes"},
        {**send, "id": "w", "attachments": ["x"] * 21},
        {"type": "edit", "id": "w", "conversation": room, "message": message},
        {"type": "react", "id": "w", "conversation": room, "message": message, "emoji": "", "on": True},
        {"type": "react", "id": "w", "conversation": room, "message": message, "emoji": "👋" * 40, "on": True},
        {"type": "subscribe", "id": "w", "conversations": {room: {"seq": -1}}},
        {"type": "subscribe", "id": "w", "conversations": {room: {"seq": 2**53 + 1}}},
        {"type": "subscribe", "id": "w", "conversations": {room: {"seq": 1.5}}},
        {"type": "subscribe", "id": "w"},
    ]
    for frame in wrong:
        async with ana.socket() as socket:  # of its own: twenty in a minute would close one
            await socket.send_raw(encode(frame).decode())
            answer = await socket.wait_for(lambda frame: frame["type"] == "error")
            assert (answer["id"], *code_of(answer)) == ("w", "bad_frame", False), frame
            await socket.settle()
    assert (await ana.call("GET", f"/api/conversations/{room}", expect=200))["head"] == 0


@pytest.mark.parametrize("frame_id", ["", "a" * 65, "a b", "é", "a\n", 7, None, ["a"]])
async def test_an_id_has_up_to_64_plain_characters(people: MakePeople, frame_id: object) -> None:
    (ana,) = await people("ana")
    room = await ana.room()
    async with ana.socket("/ws", room) as socket:
        await socket.send_raw(encode({"type": "send", "id": frame_id, "conversation": room, "text": "x"}).decode())
        answer = await socket.wait_for(lambda frame: frame["type"] == "error")
        assert code_of(answer) == ("bad_frame", False)
        await socket.say(room, "next", id="A.z_0:9-".ljust(64, "x"))
    body = {"id": frame_id, "text": "x"}
    assert code_of(await ana.call("POST", f"/api/conversations/{room}/messages", body, expect=422)) == (
        "bad_frame",
        False,
    )
    if isinstance(frame_id, str) and frame_id.isascii() and "\n" not in frame_id:
        sent = {"idempotency-key": frame_id}
        refused = await ana.call("POST", f"/api/conversations/{room}/runs", {}, expect=422, headers=sent)
        assert refused["code"] == "bad_frame"


async def test_twenty_bad_frames_close_the_socket(people: MakePeople) -> None:
    (ana,) = await people("ana")
    async with ana.socket() as socket:
        for _ in range(20):
            await socket.send_raw("{")
        assert await socket.closed() == 4501
        assert len([frame for frame in socket.seen if frame["type"] == "error"]) == 20


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        (b'{"kind": "room", "title": "t"}', "text/plain", 422, "bad_frame"),
        (b'{"kind": "room", "title": "t"}', "", 422, "bad_frame"),
        (b"kind=room&title=t", "application/x-www-form-urlencoded", 422, "bad_frame"),
        (b'{"kind": "room", "title": "t"', "application/json", 400, "bad_json"),
        (b'{"kind": "room", "kind": "room", "title": "t"}', "application/json", 400, "bad_json"),
        (b'{"kind": "room", "title": "\\u0000"}', "application/json", 400, "bad_json"),
        (b'{"kind": "room", "title": "\\ud800"}', "application/json", 400, "bad_json"),
        (b'{"kind": "room", "title": "\xff"}', "application/json", 400, "bad_json"),
        (b"[" * 40 + b"]" * 40, "application/json", 400, "bad_json"),
        (b'{"kind": "room", "title": "t", "colour": "red"}', "application/json", 422, "bad_frame"),
        (b'{"kind": "palace", "title": "t"}', "application/json", 422, "bad_frame"),
        (b'{"kind": "room"}', "application/json", 422, "bad_frame"),
        (b'{"kind": "room", "title": "  "}', "application/json", 422, "bad_frame"),
        (b'{"kind": "room", "title": "' + b"t" * 201 + b'"}', "application/json", 422, "bad_frame"),
        (b'{"kind": "private", "members": []}', "application/json", 422, "bad_frame"),
        (b'{"kind": "private", "members": ["x"]}', "application/json", 404, "not_found"),
        (b'{"kind": "room", "title": "t", "members": ["x"]}', "application/json", 404, "not_found"),
        (b'{"kind": "room", "title": "t", "model": "none such"}', "application/json", 404, "not_found"),
        (b"[]", "application/json", 422, "bad_frame"),
        (b"null", "application/json", 422, "bad_frame"),
    ],
)
async def test_a_bad_body_is_named_and_makes_nothing(
    people: MakePeople, content: bytes, content_type: str, status: int, code: str
) -> None:
    (ana,) = await people("ana")
    headers = {"content-type": content_type} if content_type else {}
    answer = await ana.http.post("/api/conversations", content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await ana.call("GET", "/api/conversations", expect=200))["total"] == 0


async def test_a_charset_beside_the_content_type_is_fine(people: MakePeople) -> None:
    (ana,) = await people("ana")
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    answer = await ana.http.post("/api/conversations", content=b'{"kind": "room", "title": "t"}', headers=headers)
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "query",
    [
        "messages?limit=0", "messages?limit=201", "messages?limit=ten", "messages?before=x", "messages?before=-1",
        "messages?after=1.5", "messages?after=99999999999999999999", "messages?before=1&after=1", "messages?page=2",
        "messages?before=", "messages?before=%00", "messages?before=1&before=2", "events?limit=1001", "events?after=-1",
        "events?before=1", "events?after=%F0",
    ],
)  # fmt: skip
async def test_a_bad_query_is_named(people: MakePeople, query: str) -> None:
    (ana,) = await people("ana")
    room = await ana.room()
    refused = await ana.call("GET", f"/api/conversations/{room}/{query}")
    assert refused.get("status") in (400, 422), refused
    assert refused["code"] in ("bad_json", "bad_frame")


# -- the wrong place --------------------------------------------------------------------------------------------------

# Valid bodies, so that nothing but the place is wrong.
BODIES: dict[str, object] = {
    "PATCH /api/conversations/{conversation}": {"title": "t"},
    "PUT /api/conversations/{conversation}/members/{user}": {"role": "member"},
    "POST /api/conversations/{conversation}/messages": {"id": "x", "text": "x"},
    "PATCH /api/conversations/{conversation}/messages/{message}": {"text": "x"},
    "PUT /api/conversations/{conversation}/read": {"seq": 1},
    "POST /api/conversations/{conversation}/runs": {},
    "POST /api/runs/{run}/steer": {"text": "x"},
    "POST /api/runs/{run}/decide": {"call": "x", "approve": True},
    "PATCH /api/admin/users/{user}": {"role": "member"},
}
WITH_PLACES = [route for route in ROUTES if "{" in route.path]


@pytest.mark.parametrize("route", WITH_PLACES, ids=lambda route: f"{route.method} {route.path}")
async def test_no_id_in_a_path_finds_nothing(people: MakePeople, route: Any) -> None:
    """Whatever stands where an id belongs: 404, and never a broken query behind it."""
    (ana,) = await people("ana", role="admin")
    room = await ana.room()
    body = BODIES.get(f"{route.method} {route.path}")
    for text in (*NO_ID, new_id().upper(), new_id()):
        for place in re.findall(r"{(\w+)}", route.path):
            if place == "emoji":
                continue
            places = {"conversation": room, "message": new_id(), "user": new_id(), "run": new_id(), "session": new_id()}
            path = route.path.format_map({"emoji": "👍", **places, place: text})
            answer = await ana.http.request(route.method, path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), f"{path[:80]}: {answer.text}"


async def test_what_is_foreign_looks_like_what_is_missing(people: MakePeople) -> None:
    ana, eve = await people("ana", "eve")
    foreign, own = await ana.room("secret"), await eve.room("own")
    async with ana.socket("/ws", foreign) as hers, eve.socket("/ws", own) as socket:
        message = (await hers.say(foreign, "hers"))["message"]
        run = (await hers.ask("run", conversation=foreign))["run"]
        mine = (await socket.say(own, "mine"))["message"]
        for fields in frames_for("{place}", message):
            answers = [await ask(socket, fields, place) for place in (foreign, new_id(), "nonsense")]
            assert answers[0]["code"] == "not_found"
            assert answers[0] == answers[1] == answers[2], fields
        for fields in frames_for(own, "{place}"):
            if "{place}" in fields.values():
                answers = [await ask(socket, fields, place) for place in (message, new_id(), "nonsense")]
                assert answers[0]["code"] == "not_found", fields
                assert answers[0] == answers[1] == answers[2], fields
        for frame_type, more in (("stop", {}), ("steer", {"text": "x"}), ("decide", {"call": "c", "approve": True})):
            answers = [
                await ask(socket, {"type": frame_type, "run": "{place}", **more}, place)
                for place in (run, new_id(), "x")
            ]
            assert answers[0]["code"] == "not_found"
            assert answers[0] == answers[1] == answers[2], frame_type
        assert mine
        await socket.settle()
        assert [event["kind"] for event in socket.events(own)] == ["message.created"]
    for route in WITH_PLACES:
        if not route.path.startswith(("/api/conversations/", "/api/runs/")):
            continue
        body = BODIES.get(f"{route.method} {route.path}")
        others = {"message": message, "user": ana.id, "emoji": "👍"}
        answers = []
        for conversation, run_id in ((foreign, run), (new_id(), new_id()), ("x", "x")):
            path = route.path.format(conversation=conversation, run=run_id, **others)
            answer = await eve.call(route.method, path, body, expect=404)
            answers.append({**answer, "request_id": ""})
        assert answers[0] == answers[1] == answers[2], route.path


async def test_another_persons_message_is_not_mine_to_change(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his:
        message = (await hers.say(room, "hers"))["message"]
        for act in ({"type": "edit", "text": "his"}, {"type": "delete"}, {"type": "pin", "on": True}):
            answer = await his.ask(act.pop("type"), conversation=room, message=message, **act)
            assert code_of(answer) == ("forbidden", False)
        path = f"/api/conversations/{room}/messages/{message}"
        assert (await ben.call("PATCH", path, {"text": "his"}, expect=403))["code"] == "forbidden"
        assert (await ben.call("DELETE", path, expect=403))["code"] == "forbidden"
        assert (await ben.call("PUT", f"{path}/pin", expect=403))["code"] == "forbidden"
        # A moderator may delete what others wrote, and still not put words into their mouths.
        his_own = (await his.say(room, "his"))["message"]
        assert code_of(await hers.ask("edit", conversation=room, message=his_own, text="x")) == ("forbidden", False)
        await his.settle()
        assert [event["kind"] for event in his.events(room)] == ["message.created"] * 2


async def test_what_was_deleted_can_be_neither_changed_nor_answered(people: MakePeople) -> None:
    (ana,) = await people("ana")
    room = await ana.room()
    async with ana.socket("/ws", room) as socket:
        message = (await socket.say(room, "gone"))["message"]
        assert (await socket.ask("delete", conversation=room, message=message))["type"] == "ack"
        for fields in frames_for(room, message):
            if message in fields.values():
                answer = await ask(socket, fields, "")
                assert (answer["type"], answer.get("code")) == ("error", "not_found"), fields
        answer = await socket.ask("send", conversation=room, text="answer", reply_to=message)
        assert answer["code"] == "not_found"


# -- methods and addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/auth/me", 405), ("DELETE", "/api/users", 405), ("PUT", "/api/conversations", 405),
        ("TRACE", "/api/conversations", 405), ("OPTIONS", "/api/conversations", 405), ("DELETE", "/api/conversations", 405),
        ("POST", "/healthz", 405), ("POST", "/", 405), ("GET", "/api/nothing", 404), ("GET", "/api/", 404),
        ("POST", "/api/nothing", 404), ("GET", "/v1/nothing", 404), ("DELETE", "/api/conversations/x/nothing", 404),
    ],
)  # fmt: skip
async def test_an_address_or_method_that_is_not_there(people: MakePeople, method: str, path: str, status: int) -> None:
    (ana,) = await people("ana")
    answer = await ana.http.request(method, path)
    assert answer.status_code == status
    assert (answer.headers["content-type"], answer.json()["code"]) == ("application/problem+json", "not_found")
    assert status != 405 or answer.headers["allow"]


async def test_head_answers_like_get_without_a_body(people: MakePeople) -> None:
    (ana,) = await people("ana")
    room = await ana.room()
    for path in (
        "/api/auth/me",
        "/api/conversations",
        f"/api/conversations/{room}/messages",
        "/healthz",
        "/readyz",
        "/",
    ):
        get, head = await ana.http.get(path), await ana.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
        assert head.headers["content-length"] == get.headers["content-length"]
    assert (await ana.http.head(f"/api/conversations/{new_id()}")).status_code == 404


# -- cursors and subscriptions ----------------------------------------------------------------------------------------


async def test_a_cursor_of_another_log_or_from_the_future_starts_anew(people: MakePeople) -> None:
    (ana,) = await people("ana")
    room = await ana.room()
    async with ana.socket("/ws") as socket:
        for number in range(5):
            await socket.say(room, f"{number}")
        epoch = (await ana.call("GET", f"/api/conversations/{room}", expect=200))["epoch"]
        for cursor, is_reset in (
            ({"seq": 2, "epoch": epoch}, False),
            ({"seq": 5, "epoch": epoch}, False),
            ({"seq": 0}, False),
            ({"seq": 0, "epoch": epoch}, False),
            ({"seq": 2, "epoch": "another"}, True),
            ({"seq": 0, "epoch": "another"}, True),
            ({"seq": 2}, True),
            ({"seq": 6, "epoch": epoch}, True),
            ({"seq": 2**53, "epoch": epoch}, True),
        ):
            before = len(socket.events(room))
            answer = (await socket.subscribe({room: cursor}))["conversations"][room]
            assert (answer["reset"], answer["head"], answer["epoch"]) == (is_reset, 5, epoch)
            if not is_reset and cursor["seq"] < 5:
                await socket.event("message.created", seq=5)
            await socket.settle()
            missed = [event["seq"] for event in socket.events(room)[before:]]
            assert missed == ([] if is_reset else list(range(cursor["seq"] + 1, 6)))
        await socket.say(room, "live again")
        await socket.event("message.created", seq=6)


async def test_a_socket_follows_500_conversations(people: MakePeople) -> None:
    (ana,) = await people("ana")
    rooms = []
    for _ in range(6):
        drafts = [{"kind": "room", "title": "one of many"}] * 100
        made = await ana.call("POST", "/api/conversations/batch", {"conversations": drafts}, expect=201)
        rooms += [room["id"] for room in made["conversations"]]
    async with ana.socket() as socket:
        too_many = await socket.subscribe(dict.fromkeys(rooms[:501]))
        assert code_of(too_many) == ("bad_frame", False)
        assert len((await socket.subscribe(dict.fromkeys(rooms[:500])))["conversations"]) == 500
        one_more = await socket.subscribe({rooms[500]: None})
        assert code_of(one_more) == ("bad_frame", False)
        again = await socket.subscribe({rooms[0]: None})  # takes no second place
        assert again["type"] == "subscribed"
        assert (await socket.ask("unsubscribe", conversations=rooms[:1]))["type"] == "ack"
        assert (await socket.subscribe({rooms[500]: None}))["type"] == "subscribed"
        await socket.say(rooms[500], "heard")
        await socket.event("message.created", conversation=rooms[500])


# -- tools ------------------------------------------------------------------------------------------------------------


def code_of(answer: Frame) -> tuple[str, bool]:
    return answer["code"], answer["retryable"]


def frames_for(conversation: str, message: str) -> list[Frame]:
    """Each frame that names a conversation and is answered."""
    about = {"conversation": conversation}
    return [
        {"type": "send", **about, "text": "x"},
        {"type": "edit", **about, "message": message, "text": "x"},
        {"type": "delete", **about, "message": message},
        {"type": "react", **about, "message": message, "emoji": "👍", "on": True},
        {"type": "react", **about, "message": message, "emoji": "👍", "on": False},
        {"type": "pin", **about, "message": message, "on": True},
        {"type": "run", **about, "message": message},
    ]


async def ask(socket: Socket, fields: Frame, place: str) -> Frame:
    """The answer without its id."""
    filled = {name: place if value == "{place}" else value for name, value in fields.items()}
    answer = await socket.ask(filled.pop("type"), **filled)
    return {**answer, "id": ""}

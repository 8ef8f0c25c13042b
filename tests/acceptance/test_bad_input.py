"""What is wrong with what was sent is said with a stable code, on sockets and over HTTP alike; the socket lives on
where it can, nothing is stored, and nobody else notices."""

import pytest

from server.protocol.codec import encode
from server.protocol.ids import new_id
from tests.acceptance.conftest import MakePeople
from tests.running_studio import Frame

LONGEST = 16_000


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


# -- methods and addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/auth/me", 405), ("DELETE", "/api/users", 405), ("PUT", "/api/conversations", 405),
        ("TRACE", "/api/conversations", 405), ("OPTIONS", "/api/conversations", 405),
        ("PATCH", "/api/conversations", 405),
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
        cursors: list[tuple[Frame, bool]] = [
            ({"seq": 2, "epoch": epoch}, False),
            ({"seq": 5, "epoch": epoch}, False),
            ({"seq": 0}, False),
            ({"seq": 0, "epoch": epoch}, False),
            ({"seq": 2, "epoch": "another"}, True),
            ({"seq": 0, "epoch": "another"}, True),
            ({"seq": 2}, True),
            ({"seq": 6, "epoch": epoch}, True),
            ({"seq": 2**53, "epoch": epoch}, True),
        ]
        for cursor, is_reset in cursors:
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

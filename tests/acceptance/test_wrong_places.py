"""The wrong place: what is missing, what is somebody else's, what was deleted. The first two look exactly the same."""

import re

import pytest

from server.gateway.routing import Route
from server.protocol.ids import new_id
from tests.acceptance.conftest import MakePeople
from tests.route_table import ROUTES
from tests.running_studio import Frame, Socket

NO_ID = ["x", "%00", "é", "00000000-0000-0000-0000-00000000000G", "a" * 5000, "%0a", "%ff"]
# Valid bodies, so that nothing but the place is wrong.
BODIES: dict[str, object] = {
    "PATCH /api/conversations/{conversation}": {"title": "t"},
    "PUT /api/conversations/{conversation}/members/{user}": {"role": "member"},
    "POST /api/conversations/{conversation}/messages": {"id": "x", "text": "x"},
    "PATCH /api/conversations/{conversation}/messages/{message}": {"text": "x"},
    "PUT /api/conversations/{conversation}/read": {"seq": 1},
    "POST /api/conversations/{conversation}/runs": {},
    "POST /api/conversations/{conversation}/webhooks": {"url": "https://example.org/"},
    "PATCH /api/conversations/{conversation}/webhooks/{webhook}": {"description": "x"},
    "POST /api/runs/{run}/steer": {"text": "x"},
    "POST /api/runs/{run}/decide": {"call": "x", "approve": True},
    "PATCH /api/admin/users/{user}": {"role": "member"},
}
WITH_PLACES = [route for route in ROUTES if "{" in route.path]


@pytest.mark.parametrize("route", WITH_PLACES, ids=lambda route: f"{route.method} {route.path}")
async def test_no_id_in_a_path_finds_nothing(people: MakePeople, route: Route) -> None:
    """Whatever stands where an id belongs: 404, and never a broken query behind it."""
    (ana,) = await people("ana", role="admin")
    room = await ana.room()
    body = BODIES.get(f"{route.method} {route.path}")
    for text in (*NO_ID, new_id().upper(), new_id()):
        for place in re.findall(r"{(\w+)}", route.path):
            if place == "emoji":
                continue
            places = {"conversation": room, "message": new_id(), "user": new_id(), "run": new_id(), "session": new_id()}
            places["webhook"] = new_id()
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
        others = {"message": message, "user": ana.id, "emoji": "👍", "webhook": new_id()}
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
        acts: list[tuple[str, Frame]] = [("edit", {"text": "his"}), ("delete", {}), ("pin", {"on": True})]
        for frame_type, fields in acts:
            answer = await his.ask(frame_type, conversation=room, message=message, **fields)
            assert (answer["code"], answer["retryable"]) == ("forbidden", False)
        path = f"/api/conversations/{room}/messages/{message}"
        assert (await ben.call("PATCH", path, {"text": "his"}, expect=403))["code"] == "forbidden"
        assert (await ben.call("DELETE", path, expect=403))["code"] == "forbidden"
        assert (await ben.call("PUT", f"{path}/pin", expect=403))["code"] == "forbidden"
        # A moderator may delete what others wrote, and still not put words into their mouths.
        his_own = (await his.say(room, "his"))["message"]
        assert (await hers.ask("edit", conversation=room, message=his_own, text="x"))["code"] == "forbidden"
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

"""One act, two ways to ask for it: a frame on a socket and a request over HTTP have the same effect, the same answers
and the same ids. An id names one act for ever, whichever way it comes again."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from server.protocol.ids import new_id
from tests.acceptance.conftest import MakePeople
from tests.running_studio import Frame, Person, Socket


@dataclass(frozen=True)
class Act:
    """`{message}` and `{run}` stand for what is acted on."""

    frame: str
    fields: dict[str, object]
    method: str
    path: str
    body: object = None
    other: dict[str, object] = field(default_factory=dict)  # fields that make it another act
    other_path: str = ""
    other_body: object = None

    @property
    def name(self) -> str:
        return f"{self.frame} {self.fields.get('on', '')}".strip()


MESSAGE, RUN, HERE = "/messages/{message}", "/api/runs/{run}", "/api/conversations/{conversation}"
ACTS = [
    Act("edit", {"text": "new"}, "PATCH", HERE + MESSAGE, {"text": "new"}, other={"text": "newer"},
        other_body={"text": "newer"}),
    Act("react", {"emoji": "👍", "on": True}, "PUT", HERE + MESSAGE + "/reactions/👍", other={"emoji": "👎"},
        other_path=HERE + MESSAGE + "/reactions/👎"),
    Act("react", {"emoji": "👍", "on": False}, "DELETE", HERE + MESSAGE + "/reactions/👍", other={"emoji": "👎"},
        other_path=HERE + MESSAGE + "/reactions/👎"),
    Act("pin", {"on": True}, "PUT", HERE + MESSAGE + "/pin", other={"on": False}),
    Act("pin", {"on": False}, "DELETE", HERE + MESSAGE + "/pin", other={"on": True}),
    Act("delete", {}, "DELETE", HERE + MESSAGE),
    Act("run", {"message": "{message}"}, "POST", HERE + "/runs", {"message": "{message}"}, other={"model": "demo"},
        other_body={"message": "{message}", "model": "demo"}),
    Act("stop", {"run": "{run}"}, "POST", RUN + "/stop"),
    Act("steer", {"run": "{run}", "text": "louder"}, "POST", RUN + "/steer", {"text": "louder"},
        other={"text": "softer"}, other_body={"text": "softer"}),
]  # fmt: skip
each_act = pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)


@each_act
async def test_the_same_act_on_both_ways_is_the_same_event(people: MakePeople, act: Act) -> None:
    async with Stage(people) as stage:
        by_frame, by_request = await stage.subject(act), await stage.subject(act)
        acked = await stage.by_frame(act, by_frame, new_id())
        assert acked["type"] == "ack", acked
        done = await stage.by_request(act, by_request, new_id())
        first = await stage.socket.event(stage.kind_of(act), seq=acked["seq"])
        second = await stage.socket.event(stage.kind_of(act), seq=done["seq"])
        assert stage.without_ids(first, by_frame) == stage.without_ids(second, by_request)
        if act.frame not in ("stop", "steer"):
            await stage.until_quiet()
            states = [await stage.state_of(by_frame), await stage.state_of(by_request)]
            assert states[0] == states[1]


@each_act
async def test_an_id_names_one_act_for_ever(people: MakePeople, act: Act) -> None:
    async with Stage(people) as stage:
        subject, act_id = await stage.subject(act), new_id()
        acked = await stage.by_frame(act, subject, act_id)
        assert acked["type"] == "ack", acked
        assert await stage.by_frame(act, subject, act_id) == acked
        assert (await stage.by_request(act, subject, act_id))["seq"] == acked["seq"]
        refused = []
        if act.other:
            refused.append(await stage.by_frame(act, subject, act_id, **act.other))
        if act.other_path or act.other_body is not None:
            refused.append(await stage.by_request(act, subject, act_id, is_other=True))
        refused.append(await stage.socket.ask("send", id=act_id, conversation=stage.room, text="x"))
        refused.append(
            await stage.ana.call("POST", f"/api/conversations/{stage.room}/messages", {"id": act_id, "text": "x"})
        )
        for kind in ({"type": "delete"}, {"type": "edit", "text": "another"}):
            if kind["type"] != act.frame:
                other = await stage.say("another message")
                refused.append(
                    await stage.socket.ask(kind.pop("type"), id=act_id, conversation=stage.room, message=other, **kind)
                )
        assert {(answer["code"], answer["retryable"]) for answer in refused} == {("conflict", False)}, refused
        # Elsewhere, and for somebody else, it names nothing yet.
        elsewhere = await stage.ana.room()
        assert (await stage.socket.ask("send", id=act_id, conversation=elsewhere, text="x"))["type"] == "ack"
        assert (await stage.his.ask("send", id=act_id, conversation=stage.room, text="x"))["type"] == "ack"
        await stage.until_quiet()
        kinds = [event["kind"] for event in stage.socket.events(stage.room) if event["seq"] >= acked["seq"]]
        assert kinds.count(stage.kind_of(act)) == 1


async def test_a_message_sent_ten_times_at_once_on_both_ways_is_one(people: MakePeople) -> None:
    (ana,) = await people("ana")
    room = await ana.room()
    async with ana.socket("/ws", room) as one, ana.socket("/ws", room) as two:

        async def post() -> tuple[int, Frame]:
            answer = await ana.http.post(f"/api/conversations/{room}/messages", json={"id": "once", "text": "once"})
            return answer.status_code, answer.json()

        posted = asyncio.gather(*(post() for _ in range(10)))
        for _ in range(10):
            await one.send("send", id="once", conversation=room, text="once")
            await two.send("send", id="once", conversation=room, text="once")
        answers = await posted
        assert sorted({status for status, _ in answers}) in ([200], [200, 201])
        assert sum(status == 201 for status, _ in answers) <= 1
        for socket in (one, two):
            await socket.say(room, "next")
        for socket in (one, two):
            await socket.event("message.created", seq=3)
            acks = [frame for frame in socket.seen if frame["type"] == "ack" and frame["id"] == "once"]
            assert len(acks) == 10
            for ack in acks:
                assert {name: ack[name] for name in ("message", "seq", "at")} == answers[0][1]
            assert [event["data"]["text"] for event in socket.events(room)] == ["once", "next", "next"]


async def test_sending_on_both_ways_makes_the_same_message(people: MakePeople) -> None:
    (ana,) = await people("ana")
    room = await ana.room()
    async with ana.socket("/ws", room) as socket:
        first = await socket.say(room, "the first")
        fields = {"text": "an answer", "reply_to": first["message"], "thread": first["message"], "people_only": True}
        acked = await socket.ask("send", id="by-frame", conversation=room, **fields)
        sent = await ana.call("POST", f"/api/conversations/{room}/messages", {"id": "by-request", **fields}, expect=201)
        events = [await socket.event("message.created", seq=answer["seq"]) for answer in (acked, sent)]
        assert [event["data"]["id"] for event in events] == [acked["message"], sent["message"]]
        for event in events:
            event["data"] |= {"id": "", "client_id": ""}
            event |= {"seq": 0, "at": ""}
        assert events[0] == events[1]
        page = (await ana.call("GET", f"/api/conversations/{room}/messages", expect=200))["messages"]
        assert [(m["client_id"], m["reply_to"], m["people_only"]) for m in page[1:]] == [
            ("by-frame", first["message"], True), ("by-request", first["message"], True),
        ]  # fmt: skip


async def test_reading_on_both_ways_moves_the_same_cursor(people: MakePeople) -> None:
    ana, ben = await people("ana", "ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his:
        for number in range(4):
            await hers.say(room, f"{number}")
        await his.connection.send(f'{{"type": "read", "conversation": "{room}", "seq": 2}}')
        receipt = await hers.wait_for(lambda frame: frame["type"] == "receipt" and frame["read"] > 0)
        assert (receipt["user"], receipt["read"], receipt["delivered"]) == (ben.id, 2, 2)
        assert await read_and_unread(ben, room) == (2, 2)
        await ben.call("PUT", f"/api/conversations/{room}/read", {"seq": 3}, expect=204)
        receipt = await hers.wait_for(lambda frame: frame["type"] == "receipt" and frame["read"] > 2)
        assert (receipt["user"], receipt["read"]) == (ben.id, 3)
        assert await read_and_unread(ben, room) == (3, 1)
        await ben.call("PUT", f"/api/conversations/{room}/read", {"seq": 1}, expect=204)  # never back
        assert await read_and_unread(ben, room) == (3, 1)
        await ben.call("PUT", f"/api/conversations/{room}/read", {"seq": 4_000}, expect=204)  # nor beyond the head
        assert await read_and_unread(ben, room) == (4, 0)
        await hers.say(room, "one more")
        assert await read_and_unread(ben, room) == (4, 1)


async def read_and_unread(person: Person, room: str) -> tuple[int, int]:
    found = await person.call("GET", f"/api/conversations/{room}", expect=200)
    return found["read"], found["unread"]


# -- the stage --------------------------------------------------------------------------------------------------------


class Stage:
    """A room of Ana's with Ben in it, both listening, and things to act on."""

    def __init__(self, people: MakePeople) -> None:
        self._people = people

    async def __aenter__(self) -> "Stage":
        self.ana, self.ben = await self._people("ana", "ben")
        self.room = await self.ana.room(members=[self.ben.id])
        self._hers, self._his = self.ana.socket("/ws", self.room), self.ben.socket("/ws", self.room)
        self.socket: Socket = await self._hers.__aenter__()
        self.his: Socket = await self._his.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._his.__aexit__(*error)
        await self._hers.__aexit__(*error)

    async def say(self, text: str) -> str:
        return str((await self.socket.say(self.room, text))["message"])

    async def subject(self, act: Act) -> Frame:
        """A message of its own for each act, and a running answer where one is needed."""
        message = await self.say("something to act on")
        if act.fields.get("on") is False:
            await self.socket.ask(act.frame, conversation=self.room, message=message, **{**act.fields, "on": True})
        run = ""
        if "{run}" in act.path:
            run = (await self.socket.ask("run", conversation=self.room, message=message))["run"]
            await self.socket.wait_for(lambda frame: frame["type"] == "delta" and frame["run"] == run)
        return {"message": message, "run": run, "conversation": self.room}

    async def by_frame(self, act: Act, subject: Frame, act_id: str, **other: object) -> Frame:
        fields: Frame = {**act.fields, **other}
        if "{run}" not in act.path:
            fields |= {"conversation": self.room, "message": subject["message"]}
        return await self.socket.ask(act.frame, id=act_id, **_filled(fields, subject))

    async def by_request(self, act: Act, subject: Frame, act_id: str, *, is_other: bool = False) -> Frame:
        path = act.other_path if is_other and act.other_path else act.path
        body = act.other_body if is_other and act.other_body is not None else act.body
        filled = _filled(body, subject) if isinstance(body, dict) else None
        answer = await self.ana.call(act.method, path.format(**subject), filled, headers={"idempotency-key": act_id})
        assert isinstance(answer, dict)
        return answer

    def kind_of(self, act: Act) -> str:
        match act.frame:
            case "react":
                return "reaction.added" if act.fields["on"] else "reaction.removed"
            case "edit" | "delete":
                return f"message.{act.frame.removesuffix('e')}ed"
            case "pin":
                return "message.pinned"
            case "run":
                return "run.started"
            case "stop":
                return "run.ended"
        return "run.steered"

    async def until_quiet(self) -> None:
        """Until every answer of a model has ended."""
        events = self.socket.events(self.room)
        started = {event["data"]["run"] for event in events if event["kind"] == "run.started"}
        ended = {event["data"]["run"] for event in events if event["kind"] == "run.ended"}
        for _ in started - ended:
            await self.socket.event("run.ended")
        await self.socket.settle()

    def without_ids(self, event: Frame, subject: Frame) -> Frame:
        """What is left when the names of the subject, the place in the log and the moment are taken out."""
        data = {name: value for name, value in event["data"].items() if value not in subject.values()}
        for name in ("run", "message", "text", "parts", "usage") if event["kind"].startswith("run.") else ():
            data.pop(name, None)
        return {**event, "data": data, "seq": 0, "at": ""}

    async def state_of(self, subject: Frame) -> Frame:
        page = (await self.ana.call("GET", f"/api/conversations/{self.room}/messages?limit=200", expect=200))[
            "messages"
        ]
        (message,) = (message for message in page if message["id"] == subject["message"])
        assert isinstance(message, dict)
        moments = {name: message[name] is not None for name in ("edited_at", "deleted_at")}
        return {**message, **moments, "id": "", "client_id": "", "seq": 0, "at": ""}


def _filled(fields: Frame, subject: Frame) -> Frame:
    return {name: value.format(**subject) if isinstance(value, str) else value for name, value in fields.items()}

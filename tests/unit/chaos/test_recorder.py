"""From the frames of a device to the records of the history: what came stands there, twice if it came twice."""

from typing import Any

from server.protocol.codec import encode
from tests.chaos.history import Acked, AnyRecord, Dropped, History, Refused, Repeated, Streamed, Subscribed
from tests.chaos.recorder import Recorder

ROOM = "room"


class Wire:
    """A recorder, with both ends played by the test. `kept` are the records of some kinds."""

    def __init__(self) -> None:
        self.history = History()
        self.recorder = Recorder("ana's", "ana", self.history)

    def out(self, **frame: Any) -> None:
        self.recorder.frame("out", encode(frame))

    def came(self, **frame: Any) -> None:
        self.recorder.frame("in", encode(frame))

    def kept(self, *kinds: type[AnyRecord]) -> list[AnyRecord]:
        return [record for record in self.history.records if isinstance(record, kinds)]

    def follow(self, after: int, first: int = 1) -> None:
        self.out(type="subscribe", id="s", conversations={ROOM: {"seq": after, "epoch": "e"}})
        answer = {"head": 9, "epoch": "e", "first": first, "reset": False, "read": 0}
        self.came(type="subscribed", id="s", conversations={ROOM: answer})


async def test_every_answer_is_kept_also_those_after_the_first() -> None:
    wire = Wire()
    asked = wire.recorder.ask(ROOM, "c1", "send", "x")
    wire.out(type="send", id="c1")
    wire.came(type="ack", id="c1", seq=1, message="m1")
    assert wire.recorder.pending == {}
    wire.came(type="ack", id="c1", seq=2, message="m2")
    wire.came(type="error", id="c1", code="conflict", message="", retryable=False)
    assert [type(record) for record in wire.kept(Acked, Refused)] == [Acked, Acked, Refused]
    assert asked.settled.result()["seq"] == 1
    assert wire.kept(Repeated) == []


async def test_what_goes_out_again_is_told() -> None:
    wire = Wire()
    wire.recorder.ask(ROOM, "c1", "send", "x")
    wire.out(type="send", id="c1")
    wire.out(type="send", id="c1")
    wire.came(type="ack", id="c1", seq=1)
    wire.recorder.ask(ROOM, "c1", "send", "x")
    wire.out(type="send", id="c1")
    assert len(wire.kept(Repeated)) == 2
    assert set(wire.recorder.pending) == {"c1"}


async def test_a_place_is_kept_with_the_cursor_that_was_shown_and_the_floor_that_was_told() -> None:
    wire = Wire()
    wire.follow(after=2, first=7)
    (told,) = wire.kept(Subscribed)
    assert isinstance(told, Subscribed)
    assert (told.asked, told.first, told.after) == (2, 7, 6)


async def test_to_let_go_and_to_be_dropped_are_told_apart() -> None:
    wire = Wire()
    wire.follow(after=2)
    wire.out(type="unsubscribe", id="u", conversations=[ROOM])
    wire.follow(after=2)
    wire.came(type="conversation.removed", conversation=ROOM, code="kicked")
    assert [record.is_wanted for record in wire.kept(Dropped) if isinstance(record, Dropped)] == [True, False]


async def test_pieces_of_an_answer_are_kept_with_their_place() -> None:
    wire = Wire()
    wire.came(type="delta", conversation=ROOM, run="r", message="m", part=0, kind="text", text="and on", **{"from": 4})
    (piece,) = wire.kept(Streamed)
    assert isinstance(piece, Streamed)
    assert (piece.run, piece.offset, piece.text) == ("r", 4, "and on")

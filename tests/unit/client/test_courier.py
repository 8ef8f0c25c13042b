"""Bringing frames as often as it takes, under the ids they were made with."""

import asyncio
from collections.abc import Callable

import pytest

from server.client.courier import Courier, Submitted
from server.client.errors import Closed, Unconfirmed
from server.protocol.errors import BadFrame, BadJson, Forbidden, TooLarge
from server.protocol.frames import Ack, Durable, ErrorFrame, RunAct, Send, Stop

LONG_S = 60.0


class Wire:
    """What was written, in order."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.is_broken = False

    def __call__(self, frame: Durable | RunAct) -> bool:
        if not self.is_broken:
            self.ids.append(frame.id)
        return not self.is_broken


def courier(wire: Wire, *, pipeline: int = 1, max_outstanding: int = 256) -> Courier:
    return Courier(wire, lambda: 0.0, pipeline=pipeline, max_outstanding=max_outstanding)


def send(name: str, conversation: str = "c") -> Send:
    return Send(id=name, conversation=conversation, text="hello")


def ack(name: str) -> Ack:
    return Ack(id=name, conversation="c", seq=1)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0)


async def submit(one: Courier, *names: str, conversation: str = "c") -> list[Submitted]:
    return [await one.submit(send(name, conversation), LONG_S) for name in names]


async def test_one_after_the_other_in_each_conversation() -> None:
    wire = Wire()
    brings = courier(wire)
    brings.up()
    first, second = await submit(brings, "a", "b")
    await submit(brings, "x", conversation="other")
    assert wire.ids == ["a", "x"]
    brings.answered(ack("a"))
    assert (await first).seq == 1
    await until(lambda: wire.ids == ["a", "x", "b"])
    brings.answered(ack("b"))
    await second
    assert brings.outstanding == 1


async def test_a_pipeline_has_several_on_their_way() -> None:
    wire = Wire()
    brings = courier(wire, pipeline=2)
    brings.up()
    await submit(brings, "a", "b", "c")
    assert wire.ids == ["a", "b"]
    brings.answered(ack("a"))
    await until(lambda: wire.ids == ["a", "b", "c"])


async def test_what_was_not_answered_goes_out_again_in_order() -> None:
    wire = Wire()
    brings = courier(wire, pipeline=3)
    brings.up()
    sent = await submit(brings, "a", "b", "c")
    brings.answered(ack("a"))
    await sent[0]
    brings.down()
    [later] = await submit(brings, "d")
    wire.ids.clear()
    brings.up()
    assert wire.ids == ["b", "c", "d"]
    assert [one.attempts for one in (*sent, later)] == [1, 2, 2, 1]


async def test_nothing_new_goes_to_a_server_that_is_about_to_stop() -> None:
    wire = Wire()
    brings = courier(wire, pipeline=3)
    brings.up()
    [before] = await submit(brings, "a")
    brings.pause()
    await submit(brings, "b")
    assert wire.ids == ["a"]
    brings.answered(ack("a"))
    assert (await before).id == "a"


async def test_one_that_is_put_off_keeps_its_place() -> None:
    wire = Wire()
    brings = courier(wire)
    brings.up()
    first, _ = await submit(brings, "a", "b")
    brings.answered(ErrorFrame(id="a", code="rate_limited", message="", retryable=True, retry_after_s=0.001))
    await until(lambda: len(wire.ids) == 2)
    assert wire.ids == ["a", "a"]
    assert first.refusals == 1
    brings.answered(ack("a"))
    await until(lambda: wire.ids == ["a", "a", "b"])


async def test_a_refusal_for_good_is_raised_and_the_next_one_goes() -> None:
    wire = Wire()
    brings = courier(wire)
    brings.up()
    first, _ = await submit(brings, "a", "b")
    brings.answered(ErrorFrame(id="a", code="forbidden", message="not you", retryable=False))
    with pytest.raises(Forbidden, match="not you"):
        await first
    await until(lambda: wire.ids == ["a", "b"])


async def test_without_an_answer_it_is_unconfirmed_and_the_next_one_goes() -> None:
    wire = Wire()
    brings = courier(wire)
    brings.up()
    first = await brings.submit(send("a"), 0.01)
    await submit(brings, "b")
    with pytest.raises(Unconfirmed) as caught:
        await first
    assert caught.value.frame_id == "a"
    await until(lambda: wire.ids == ["a", "b"])
    brings.answered(ack("a"))  # late; nobody waits
    assert brings.outstanding == 1


async def test_who_submits_more_than_there_is_room_for_waits() -> None:
    wire = Wire()
    brings = courier(wire, max_outstanding=2)
    brings.up()
    first, _ = await submit(brings, "a", "b")
    third = asyncio.create_task(brings.submit(send("c"), LONG_S))
    await asyncio.sleep(0.01)
    assert not third.done()
    brings.answered(ack("a"))
    await first
    assert (await third).id == "c"


async def test_who_is_cancelled_makes_room() -> None:
    wire = Wire()
    brings = courier(wire, max_outstanding=1)
    [first] = await submit(brings, "a")
    first.outcome.cancel()
    await submit(brings, "b")
    brings.up()
    assert wire.ids == ["b"]


async def test_the_end_ends_all_that_wait_and_all_that_come() -> None:
    brings = courier(Wire())
    [first] = await submit(brings, "a")
    brings.end(Closed("over"))
    with pytest.raises(Closed):
        await first
    with pytest.raises(Closed):
        await submit(brings, "b")


async def test_acts_on_a_run_have_a_lane_of_their_own() -> None:
    wire = Wire()
    brings = courier(wire)
    brings.up()
    await submit(brings, "a")
    await brings.submit(Stop(id="s", run="r"), LONG_S)
    assert wire.ids == ["a", "s"]


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (Send(id="no blanks", conversation="c", text="t"), BadFrame),
        (Send(id="a", conversation="c", text="nul \0"), BadJson),
        (Send(id="a", conversation="c", text="x" * 70_000), TooLarge),
    ],
)
async def test_what_the_server_would_not_read_does_not_leave(frame: Send, error: type[Exception]) -> None:
    brings = courier(Wire())
    with pytest.raises(error):
        await brings.submit(frame, LONG_S)
    assert brings.outstanding == 0


async def test_a_late_release_leaves_the_next_lane_of_that_conversation_alone() -> None:
    """Two frames on their way are put off for different times; both are answered before the later time is over."""
    wire = Wire()
    brings = courier(wire, pipeline=2)
    brings.up()
    both = await submit(brings, "a", "b")
    soon = ErrorFrame(id="a", code="unavailable", message="", retryable=True)
    late = ErrorFrame(id="b", code="unavailable", message="", retryable=True, retry_after_s=0.05)
    brings.answered(soon)
    brings.answered(late)
    await until(lambda: wire.ids == ["a", "b", "a", "b"])
    for name, one in zip("ab", both, strict=True):
        brings.answered(ack(name))
        await one
    await asyncio.sleep(0)  # what is answered is put away in the next turn
    brings.down()
    (third,) = await submit(brings, "c")
    await asyncio.sleep(0.1)  # the later time is over
    brings.up()
    assert wire.ids[-1] == "c"
    brings.answered(ack("c"))
    await third
    assert brings.outstanding == 0

"""Brings frames that end in the log to the server, as often as it takes.

In:   frames, each under an id that was made once.
Out:  the answer: an `Ack`, a refusal for good, or `Unconfirmed` after the deadline.
Promises: what was not answered before a connection was lost goes out again after it, under the same id, so that it
happens once. Frames of one conversation arrive in the order in which they were submitted: by default each waits for
the answer to the one before it; with a `pipeline` of n, n are on their way at once, and one that the server puts off
(`rate_limited`, `unavailable` …) may be overtaken by those. No more than `max_outstanding` wait here; who submits
more waits for room.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from functools import partial

from server.client.comeback import Chance, pause_s
from server.client.errors import Unconfirmed, refusal
from server.protocol.codec import decode_frame, encode
from server.protocol.errors import TooLarge
from server.protocol.frames import MAX_FRAME_BYTES, Ack, Durable, ErrorFrame, RunAct


class Submitted:
    """A frame on its way. Awaiting it gives the `Ack`, or raises what became of it."""

    __slots__ = ("attempts", "frame", "is_on_its_way", "outcome", "refusals")

    def __init__(self, frame: Durable | RunAct, outcome: asyncio.Future[Ack]) -> None:
        self.frame = frame
        self.outcome = outcome
        self.is_on_its_way = False
        self.attempts = 0  # how often it was written to a socket
        self.refusals = 0  # how often the server put it off

    @property
    def id(self) -> str:
        return self.frame.id

    def __await__(self) -> Generator[object, None, Ack]:
        return self.outcome.__await__()


class _Lane:
    """What is submitted for one conversation (or to one run), in order."""

    __slots__ = ("is_held", "name", "on_their_way", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: deque[Submitted] = deque()  # those on their way included
        self.on_their_way = 0
        self.is_held = False


class Courier:
    def __init__(
        self, write: Callable[[Durable | RunAct], bool], chance: Chance, *, pipeline: int = 1,
        max_outstanding: int = 256,
    ) -> None:  # fmt: skip
        self._write = write
        self._chance = chance
        self._pipeline = pipeline
        self._room = asyncio.Semaphore(max_outstanding)
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[str, _Lane] = {}
        self._submitted: dict[str, Submitted] = {}
        self._is_up = False
        self._end: Exception | None = None

    @property
    def outstanding(self) -> int:
        return sum(not one.outcome.done() for one in self._submitted.values())

    async def submit(self, frame: Durable | RunAct, within_s: float) -> Submitted:
        """Waits for room only. What the server would not read is refused here, as the server would."""
        raw = encode(frame)
        if len(raw) > MAX_FRAME_BYTES:
            raise TooLarge(f"a frame has at most {MAX_FRAME_BYTES} bytes, this one {len(raw)}")
        decode_frame(raw.decode())
        await self._room.acquire()
        if self._end is not None:
            self._room.release()
            raise self._end
        if frame.id in self._submitted:
            self._room.release()
            raise ValueError(f"{frame.id} is on its way already")
        one = Submitted(frame, self._loop.create_future())
        self._submitted[frame.id] = one
        deadline = self._loop.call_later(within_s, self._give_up, one, within_s)
        one.outcome.add_done_callback(partial(self._settled, one, deadline))
        lane = self._lane_of(frame)
        lane.waiting.append(one)
        self._go_on(lane)
        return one

    def up(self) -> None:
        self._is_up = True
        for lane in tuple(self._lanes.values()):
            self._go_on(lane)

    def pause(self) -> None:
        """The server is about to stop: it would only refuse what comes now."""
        self._is_up = False

    def down(self) -> None:
        self._is_up = False
        for lane in self._lanes.values():
            lane.on_their_way = 0
            for one in lane.waiting:
                one.is_on_its_way = False

    def end(self, error: Exception) -> None:
        """Nothing is brought any more."""
        self._end = error
        for one in tuple(self._submitted.values()):
            if not one.outcome.done():
                one.outcome.set_exception(error)

    def answered(self, frame: Ack | ErrorFrame) -> None:
        one = self._submitted.get(frame.id) if isinstance(frame.id, str) else None
        if one is None or one.outcome.done():
            return
        if isinstance(frame, Ack):
            one.outcome.set_result(frame)
            return
        retry_after_s = frame.retry_after_s if isinstance(frame.retry_after_s, float | int) else 0.0
        if frame.retryable:
            self._put_off(one, retry_after_s)
        else:
            one.outcome.set_exception(refusal(frame.code, frame.message))

    def _put_off(self, one: Submitted, least_s: float) -> None:
        """It keeps its place; those behind it wait, too."""
        lane = self._lane_of(one.frame)
        if one.is_on_its_way:
            one.is_on_its_way, lane.on_their_way = False, lane.on_their_way - 1
        one.refusals += 1
        lane.is_held = True
        self._loop.call_later(least_s + pause_s(one.refusals - 1, self._chance), self._release, lane)

    def _release(self, lane: _Lane) -> None:
        lane.is_held = False
        self._go_on(lane)
        self._forget_if_empty(lane)

    def _go_on(self, lane: _Lane) -> None:
        if not self._is_up or lane.is_held or lane.on_their_way >= self._pipeline:
            return
        for one in lane.waiting:
            if one.is_on_its_way or one.outcome.done():
                continue
            if not self._write(one.frame):
                return
            one.is_on_its_way, lane.on_their_way, one.attempts = True, lane.on_their_way + 1, one.attempts + 1
            if lane.on_their_way >= self._pipeline:
                return

    def _give_up(self, one: Submitted, within_s: float) -> None:
        if not one.outcome.done():
            one.outcome.set_exception(Unconfirmed(one.id, within_s))

    def _settled(self, one: Submitted, deadline: asyncio.TimerHandle, outcome: asyncio.Future[Ack]) -> None:
        """However it ended: acknowledged, refused, given up, or cancelled by whoever waited."""
        deadline.cancel()
        self._room.release()
        if not outcome.cancelled():
            outcome.exception()  # whoever does not wait for it is not told by the event loop either
        self._submitted.pop(one.id, None)
        lane = self._lane_of(one.frame)
        lane.waiting.remove(one)
        if one.is_on_its_way:
            lane.on_their_way -= 1
        self._go_on(lane)
        self._forget_if_empty(lane)

    def _lane_of(self, frame: Durable | RunAct) -> _Lane:
        name = frame.run if isinstance(frame, RunAct) else str(frame.conversation)
        if name not in self._lanes:
            self._lanes[name] = _Lane(name)
        return self._lanes[name]

    def _forget_if_empty(self, lane: _Lane) -> None:
        # A release of a lane that was forgotten long ago must not take away the one that has its name now.
        if not lane.waiting and not lane.is_held and self._lanes.get(lane.name) is lane:
            del self._lanes[lane.name]

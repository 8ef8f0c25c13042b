"""Catching up: what a connection lacks, read from the ring or the log as fast as its socket drains.

In:   subscriptions that are not live, each with the seq it has.
Out:  frames in order, until the subscription stands at the head of its feed and is live.
Promises: nothing is sent for a subscription that was lost or replaced meanwhile. At most one read's worth is added to
what a socket has unsent. A database that is away makes the client wait; it does not cost it the socket.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from loguru import logger

from server.gateway.websocket_protocol import prepare_frame
from server.hub.event_frames import event_of
from server.hub.feed import Feed
from server.protocol.codec import encode
from server.protocol.errors import ChatError
from server.protocol.frames import Actor, Reset
from server.storage.log_reader import LogReader
from server.storage.message_log import Stored

READ_EVENTS = 200
READ_BYTES = 128 * 1024  # with what a drained socket may still have unsent, well under its limit
PAUSE_S = 0.05  # the feed heard of an event that the read did not see yet
AWAY_PAUSE_S = 1.0


@dataclass(slots=True, eq=False)
class Subscription:
    """One conversation that a connection follows. Subscribing again makes another one."""

    feed: Feed
    role: str | None = None  # None: a visitor in a public room
    first: int = 1  # the first seq this member may see
    as_of: int = 0  # up to which seq the log's kicks and roles are in what is known of this member's rights
    is_answering: bool = False  # a model was writing when the subscription began
    is_confirmed: bool = False  # until then it is a reserved place, from which nothing is delivered


class Reader(Protocol):
    """A connection, as far as catching up needs it."""

    is_full: bool
    is_closed: bool

    @property
    def share_bytes(self) -> int: ...
    def holds(self, subscription: Subscription) -> bool: ...
    def go_live(self, subscription: Subscription, seq: int) -> bool: ...
    def write(self, frames: bytes) -> None: ...
    def end(self, code: int, reason: str) -> None: ...


class CatchUp:
    __slots__ = ("_connection", "_drained", "_log", "_loop", "_task", "_waiting")

    def __init__(self, connection: Reader, log: LogReader) -> None:
        self._connection = connection
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Subscription, int]] = deque()
        self._drained: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    def later(self, subscription: Subscription, seq: int) -> None:
        """Deliver everything above `seq` as soon as the socket has room."""
        self._waiting.append((subscription, seq))

    def go_on(self) -> None:
        """There is room again, or something to read."""
        if self._drained is not None:
            self._drained.set()
        elif self._waiting and (self._task is None or self._task.done()):
            self._task = self._loop.create_task(self._run())

    def close(self) -> None:
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._until_drained()
                lacking = self._take_those_who_lack_something()
                if lacking:
                    self._waiting.extendleft(reversed(await self._feed_some(lacking)))
        except Exception:  # noqa: BLE001 - the edge of a task: reported
            logger.exception("catching up failed")
            self._connection.end(1011, "something broke on our side")

    def _take_those_who_lack_something(self) -> list[tuple[Subscription, int]]:
        """Make live whom the ring can serve, until the socket is full; the others must read the log."""
        lacking = []
        while self._waiting and not self._connection.is_full:
            subscription, seq = self._waiting.popleft()
            if self._connection.holds(subscription) and not self._connection.go_live(subscription, seq):
                lacking.append((subscription, seq))
        return lacking

    async def _feed_some(self, lacking: list[tuple[Subscription, int]]) -> list[tuple[Subscription, int]]:
        """Write one read's worth, from as many conversations as it takes; where each subscription stands then."""
        lacking = [(subscription, self._past_what_is_gone(subscription, seq)) for subscription, seq in lacking]
        cursors = {subscription.feed.conversation: (seq, subscription.feed.head) for subscription, seq in lacking}
        try:
            most_bytes = min(READ_BYTES, self._connection.share_bytes)
            rows = await self._log.since_many(cursors, READ_EVENTS, most_bytes)
        except ChatError:
            await asyncio.sleep(AWAY_PAUSE_S)
            return lacking
        held = {s.feed.conversation for s, _ in lacking if self._connection.holds(s)}
        held -= self._shortened(lacking, rows)
        rows = [row for row in rows if row[0].conversation in held]
        frames = [
            prepare_frame(encode(event_of(stored, actor))) for stored, actor in rows if stored.conversation in held
        ]
        if frames:
            self._connection.write(b"".join(frames))
        else:
            await asyncio.sleep(PAUSE_S)
        reached = {stored.conversation: stored.seq for stored, _ in rows}
        return [(subscription, reached.get(subscription.feed.conversation, seq)) for subscription, seq in lacking]

    def _past_what_is_gone(self, subscription: Subscription, seq: int) -> int:
        """Where to go on from `seq`: at the head, if the log was shortened beyond it, and the client is told."""
        feed = subscription.feed
        if seq + 1 >= feed.first:
            return seq
        reset = Reset(conversation=feed.conversation, head=feed.head, epoch=feed.epoch)
        self._connection.write(prepare_frame(encode(reset)))
        return feed.head

    def _shortened(self, lacking: list[tuple[Subscription, int]], rows: list[tuple[Stored, Actor]]) -> set[str]:
        """Conversations that were shortened beyond where we stand, which nobody here knew yet."""
        oldest: dict[str, int] = {}
        for stored, _ in rows:
            oldest.setdefault(stored.conversation, stored.seq)
        gone = set()
        for subscription, seq in lacking:
            feed = subscription.feed
            if oldest.get(feed.conversation, 0) > seq + 1:
                feed.begins_at(oldest[feed.conversation])
                gone.add(feed.conversation)
        return gone

    async def _until_drained(self) -> None:
        while self._connection.is_full and not self._connection.is_closed:
            self._drained = asyncio.Event()
            try:
                await self._drained.wait()
            finally:
                self._drained = None

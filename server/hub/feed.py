"""A feed: one conversation as this node sees it, and everybody here who listens to it.

In:   encoded events from the bus, in any order; passing frames (typing, deltas …).
Out:  to every live listener the same bytes, joined once a tick.
Promises: a listener gets each event once and in order. An event that comes too early waits for the ones before it;
after 25 ms they are read from the log instead. A feed applies `member.left` in order: nothing above that seq reaches
who left.

Listeners are live (they get what is new) or catching up (they read the ring or the log until they stand at the head).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from server.bus.bus import EventNotice
from server.hub.receipt_pace import ReceiptPace
from server.protocol.codec import encode
from server.protocol.frames import Receipt

RING_BYTES = 192 * 1024  # about 400 short messages: a reconnect after some seconds needs no query
RING_EVENTS = 1000  # what a resume carries at most
RETRY_S = 1.0
OUT_OF_ORDER_S = 0.025  # two workers may publish 6 before 5; longer, and 5 is lost


class Listener(Protocol):
    """A connection, as a feed sees it."""

    @property
    def user_id(self) -> str: ...

    def broken(self) -> None:
        """A write has failed: the socket is past saving."""

    def remove(self, conversation: str) -> bool:
        """Stop listening; False when it did not listen."""

    def lose(self, conversation: str, code: str) -> None:
        """This conversation is not the listener's any more: stop listening and say so, with the reason's code."""


Prepare = Callable[[bytes], bytes]
Write = Callable[[bytes], None]  # prepared frames to one socket; never waits, and raises when the socket is dead
Repair = Callable[["Feed"], Awaitable[None]]
Effect = Callable[["Feed", EventNotice], None]


class Feed:
    """`prepare` frames a payload for the socket; `repair` reads a hole; `effect` applies events that change who may
    listen.
    """

    def __init__(
        self, conversation: str, epoch: str, head: int, *, prepare: Prepare, repair: Repair, effects: dict[str, Effect]
    ) -> None:
        self.conversation = conversation
        self.epoch = epoch
        self.head = head
        self.first = 1
        self.live: dict[Listener, Write] = {}  # ordered: who came first is served first
        self.visitors: set[Listener] = set()  # listen to a public conversation without being a member
        self.names: dict[str, str] | None = None  # keys of the members' names and their ids, once somebody needed them
        self.rights_changed = 0  # how often somebody came, went or got a role, or the door was opened or shut
        self.is_hushed = False  # a private chat with a block: neither side hears of the other what no log keeps
        self._loop = asyncio.get_running_loop()  # asking for it costs a system call each time
        self.followers = 0  # live or catching up; without any the feed can go
        self._prepare = prepare
        self._repair = repair
        self._effects = effects
        self._ring: deque[tuple[int, bytes]] = deque()
        self._ring_bytes = 0
        self._pending: list[bytes] = []
        self._pending_from = head  # what listeners had before the first pending event
        self._passing: list[bytes] = []
        self._flush_planned = False
        self._early: dict[int, EventNotice] = {}
        self._announced = head  # the log goes up to here at least
        self._receipts = ReceiptPace(conversation, self._tell_receipt, self._loop.call_later)
        self.lingering: asyncio.TimerHandle | None = None  # until the feed is closed, unless somebody follows it
        self._repair_timer: asyncio.TimerHandle | None = None
        self._repairing: asyncio.Task[None] | None = None

    def push(self, events: list[EventNotice]) -> None:
        """Take events in; what is known already is ignored, what comes too early waits."""
        for event in events:
            if event.seq == self.head + 1:
                self._append(event)
            elif event.seq > self.head:
                self._early[event.seq] = event
        while self._early and (follower := self._early.pop(self.head + 1, None)) is not None:
            self._append(follower)
        if self._early:
            self._early = {seq: event for seq, event in self._early.items() if seq > self.head}
        if self._early and self._repair_timer is None:
            self._repair_timer = self._loop.call_later(OUT_OF_ORDER_S, self._start_repair)

    def begins_at(self, first: int) -> None:
        """What lies before `first` is not kept any more, nor what was said there and repeated later."""
        if first > self.first:
            self.first = first
            self.forget_texts()

    def announce(self, seq: int) -> None:
        """The log goes up to `seq`, and what is missing here will not come by itself."""
        self._announced = max(self._announced, seq)
        self._start_repair()

    def jump(self, head: int, frame: bytes) -> None:
        """Leave out everything up to `head`: who is live gets this frame instead."""
        if head <= self.head:
            return
        self.flush()
        self.forget_texts()
        self.head = head
        self._pending.append(frame)
        self.flush()
        self.push([])  # what came early may follow now

    def pass_on(self, payload: bytes, *, droppable: bool) -> None:
        """A frame that is in no log, to those who keep up; what may be dropped comes last in its tick."""
        if droppable and self.is_hushed:
            return
        frame = self._prepare(payload)
        (self._passing if droppable else self._pending).append(frame)
        self._plan_flush()

    def cursors_moved(self, cursors: Iterable[tuple[str, int, int]]) -> None:
        """(user, delivered, read) of each, to be told at the pace of receipts."""
        self._receipts.take(cursors)

    def _tell_receipt(self, receipt: Receipt) -> None:
        self.pass_on(encode(receipt), droppable=True)

    def since(self, seq: int) -> bytes | None:
        """The prepared frames above `seq`, or None when the ring does not reach back so far."""
        if seq >= self.head:
            return b""
        if not self._ring or self._ring[0][0] > seq + 1:
            return None
        return b"".join(frame for number, frame in self._ring if number > seq)

    def go_live(self, listener: Listener, write: Write, seq: int) -> bytes | None:
        """Make a listener that has everything up to `seq` live, and return what must be written to it first.

        None: the ring does not reach back to `seq`, read the log and try again; or this feed has not heard of `seq`
        yet, which another node told first. No await may stand between this call and the write, or what comes next would
        overtake it.
        """
        self.flush()
        if seq > self.head:
            self.announce(seq)
            return None
        missing = self.since(seq)
        if missing is not None:
            self.live[listener] = write
        return missing

    def suspend(self, listener: Listener) -> int | None:
        """Deliver nothing for now: the seq up to which the listener has everything, or None when it was not live."""
        return None if self.live.pop(listener, None) is None else self._pending_from

    def drop(self, listener: Listener) -> None:
        self.live.pop(listener, None)
        self.visitors.discard(listener)

    def note_rights_changed(self) -> None:
        """Somebody came, went or got a role, or the door was opened or shut: what was read before may be wrong."""
        self.names = None
        self.rights_changed += 1

    def forget_texts(self) -> None:
        """Empty the ring: some text in it has been deleted, and whoever resumes now must not get it."""
        self._ring.clear()
        self._ring_bytes = 0

    def flush(self) -> None:
        """Write what is pending: one join, then the same bytes to everybody."""
        self._flush_planned = False
        if not (self._pending or self._passing):
            return
        frames = b"".join((*self._pending, *self._passing))
        self._pending, self._passing, self._pending_from = [], [], self.head
        # A copy, since a socket that is full now suspends itself in mid-loop. Nothing stands between this loop and the
        # transports: with five hundred members, one Python call each would be a tenth of all the work.
        for listener, write in tuple(self.live.items()):
            try:
                write(frames)
            except Exception:  # noqa: BLE001 - a dying transport raises; one dead member costs the others nothing
                listener.broken()

    def close(self) -> "asyncio.Task[None] | None":
        """The repair that was under way and is cancelled, for whoever waits for its end."""
        self._receipts.close()
        if self.lingering is not None:
            self.lingering.cancel()
        if self._repair_timer is not None:
            self._repair_timer.cancel()
        if self._repairing is not None:
            self._repairing.cancel()
        return self._repairing

    def _append(self, event: EventNotice) -> None:
        frame = self._prepare(event.payload)
        self.head = event.seq
        self._ring.append((event.seq, frame))
        self._ring_bytes += len(frame)
        while self._ring_bytes > RING_BYTES or len(self._ring) > RING_EVENTS:
            self._ring_bytes -= len(self._ring.popleft()[1])
        self._pending.append(frame)
        effect = self._effects.get(event.kind)
        if effect is None:
            self._plan_flush()
        else:
            self.flush()  # everybody who could read so far gets this one too; then the rules change
            effect(self, event)

    def _plan_flush(self) -> None:
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self.flush)

    def _start_repair(self) -> None:
        self._repair_timer = None
        if self._has_hole() and (self._repairing is None or self._repairing.done()):
            self._repairing = self._loop.create_task(self._repair_hole())

    def _has_hole(self) -> bool:
        return bool(self._early) or self._announced > self.head

    async def _repair_hole(self) -> None:
        while self._has_hole():
            before = self.head
            await self._repair(self)
            if self.head == before:
                # The log had less than was announced, or the database is away: try again.
                self._repair_timer = self._repair_timer or self._loop.call_later(RETRY_S, self._start_repair)
                return

"""The message queue: gathers what people send and commits it in batches.

In:   drafts, one at a time, each with a callback.
Out:  each draft's outcome, after the commit and never before; every committed event published, in order.
Promises: while one transaction is in flight the next drafts gather, and one batch takes them all. A conversation
whose row somebody else holds moves to a side lane with a connection of its own until it is through, so that one held
room stops nobody. Drafts of one conversation keep their order. One bad draft never fails its neighbours.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from loguru import logger

from server.hub.hub import Hub
from server.protocol.errors import ChatError, Internal, NotFound, Overloaded, Unavailable
from server.protocol.ids import is_id
from server.storage.message_log import Busy, Draft, MessageLog, Outcome, Stored
from server.telemetry import metrics

MAX_BATCH = 256  # at 64 the commit is already a small part of the work; a larger batch only delays its first draft
MAX_WAITING = 20_000  # two seconds of full speed; beyond it, saying "busy" is kinder than waiting
SIDE_LANES = 4

Settled = Callable[[Stored | ChatError], None]
Observer = Callable[[Stored, Draft], None]  # after the commit; for repeats too, which say so
Waiting = tuple[Draft, Settled]


@dataclass
class _SideLane:
    waiting: deque[Waiting] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    conversations: dict[str, int] = field(default_factory=dict)  # how many drafts of each wait or are in flight


class MessageQueue:
    def __init__(self, log: MessageLog, hub: Hub) -> None:
        self._log = log
        self._hub = hub
        self._waiting: deque[Waiting] = deque()
        self._wake = asyncio.Event()
        self._side_lanes = [_SideLane() for _ in range(SIDE_LANES)]
        self._diverted: dict[str, _SideLane] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._in_flight = 0
        self.observers: list[Observer] = []

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._workers = [loop.create_task(self._run_main_lane())]
        self._workers += [loop.create_task(self._run_side_lane(lane)) for lane in self._side_lanes]

    async def settle(self) -> None:
        """Return when everything that was accepted has been answered."""
        while self._waiting or self._in_flight or self._diverted:
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        await self.settle()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    @property
    def depth(self) -> int:
        return len(self._waiting) + sum(len(lane.waiting) for lane in self._side_lanes)

    def put(self, draft: Draft, settled: Settled) -> None:
        """Accept a draft; `settled` is called once, in the event loop, with the stored event or the error."""
        if not is_id(draft.conversation):
            settled(NotFound("there is no such conversation"))
            return
        if (self.depth if self._diverted else len(self._waiting)) >= MAX_WAITING:
            settled(Overloaded())
            return
        lane = self._diverted.get(draft.conversation) if self._diverted else None
        if lane is not None:
            self._divert(lane, (draft, settled))
            return
        self._waiting.append((draft, settled))
        self._wake.set()

    async def append(self, draft: Draft) -> Stored:
        """The same for callers that can wait; raises the error."""
        future: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()

        def settle(outcome: Stored | ChatError) -> None:
            if future.done():
                return  # whoever waited has gone; the draft has not
            if isinstance(outcome, ChatError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        self.put(draft, settle)
        return await future

    async def append_all(self, drafts: list[Draft]) -> list[Stored]:
        """All in one transaction or none; raises the first error."""
        if not all(is_id(draft.conversation) for draft in drafts):
            raise NotFound("there is no such conversation")
        stored = await self._log.append_all(drafts)
        settled: list[Waiting] = [(draft, lambda _: None) for draft in drafts]
        self._settle(settled, list(stored))
        return stored

    async def _run_main_lane(self) -> None:
        while True:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
            self._in_flight = len(batch)
            outcomes = await self._commit(batch, wait=False)
            if isinstance(outcomes[0], Unavailable):
                # What gathered behind it would wait as long again: it has waited long enough to be told.
                batch += self._waiting
                outcomes += [outcomes[0]] * len(self._waiting)
                self._waiting.clear()
            self._settle(batch, outcomes)
            self._in_flight = 0

    async def _run_side_lane(self, lane: _SideLane) -> None:
        while True:
            if not lane.waiting:
                lane.wake.clear()
                await lane.wake.wait()
            # One conversation at a time: a batch over several would wait for the slowest of them.
            conversation = lane.waiting[0][0].conversation
            batch = [entry for entry in lane.waiting if entry[0].conversation == conversation][:MAX_BATCH]
            taken = set(map(id, batch))
            lane.waiting = deque(entry for entry in lane.waiting if id(entry) not in taken)
            outcomes = await self._commit(batch, wait=True)
            if isinstance(outcomes[0], Unavailable):
                batch += lane.waiting
                outcomes += [outcomes[0]] * len(lane.waiting)
                lane.waiting.clear()
            self._settle(batch, outcomes)
            for conversation, count in Counter(draft.conversation for draft, _ in batch).items():
                lane.conversations[conversation] -= count
                if not lane.conversations[conversation]:
                    del lane.conversations[conversation]
                    del self._diverted[conversation]

    async def _commit(self, batch: list[Waiting], *, wait: bool) -> list[Outcome]:
        drafts = [draft for draft, _ in batch]
        metrics.batch_size.observe(len(drafts))
        with metrics.commit_seconds.time():
            try:
                return await self._log.append(drafts, wait=wait)
            except ChatError as error:  # nothing of the batch was stored, or nobody can tell: all are told to repeat
                return [error] * len(drafts)
            except Exception:  # noqa: BLE001 - the edge of a task: reported
                if len(drafts) == 1:
                    logger.exception("a draft of kind {} could not be stored", drafts[0].data.kind)
                    return [Internal()]
        # Something in one draft broke the statement for all: each on its own, the good ones pass.
        return [outcome for entry in batch for outcome in await self._commit([entry], wait=wait)]

    def _settle(self, batch: list[Waiting], outcomes: list[Outcome]) -> None:
        """Publish what is new and answer everybody; what was busy goes to a side lane, and later drafts behind it."""
        committed = [
            (outcome, draft.actor)
            for (draft, _), outcome in zip(batch, outcomes, strict=True)
            if isinstance(outcome, Stored)
        ]
        # Repeats too: the first one may have been committed after its answer was given up, and then nobody was told.
        # Feeds ignore what they know.
        self._hub.publish(committed)
        metrics.messages_committed.inc(sum(isinstance(o, Stored) and not o.repeat for o in outcomes))
        self._divert_busy([entry for entry, outcome in zip(batch, outcomes, strict=True) if isinstance(outcome, Busy)])
        for (draft, settled), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Busy):
                continue
            try:
                settled(outcome)
                if isinstance(outcome, Stored):
                    for observer in self.observers:
                        observer(outcome, draft)
            except Exception:  # noqa: BLE001 - the event stands; a broken callback must not stop the lane
                logger.exception("a sender could not be answered")

    def _divert_busy(self, busy: list[Waiting]) -> None:
        """Move what was busy to side lanes, and behind it whatever waits for the same conversations, so that order
        holds.
        """
        if not busy:
            return
        conversations = {draft.conversation for draft, _ in busy}
        later = [entry for entry in self._waiting if entry[0].conversation in conversations]
        self._waiting = deque(entry for entry in self._waiting if entry[0].conversation not in conversations)
        for entry in busy + later:
            conversation = entry[0].conversation
            lane = self._diverted.get(conversation) or min(self._side_lanes, key=lambda lane: len(lane.conversations))
            self._divert(lane, entry)

    def _divert(self, lane: _SideLane, entry: Waiting) -> None:
        conversation = entry[0].conversation
        self._diverted[conversation] = lane
        lane.conversations[conversation] = lane.conversations.get(conversation, 0) + 1
        lane.waiting.append(entry)
        lane.wake.set()

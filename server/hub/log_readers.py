"""Readers of the log: side effects of what was committed, that can fail and be tried again.

In:   effects by the name of their reader; a hint whenever something was committed here.
Out:  each event of a followed conversation handed to each of its targets: in order, at least once, by one process at a
      time.
Promises: sending does nothing for this but add a conversation to a set. What nobody announced (the committer died,
another process has committed, a pause is over, the holder of a lease is gone) is found by a look at the cursors, a few
seconds later at most: a target whose process dies is taken over within fifteen. Where nobody has subscribed, a look is
one query on an empty table. A target that hangs takes one of a bounded number of places; those whose last attempt
failed have at most half of them, and a few for themselves.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from loguru import logger

from server.hub.deliveries import Effect, RetryPolicy
from server.hub.delivery_turn import Turn
from server.protocol.errors import ChatError
from server.storage.dead_letters import DeadLetters
from server.storage.delivery_notes import DeliveryNotes
from server.storage.log_cursors import Claim, CursorKey, LogCursors
from server.storage.log_reader import LogReader
from server.storage.message_log import Draft, Stored
from server.telemetry import metrics

LOOK_EVERY_S = 3.0  # with the lease of ten seconds, what a dead process held is taken over after thirteen
RENEW_EVERY_S = 3.0  # two may fail before the lease is over
GATHER_S = 0.1  # commits within it, after a look, are one look
MEASURE_EVERY_S = 15.0  # as often as Prometheus asks
MAX_AT_ONCE = 32
MAX_FAILING = MAX_AT_ONCE // 2
KEPT_FOR_FAILING = 4  # else a target that is well again would not be tried while the others are many or slow
PAUSE_AFTER_BREAKDOWN_S = 10.0
CLOSE_S = 2.0  # for the attempts in flight; a stop has five seconds for everything


class LogReaders:
    def __init__(
        self,
        cursors: LogCursors,
        notes: DeliveryNotes,
        letters: DeadLetters,
        reader: LogReader,
        *,
        policy: RetryPolicy | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._cursors = cursors
        self._notes = notes
        self._letters = letters
        self._reader = reader
        self.policy = policy or RetryPolicy()
        self._draw = draw
        self._effects: dict[str, Effect] = {}
        self._watched: frozenset[str] = frozenset()
        self._moved: set[str] = set()  # conversations with something new
        self._again: set[str] = set()  # the same, of those on which somebody here works
        self._wake = asyncio.Event()
        self._is_full = False  # there may be more to do than there were places …
        self._is_round_due = False  # … and now there is one
        self._is_measured = False
        self._turns: dict[CursorKey, tuple[Turn, asyncio.Task[None]]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._is_closing = False

    def add(self, name: str, effect: Effect) -> None:
        """Before `open`. The name stands in the database: it never changes."""
        self._effects[name] = effect

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._look_on()), loop.create_task(self._hold_on())]

    async def close(self) -> None:
        """Attempts in flight may end, for a moment; what they had not begun others begin at once."""
        self._is_closing = True
        for turn, _ in self._turns.values():
            turn.is_to_stop = True
        claims = [turn.claim for turn, _ in self._turns.values()]
        running = [task for _, task in self._turns.values()]
        if running:
            await asyncio.wait(running, timeout=CLOSE_S)
        for task in (*self._tasks, *running):
            task.cancel()
        await asyncio.gather(*self._tasks, *running, return_exceptions=True)
        with suppress(ChatError):  # else the leases run out
            await self._cursors.give_back(claims)

    def note(self, stored: Stored, _: Draft) -> None:
        """An observer of the queue."""
        if stored.conversation in self._watched:
            self._moved.add(stored.conversation)
            self._wake.set()

    def look_at(self, conversation: str) -> None:
        """There is something to do for a target in this conversation, or soon will be."""
        if conversation not in self._watched:
            self._watched |= {conversation}
        self._moved.add(conversation)
        self._wake.set()

    # Looking for work

    async def _look_on(self) -> None:
        look_at = measure_at = monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, look_at - monotonic())):
                    await self._wake.wait()
            started = monotonic()
            is_round = started >= look_at or self._is_round_due
            self._is_round_due = False
            try:
                await self._look(is_round=is_round)
                if is_round and started >= measure_at:
                    measure_at = started + MEASURE_EVERY_S
                    await self.measure()
            except ChatError as error:
                logger.warning("cursors of the log cannot be read: {}; trying again", error.code)
                is_round = True
            except Exception:  # noqa: BLE001 - the look-out must not end
                logger.exception("cursors of the log cannot be read")
                is_round = True
            if is_round:
                # With very many cursors even the question takes time: no more than a twentieth of ours.
                look_at = monotonic() + max(LOOK_EVERY_S, 20 * (monotonic() - started))
            await asyncio.sleep(GATHER_S)

    async def _look(self, *, is_round: bool) -> None:
        """At everything, or at the conversations that have moved."""
        self._wake.clear()
        if is_round:
            self._watched = await self._cursors.watched(list(self._effects))
        busy = {turn.conversation for turn, _ in self._turns.values()}
        self._again |= self._moved & busy
        moved, self._moved = self._moved & self._watched, set()
        conversations = None if is_round else list(moved)
        if not self._watched or conversations == []:
            return
        for failing in (False, True):
            most = MAX_FAILING if failing else MAX_AT_ONCE - KEPT_FOR_FAILING
            of_these = sum(turn.was_failing is failing for turn, _ in self._turns.values())
            free = max(0, min(MAX_AT_ONCE - len(self._turns), most - of_these))
            claims = await self._claim(free, conversations, failing=failing)
            for claim in claims:
                self._start(claim, was_failing=failing)
            self._is_full |= len(claims) >= free

    async def _claim(self, limit: int, conversations: list[str] | None, *, failing: bool) -> list[Claim]:
        if limit == 0 or self._is_closing:
            return []
        return await self._cursors.claim(list(self._effects), limit, failing=failing, conversations=conversations)

    # Turns

    def _start(self, claim: Claim, *, was_failing: bool) -> None:
        turn = Turn(
            claim, self._effects[claim.key.reader], self._cursors, self._notes, self._letters, self._reader,
            self.policy, self._draw, lambda pause_s: self._look_after(claim.conversation, pause_s),
            was_failing=was_failing,
        )  # fmt: skip
        self._turns[claim.key] = turn, asyncio.get_running_loop().create_task(self._take(turn))

    async def _take(self, turn: Turn) -> None:
        pause_s: float | None = PAUSE_AFTER_BREAKDOWN_S
        try:
            pause_s = None if await turn.run() else 0.0
        except ChatError as error:
            logger.warning("a reader of the log has to wait: {}", error.code)
        except Exception:  # noqa: BLE001 - the edge of a task: reported, and the cursor is taken up again
            logger.exception("a turn of {} broke", turn.key.reader)
        finally:
            try:
                if pause_s is not None:
                    with suppress(ChatError):  # else the lease runs out
                        await self._cursors.give_back([turn.claim], pause_s)
            finally:  # also when that is cancelled: the place is free
                self._leave(turn, has_more=pause_s == 0.0)

    def _leave(self, turn: Turn, *, has_more: bool) -> None:
        current = self._turns.get(turn.key)
        if current is not None and current[0] is turn:  # let go, it may have been claimed again already
            del self._turns[turn.key]
        if turn.conversation in self._again or has_more:
            self._again.discard(turn.conversation)
            self.look_at(turn.conversation)
        if self._is_full:
            self._is_full, self._is_round_due = False, True
            self._wake.set()

    def _look_after(self, conversation: str, pause_s: float) -> None:
        """A longer pause ends by itself at one of the looks."""
        if pause_s < LOOK_EVERY_S:
            asyncio.get_running_loop().call_later(pause_s, self.look_at, conversation)

    async def _hold_on(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            turns = dict(self._turns)
            if not turns:
                continue
            try:
                held = await self._cursors.renew([turn.claim for turn, _ in turns.values()])
            except ChatError:
                continue  # the database is away: for everybody else too
            except Exception:  # noqa: BLE001 - the holding must not end
                logger.exception("leases on cursors of the log cannot be renewed")
                continue
            for key, (_, task) in turns.items():
                if key not in held:  # somebody else has it by now, or a later turn of ours
                    task.cancel()

    async def measure(self) -> None:
        if not self._watched and self._is_measured:
            return
        self._is_measured = not self._watched
        for reader in self._effects:
            metrics.delivery_lag_events.labels(reader).set(0)
            metrics.delivery_lag_seconds.labels(reader).set(0)
        for lag in await self._cursors.lags():
            metrics.delivery_lag_events.labels(lag.reader).set(lag.events)
            metrics.delivery_lag_seconds.labels(lag.reader).set(lag.oldest_s)
        counts = await self._letters.counts()
        for reader in self._effects:
            metrics.dead_letters.labels(reader).set(counts.get(reader, 0))

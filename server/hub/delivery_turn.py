"""A turn: the work on one claimed cursor, from its claim to its release.

In:   a claim on the cursor of one target.
Out:  deliveries, one after the other in the order of the log, and a note of each in the database.
Promises: an event is passed only together with the note of its delivery or its dead letter. A try that fails ends the
turn, so the later events of this target wait for the pause, and after the last try go on without it. What is sent is
read from the log just before, so a text that was deleted is not sent. A turn is short: others wait for the place.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

from loguru import logger

from server.hub.deliveries import (
    DAY_S,
    Delivered,
    Delivery,
    Effect,
    Failed,
    Gone,
    Outcome,
    Receiver,
    RetryPolicy,
)
from server.hub.event_frames import event_of
from server.protocol.errors import ChatError
from server.protocol.frames import Actor
from server.storage.dead_letters import DeadLetter, DeadLetters
from server.storage.delivery_notes import Attempt, AttemptOutcome, DeliveryNotes
from server.storage.log_cursors import Claim, LogCursors
from server.storage.log_reader import Head, LogReader
from server.storage.message_log import Stored
from server.telemetry import metrics

TURN_S = 5.0
CHUNK_EVENTS = 20
FRESH_S = 0.5  # what was read longer ago is read again before it is sent
POSTPONE_S = 2.0
MAX_LETTERS = 100
INSIST_S = 30.0  # a delivery that was made is written down, also by a database that is away for a moment
INSIST_EVERY_S = 0.5

T = TypeVar("T")
NoteOf = Callable[[AttemptOutcome], Attempt]


class Turn:
    """`pause_is` is told of each pause before another try."""

    def __init__(
        self,
        claim: Claim,
        effect: Effect,
        cursors: LogCursors,
        notes: DeliveryNotes,
        letters: DeadLetters,
        reader: LogReader,
        policy: RetryPolicy,
        draw: Callable[[], float],
        pause_is: Callable[[float], None],
        *,
        was_failing: bool,
    ) -> None:
        self.claim = claim
        self.key = claim.key
        self.conversation = claim.conversation
        self.was_failing = was_failing
        self.is_to_stop = False  # after the attempt in flight
        self._seq = claim.seq
        self._tries = claim.tries
        self._failures = claim.failures
        self._effect = effect
        self._cursors = cursors
        self._notes = notes
        self._letters = letters
        self._reader = reader
        self._policy = policy
        self._draw = draw
        self._pause_is = pause_is
        self._ends_at = monotonic() + TURN_S
        self._has_letters = True

    async def run(self) -> bool:
        """Whether the cursor is let go; else whoever started the turn gives it back."""
        while not self.is_to_stop and monotonic() < self._ends_at:
            receiver = await self._effect(self.key.target)
            head = (await self._reader.heads([self.conversation])).get(self.conversation)
            if receiver is None or head is None:
                return False  # deleted meanwhile, and its cursor with it
            if not receiver.is_ending and not await self._try_letters(receiver, head):
                return False
            if not await self._read_on(receiver, head):
                return False
            if self._seq < head.last:
                continue
            if receiver.is_ending:
                await receiver.end()
                return True
            if await self._cursors.release(self.claim):
                return True
        return False

    async def _read_on(self, receiver: Receiver, head: Head) -> bool:
        """Deliver what stands behind the cursor, as long as what was read is fresh. False: this turn is over."""
        # An ending receiver wants only what comes last, and that is kept for it.
        if head.first > self._seq + 1 and not receiver.is_ending and not await self._note_lost(head):
            return False
        started = monotonic()
        kinds = receiver.kinds
        wanted = await self._reader.since(self.conversation, self._seq, CHUNK_EVENTS, up_to=head.last, kinds=kinds)
        for place, (stored, actor) in enumerate(wanted):
            if self.is_to_stop or (place > 0 and monotonic() > started + FRESH_S):
                return True
            if not await self._deliver(receiver, head, stored, actor):
                return False
        if len(wanted) < CHUNK_EVENTS and self._seq < head.last:  # the rest is not wanted
            if not await self._notes.skip(self.claim, head.last):
                return False
            self._seq, self._tries = head.last, 0
        return True

    async def _deliver(self, receiver: Receiver, head: Head, stored: Stored, actor: Actor) -> bool:
        if stored.seq != self._seq + 1:
            self._tries = 0  # they were of an event that is no longer wanted
        outcome, note = await self._attempt(receiver, head, stored, actor, self._tries + 1)
        match outcome:
            case Delivered():
                attempt = note("delivered")
                self._seq, self._tries, self._failures = stored.seq, 0, 0
                return await _insist(lambda: self._notes.delivered(self.claim, attempt))
            case Gone():
                await self._gone(note("gone"))
            case Failed(counts=False):
                pause_s = max(outcome.retry_after_s, POSTPONE_S)
                await self._notes.postponed(self.claim, stored.seq, pause_s)
                self._pause_is(pause_s)
            case Failed():
                await self._failed(outcome, note)
        return False

    async def _gone(self, attempt: Attempt) -> None:
        await _insist(lambda: self._notes.gone(self.claim, attempt))

    async def _failed(self, outcome: Failed, note: NoteOf) -> None:
        pause_s = self._pause_s(outcome, self._failures + 1)
        if self._tries + 1 >= self._policy.tries:
            attempt = note("dead")
            failing_s = await _insist(lambda: self._notes.dead(self.claim, attempt, pause_s))
        else:
            attempt = note("retried")
            failing_s = await _insist(lambda: self._notes.retried(self.claim, attempt, pause_s))
        self._pause_is(pause_s)
        if failing_s is not None and failing_s >= self._policy.disable_after_s:
            reason = f"nothing could be delivered for {failing_s / DAY_S:.1f} days; the last time: {outcome.reason}"
            await self._cursors.disable(self.key, reason)

    def _pause_s(self, outcome: Failed, failures: int) -> float:
        """What the receiver asks for counts, as far as our own longest pause."""
        return max(self._policy.pause_s(failures, self._draw), min(outcome.retry_after_s, self._policy.most_s))

    async def _attempt(
        self, receiver: Receiver, head: Head, stored: Stored, actor: Actor, number: int
    ) -> tuple[Outcome, NoteOf]:
        """What came of it, and the note of it, for which only the word for the outcome is missing."""
        # The epoch stands in it, because a restored backup gives the same numbers to other events.
        delivery_id = f"{self.key.target}-{head.epoch}-{stored.seq}"
        started = monotonic()
        outcome: Outcome
        try:
            delivery = Delivery(delivery_id, self.key.target, self.conversation, event_of(stored, actor))
            outcome = await receiver.deliver(delivery)
        except Exception:  # noqa: BLE001 - an event that breaks its effect must not be tried for ever: it is a failure
            logger.exception("an effect of {} broke", self.key.reader)
            outcome = Failed("something broke on our side")
        took_ms = round((monotonic() - started) * 1000)
        reason = None if isinstance(outcome, Delivered) else outcome.reason

        def note(word: AttemptOutcome) -> Attempt:
            metrics.delivery_attempts.labels(self.key.reader, word).inc()
            return Attempt(stored.seq, stored.kind, number, word, outcome.status, reason, took_ms)

        return outcome, note

    async def _note_lost(self, head: Head) -> bool:
        """Retention has overtaken the cursor: what is gone cannot be delivered, and is not passed in silence."""
        first, last = self._seq + 1, head.first - 1
        reason = f"the events {first} to {last} left the log before they were delivered"
        self._seq, self._tries = last, 0
        return await self._notes.lost(self.claim, first, last, reason)

    # Dead letters that somebody wants tried again

    async def _try_letters(self, receiver: Receiver, head: Head) -> bool:
        if not self._has_letters:
            return True
        due = await self._letters.due(self.key, MAX_LETTERS)
        for letter in due:
            if self.is_to_stop or monotonic() >= self._ends_at:
                return True
            if not await self._try_letter(receiver, head, letter):
                return False
        self._has_letters = len(due) == MAX_LETTERS
        return True

    async def _try_letter(self, receiver: Receiver, head: Head, letter: DeadLetter) -> bool:
        found = await self._reader.since(self.conversation, letter.seq - 1, 1, up_to=letter.seq)
        if not found or letter.seq < head.first:  # it is not kept any more
            await self._letters.let_lie([letter.id])
            return True
        outcome, note = await self._attempt(receiver, head, *found[0], letter.attempts + 1)
        match outcome:
            case Delivered():
                attempt = note("delivered")
                self._failures = 0
                return await _insist(lambda: self._notes.letter_delivered(self.claim, attempt, letter.id))
            case Gone():
                await self._gone(note("gone"))
                return False
            case Failed(counts=False):
                pause_s = max(outcome.retry_after_s, POSTPONE_S)
                await self._letters.postpone(letter.id, pause_s)
                self._pause_is(pause_s)
            case Failed():
                await self._letter_failed(outcome, note, letter)
        return True

    async def _letter_failed(self, outcome: Failed, note: NoteOf, letter: DeadLetter) -> None:
        """It holds nobody up: the events behind it went on long ago."""
        is_last = letter.retries + 1 >= self._policy.tries
        pause_s = None if is_last else self._pause_s(outcome, letter.retries + 1)
        attempt = note("dead" if is_last else "retried")
        await _insist(lambda: self._notes.letter_failed(self.claim, attempt, letter.id, pause_s))
        if pause_s is not None:
            self._pause_is(pause_s)


async def _insist(write: Callable[[], Awaitable[T]]) -> T:
    """The attempt was made: what came of it is worth some patience. Written twice is no harm, the lease decides."""
    deadline = monotonic() + INSIST_S
    while True:
        try:
            return await write()
        except ChatError:
            if monotonic() > deadline:
                raise
            await asyncio.sleep(INSIST_EVERY_S)

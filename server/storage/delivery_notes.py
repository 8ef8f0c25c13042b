"""What came of attempts to deliver events: written down together with the move of the cursor.

In:   an attempt, by the process that holds the cursor.
Out:  the cursor behind the event, or before it with a pause; the attempt in the list of the latest.
Promises: a cursor passes an event in the same statement that notes its delivery, or puts it among the dead letters: a
crash at any moment repeats an attempt and skips none. Whoever has lost the lease writes nothing any more.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from server.protocol.ids import new_id
from server.storage.database import Database, Record
from server.storage.log_cursors import Claim, CursorKey

AttemptOutcome = Literal["delivered", "retried", "dead", "gone"]

ATTEMPTS_KEPT = 100  # of each target


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to deliver one event. A `gone` target wants nothing more."""

    seq: int
    kind: str
    attempt: int  # the first one is 1
    outcome: AttemptOutcome
    status: int | None
    reason: str | None
    took_ms: int


@dataclass(frozen=True, slots=True)
class PastAttempt:
    attempt: Attempt
    at: datetime


class DeliveryNotes:
    """Each note tells whether the claim still held."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def skip(self, claim: Claim, up_to: int) -> bool:
        """Pass events that the target does not want."""
        return await self._database.execute(
            "UPDATE log_cursors SET seq = $4, tries = 0, first_tried_at = NULL "
            "WHERE reader = $1 AND target = $2 AND holder = $3 AND seq < $4",
            *claim.lease, up_to,
        ) > 0  # fmt: skip

    async def delivered(self, claim: Claim, attempt: Attempt) -> bool:
        return await self._note(_DELIVERED, claim, attempt) is not None

    async def retried(self, claim: Claim, attempt: Attempt, pause_s: float) -> float | None:
        """The cursor waits before this event, and is let go. For how many seconds nothing has been delivered; None when
        the lease was lost."""
        row = await self._note(_RETRIED, claim, attempt, pause_s)
        return None if row is None else row["failing_s"]

    async def postponed(self, claim: Claim, seq: int, pause_s: float) -> None:
        """The same, where the attempt never left this process: it does not count."""
        await self._database.execute(
            """
            UPDATE log_cursors SET seq = greatest(seq, $4 - 1), next_at = now() + make_interval(secs => $5),
                holder = NULL, held_until = NULL
            WHERE reader = $1 AND target = $2 AND holder = $3
            """,
            *claim.lease, seq, pause_s,
        )  # fmt: skip

    async def dead(self, claim: Claim, attempt: Attempt, pause_s: float) -> float | None:
        """The event becomes a dead letter, the cursor passes it and goes on with the next after the pause."""
        row = await self._note(_DEAD, claim, attempt, pause_s, new_id())
        return None if row is None else row["failing_s"]

    async def lost(self, claim: Claim, first: int, up_to: int, reason: str) -> bool:
        """Events that are not in the log any more: one dead letter for all of them."""
        row = await self._database.fetch_one(_LOST, *claim.lease, first, up_to, reason, new_id())
        return row is not None

    async def gone(self, claim: Claim, attempt: Attempt) -> bool:
        """The target wants no more: disabled, the event still before it."""
        return await self._note(_GONE, claim, attempt) is not None

    async def letter_delivered(self, claim: Claim, attempt: Attempt, letter: str) -> bool:
        """A dead letter has arrived after all; it is gone from the list."""
        return await self._note(_LETTER_DELIVERED, claim, attempt, letter) is not None

    async def letter_failed(self, claim: Claim, attempt: Attempt, letter: str, pause_s: float | None) -> bool:
        """Tried again in vain; without a pause it lies there until somebody asks again."""
        return await self._note(_LETTER_FAILED, claim, attempt, letter, pause_s) is not None

    async def _note(self, statement: str, claim: Claim, attempt: Attempt, *more: object) -> Record | None:
        return await self._database.fetch_one(
            statement, *claim.lease, attempt.seq, attempt.kind, attempt.attempt,
            attempt.outcome, attempt.status, attempt.reason, attempt.took_ms, ATTEMPTS_KEPT, *more,
        )  # fmt: skip

    async def attempts(self, key: CursorKey, limit: int) -> list[PastAttempt]:
        """The latest first."""
        rows = await self._database.fetch(
            "SELECT seq, kind, try, outcome, status, reason, took_ms, at FROM delivery_attempts "
            "WHERE reader = $1 AND target = $2 ORDER BY id DESC LIMIT $3",
            key.reader, key.target, limit,
        )  # fmt: skip
        return [
            PastAttempt(
                Attempt(
                    row["seq"], row["kind"], row["try"], row["outcome"], row["status"], row["reason"], row["took_ms"]
                ),
                row["at"],
            )
            for row in rows
        ]  # fmt: skip


# Notes an attempt beside the cursor `moved`, and forgets the oldest.
_NOTED = """
    , noted AS (
        INSERT INTO delivery_attempts (reader, target, seq, kind, try, outcome, status, reason, took_ms)
        SELECT reader, target, $4, $5, $6, $7, $8, $9, $10 FROM moved
    ), forgotten AS (
        DELETE FROM delivery_attempts a USING moved m
        WHERE a.reader = m.reader AND a.target = m.target AND a.id <= (
            SELECT id FROM delivery_attempts WHERE reader = $1 AND target = $2 ORDER BY id DESC
            OFFSET $11::int - 1 LIMIT 1
        )
    )
"""

_DELIVERED = f"""
    WITH moved AS (
        UPDATE log_cursors SET seq = $4, tries = 0, first_tried_at = NULL, failures = 0, failing_since = NULL
        WHERE reader = $1 AND target = $2 AND holder = $3 AND seq < $4 RETURNING reader, target
    ) {_NOTED}
    SELECT FROM moved
"""

_RETRIED = f"""
    WITH moved AS (
        UPDATE log_cursors SET seq = $4 - 1, tries = $6, first_tried_at = coalesce(first_tried_at, now()),
            failures = failures + 1, failing_since = coalesce(failing_since, now()),
            next_at = now() + make_interval(secs => $12), holder = NULL, held_until = NULL
        WHERE reader = $1 AND target = $2 AND holder = $3 AND seq < $4
        RETURNING reader, target, extract(epoch FROM now() - failing_since)::float8 AS failing_s
    ) {_NOTED}
    SELECT failing_s FROM moved
"""

_DEAD = f"""
    WITH tried AS (
        SELECT first_tried_at FROM log_cursors WHERE reader = $1 AND target = $2
    ), moved AS (
        UPDATE log_cursors SET seq = $4, tries = 0, first_tried_at = NULL,
            failures = failures + 1, failing_since = coalesce(failing_since, now()),
            next_at = now() + make_interval(secs => $12), holder = NULL, held_until = NULL
        WHERE reader = $1 AND target = $2 AND holder = $3 AND seq < $4
        RETURNING reader, target, conversation, extract(epoch FROM now() - failing_since)::float8 AS failing_s
    ), dead AS (
        INSERT INTO dead_letters (
            id, reader, target, conversation, seq, reason, attempts, last_status, first_attempt_at, last_attempt_at
        )
        SELECT $13, m.reader, m.target, m.conversation, $4, $9, $6, $8, coalesce(t.first_tried_at, now()), now()
        FROM moved m CROSS JOIN tried t
    ) {_NOTED}
    SELECT failing_s FROM moved
"""

_GONE = f"""
    WITH moved AS (
        UPDATE log_cursors SET seq = greatest(seq, $4 - 1), tries = 0, first_tried_at = NULL,
            disabled_at = now(), disabled_reason = $9, holder = NULL, held_until = NULL
        WHERE reader = $1 AND target = $2 AND holder = $3 RETURNING reader, target
    ) {_NOTED}
    SELECT FROM moved
"""

_LETTER_DELIVERED = f"""
    WITH moved AS (
        UPDATE log_cursors SET failures = 0, failing_since = NULL
        WHERE reader = $1 AND target = $2 AND holder = $3 RETURNING reader, target
    ), arrived AS (
        DELETE FROM dead_letters USING moved WHERE id = $12
    ) {_NOTED}
    SELECT FROM moved
"""

_LETTER_FAILED = f"""
    WITH moved AS (
        SELECT reader, target FROM log_cursors WHERE reader = $1 AND target = $2 AND holder = $3
    ), tried AS (
        UPDATE dead_letters SET reason = coalesce($9, ''), last_status = $8, attempts = attempts + 1,
            retries = retries + 1, first_attempt_at = coalesce(first_attempt_at, now()), last_attempt_at = now(),
            retry_at = now() + make_interval(secs => $13)
        FROM moved WHERE id = $12
    ) {_NOTED}
    SELECT FROM moved
"""

_LOST = """
    WITH moved AS (
        UPDATE log_cursors SET seq = $5, tries = 0, first_tried_at = NULL
        WHERE reader = $1 AND target = $2 AND holder = $3 AND seq < $5 RETURNING reader, target, conversation
    ), dead AS (
        INSERT INTO dead_letters (id, reader, target, conversation, seq, reason, attempts)
        SELECT $7, reader, target, conversation, $4, $6, 0 FROM moved
    )
    SELECT FROM moved
"""

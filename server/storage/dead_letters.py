"""Dead letters: what a reader of the log could not deliver, until somebody tries it again or deletes it.

A letter names an event and does not hold it: when it is tried again, the event is read from the log as it stands then,
so a text that was deleted meanwhile stays deleted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from server.protocol.ids import is_id
from server.storage.database import Database, Record
from server.storage.log_cursors import CursorKey


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`retry_at` is there while it is being tried again, `retries` of these tries have failed."""

    id: str
    key: CursorKey
    conversation: str
    seq: int
    kind: str | None  # None: the event is not in the log any more
    reason: str
    attempts: int
    last_status: int | None
    first_attempt_at: datetime | None
    last_attempt_at: datetime | None
    dead_at: datetime
    retry_at: datetime | None
    retries: int
    is_disabled: bool  # its target is


class DeadLetters:
    def __init__(self, database: Database) -> None:
        self._database = database

    # For people

    async def page(
        self, *, reader: str | None = None, target: str | None = None, conversation: str | None = None, offset: int = 0,
        limit: int = 50,
    ) -> tuple[list[DeadLetter], int]:  # fmt: skip
        """The latest first, and how many there are in all."""
        if any(given is not None and not is_id(given) for given in (target, conversation)):
            return [], 0
        wanted = (reader, target, conversation)
        total: int = await self._database.fetch_value(f"SELECT count(*) FROM dead_letters d {_WANTED}", *wanted)
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS} {_WANTED} ORDER BY d.dead_at DESC, d.id DESC OFFSET $4 LIMIT $5", *wanted, offset, limit
        )
        return [_letter(row) for row in rows], total

    async def get(self, letter: str) -> DeadLetter | None:
        if not is_id(letter):
            return None
        row = await self._database.fetch_one(f"SELECT {_COLUMNS} WHERE d.id = $1", letter)
        return _letter(row) if row else None

    async def retry(self, *, letter: str | None = None, reader: str | None = None) -> list[str]:
        """Try one again, or all of a reader, or all: the conversations they belong to. Those of a disabled target stay
        as they are. Their targets are tried now, too."""
        rows = await self._database.fetch(_RETRY, letter, reader)
        return [row["conversation"] for row in rows]

    async def delete(self, *, letter: str | None = None, reader: str | None = None) -> int:
        return await self._database.execute(
            "DELETE FROM dead_letters WHERE ($1::uuid IS NULL OR id = $1) AND ($2::text IS NULL OR reader = $2)",
            letter,
            reader,
        )

    async def counts(self) -> dict[str, int]:
        """By reader."""
        rows = await self._database.fetch("SELECT reader, count(*) AS letters FROM dead_letters GROUP BY reader")
        return {row["reader"]: row["letters"] for row in rows}

    # For whoever holds the target's cursor

    async def due(self, key: CursorKey, limit: int) -> list[DeadLetter]:
        """Those of a target that are to be tried now, in the order of the log."""
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS} WHERE d.reader = $1 AND d.target = $2 AND d.retry_at <= now() ORDER BY d.seq LIMIT $3",
            key.reader, key.target, limit,
        )  # fmt: skip
        return [_letter(row) for row in rows]

    async def postpone(self, letter: str, pause_s: float) -> None:
        """It was not tried: later. What nobody wants tried any more stays as it is."""
        await self._database.execute(
            "UPDATE dead_letters SET retry_at = now() + make_interval(secs => $2) "
            "WHERE id = $1 AND retry_at IS NOT NULL",
            letter,
            pause_s,
        )

    async def let_lie(self, letters: Sequence[str]) -> None:
        """Not to be tried again after all."""
        await self._database.execute("UPDATE dead_letters SET retry_at = NULL WHERE id = ANY($1::uuid[])", letters)


_COLUMNS = """
    d.*, e.kind, c.disabled_at IS NOT NULL AS is_disabled
    FROM dead_letters d JOIN log_cursors c ON c.reader = d.reader AND c.target = d.target
    LEFT JOIN events e ON e.conversation = d.conversation AND e.seq = d.seq
"""
_WANTED = """
    WHERE ($1::text IS NULL OR d.reader = $1) AND ($2::uuid IS NULL OR d.target = $2)
        AND ($3::uuid IS NULL OR d.conversation = $3)
"""
_RETRY = """
    WITH asked AS (
        UPDATE dead_letters d SET retry_at = now(), retries = 0
        FROM log_cursors c
        WHERE c.reader = d.reader AND c.target = d.target AND c.disabled_at IS NULL
            AND ($1::uuid IS NULL OR d.id = $1) AND ($2::text IS NULL OR d.reader = $2)
        RETURNING d.reader, d.target, d.conversation
    ), woken AS (
        UPDATE log_cursors c SET next_at = now()
        FROM (SELECT DISTINCT reader, target FROM asked) a WHERE c.reader = a.reader AND c.target = a.target
    )
    SELECT conversation FROM asked
"""


def _letter(row: Record) -> DeadLetter:
    return DeadLetter(
        row["id"], CursorKey(row["reader"], row["target"]), row["conversation"], row["seq"], row["kind"], row["reason"],
        row["attempts"], row["last_status"], row["first_attempt_at"], row["last_attempt_at"], row["dead_at"],
        row["retry_at"], row["retries"], row["is_disabled"],
    )  # fmt: skip

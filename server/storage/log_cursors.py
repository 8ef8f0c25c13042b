"""Cursors into the log: how far each reader of it has got with each of its targets, and who works on it now.

In:   targets, each with one conversation to follow from the head of its registration.
Out:  the cursors with something to do, each to one process at a time.
Promises: nothing is done here when a message is sent. All leases and pauses go by the database's clock. How a cursor
moves is told in `delivery_notes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from server.storage.database import Connection, Database, Record

LEASE_S = 10.0  # a process that has not been heard of for so long has lost what it held


@dataclass(frozen=True, slots=True)
class CursorKey:
    reader: str
    target: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A cursor that is this process's to move: `tries` is of the event behind `seq`, `failures` of all in a row. The
    token is this claim's own: a later one of the same process does not pass for it."""

    key: CursorKey
    token: str
    conversation: str
    seq: int
    tries: int
    failures: int

    @property
    def lease(self) -> tuple[str, str, str]:
        return self.key.reader, self.key.target, self.token


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the targets of a reader are behind, those that are disabled left out."""

    reader: str
    events: int
    oldest_s: float


class LogCursors:
    def __init__(self, database: Database, *, lease_s: float = LEASE_S) -> None:
        self._database = database
        self._lease_s = lease_s

    # Who follows what

    async def watched(self, readers: Sequence[str]) -> frozenset[str]:
        """The conversations that somebody reads on in."""
        rows = await self._database.fetch(
            "SELECT DISTINCT conversation FROM log_cursors WHERE reader = ANY($1::text[]) AND disabled_at IS NULL",
            list(readers),
        )
        return frozenset(row["conversation"] for row in rows)

    async def lags(self) -> list[Lag]:
        rows = await self._database.fetch(_LAGS)
        return [Lag(row["reader"], row["events"], row["oldest_s"]) for row in rows]

    async def set_enabled(self, connection: Connection, key: CursorKey, *, from_head: bool) -> None:
        """Go on: where it stopped, or from the head of the conversation."""
        await connection.execute(
            """
            UPDATE log_cursors c SET disabled_at = NULL, disabled_reason = NULL, failures = 0, failing_since = NULL,
                tries = 0, first_tried_at = NULL, next_at = now(), seq = CASE WHEN $3 THEN h.last_seq ELSE c.seq END
            FROM heads h WHERE c.reader = $1 AND c.target = $2 AND h.conversation = c.conversation
            """,
            key.reader, key.target, from_head,
        )  # fmt: skip

    async def set_disabled(self, connection: Connection, key: CursorKey, reason: str) -> None:
        await connection.execute(_DISABLE, key.reader, key.target, reason)

    async def disable(self, key: CursorKey, reason: str) -> None:
        await self._database.execute(_DISABLE, key.reader, key.target, reason)

    async def try_now(self, connection: Connection, key: CursorKey) -> None:
        """Whatever made the last attempts fail may have been put right."""
        await connection.execute(
            "UPDATE log_cursors SET next_at = now(), failures = 0 WHERE reader = $1 AND target = $2",
            key.reader, key.target,
        )  # fmt: skip

    # Who works on it

    async def claim(
        self, readers: Sequence[str], limit: int, *, failing: bool, conversations: Sequence[str] | None = None
    ) -> list[Claim]:
        """Cursors with something to do, the one that has waited longest first; `failing`: whose last attempt failed."""
        asked = (list(readers), failing, limit, self._lease_s)
        if conversations is None:
            rows = await self._database.fetch(_CLAIM, *asked)
        else:
            rows = await self._database.fetch(_CLAIM_IN, *asked, list(conversations))
        return [_claim(row) for row in rows]

    async def renew(self, claims: Sequence[Claim]) -> set[CursorKey]:
        """Say that somebody lives and works on these; those of them that still hold."""
        rows = await self._database.fetch(
            """
            UPDATE log_cursors c SET held_until = now() + make_interval(secs => $4)
            FROM unnest($1::text[], $2::uuid[], $3::uuid[]) AS k(reader, target, token)
            WHERE c.reader = k.reader AND c.target = k.target AND c.holder = k.token RETURNING c.reader, c.target
            """,
            *_columns(claims),
            self._lease_s,
        )
        return {CursorKey(row["reader"], row["target"]) for row in rows}

    async def release(self, claim: Claim) -> bool:
        """Done with it; False when there is more to do by now, or when it was lost."""
        return await self._database.execute(
            """
            UPDATE log_cursors c SET holder = NULL, held_until = NULL, next_at = now()
            FROM heads h
            WHERE c.reader = $1 AND c.target = $2 AND c.holder = $3 AND h.conversation = c.conversation
                AND h.last_seq <= c.seq
            """,
            *claim.lease,
        ) > 0  # fmt: skip

    async def give_back(self, claims: Sequence[Claim], pause_s: float = 0.0) -> None:
        """Let others go on with these."""
        await self._database.execute(
            """
            UPDATE log_cursors c SET holder = NULL, held_until = NULL,
                next_at = greatest(next_at, now() + make_interval(secs => $4))
            FROM unnest($1::text[], $2::uuid[], $3::uuid[]) AS k(reader, target, token)
            WHERE c.reader = k.reader AND c.target = k.target AND c.holder = k.token
            """,
            *_columns(claims),
            pause_s,
        )


async def subscribe(connection: Connection, key: CursorKey, conversation: str) -> None:
    """From the head on: what is committed later is read, what was before is not."""
    await connection.execute(
        "INSERT INTO log_cursors (reader, target, conversation, seq) "
        "SELECT $1, $2, conversation, last_seq FROM heads WHERE conversation = $3",
        key.reader, key.target, conversation,
    )  # fmt: skip


async def unsubscribe(connection: Connection, key: CursorKey) -> None:
    """With its attempts and dead letters."""
    await connection.execute("DELETE FROM log_cursors WHERE reader = $1 AND target = $2", key.reader, key.target)


def _claim(row: Record) -> Claim:
    return Claim(
        CursorKey(row["reader"], row["target"]), row["holder"], row["conversation"], row["seq"], row["tries"],
        row["failures"],
    )  # fmt: skip


def _columns(claims: Sequence[Claim]) -> tuple[list[str], list[str], list[str]]:
    return (
        [claim.key.reader for claim in claims],
        [claim.key.target for claim in claims],
        [claim.token for claim in claims],
    )


_DISABLE = """
    UPDATE log_cursors SET disabled_at = now(), disabled_reason = $3, holder = NULL, held_until = NULL
    WHERE reader = $1 AND target = $2 AND disabled_at IS NULL
"""

# The row is locked and looked at again before it is taken, so two processes never take the same.
_CLAIM_WHERE = """
    UPDATE log_cursors c SET holder = gen_random_uuid(), held_until = now() + make_interval(secs => $4)
    FROM (
        SELECT c.reader, c.target FROM log_cursors c JOIN heads h ON h.conversation = c.conversation
        WHERE c.reader = ANY($1::text[]) {where}
            AND c.disabled_at IS NULL AND c.next_at <= now() AND (c.held_until IS NULL OR c.held_until < now())
            AND (c.failures > 0) = $2
            AND (h.last_seq > c.seq OR EXISTS (
                SELECT FROM dead_letters d WHERE d.reader = c.reader AND d.target = c.target AND d.retry_at <= now()
            ))
        ORDER BY c.next_at LIMIT $3 FOR UPDATE OF c SKIP LOCKED
    ) due
    WHERE c.reader = due.reader AND c.target = due.target
    RETURNING c.reader, c.target, c.holder, c.conversation, c.seq, c.tries, c.failures
"""
_CLAIM = _CLAIM_WHERE.format(where="")
_CLAIM_IN = _CLAIM_WHERE.format(where="AND c.conversation = ANY($5::uuid[])")  # by the index, at each commit

_LAGS = """
    SELECT c.reader, sum(h.last_seq - c.seq)::bigint AS events,
        coalesce(extract(epoch FROM now() - min(e.at)), 0)::float8 AS oldest_s
    FROM log_cursors c JOIN heads h ON h.conversation = c.conversation
    LEFT JOIN events e ON e.conversation = c.conversation AND e.seq = c.seq + 1 AND h.last_seq > c.seq
    WHERE c.disabled_at IS NULL GROUP BY c.reader
"""

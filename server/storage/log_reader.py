"""Reading the log: what a client missed, pages of events, and where each conversation stands.

Below `first`, where a log was shortened, rows may stand that hold a client id and nothing to read: they are left out.
"""

from dataclasses import dataclass

from server.protocol.frames import Actor
from server.storage.database import Database, Record
from server.storage.database_identity import recognise
from server.storage.message_log import Stored


@dataclass(frozen=True, slots=True)
class Head:
    """Where a conversation's log stands: events `first` … `last` are there, under the name `epoch`."""

    last: int
    first: int
    epoch: str


@dataclass(frozen=True, slots=True)
class Missed:
    """How much a client lacks, and `first`, below which the log is not kept any more."""

    events: int
    bytes: int
    first: int


class LogReader:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def heads(self, conversations: list[str]) -> dict[str, Head]:
        rows = await self._database.fetch(
            "SELECT conversation, last_seq, first_seq, epoch FROM heads WHERE conversation = ANY($1::uuid[])",
            conversations,
        )
        return {row["conversation"]: _head(row) for row in rows}

    async def hushed(self, conversations: list[str]) -> set[str]:
        """Those private chats in which one side has blocked the other."""
        rows = await self._database.fetch(
            "SELECT DISTINCT conversation FROM memberships "
            "WHERE conversation = ANY($1::uuid[]) AND (blocks_peer OR blocked_by_peer)",
            conversations,
        )
        return {row["conversation"] for row in rows}

    async def recognise_database(self) -> None:
        """Renew all epochs when the database behind our address is another one than before, as after a failover."""
        await recognise(self._database)

    async def moved(self, watched: dict[str, Head]) -> dict[str, Head]:
        """Of the watched conversations, each with the head that is known, those that stand elsewhere now.

        By their numbers and not by the time of their last event, since the clocks of two nodes may differ.
        """
        rows = await self._database.fetch(
            """
            SELECT h.conversation, h.last_seq, h.first_seq, h.epoch
            FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[]) AS w(conversation, last, first, epoch)
            JOIN heads h ON h.conversation = w.conversation
            WHERE h.last_seq > w.last OR h.first_seq > w.first OR h.epoch <> w.epoch
            """,
            list(watched),
            [head.last for head in watched.values()],
            [head.first for head in watched.values()],
            [head.epoch for head in watched.values()],
        )
        return {row["conversation"]: _head(row) for row in rows}

    async def since(
        self, conversation: str, after: int, limit: int, up_to: int = 2**62, kinds: list[str] | None = None
    ) -> list[tuple[Stored, Actor]]:
        """Events above `after` (and at most `up_to`; only of these kinds), oldest first."""
        rows = await self._database.fetch(_SINCE, conversation, after, limit, up_to, kinds)
        return [(_stored(row), _actor(row)) for row in rows]

    async def since_many(
        self, cursors: dict[str, tuple[int, int]], limit: int, max_bytes: int
    ) -> list[tuple[Stored, Actor]]:
        """The events in (after, up_to] of several conversations, one conversation after the other, oldest first.

        At most `limit` of each, and beyond the first no more than `max_bytes` in all.
        """
        rows = await self._database.fetch(
            _SINCE_MANY,
            list(cursors),
            [after for after, _ in cursors.values()],
            [up_to for _, up_to in cursors.values()],
            limit,
            max_bytes,
        )
        return [(_stored(row), _actor(row)) for row in rows]

    async def missed(self, cursors: dict[str, tuple[int, int]]) -> dict[str, Missed]:
        """For each conversation that exists what a resume of (after, up_to] would carry, and where its log begins."""
        if not cursors:
            return {}
        rows = await self._database.fetch(
            """
            SELECT c.conversation, h.first_seq, m.events, m.bytes
            FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS c(conversation, after, up_to)
            JOIN heads h ON h.conversation = c.conversation
            CROSS JOIN LATERAL (
                SELECT count(*) AS events, coalesce(sum(octet_length(e.data::text)), 0) AS bytes FROM events e
                WHERE e.conversation = c.conversation AND e.seq > c.after AND e.seq <= c.up_to
            ) m
            """,
            list(cursors),
            [after for after, _ in cursors.values()],
            [up_to for _, up_to in cursors.values()],
        )
        return {row["conversation"]: Missed(row["events"], int(row["bytes"]), row["first_seq"]) for row in rows}


def _stored(row: Record) -> Stored:
    return Stored(
        row["conversation"],
        row["seq"],
        row["kind"],
        row["at"],
        row["actor_kind"],
        row["actor_id"],
        row["client_id"],
        row["data"],
    )


def _actor(row: Record) -> Actor:
    return Actor(row["actor_kind"], row["actor_id"], row["name"])


def _head(row: Record) -> Head:
    return Head(row["last_seq"], row["first_seq"], row["epoch"])


# Names are looked up when an event is read; whoever is gone is a former member.
_NAMED = """
    SELECT e.conversation, e.seq, e.kind, e.at, e.actor_kind, e.actor_id, e.client_id, e.data,
        CASE e.actor_kind WHEN 'user' THEN coalesce(u.username, 'former member') WHEN 'system' THEN 'Chat Studio'
            ELSE e.actor_id END AS name
    FROM ({events}) e
    LEFT JOIN users u ON e.actor_kind = 'user' AND u.id = CASE WHEN e.actor_kind = 'user' THEN e.actor_id::uuid END
"""
_SINCE = (
    _NAMED.format(
        events="""
    SELECT * FROM events
    WHERE conversation = $1 AND seq > $2 AND seq <= $4 AND ($5::text[] IS NULL OR kind = ANY($5))
        AND seq >= (SELECT first_seq FROM heads WHERE conversation = $1)
    ORDER BY seq LIMIT $3
"""
    )
    + "ORDER BY e.seq"
)
_SINCE_MANY = (
    _NAMED.format(
        events="""
    SELECT e.*, c.n, sum(octet_length(e.data::text)) OVER (ORDER BY c.n, e.seq) - octet_length(e.data::text) AS before
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS c(conversation, after, up_to, n)
    JOIN heads h ON h.conversation = c.conversation
    CROSS JOIN LATERAL (
        SELECT * FROM events
        WHERE conversation = c.conversation AND seq > c.after AND seq <= c.up_to AND seq >= h.first_seq
        ORDER BY seq LIMIT $4
    ) e
"""
    )
    + "WHERE e.before < $5 ORDER BY e.n, e.seq"
)

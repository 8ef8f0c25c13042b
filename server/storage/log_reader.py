"""Reading the log: what a client missed, pages of events, and where each conversation stands."""

from dataclasses import dataclass
from datetime import datetime

from server.protocol.frames import Actor
from server.storage.database import Database, Record
from server.storage.message_log import Stored


@dataclass(frozen=True, slots=True)
class Head:
    """Where a conversation's log stands: events `first` … `last` are there, under the name `epoch`."""

    last: int
    first: int
    epoch: str


class LogReader:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def heads(self, conversations: list[str]) -> dict[str, Head]:
        rows = await self._database.fetch(
            "SELECT conversation, last_seq, first_seq, epoch FROM heads WHERE conversation = ANY($1::uuid[])",
            conversations,
        )
        return {row["conversation"]: Head(row["last_seq"], row["first_seq"], row["epoch"]) for row in rows}

    async def moved_since(self, conversations: list[str], since: datetime) -> dict[str, int]:
        """The last seq of those conversations that have got an event since then."""
        rows = await self._database.fetch(
            "SELECT conversation, last_seq FROM heads WHERE conversation = ANY($1::uuid[]) AND updated_at >= $2",
            conversations,
            since,
        )
        return {row["conversation"]: row["last_seq"] for row in rows}

    async def since(
        self, conversation: str, after: int, limit: int, up_to: int = 2**62, max_bytes: int = 2**62
    ) -> list[tuple[Stored, Actor]]:
        """Events above `after` (and at most `up_to`), oldest first; beyond the first no more than `max_bytes`."""
        rows = await self._database.fetch(_SINCE, conversation, after, limit, up_to, max_bytes)
        return [(_stored(row), Actor(row["actor_kind"], row["actor_id"], row["name"])) for row in rows]

    async def missed(self, cursors: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        """For each conversation the number and bytes of the events in (after, up_to]: what a resume would carry."""
        if not cursors:
            return {}
        rows = await self._database.fetch(
            """
            SELECT c.conversation, count(e.seq) AS events, coalesce(sum(octet_length(e.data::text)), 0) AS bytes
            FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS c(conversation, after, up_to)
            LEFT JOIN events e ON e.conversation = c.conversation AND e.seq > c.after AND e.seq <= c.up_to
            GROUP BY c.conversation
            """,
            list(cursors),
            [after for after, _ in cursors.values()],
            [up_to for _, up_to in cursors.values()],
        )
        return {row["conversation"]: (row["events"], int(row["bytes"])) for row in rows}


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


# Names are looked up when an event is read; whoever is gone is a former member.
_SINCE = """
    SELECT e.conversation, e.seq, e.kind, e.at, e.actor_kind, e.actor_id, e.client_id, e.data,
        CASE e.actor_kind WHEN 'user' THEN coalesce(u.username, 'former member') WHEN 'system' THEN 'Chat Studio'
            ELSE e.actor_id END AS name
    FROM (
        SELECT *, sum(octet_length(data::text)) OVER (ORDER BY seq) - octet_length(data::text) AS before
        FROM (SELECT * FROM events WHERE conversation = $1 AND seq > $2 AND seq <= $4 ORDER BY seq LIMIT $3) AS chosen
    ) e
    LEFT JOIN users u ON e.actor_kind = 'user' AND u.id = CASE WHEN e.actor_kind = 'user' THEN e.actor_id::uuid END
    WHERE e.before < $5
    ORDER BY e.seq
"""

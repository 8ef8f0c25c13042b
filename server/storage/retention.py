"""Shortening logs: what is older than a conversation's limit goes, a bounded piece at a time.

In:   the limits of conversations, in days.
Out:  `heads.first_seq` raised; the events and messages below it gone, with their words, reactions and answers.
Promises: one transaction for each piece, under the lock of the head as for appending, so that whoever reads under the
same lock sees all of it or nothing. A client id names one thing for ever: of an event that has one the row stays below
the floor, without what anybody said, and whoever repeats it still gets the first answer. Nobody reads such rows: the
readers of the log begin at the floor. A log is shortened from its beginning, up to the first event that is young
enough, and never past an answer that is still being given. What is deleted as a whole is the matter of `purge`.
"""

from dataclasses import dataclass
from datetime import datetime

from server.storage.database import Connection, Database

PIECE = 200  # events: some ten milliseconds under the lock of the head, which senders wait for
MAX_DUE = 100  # conversations looked after in one round


@dataclass(frozen=True, slots=True)
class Piece:
    """What one transaction took away; `is_last` when nothing else in this conversation is old enough."""

    events: int
    is_last: bool


class Retention:
    """`default_days` counts for conversations without a limit of their own; None: they keep everything."""

    def __init__(self, database: Database, default_days: int | None = None) -> None:
        self._database = database
        self._default_days = default_days

    async def due(self, now: datetime) -> list[str]:
        """Conversations whose oldest event is too old, some of them if there are many."""
        rows = await self._database.fetch(_DUE, self._default_days, now, MAX_DUE)
        return [row["id"] for row in rows]

    async def shorten(self, conversation: str, now: datetime) -> Piece:
        async with self._database.transaction() as connection:
            await connection.execute(SETTINGS)
            await keep_search_out(connection, conversation)
            head = await connection.fetchrow(_LOCK, conversation, self._default_days, now)
            if head is None or head["oldest_kept"] is None:
                return Piece(0, is_last=True)
            # A statement of its own, so with a snapshot from after the lock.
            first: int = await connection.fetchval(
                _NEW_FLOOR, conversation, head["first_seq"], head["oldest_kept"], PIECE
            )
            taken = first - head["first_seq"]
            if taken > 0:
                await self._take(connection, conversation, head["first_seq"], first)
            return Piece(taken, is_last=taken < PIECE)

    async def _take(self, connection: Connection, conversation: str, first: int, new_first: int) -> None:
        gone = await connection.fetchrow(_TAKE_MESSAGES, conversation, new_first)
        assert gone is not None
        await connection.execute(_BLANK_LATER_TEXTS, conversation, gone["text_seqs"] or [])
        await connection.execute(_TAKE_EVENTS, conversation, first, new_first)
        await connection.execute(_BLANK_EVENTS, conversation, first, new_first)
        if gone["ordinal"] is not None:
            # What is gone is unread by nobody.
            await connection.execute(_COUNT_AS_READ, conversation, gone["ordinal"])
        await connection.execute("UPDATE heads SET first_seq = $2 WHERE conversation = $1", conversation, new_first)


async def keep_search_out(connection: Connection, conversation: str) -> None:
    """The index reads messages under the lock of its cursor. Without that lock it could write down the words of one
    that goes in the same moment. Before the head's, which is then not held while waiting for this one.
    """
    await connection.execute(
        "INSERT INTO search_cursors (conversation, seq) SELECT id, 0 FROM conversations WHERE id = $1 "
        "ON CONFLICT DO NOTHING",
        conversation,
    )
    await connection.execute("SELECT FROM search_cursors WHERE conversation = $1 FOR UPDATE", conversation)


# A piece that is lost is taken again, so its commit waits for no disk. Large tables are looked into by key alone.
SETTINGS = """
    SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '500ms';
    SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off
"""

_DUE = """
    SELECT c.id FROM conversations c
    JOIN heads h ON h.conversation = c.id
    JOIN events e ON e.conversation = c.id AND e.seq = h.first_seq
    WHERE c.deleted_at IS NULL AND coalesce(c.retention_days, $1) IS NOT NULL
        AND e.at < $2::timestamptz - make_interval(days => coalesce(c.retention_days, $1))
        AND NOT EXISTS (
            SELECT FROM runs r JOIN messages m ON m.conversation = r.conversation AND m.id = r.message
            WHERE r.conversation = c.id AND r.status = 'running' AND m.seq = h.first_seq
        )
    ORDER BY e.at LIMIT $3
"""

_LOCK = """
    SELECT h.first_seq, $3::timestamptz - make_interval(days => coalesce(c.retention_days, $2)) AS oldest_kept
    FROM heads h JOIN conversations c ON c.id = h.conversation
    WHERE h.conversation = $1 AND c.deleted_at IS NULL FOR NO KEY UPDATE OF h
"""

# The first event of the piece that must stay, or the one behind the piece. No event is missing above the floor.
_NEW_FLOOR = """
    WITH piece AS MATERIALIZED (
        SELECT seq, at FROM events WHERE conversation = $1 AND seq >= $2 ORDER BY seq LIMIT $4
    )
    SELECT least(
        (SELECT min(seq) FROM piece WHERE at >= $3),
        (SELECT min(m.seq) FROM runs r JOIN messages m ON m.conversation = r.conversation AND m.id = r.message
         WHERE r.conversation = $1 AND r.status = 'running'),
        coalesce((SELECT max(seq) + 1 FROM piece), $2)
    )
"""

_TAKE_MESSAGES = """
    WITH gone AS (
        DELETE FROM messages WHERE conversation = $1 AND seq < $2 RETURNING id, ordinal, run, text_seqs
    ), words AS (
        DELETE FROM message_words WHERE conversation = $1 AND seq < $2
    ), reaction AS (
        DELETE FROM reactions WHERE conversation = $1 AND message = ANY(ARRAY(SELECT id FROM gone))
    ), answer AS (
        DELETE FROM runs WHERE id = ANY(ARRAY(SELECT run FROM gone WHERE run IS NOT NULL))
    )
    SELECT max(ordinal) AS ordinal,
        (SELECT array_agg(DISTINCT seq) FROM gone, unnest(text_seqs) AS seq) AS text_seqs
    FROM gone
"""

# A message that is gone was perhaps edited later, or was an answer that ended later: those events hold its text.
_BLANK_LATER_TEXTS = """
    UPDATE events SET data = (data::jsonb || '{"text": "", "redacted": true}'
        || CASE kind WHEN 'run.ended' THEN '{"parts": []}'::jsonb ELSE '{}'::jsonb END)::json
    WHERE conversation = $1 AND seq = ANY($2::bigint[]) AND kind IN ('message.edited', 'run.ended')
"""

# In the order in which read cursors are written, so that the two cannot wait for each other.
_COUNT_AS_READ = """
    WITH behind AS (
        SELECT user_id FROM memberships WHERE conversation = $1 AND read_ordinal < $2 ORDER BY user_id FOR NO KEY UPDATE
    )
    UPDATE memberships m SET read_ordinal = $2 FROM behind b WHERE m.conversation = $1 AND m.user_id = b.user_id
"""

_TAKE_EVENTS = """
    DELETE FROM events WHERE conversation = $1 AND seq >= $2 AND seq < $3 AND client_id IS NULL
"""

# As much stays as a repeat is answered with.
_BLANK_EVENTS = """
    UPDATE events SET data = (CASE
        WHEN kind = 'message.created' THEN jsonb_build_object(
            'id', data->'id', 'client_id', client_id, 'text', '', 'redacted', true
        )
        WHEN kind = 'run.ended' THEN data::jsonb || '{"text": "", "parts": [], "redacted": true}'
        WHEN data->'text' IS NOT NULL THEN data::jsonb || '{"text": ""}'
        ELSE data::jsonb END)::json
    WHERE conversation = $1 AND seq >= $2 AND seq < $3
"""

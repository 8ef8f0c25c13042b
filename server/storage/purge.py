"""What deleted conversations leave behind goes for good: nobody can read it any more, and somebody wanted it gone.

In:   conversations that were deleted, a while ago or in this moment.
Out:  their events, messages, words, reactions, answers, memberships, title and system prompt gone. Of the conversation
      its id stays, and of its log the number at which it ended.
Promises: bounded pieces, each a transaction under the locks that also shortening takes; whoever is broken off goes on
by looking again. Rows with a client id go too: in a deleted conversation nothing is stored or repeated any more. The
event `conversation.deleted` holds no text and stays as long as a reader of the log (a webhook) may still have to pass
it on; the floor of the log is raised no further than to it.
"""

from datetime import datetime, timedelta

from server.storage.database import Connection, Database
from server.storage.retention import MAX_DUE, PIECE, SETTINGS, Piece, keep_search_out

# Webhooks are given as long to pass on the word of it; and as long an operator can take back a slip of the hand.
GRACE = timedelta(days=1)


class Purge:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, now: datetime) -> list[str]:
        """Conversations that were deleted long enough ago, some of them if there are many."""
        rows = await self._database.fetch(_DUE, now - GRACE, MAX_DUE)
        return [row["id"] for row in rows]

    async def take_all(self, conversation: str) -> int:
        """At once; how many events that were."""
        taken = 0
        while not (piece := await self.take(conversation)).is_last:
            taken += piece.events
        return taken + piece.events

    async def take(self, conversation: str) -> Piece:
        """A piece of a deleted conversation; nothing of any other."""
        async with self._database.transaction() as connection:
            await connection.execute(SETTINGS)
            await keep_search_out(connection, conversation)
            last: int | None = await connection.fetchval(_LOCK, conversation)
            if last is None:
                return Piece(0, is_last=True)
            # A statement of its own, so with a snapshot from after the lock.
            piece = await connection.fetchrow(_PIECE, conversation, PIECE)
            assert piece is not None
            if piece["events"]:
                await connection.execute(_TAKE, conversation, piece["up_to"])
            if piece["events"] == PIECE:
                return Piece(PIECE, is_last=False)
            await self._end(connection, conversation, last)
            return Piece(piece["events"], is_last=True)

    async def _end(self, connection: Connection, conversation: str, last: int) -> None:
        """Nothing but the word of the deletion is left in the log."""
        for table in ("message_words", "messages", "reactions", "runs", "memberships"):
            await connection.execute(f"DELETE FROM {table} WHERE conversation = $1", conversation)
        await connection.execute(
            "UPDATE conversations SET title = NULL, system_prompt = NULL WHERE id = $1", conversation
        )
        is_followed = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM log_cursors WHERE conversation = $1)", conversation
        )
        if not is_followed:
            await connection.execute("DELETE FROM events WHERE conversation = $1", conversation)
        await connection.execute(_RAISE_FLOOR, conversation, last if is_followed else last + 1)


# A floor above the end says that all is done.
_DUE = """
    SELECT c.id FROM conversations c JOIN heads h ON h.conversation = c.id
    WHERE c.deleted_at < $1 AND h.first_seq <= h.last_seq ORDER BY c.deleted_at LIMIT $2
"""

_LOCK = """
    SELECT h.last_seq FROM heads h JOIN conversations c ON c.id = h.conversation
    WHERE h.conversation = $1 AND c.deleted_at IS NOT NULL FOR NO KEY UPDATE OF h
"""

_PIECE = """
    SELECT count(*) AS events, max(seq) AS up_to FROM (
        SELECT seq FROM events WHERE conversation = $1 AND kind <> 'conversation.deleted' ORDER BY seq LIMIT $2
    ) piece
"""

_TAKE = """
    WITH gone AS (
        DELETE FROM messages WHERE conversation = $1 AND seq <= $2 RETURNING id, run
    ), words AS (
        DELETE FROM message_words WHERE conversation = $1 AND seq <= $2
    ), reaction AS (
        DELETE FROM reactions WHERE conversation = $1 AND message = ANY(ARRAY(SELECT id FROM gone))
    ), answer AS (
        DELETE FROM runs WHERE id = ANY(ARRAY(SELECT run FROM gone WHERE run IS NOT NULL))
    ), event AS (
        DELETE FROM events WHERE conversation = $1 AND seq <= $2 AND kind <> 'conversation.deleted'
    )
    UPDATE heads SET first_seq = least(greatest(first_seq, $2 + 1), last_seq) WHERE conversation = $1
"""

_RAISE_FLOOR = "UPDATE heads SET first_seq = greatest(first_seq, $2) WHERE conversation = $1"

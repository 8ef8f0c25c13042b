"""Messages as they stand now: pages, and where one is."""

from server.protocol.clock import rfc3339
from server.protocol.codec import decode_stored
from server.protocol.events import Attachment, Mention
from server.protocol.frames import Actor
from server.protocol.ids import is_id
from server.protocol.views import Message, MessagePage, Reaction, RunState
from server.storage.database import Connection, Database, Record


class Messages:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, conversation: str, *, before: int | None, after: int | None, limit: int, visible_from: int
    ) -> MessagePage:
        """The newest page, the one before a seq, or the one after it. Page and head come from one snapshot."""
        async with self._database.transaction() as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            head = await connection.fetchrow("SELECT last_seq, epoch FROM heads WHERE conversation = $1", conversation)
            assert head is not None
            forward = after is not None and before is None
            rows = await connection.fetch(
                _PAGE.format(order="ASC" if forward else "DESC"),
                conversation, max(after or 0, visible_from - 1), before if before is not None else 2**62, limit + 1,
            )  # fmt: skip
            has_more = len(rows) > limit
            rows = rows[:limit] if forward else rows[:limit][::-1]
            return MessagePage(
                messages=await self._messages(connection, conversation, rows),
                head=head["last_seq"], epoch=head["epoch"], has_more=has_more,
            )  # fmt: skip

    async def several(self, conversation: str, seqs: list[int]) -> list[Message]:
        """Messages by seq, in the order of `seqs`."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(_BY_SEQ, conversation, seqs)
            found = {message.seq: message for message in await self._messages(connection, conversation, rows)}
            return [found[seq] for seq in seqs if seq in found]

    async def one(self, conversation: str, message: str, *, visible_from: int) -> Message | None:
        if not is_id(message):
            return None
        async with self._database.transaction() as connection:
            rows = await connection.fetch(_BY_ID, conversation, message, visible_from)
            found = await self._messages(connection, conversation, rows)
            return found[0] if found else None

    async def seq_of(self, conversation: str, message: str) -> int | None:
        if not is_id(message):
            return None
        seq: int | None = await self._database.fetch_value(
            "SELECT seq FROM messages WHERE conversation = $1 AND id = $2 AND deleted_at IS NULL", conversation, message
        )
        return seq

    async def reply_to_of(self, conversation: str, message: str) -> str | None:
        found: str | None = await self._database.fetch_value(
            "SELECT reply_to FROM messages WHERE conversation = $1 AND id = $2", conversation, message
        )
        return found

    async def latest(self, conversation: str) -> str | None:
        """The newest message of a person: what a run without an aim answers."""
        message: str | None = await self._database.fetch_value(
            "SELECT id FROM messages WHERE conversation = $1 AND deleted_at IS NULL AND actor_kind = 'user' "
            "AND NOT people_only ORDER BY seq DESC LIMIT 1",
            conversation,
        )
        return message

    async def _messages(self, connection: Connection, conversation: str, rows: list[Record]) -> list[Message]:
        reactions: dict[str, list[Reaction]] = {}
        if rows:
            for row in await connection.fetch(_REACTIONS, conversation, [row["id"] for row in rows]):
                reactions.setdefault(row["message"], []).append(Reaction(emoji=row["emoji"], users=row["users"]))
        return [_message(row, reactions.get(row["id"], [])) for row in rows]


def _message(row: Record, reactions: list[Reaction]) -> Message:
    return Message(
        id=row["id"], client_id=row["client_id"], seq=row["seq"], at=rfc3339(row["at"]),
        actor=Actor(row["actor_kind"], row["actor_id"], row["name"]), text="" if row["deleted_at"] else row["text"],
        edited_at=rfc3339(row["edited_at"]) if row["edited_at"] else None,
        deleted_at=rfc3339(row["deleted_at"]) if row["deleted_at"] else None,
        reply_to=row["reply_to"], thread=row["thread"], reactions=reactions,
        attachments=decode_stored(row["attachments"], list[Attachment]) if row["attachments"] else [],
        mentions=decode_stored(row["mentions"], list[Mention]) if row["mentions"] else [],
        people_only=row["people_only"], pinned=row["pinned_at"] is not None, run=_run(row),
    )  # fmt: skip


def _run(row: Record) -> RunState | None:
    if row["run"] is None:
        return None
    return RunState(
        id=row["run"], model=row["actor_id"], status=row["run_status"], reply_to=row["reply_to"],
        error=decode_stored(row["run_error"], dict[str, str]) if row["run_error"] else None,
    )  # fmt: skip


_MESSAGE = """
    SELECT m.*, r.status AS run_status, r.error AS run_error,
        CASE m.actor_kind WHEN 'user' THEN coalesce(u.username, 'former member') WHEN 'system' THEN 'Chat Studio'
            ELSE m.actor_id END AS name
    FROM ({source}) m
    LEFT JOIN users u ON m.actor_kind = 'user' AND u.id = CASE WHEN m.actor_kind = 'user' THEN m.actor_id::uuid END
    LEFT JOIN runs r ON r.id = m.run
"""

_PAGE = (
    _MESSAGE.format(
        source="SELECT * FROM messages WHERE conversation = $1 AND seq > $2 AND seq < $3 ORDER BY seq {order} LIMIT $4"
    )
    + " ORDER BY m.seq {order}"
)
_BY_SEQ = _MESSAGE.format(source="SELECT * FROM messages WHERE conversation = $1 AND seq = ANY($2::bigint[])")
_BY_ID = _MESSAGE.format(source="SELECT * FROM messages WHERE conversation = $1 AND id = $2 AND seq >= $3")

_REACTIONS = """
    SELECT message, emoji, array_agg(user_id ORDER BY at, user_id)::uuid[] AS users
    FROM reactions WHERE conversation = $1 AND message = ANY($2::uuid[]) GROUP BY message, emoji ORDER BY min(at), emoji
"""

"""Blocks: who wants to hear nothing from whom in a private chat.

In:   a wish to block somebody, or to do so no longer.
Out:  the private chat of the two, where there is one, with what the blocks between them mean written into both
memberships.
Promises: a change holds the head of that chat until it is committed, as every append to its log does: what was appended
before stands before the block, and what comes after it is judged by it. It holds the blocker's row too, against
whoever would open that chat, or invite the blocker, in the same moment. Heads are locked before people, here as in the
log, so that nobody waits for one another.
"""

from collections.abc import Sequence
from datetime import datetime

from server.protocol.errors import NotFound
from server.protocol.frames import UserSummary
from server.storage.database import Connection, Database
from server.storage.new_conversations import pair_key


class Blocks:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, blocker: str, blocked: str, at: datetime) -> str | None:
        """The private chat of the two, or None."""
        return await self._change(
            "INSERT INTO blocks (blocker, blocked, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", blocker, blocked, at
        )

    async def drop(self, blocker: str, blocked: str) -> str | None:
        return await self._change("DELETE FROM blocks WHERE blocker = $1 AND blocked = $2", blocker, blocked)

    async def of(self, blocker: str) -> Sequence[UserSummary]:
        """Whom somebody blocks, by name."""
        rows = await self._database.fetch(
            """
            SELECT u.id, u.username, u.role FROM blocks b JOIN users u ON u.id = b.blocked
            WHERE b.blocker = $1 ORDER BY u.username_key
            """,
            blocker,
        )
        return [UserSummary(id=row["id"], username=row["username"], role=row["role"]) for row in rows]

    async def _change(self, statement: str, blocker: str, blocked: str, *more: object) -> str | None:
        while True:
            async with self._database.transaction() as connection:
                chat = await _private_chat(connection, blocker, blocked)
                await connection.execute("SELECT FROM heads WHERE conversation = $1 FOR NO KEY UPDATE", chat)
                await connection.execute("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE", blocker)
                if not await connection.fetchval("SELECT EXISTS (SELECT FROM users WHERE id = $1)", blocked):
                    raise NotFound("there is no such person")
                if chat != await _private_chat(connection, blocker, blocked):
                    continue  # opened or deleted while we waited: once more, with the right head
                await connection.execute(statement, blocker, blocked, *more)
                if chat is not None:
                    await _write_into_chat(connection, chat, blocker, blocked)
                return chat


async def _private_chat(connection: Connection, one: str, other: str) -> str | None:
    found: str | None = await connection.fetchval(
        "SELECT id FROM conversations WHERE pair_key = $1", pair_key(one, other)
    )
    return found


async def _write_into_chat(connection: Connection, chat: str, one: str, other: str) -> None:
    # Reading cursors are written without the head's lock, many rows at once and in this order.
    await connection.execute("SELECT FROM memberships WHERE conversation = $1 ORDER BY user_id FOR NO KEY UPDATE", chat)
    await connection.execute(
        """
        UPDATE memberships m SET blocks_peer = v.blocks_peer, blocked_by_peer = v.blocked_by_peer,
            held_delivered = CASE WHEN v.is_blocked THEN coalesce(m.held_delivered, m.delivered_seq) END,
            held_read = CASE WHEN v.is_blocked THEN coalesce(m.held_read, m.read_seq) END
        FROM (
            SELECT s.side, forth.blocker IS NOT NULL AS blocks_peer, back.blocker IS NOT NULL AS blocked_by_peer,
                forth.blocker IS NOT NULL OR back.blocker IS NOT NULL AS is_blocked
            FROM (VALUES ($2::uuid, $3::uuid), ($3, $2)) AS s(side, peer)
            LEFT JOIN blocks forth ON forth.blocker = s.side AND forth.blocked = s.peer
            LEFT JOIN blocks back ON back.blocker = s.peer AND back.blocked = s.side
        ) v WHERE m.conversation = $1 AND m.user_id = v.side
        """,
        chat,
        one,
        other,
    )

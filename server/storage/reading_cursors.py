"""How far each member has received and read, in the membership itself: two numbers, whatever the number of messages."""

from dataclasses import dataclass

from server.storage.database import Database


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a member has got, how many members there are, and whether a block keeps it from the other side."""

    conversation: str
    user: str
    delivered: int
    read: int
    members: int
    is_blocked: bool


class ReadingCursors:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def move(self, marks: list[tuple[str, str, int, int]]) -> list[Mark]:
        """Move cursors forward, never back and never beyond the head: (conversation, user, delivered, read).

        Returns those that moved, as they stand now.
        """
        rows = await self._database.fetch(
            """
            WITH held AS (  -- in one order: several workers write the cursors of one person
                SELECT m.conversation, m.user_id, least(c.read, h.last_seq) AS read,
                    least(greatest(c.delivered, c.read), h.last_seq) AS delivered
                FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[])
                    AS c(conversation, user_id, delivered, read)
                JOIN heads h ON h.conversation = c.conversation
                JOIN memberships m ON m.conversation = c.conversation AND m.user_id = c.user_id
                ORDER BY m.conversation, m.user_id FOR NO KEY UPDATE OF m
            )
            UPDATE memberships m SET
                delivered_seq = greatest(m.delivered_seq, v.delivered),
                read_seq = greatest(m.read_seq, v.read),
                -- never less than it was: where a log was shortened, what is gone counts as read
                read_ordinal = CASE WHEN v.read <= m.read_seq THEN m.read_ordinal ELSE greatest(m.read_ordinal, (
                    SELECT ordinal FROM messages WHERE conversation = m.conversation AND seq <= v.read
                    ORDER BY seq DESC LIMIT 1
                )) END
            FROM held v
            WHERE m.conversation = v.conversation AND m.user_id = v.user_id
                AND (v.read > m.read_seq OR v.delivered > m.delivered_seq)
            RETURNING m.conversation, m.user_id, m.delivered_seq, m.read_seq,
                (SELECT count(*) FROM memberships WHERE conversation = m.conversation) AS members,
                m.blocks_peer OR m.blocked_by_peer AS is_blocked
            """,
            *(list(column) for column in zip(*marks, strict=True)),
        )
        return [Mark(*row) for row in rows]

"""Somebody's standing in a conversation, as far as the tables know it."""

from dataclasses import dataclass

from server.protocol.ids import is_id
from server.storage.database import Database


@dataclass(frozen=True, slots=True)
class Standing:
    """`role` is None for those who are no members; the last three concern what an act points at."""

    kind: str
    visibility: str
    role: str | None
    account_role: str | None = "member"
    is_own: bool = False  # the message that is edited or deleted was written by the caller
    subject_role: str | None = None  # of the member who is to be kicked or given a role
    visible_from: int = 1  # the first seq that may be seen
    read: int = 0
    as_of: int = 0  # the log's head in the moment in which this was read
    is_answering: bool = False  # a model is writing here
    blocks_peer: bool = False  # of a private chat: the caller has blocked the other side
    blocked_by_peer: bool = False

    @property
    def is_blocked(self) -> bool:
        """Whether nothing passes between the two sides, whoever wanted that."""
        return self.blocks_peer or self.blocked_by_peer


class Standings:
    """Reads standings outside the log's transactions: for reading, typing and subscribing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, user: str, account_role: str, conversation: str) -> Standing | None:
        """None when there is no such conversation."""
        if not is_id(conversation):
            return None
        found = await self.of_many(user, account_role, [conversation])
        return found.get(conversation)

    async def of_many(self, user: str, account_role: str, conversations: list[str]) -> dict[str, Standing]:
        rows = await self._database.fetch(
            """
            SELECT c.id, c.kind, c.visibility, m.role, m.visible_from, m.read_seq, m.blocks_peer, m.blocked_by_peer,
                h.last_seq, c.id IN (SELECT conversation FROM runs WHERE status = 'running') AS is_answering
            FROM conversations c JOIN heads h ON h.conversation = c.id
            LEFT JOIN memberships m ON m.conversation = c.id AND m.user_id = $2
            WHERE c.id = ANY($1::uuid[]) AND c.deleted_at IS NULL
            """,
            [conversation for conversation in conversations if is_id(conversation)],
            user,
        )
        return {
            row["id"]: Standing(
                row["kind"],
                row["visibility"],
                row["role"],
                account_role,
                visible_from=row["visible_from"] or 1,
                read=row["read_seq"] or 0,
                as_of=row["last_seq"],
                is_answering=row["is_answering"],
                blocks_peer=bool(row["blocks_peer"]),
                blocked_by_peer=bool(row["blocked_by_peer"]),
            )
            for row in rows
        }

"""Conversations and their members: what is there now, and making new ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from server.protocol.clock import rfc3339
from server.protocol.errors import NotFound
from server.protocol.frames import ConversationSummary, UserSummary
from server.protocol.ids import is_id
from server.protocol.views import Conversation, Member
from server.storage.database import Database, Record
from server.storage.new_conversations import Made, NewConversation, make_all, pair_key

SORT_COLUMNS = {
    "created_at": "c.created_at",
    "updated_at": "h.updated_at",
    "title": "lower(coalesce(c.title, peer.username))",
}

PROMPT_ROLES = ["owner", "moderator"]  # they may change the system prompt, and nobody else reads it

YOUNG_EVENTS = 20  # a private chat that is no longer than this may be news to its other side
CLOCKS_DIFFER_S = 60.0  # of two nodes, at most: the moment of joining is the committer's


@dataclass(frozen=True, slots=True)
class MemberState:
    """`is_hidden`: there is a block between this member and whoever asks."""

    member: Member
    is_hidden: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """`is_new` where the member may not know the conversation yet: they joined of late, or somebody began to write."""

    conversation: str
    head: int
    is_new: bool


class Conversations:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, new: Sequence[NewConversation], at: datetime) -> list[Made]:
        """Make all or none. A private chat that exists already is returned, whatever has become of its other side."""
        async with self._database.transaction() as connection:
            return await make_all(connection, new, at)

    async def private_chat(self, user: str, other: str) -> str | None:
        """The private chat that stands in the list of `user`, where there is one."""
        found: str | None = await self._database.fetch_value(
            """
            SELECT c.id FROM conversations c JOIN memberships m ON m.conversation = c.id AND m.user_id = $2
            WHERE c.pair_key = $1 AND m.opened
            """,
            pair_key(user, other),
            user,
        )
        return found

    async def open_for_everybody(self, conversation: str) -> list[str]:
        """Put it into the lists where it was not yet; whose those are."""
        rows = await self._database.fetch(
            "UPDATE memberships SET opened = true WHERE conversation = $1 AND NOT opened RETURNING user_id",
            conversation,
        )
        return [row["user_id"] for row in rows]

    async def summaries(self, user: str, only: list[str] | None = None) -> list[ConversationSummary]:
        """The conversations of `user`, newest activity first."""
        return [_summary(row) for row in await self._rows(user, only=only)]

    async def one(self, user: str, conversation: str) -> Conversation:
        """A conversation as `user` sees it, member or not; who may see it is the caller's question."""
        rows = await self._rows(user, only=[conversation], including_strangers=True) if is_id(conversation) else []
        if not rows:
            raise NotFound("there is no such conversation")
        return _conversation(rows[0])

    async def several(self, user: str, conversations: list[str]) -> list[Conversation]:
        rows = {row["id"]: row for row in await self._rows(user, only=conversations, including_strangers=True)}
        return [_conversation(rows[conversation]) for conversation in conversations if conversation in rows]

    async def page(
        self, user: str, *, kind: str | None, page: int, page_size: int, sort_by: str, descending: bool
    ) -> tuple[int, list[Conversation]]:
        """One page of my conversations and how many there are in all."""
        total = await self._database.fetch_value(
            "SELECT count(*) FROM memberships m JOIN conversations c ON c.id = m.conversation "
            "JOIN heads h ON h.conversation = c.id "
            "WHERE m.user_id = $1 AND c.deleted_at IS NULL AND ($2::text IS NULL OR c.kind = $2) "
            "AND (m.opened OR h.last_seq > 0)",
            user,
            kind,
        )
        order = f"{SORT_COLUMNS[sort_by]} {'DESC' if descending else 'ASC'} NULLS LAST"
        rows = await self._rows(user, kind=kind, order=order, limit=page_size, offset=(page - 1) * page_size)
        return total, [_conversation(row) for row in rows]

    async def public(self, user: str, query: str, limit: int) -> list[Conversation]:
        """Public rooms that `user` has not joined, by title."""
        rows = await self._database.fetch(
            """
            SELECT c.id FROM conversations c
            WHERE c.visibility = 'public' AND c.deleted_at IS NULL
              AND strpos(lower(coalesce(c.title, '')), lower($2)) > 0
              AND NOT EXISTS (SELECT FROM memberships m WHERE m.conversation = c.id AND m.user_id = $1)
            ORDER BY lower(c.title), c.id LIMIT $3
            """,
            user, query, limit,
        )  # fmt: skip
        return await self.several(user, [row["id"] for row in rows])

    async def members(self, conversation: str, viewer: str) -> list[MemberState]:
        """As `viewer` may see them: behind a block the other side stands still."""
        rows = await self._database.fetch(
            """
            SELECT u.id, u.username, u.role AS account_role, m.role, m.joined_at, v.is_hidden,
                CASE WHEN v.is_hidden THEN m.held_read ELSE m.read_seq END AS read_seq,
                CASE WHEN v.is_hidden THEN m.held_delivered ELSE m.delivered_seq END AS delivered_seq
            FROM memberships m JOIN users u ON u.id = m.user_id
            CROSS JOIN LATERAL (SELECT m.held_read IS NOT NULL AND m.user_id <> $2 AS is_hidden) v
            WHERE m.conversation = $1 ORDER BY lower(u.username)
            """,
            conversation,
            viewer,
        )
        return [MemberState(_member(row), row["is_hidden"]) for row in rows]

    async def member_ids(self, conversation: str) -> list[str]:
        rows = await self._database.fetch("SELECT user_id FROM memberships WHERE conversation = $1", conversation)
        return [row["user_id"] for row in rows]

    async def moved_within(self, seconds: float, users: list[str]) -> dict[str, list[Moved]]:
        """For each user those of their conversations that have moved in the last seconds, by the database's clock."""
        heads = await self._database.fetch(
            """
            SELECT h.conversation, h.last_seq, c.kind = 'private' AND h.last_seq BETWEEN 1 AND $2 AS is_young
            FROM heads h JOIN conversations c ON c.id = h.conversation
            WHERE h.updated_at >= clock_timestamp() - make_interval(secs => $1)
            """,
            seconds,
            YOUNG_EVENTS,
        )
        if not users or not heads:
            return {}
        found = {row["conversation"]: row for row in heads}
        rows = await self._database.fetch(
            """
            SELECT user_id, conversation, joined_at >= clock_timestamp() - make_interval(secs => $3) AS is_recent
            FROM memberships WHERE conversation = ANY($1::uuid[]) AND user_id = ANY($2::uuid[])
            """,
            list(found), users, seconds + CLOCKS_DIFFER_S,
        )  # fmt: skip
        moved: dict[str, list[Moved]] = {}
        for row in rows:
            head = found[row["conversation"]]
            is_new = row["is_recent"] or head["is_young"]
            moved.setdefault(row["user_id"], []).append(Moved(row["conversation"], head["last_seq"], is_new))
        return moved

    async def visible_from(self, conversation: str, user: str | None) -> int:
        """The first seq that this member may see; 1 for those who are none."""
        if user is None or not is_id(user):
            return 1
        first: int | None = await self._database.fetch_value(
            "SELECT visible_from FROM memberships WHERE conversation = $1 AND user_id = $2", conversation, user
        )
        return first or 1

    async def model_of(self, conversation: str) -> str | None:
        model: str | None = await self._database.fetch_value(
            "SELECT model FROM conversations WHERE id = $1", conversation
        )
        return model

    async def system_prompt_of(self, conversation: str) -> str | None:
        prompt: str | None = await self._database.fetch_value(
            "SELECT system_prompt FROM conversations WHERE id = $1", conversation
        )
        return prompt

    async def _rows(
        self,
        user: str,
        *,
        only: list[str] | None = None,
        kind: str | None = None,
        including_strangers: bool = False,
        order: str = "h.updated_at DESC",
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Record]:
        join = "LEFT JOIN" if including_strangers else "JOIN"
        return await self._database.fetch(
            f"""
            SELECT c.*, h.last_seq, h.epoch, h.updated_at, m.role AS my_role,
                coalesce(m.read_seq, h.last_seq) AS read_seq, coalesce(m.blocks_peer, false) AS blocks_peer,
                CASE WHEN m.role = ANY($6::text[]) THEN c.system_prompt END AS shown_prompt,
                peer.id AS peer_id, peer.username AS peer_name, peer.role AS peer_role,
                (SELECT count(*) FROM memberships WHERE conversation = c.id) AS member_count,
                CASE WHEN m.user_id IS NULL OR h.message_count = m.read_ordinal THEN 0 ELSE
                    greatest(0, h.message_count - m.read_ordinal - (
                        SELECT count(*) FROM messages own
                        WHERE own.conversation = c.id AND own.actor_id = $1::text AND own.seq > m.read_seq
                    )) END AS unread
            FROM conversations c
            JOIN heads h ON h.conversation = c.id
            {join} memberships m ON m.conversation = c.id AND m.user_id = $1::text::uuid
            LEFT JOIN LATERAL (
                SELECT u.id, u.username, u.role FROM memberships other JOIN users u ON u.id = other.user_id
                WHERE c.kind = 'private' AND other.conversation = c.id AND other.user_id <> $1::text::uuid LIMIT 1
            ) peer ON true
            WHERE c.deleted_at IS NULL AND ($2::uuid[] IS NULL OR c.id = ANY($2)) AND ($3::text IS NULL OR c.kind = $3)
                AND ($7 OR m.opened OR h.last_seq > 0)
            ORDER BY {order}, c.id LIMIT $4 OFFSET $5
            """,
            user, only, kind, limit, offset, PROMPT_ROLES, including_strangers,
        )  # fmt: skip


def _peer(row: Record) -> UserSummary | None:
    if row["peer_id"] is None:
        return None
    return UserSummary(id=row["peer_id"], username=row["peer_name"], role=row["peer_role"])


def _summary(row: Record) -> ConversationSummary:
    return ConversationSummary(
        id=row["id"], kind=row["kind"], title=row["title"], visibility=row["visibility"], role=row["my_role"],
        head=row["last_seq"], epoch=row["epoch"], read=row["read_seq"], unread=row["unread"], peer=_peer(row),
        blocked_by_me=row["blocks_peer"],
    )  # fmt: skip


def _member(row: Record) -> Member:
    return Member(
        user=UserSummary(id=row["id"], username=row["username"], role=row["account_role"]),
        role=row["role"], joined_at=rfc3339(row["joined_at"]), read=row["read_seq"], delivered=row["delivered_seq"],
    )  # fmt: skip


def _conversation(row: Record) -> Conversation:
    return Conversation(
        id=row["id"], kind=row["kind"], title=row["title"], visibility=row["visibility"], head=row["last_seq"],
        epoch=row["epoch"], created_at=rfc3339(row["created_at"]), updated_at=rfc3339(row["updated_at"]),
        created_by=row["created_by"], role=row["my_role"], member_count=row["member_count"], model=row["model"],
        system_prompt=row["shown_prompt"], has_system_prompt=bool(row["system_prompt"]), history=row["history"],
        retention_days=row["retention_days"],
        read=row["read_seq"], unread=row["unread"], peer=_peer(row), blocked_by_me=row["blocks_peer"],
    )  # fmt: skip

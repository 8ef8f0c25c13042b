"""Making conversations, and opening the private chats that are there already.

In:   an open transaction.
Out:  the conversation, whether it is new, and into whose lists it has come.
Promises: two people have one private chat, however often and from whichever side it is opened, and a new one enters the
list of whoever opens it; it enters the other side's with the first event. Nobody gets into a conversation by somebody
whom they have blocked, also if that block is made in the same moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from server.protocol.errors import Forbidden, NotFound
from server.protocol.ids import new_id
from server.storage.database import Connection


@dataclass(frozen=True, slots=True)
class NewConversation:
    """`members` are (user, role) pairs, the creator among them."""

    kind: str
    title: str | None
    visibility: str
    history: str
    model: str | None
    system_prompt: str | None
    created_by: str
    members: list[tuple[str, str]]

    @property
    def pair_key(self) -> str | None:
        return pair_key(*(user for user, _ in self.members)) if self.kind == "private" else None


def pair_key(one: str, other: str) -> str:
    """The same for both sides of a private chat."""
    return ":".join(sorted((one, other)))


class Made(NamedTuple):
    """`entered`: in whose lists the conversation stands now and did not before."""

    conversation: str
    is_new: bool
    entered: Sequence[str]


async def make_all(connection: Connection, new: Sequence[NewConversation], at: datetime) -> list[Made]:
    """In the order in which they were asked for."""
    made: dict[int, Made] = {}
    # In one order, so that two who open the same chats cannot wait for each other.
    for index in sorted(range(len(new)), key=lambda index: new[index].pair_key or ""):
        made[index] = await make(connection, new[index], at)
    return [made[index] for index in range(len(new))]


async def make(connection: Connection, new: NewConversation, at: datetime) -> Made:
    while True:
        existing = await _open_existing(connection, new)
        if existing is not None:
            return existing
        await _check_members(connection, new)
        conversation = await _insert(connection, new, at)
        if conversation is not None:
            break  # else somebody opened the same private chat at this moment
    users = [user for user, _ in new.members]
    await connection.execute(
        "INSERT INTO heads (conversation, epoch, updated_at) VALUES ($1, $2, $3)", conversation, new_id()[-12:], at
    )
    await connection.execute(
        """
        INSERT INTO memberships (conversation, user_id, role, joined_at, opened)
        SELECT $1, m.user_id, m.role, $4, $5 OR m.user_id = $6
        FROM unnest($2::uuid[], $3::text[]) AS m(user_id, role)
        """,
        conversation, users, [role for _, role in new.members], at, new.kind != "private", new.created_by,
    )  # fmt: skip
    return Made(conversation, True, users if new.kind != "private" else [new.created_by])


async def _open_existing(connection: Connection, new: NewConversation) -> Made | None:
    if new.pair_key is None:
        return None
    conversation = await connection.fetchval("SELECT id FROM conversations WHERE pair_key = $1", new.pair_key)
    if conversation is None:
        return None
    entered = await connection.fetch(
        "UPDATE memberships SET opened = true WHERE conversation = $1 AND user_id = $2 AND NOT opened "
        "RETURNING user_id",
        conversation,
        new.created_by,
    )
    return Made(conversation, False, [row["user_id"] for row in entered])


async def _check_members(connection: Connection, new: NewConversation) -> None:
    """They exist, and none of them refuses whoever makes this.

    Their rows are held against a block that is made at this moment; the second statement sees one made before.
    """
    users = {user for user, _ in new.members}
    found = await connection.fetch(
        "SELECT origin FROM users WHERE id = ANY($1::uuid[]) AND disabled_at IS NULL ORDER BY id FOR SHARE",
        list(users),
    )
    is_private = new.kind == "private"
    if len(found) != len(users) or (is_private and any(row["origin"] != "here" for row in found)):
        raise NotFound("one of these members does not exist")
    blocks = await connection.fetch(
        """
        SELECT blocker FROM blocks
        WHERE (blocked = $1 AND blocker = ANY($2::uuid[])) OR ($3 AND blocker = $1 AND blocked = ANY($2))
        """,
        new.created_by,
        list(users),
        is_private,
    )
    blockers = {row["blocker"] for row in blocks}
    if new.created_by in blockers:
        raise Forbidden("you have blocked this person: unblock them first")
    if blockers:
        raise Forbidden("you cannot write to this person" if is_private else "you cannot invite one of these people")


async def _insert(connection: Connection, new: NewConversation, at: datetime) -> str | None:
    inserted: str | None = await connection.fetchval(
        """
        INSERT INTO conversations (
            id, kind, title, visibility, history, model, system_prompt, pair_key, created_by, created_at
        )
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (pair_key) DO NOTHING RETURNING id
        """,
        new_id(), new.kind, new.title, new.visibility, new.history, new.model, new.system_prompt, new.pair_key,
        new.created_by, at,
    )  # fmt: skip
    return inserted

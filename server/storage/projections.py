"""The current state, kept in step with the log: what each event does to messages, reactions, members and runs.

Everything here runs inside the log's transaction, under the lock of the conversation's head, so that what is read
stays true until commit. New messages come in numbers and are written by the log itself, set by set; all other kinds
are applied one at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from server.protocol.codec import encode
from server.protocol.errors import ChatError, Conflict, Forbidden, NotFound
from server.protocol.events import (
    ConversationDeleted,
    ConversationUpdated,
    EventData,
    MemberJoined,
    MemberLeft,
    MemberRole,
    MessageCreated,
    MessageDeleted,
    MessageEdited,
    MessagePinned,
    ReactionAdded,
    ReactionRemoved,
    RunEnded,
    RunStarted,
    RunSteered,
)
from server.protocol.frames import Actor
from server.protocol.ids import is_id
from server.storage.database import Connection

RUN_LEASE_S = 15.0  # a carrier that has not been heard of for so long, by the database's clock, has lost its run

SET_BASED = {MessageCreated.kind}  # applied by the log, many at once


CHANGES_RIGHTS = {
    MemberJoined.kind,
    MemberLeft.kind,
    MemberRole.kind,
    ConversationUpdated.kind,
    ConversationDeleted.kind,
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a draft points at, and why that may not do."""

    author: str | None = None
    subject_role: str | None = None
    is_redacted: bool = False  # the message that a run writes has been deleted
    error: ChatError | None = None


async def look_up(
    connection: Connection, conversation: str, data: EventData, target: str | None, actor: Actor
) -> Found:
    """Read what the judge needs to know beyond the actor's own membership."""
    match data:
        case MemberJoined() | MemberLeft() | MemberRole():
            return await _subject(connection, conversation, data, actor)
        case RunEnded() | RunSteered():
            return await _run(connection, data.run)
    if target is not None:
        return await _message(connection, conversation, target)
    return Found()


async def _message(connection: Connection, conversation: str, target: str) -> Found:
    missing = Found(error=NotFound("there is no such message here"))
    if not is_id(target):
        return missing
    row = await connection.fetchrow(
        "SELECT actor_id FROM messages WHERE conversation = $1 AND id = $2 AND deleted_at IS NULL", conversation, target
    )
    return Found(author=row["actor_id"]) if row else missing


async def _subject(
    connection: Connection, conversation: str, data: MemberJoined | MemberLeft | MemberRole, actor: Actor
) -> Found:
    if not is_id(data.user):
        return Found(error=NotFound("there is no such person"))
    if isinstance(data, MemberJoined) and await _refuses(connection, data.user, actor):
        return Found(error=Forbidden("you cannot invite this person"))
    row = await connection.fetchrow(
        """
        SELECT m.role, u.disabled_at FROM users u
        LEFT JOIN memberships m ON m.user_id = u.id AND m.conversation = $1 WHERE u.id = $2
        """,
        conversation,
        data.user,
    )
    if row is None or (isinstance(data, MemberJoined) and row["disabled_at"] is not None):
        return Found(error=NotFound("there is no such person"))
    joins, is_member = isinstance(data, MemberJoined), row["role"] is not None
    if joins and is_member:
        return Found(subject_role=row["role"], error=Conflict("already a member"))
    if not joins and not is_member:
        return Found(error=NotFound("this person is not a member"))
    if row["role"] == "owner" and not await _another_owner(connection, conversation, data.user):
        return Found(
            subject_role="owner",
            error=Conflict("a conversation keeps at least one owner: make somebody else owner first"),
        )
    return Found(subject_role=row["role"])


async def _refuses(connection: Connection, invited: str, by: Actor) -> bool:
    """Whether the invited person has blocked whoever invites them. Their row is held first, as a block holds it: the
    second statement sees every block that was made before."""
    if by.kind != "user" or by.id == invited:
        return False
    await connection.execute("SELECT FROM users WHERE id = $1 FOR SHARE", invited)
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM blocks WHERE blocker = $1 AND blocked = $2)", invited, by.id
    )
    return found


async def _another_owner(connection: Connection, conversation: str, user: str) -> bool:
    """Whether the conversation has an owner besides; alone in it, the last member may always go."""
    row = await connection.fetchrow(
        "SELECT count(*) FILTER (WHERE role = 'owner') AS owners, count(*) AS others FROM memberships "
        "WHERE conversation = $1 AND user_id <> $2",
        conversation,
        user,
    )
    assert row is not None
    return bool(row["owners"] > 0 or row["others"] == 0)


async def _run(connection: Connection, run: str) -> Found:
    row = None
    if is_id(run):
        row = await connection.fetchrow(
            "SELECT r.status, r.asked_by, m.deleted_at FROM runs r "
            "LEFT JOIN messages m ON m.conversation = r.conversation AND m.id = r.message WHERE r.id = $1",
            run,
        )
    if row is None:
        return Found(error=NotFound("there is no such run"))
    if row["status"] != "running":
        return Found(error=Conflict(f"this run has already {row['status']}"))
    return Found(author=row["asked_by"], is_redacted=row["deleted_at"] is not None)


def redacted(data: EventData) -> EventData:
    """The end of a run whose message has been deleted meanwhile: without its text."""
    return replace(data, text="", parts=[], redacted=True) if isinstance(data, RunEnded) else data


async def apply(
    connection: Connection, actor: Actor, data: EventData, conversation: str, seq: int, at: datetime
) -> None:
    """Change the current state as the event says."""
    match data:
        case MessageEdited():
            await connection.execute(
                """
                UPDATE messages SET text = $3, edited_at = $4, mentions = NULL,
                    text_seqs = array_append(text_seqs, $5::bigint)
                WHERE conversation = $1 AND id = $2
                """,
                conversation, data.id, data.text, at, seq,
            )  # fmt: skip
        case MessageDeleted():
            await _blank(connection, conversation, data.id, at)
        case ReactionAdded():
            await connection.execute(
                "INSERT INTO reactions (conversation, message, user_id, emoji, at) VALUES ($1, $2, $3, $4, $5) "
                "ON CONFLICT DO NOTHING",
                conversation, data.id, actor.id, data.emoji, at,
            )  # fmt: skip
        case ReactionRemoved():
            await connection.execute(
                "DELETE FROM reactions WHERE conversation = $1 AND message = $2 AND user_id = $3 AND emoji = $4",
                conversation, data.id, actor.id, data.emoji,
            )  # fmt: skip
        case MessagePinned():
            await connection.execute(
                "UPDATE messages SET pinned_at = $3 WHERE conversation = $1 AND id = $2",
                conversation, data.id, at if data.on else None,
            )  # fmt: skip
        case MemberJoined():
            await _join(connection, conversation, data, seq, at)
        case MemberLeft():
            await connection.execute(
                "DELETE FROM memberships WHERE conversation = $1 AND user_id = $2", conversation, data.user
            )
        case MemberRole():
            await connection.execute(
                "UPDATE memberships SET role = $3 WHERE conversation = $1 AND user_id = $2",
                conversation, data.user, data.role,
            )  # fmt: skip
        case ConversationUpdated():
            await _update(connection, conversation, data)
        case ConversationDeleted():
            await connection.execute(
                "UPDATE runs SET status = 'interrupted', ended_at = $2 WHERE conversation = $1 AND status = 'running'",
                conversation,
                at,
            )
            await connection.execute(
                "UPDATE conversations SET deleted_at = $2, pair_key = NULL WHERE id = $1", conversation, at
            )
        case RunEnded():
            await _end_run(connection, conversation, data, seq, at)
        case RunStarted():
            await _start_run(connection, actor, conversation, data, at)
        case MessageCreated() | RunSteered():
            pass  # the message row is the log's own work; a steer is followed by events that say what changed
        case _:
            raise TypeError(f"no projection for {type(data).__name__}")


async def _blank(connection: Connection, conversation: str, message: str, at: datetime) -> None:
    """Take a message's text out of everything that holds it; `seq`, ids and body hash stay."""
    row = await connection.fetchrow(
        """
        UPDATE messages SET text = '', attachments = NULL, mentions = NULL, pinned_at = NULL, deleted_at = $3
        WHERE conversation = $1 AND id = $2 RETURNING seq, text_seqs, run
        """,
        conversation,
        message,
        at,
    )
    assert row is not None, "looked up under the lock"
    await connection.execute(
        """
        UPDATE events SET data = (data::jsonb || '{"text": "", "redacted": true}' || CASE kind
            WHEN 'message.created' THEN '{"mentions": [], "attachments": []}'::jsonb
            WHEN 'run.ended' THEN '{"parts": []}'::jsonb
            ELSE '{}'::jsonb END)::json
        WHERE conversation = $1 AND seq = ANY($2::bigint[])
            AND kind IN ('message.created', 'message.edited', 'run.ended')
        """,
        conversation,
        [row["seq"], *(row["text_seqs"] or [])],
    )
    await connection.execute("DELETE FROM reactions WHERE conversation = $1 AND message = $2", conversation, message)
    if row["run"] is not None:
        await connection.execute("UPDATE runs SET text = '' WHERE id = $1", row["run"])


async def _join(connection: Connection, conversation: str, data: MemberJoined, seq: int, at: datetime) -> None:
    """Private rooms show a new member what comes after; public ones, and those that say so, everything. Nothing counts
    as unread.
    """
    await connection.execute(
        """
        INSERT INTO memberships (
            conversation, user_id, role, joined_at, visible_from, delivered_seq, read_seq, read_ordinal
        )
        SELECT c.id, $2, $3, $4,
            CASE WHEN c.visibility = 'public' OR c.history = 'all' THEN 1 ELSE $5 END, $5, $5, h.message_count
        FROM conversations c JOIN heads h ON h.conversation = c.id WHERE c.id = $1
        """,
        conversation, data.user, data.role, at, seq,
    )  # fmt: skip


async def _update(connection: Connection, conversation: str, data: ConversationUpdated) -> None:
    columns = {
        name: value
        for name in ("title", "visibility", "model", "system_prompt", "retention_days")
        if (value := getattr(data, name)) is not UNSET
    }
    if columns:
        assignments = ", ".join(f"{name} = ${n}" for n, name in enumerate(columns, start=2))
        await connection.execute(
            f"UPDATE conversations SET {assignments} WHERE id = $1", conversation, *columns.values()
        )


async def _start_run(connection: Connection, actor: Actor, conversation: str, data: RunStarted, at: datetime) -> None:
    """The run is born with a lease that nobody holds yet: should its process die now, the sweep finds it."""
    await connection.execute(
        """
        INSERT INTO runs (id, conversation, message, model, asked_by, status, token, lease_until, started_at)
        VALUES ($1, $2, $3, $4, $5, 'running', gen_random_uuid(), now() + make_interval(secs => $6), $7)
        """,
        data.run, conversation, data.message, data.model, actor.id if actor.kind == "user" else None, RUN_LEASE_S, at,
    )  # fmt: skip


async def _end_run(connection: Connection, conversation: str, data: RunEnded, seq: int, at: datetime) -> None:
    await connection.execute(
        "UPDATE runs SET status = $2, text = $3, ended_at = $4, error = $5 WHERE id = $1",
        data.run, data.status, data.text, at, None if data.error is UNSET else encode(data.error).decode(),
    )  # fmt: skip
    await connection.execute(
        "UPDATE messages SET text = $3, text_seqs = array_append(text_seqs, $4::bigint) "
        "WHERE conversation = $1 AND id = $2",
        conversation, data.message, data.text, seq,
    )  # fmt: skip


def makes_message(data: EventData) -> bool:
    return isinstance(data, MessageCreated | RunStarted)


MessageRow = tuple[Any, ...]
_COLUMNS = 15


def message_row(actor: Actor, data: EventData, stored: Any, ordinal: int) -> MessageRow:
    """The row of a new message, in the order of the log's insert."""
    match data:
        case MessageCreated():
            return (
                stored.conversation, stored.seq, data.id, ordinal, actor.kind, actor.id, data.client_id, data.text,
                stored.at, data.reply_to, data.thread,
                encode(data.attachments).decode() if data.attachments else None,
                encode(data.mentions).decode() if data.mentions else None,
                data.people_only, None,
            )  # fmt: skip
        case RunStarted():
            return (
                stored.conversation, stored.seq, data.message, ordinal, "model", data.model, None, "",
                stored.at, data.reply_to, None, None, None, False, data.run,
            )  # fmt: skip
    raise TypeError(f"{type(data).__name__} makes no message")


def message_columns(rows: Sequence[MessageRow]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(_COLUMNS)]

"""What the database holds when a run is over: plain rows, for the checker.

In:   a connection of our own, past every proxy.
Out:  a `Snapshot` of some rooms, read in one transaction.
"""

import json
from collections.abc import Sequence

import asyncpg
import msgspec


class Room(msgspec.Struct, frozen=True):
    """`members`: the users it was made with. All rooms here are private, and show what came since one joined."""

    id: str
    members: frozenset[str]


class Entry(msgspec.Struct, frozen=True):
    """One event of the log. `subject`: the message or the person that it is about."""

    room: str
    seq: int
    kind: str
    actor_kind: str
    actor: str
    client_id: str | None
    at: float
    text: str = ""
    subject: str = ""
    is_redacted: bool = False


class Message(msgspec.Struct, frozen=True):
    room: str
    seq: int
    id: str
    client_id: str | None
    text: str
    is_edited: bool = False
    is_deleted: bool = False


class Run(msgspec.Struct, frozen=True):
    """`is_leased`: somebody answers for it still, by the database's clock."""

    id: str
    room: str
    status: str
    is_leased: bool
    text: str = ""


class Snapshot(msgspec.Struct, frozen=True):
    rooms: Sequence[Room]
    log: Sequence[Entry]
    messages: Sequence[Message]
    heads: dict[str, int]
    memberships: frozenset[tuple[str, str]]  # (room, user)
    runs: Sequence[Run] = ()
    firsts: dict[str, int] = {}  # what stood in a log below this seq is kept no more


async def take(connection: asyncpg.Connection, rooms: Sequence[Room]) -> Snapshot:
    ids = [room.id for room in rooms]
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        log = await connection.fetch(_LOG, ids)
        messages = await connection.fetch(_MESSAGES, ids)
        heads = await connection.fetch(
            "SELECT conversation, last_seq, first_seq FROM heads WHERE conversation = ANY($1)", ids
        )
        members = await connection.fetch(
            "SELECT conversation, user_id FROM memberships WHERE conversation = ANY($1)", ids
        )
        runs = await connection.fetch(
            "SELECT id, conversation, status, lease_until > now() AS is_leased, text FROM runs "
            "WHERE conversation = ANY($1)",
            ids,
        )
    return Snapshot(
        rooms=rooms,
        log=[_entry(row) for row in log],
        messages=[
            Message(
                str(row["conversation"]), row["seq"], str(row["id"]), row["client_id"], row["text"],
                row["edited_at"] is not None, row["deleted_at"] is not None,
            )
            for row in messages
        ],
        heads={str(row["conversation"]): row["last_seq"] for row in heads},
        memberships=frozenset((str(row["conversation"]), str(row["user_id"])) for row in members),
        runs=[
            Run(str(row["id"]), str(row["conversation"]), row["status"], row["is_leased"], row["text"]) for row in runs
        ],
        firsts={str(row["conversation"]): row["first_seq"] for row in heads},
    )  # fmt: skip


def _entry(row: asyncpg.Record) -> Entry:
    data = json.loads(row["data"])
    # A message carries its client id in its data too; taken from there, one that went into the log without its id, and
    # so past the constraint, is still known.
    return Entry(
        room=str(row["conversation"]), seq=row["seq"], kind=row["kind"], actor_kind=row["actor_kind"],
        actor=row["actor_id"], client_id=row["client_id"] or data.get("client_id"), at=row["at"].timestamp(),
        text=data.get("text") or "", subject=data.get("id") or data.get("user") or "",
        is_redacted=bool(data.get("redacted")),
    )  # fmt: skip


_LOG = """
    SELECT conversation, seq, kind, actor_kind, actor_id, client_id, at, data FROM events
    WHERE conversation = ANY($1) ORDER BY conversation, seq
"""
_MESSAGES = """
    SELECT conversation, seq, id, client_id, text, edited_at, deleted_at FROM messages
    WHERE conversation = ANY($1) ORDER BY conversation, seq
"""

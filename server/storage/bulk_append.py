"""Appending a great many messages that were written elsewhere, by people who may never have been here.

In:   chunks of messages, each with the id under which it may come again.
Out:  how many of a chunk were new.
Promises: those of the log. The conversation's row is locked while a chunk is written and no longer, `seq` goes on
without holes, what stands in the log already is not written again, and events and messages are the same as if they had
been sent. What has been imported counts as read for those who had read everything before.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from server.protocol.errors import Conflict, NotFound, Overloaded
from server.protocol.ids import new_id
from server.storage.database import Connection, Database

ADVISORY_CLASS = 0x696D706F7274  # "import": keeps these locks apart from others
MAX_TRIES = 5  # to find or make people: one is lost only when somebody else takes one of the names in between


@dataclass(frozen=True, slots=True)
class Imported:
    """`data` is the JSON of its event; it holds the id, the client id and the text as well."""

    id: str
    client_id: str
    body_hash: bytes
    author: str
    at: datetime
    text: str
    data: str


@dataclass(frozen=True, slots=True)
class _Holder:
    user: str
    origin: str


Candidates = Sequence[tuple[str, str]]  # names that somebody may go by, with their keys, the best one first
Holders = dict[str, _Holder]  # by key


class BulkAppend:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_room(self, title: str, owner: str) -> str | None:
        """The oldest room of that title which is public, or the owner's."""
        room: str | None = await self._database.fetch_value(
            """
            SELECT c.id FROM conversations c
            WHERE c.kind = 'room' AND c.title = $1 AND c.deleted_at IS NULL AND (c.visibility = 'public' OR EXISTS (
                SELECT FROM memberships m WHERE m.conversation = c.id AND m.user_id = $2 AND m.role = 'owner'
            ))
            ORDER BY c.created_at, c.id LIMIT 1
            """,
            title,
            owner,
        )
        return room

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[None]:
        """One import at a time goes through here for each name."""
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", name, ADVISORY_CLASS)
            yield

    async def people(self, names: Sequence[Candidates], at: datetime) -> tuple[list[str], int]:
        """User ids, one for each list of names, and how many of them are new. Somebody who has an account here is
        nobody from an import, whatever the name."""
        made = 0
        for _ in range(MAX_TRIES):
            async with self._database.transaction() as connection:
                held = await self._holders(connection, [key for candidates in names for _, key in candidates])
                found = [_import_among(candidates, held) for candidates in names]
                missing = [candidates for candidates, user in zip(names, found, strict=True) if user is None]
                if not missing:
                    return [user for user in found if user is not None], made
                made += await self._add(connection, dict(_first_free(candidates, held) for candidates in missing), at)
        raise Overloaded("the names of these people are being taken by somebody else, please try again")

    async def _holders(self, connection: Connection, keys: list[str]) -> Holders:
        rows = await connection.fetch(
            "SELECT u.username_key, u.id, u.origin FROM unnest($1::text[]) k JOIN users u ON u.username_key = k", keys
        )
        return {row["username_key"]: _Holder(row["id"], row["origin"]) for row in rows}

    async def _add(self, connection: Connection, name_of: dict[str, str], at: datetime) -> int:
        """Users without a password: they cannot sign in."""
        keys = sorted(name_of)  # two imports must not wait for each other
        rows = await connection.fetch(
            """
            INSERT INTO users (id, username, username_key, role, origin, created_at)
            SELECT id, username, username_key, 'member', 'import', $4
            FROM unnest($1::uuid[], $2::text[], $3::text[]) AS v(id, username, username_key)
            ON CONFLICT (username_key) DO NOTHING RETURNING 1
            """,
            [new_id() for _ in keys],
            [name_of[key] for key in keys],
            keys,
            at,
        )
        return len(rows)

    async def append(self, conversation: str, chunk: Sequence[Imported], at: datetime) -> int:
        """One transaction. Two messages of a chunk never have the same author and client id."""
        async with self._database.log_transaction() as connection:
            head = await connection.fetchrow(_LOCK, conversation)
            if head is None:
                raise NotFound("the room has been deleted")
            # A statement of its own, so with a snapshot from after the lock.
            known = await connection.fetch(
                _KNOWN, conversation, [one.author for one in chunk], [one.client_id for one in chunk]
            )
            repeats = {row["n"] - 1 for row in known}
            fresh = [one for n, one in enumerate(chunk) if n not in repeats]
            if fresh:
                await self._write(connection, conversation, fresh, head["last_seq"], head["message_count"], at)
            return len(fresh)

    async def _write(
        self, connection: Connection, conversation: str, fresh: list[Imported], seq: int, ordinal: int, at: datetime
    ) -> None:
        await connection.execute(
            _WRITE,
            conversation,
            seq,
            ordinal,
            [one.id for one in fresh],
            [one.client_id for one in fresh],
            [one.body_hash for one in fresh],
            [one.author for one in fresh],
            [one.at for one in fresh],
            [one.text for one in fresh],
            [one.data for one in fresh],
            len(fresh),
            at,
        )


def _import_among(candidates: Candidates, held: Holders) -> str | None:
    """The last one first: whoever once had to be given another name keeps it."""
    imported = [held[key].user for _, key in candidates if key in held and held[key].origin == "import"]
    return imported[-1] if imported else None


def _first_free(candidates: Candidates, held: Holders) -> tuple[str, str]:
    """(key, name)"""
    free = next(((key, name) for name, key in candidates if key not in held), None)
    if free is None:
        raise Conflict(f"every name that {candidates[0][0]!r} may have belongs to somebody with an account")
    return free


_LOCK = """
    SELECT h.last_seq, h.message_count FROM heads h JOIN conversations c ON c.id = h.conversation
    WHERE h.conversation = $1 AND c.deleted_at IS NULL FOR NO KEY UPDATE OF h
"""

# The limit keeps the planner from reading the whole room for each of them, which it does while it has no statistics.
_KNOWN = """
    SELECT d.n FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS d(actor_id, client_id, n)
    CROSS JOIN LATERAL (
        SELECT FROM events e WHERE e.conversation = $1 AND e.actor_id = d.actor_id AND e.client_id = d.client_id LIMIT 1
    ) known
"""

_WRITE = """
    WITH fresh AS MATERIALIZED (
        SELECT $2::bigint + n AS seq, $3::bigint + n AS ordinal, v.*
        FROM unnest(
            $4::uuid[], $5::text[], $6::bytea[], $7::text[], $8::timestamptz[], $9::text[], $10::json[]
        ) WITH ORDINALITY AS v(id, client_id, body_hash, actor_id, at, text, data, n)
    ), event AS (
        INSERT INTO events (conversation, seq, kind, actor_kind, actor_id, client_id, body_hash, data, at)
        SELECT $1, seq, 'message.created', 'user', actor_id, client_id, body_hash, data, at FROM fresh
    ), message AS (
        INSERT INTO messages (conversation, seq, id, ordinal, actor_kind, actor_id, client_id, text, at)
        SELECT $1, seq, id, ordinal, 'user', actor_id, client_id, text, at FROM fresh
    ), member AS (
        INSERT INTO memberships (conversation, user_id, role, joined_at)
        SELECT $1, actor_id::uuid, 'member', min(at) FROM fresh GROUP BY actor_id
        ON CONFLICT DO NOTHING
    ), reader AS (
        UPDATE memberships m SET delivered_seq = $2 + $11::bigint, read_seq = $2 + $11, read_ordinal = $3 + $11
        FROM users u WHERE m.conversation = $1 AND m.read_seq = $2 AND u.id = m.user_id AND u.origin = 'here'
    )
    UPDATE heads SET last_seq = $2 + $11, message_count = $3 + $11, updated_at = $12 WHERE conversation = $1
"""

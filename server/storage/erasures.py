"""Accounts that are being erased, and what is left of them in the tables.

Everything here asks for what still stands, never for how far somebody has got: an erasure that was broken off in the
middle goes on where it was by looking again.
"""

from dataclasses import dataclass
from datetime import datetime

from server.storage.database import Connection, Database, affected

NOBODY = "former member"  # the name of whoever is gone, as the readers of the log have it
CHUNK = 500  # rows changed by one statement


@dataclass(frozen=True, slots=True)
class Erasure:
    user: str
    with_messages: bool


@dataclass(frozen=True, slots=True)
class Trace:
    """A conversation in which there is something of the user; `role` is None for those who are no members there."""

    conversation: str
    visibility: str
    is_deleted: bool
    role: str | None
    other_members: int
    has_other_owner: bool


class Erasures:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def request(self, connection: Connection, erasure: Erasure, now: datetime) -> None:
        await close_account(connection, erasure, now)

    async def pending(self) -> list[Erasure]:
        rows = await self._database.fetch(
            "SELECT user_id, with_messages FROM erasures WHERE finished_at IS NULL ORDER BY requested_at LIMIT 100"
        )
        return [Erasure(row["user_id"], row["with_messages"]) for row in rows]

    async def forget_name(self, user: str) -> int:
        """Blank the name where the log itself holds it; how many events that were."""
        return await self._database.execute(_FORGET_NAME, user, NOBODY, CHUNK)

    async def forget_steers(self, user: str) -> int:
        """Blank what the user told models in mid-answer; how many events that were."""
        return await self._database.execute(_FORGET_STEERS, user, CHUNK)

    async def traces(self, erasure: Erasure) -> list[Trace]:
        rows = await self._database.fetch(_TRACES, erasure.user, erasure.with_messages)
        return [Trace(*row) for row in rows]

    async def successor(self, conversation: str, user: str) -> str | None:
        """Who should own a conversation next: whoever has been in it longest, moderators first."""
        found: str | None = await self._database.fetch_value(
            """
            SELECT m.user_id FROM memberships m JOIN users u ON u.id = m.user_id
            WHERE m.conversation = $1 AND m.user_id <> $2 AND u.disabled_at IS NULL AND u.origin = 'here'
            ORDER BY u.role = 'guest', array_position(ARRAY['owner', 'moderator', 'member', 'reader'], m.role),
                m.joined_at, m.user_id
            LIMIT 1
            """,
            conversation,
            user,
        )
        return found

    async def messages(self, conversation: str, user: str, limit: int) -> list[str]:
        """Ids of the user's messages that still have a text."""
        rows = await self._database.fetch(
            "SELECT id FROM messages WHERE conversation = $1 AND actor_id = $2 AND deleted_at IS NULL "
            "ORDER BY seq LIMIT $3",
            conversation,
            user,
            limit,
        )
        return [row["id"] for row in rows]

    async def reactions(self, conversation: str, user: str, limit: int) -> list[tuple[str, str]]:
        """(message, emoji) of each."""
        rows = await self._database.fetch(
            "SELECT message, emoji FROM reactions WHERE conversation = $1 AND user_id = $2 ORDER BY at LIMIT $3",
            conversation,
            user,
            limit,
        )
        return [(row["message"], row["emoji"]) for row in rows]

    async def take_from_deleted(self, conversation: str, erasure: Erasure) -> None:
        """From a conversation that nobody reads any more, whose log takes no events."""
        for table in ("memberships", "reactions"):
            await self._database.execute(
                f"DELETE FROM {table} WHERE conversation = $1 AND user_id = $2", conversation, erasure.user
            )
        while erasure.with_messages and await self._database.execute(
            _BLANK_IN_DELETED, conversation, erasure.user, CHUNK
        ):
            pass

    async def finish(self, user: str, now: datetime) -> bool:
        """Remove what is left of the account; False while something of it still stands in a conversation."""
        async with self._database.transaction() as connection:
            removed = await connection.execute(
                """
                DELETE FROM users u WHERE id = $1
                    AND NOT EXISTS (SELECT FROM memberships WHERE user_id = u.id)
                    AND NOT EXISTS (SELECT FROM reactions WHERE user_id = u.id)
                """,
                user,
            )
            is_gone = affected(removed) == 1 or not await connection.fetchval(
                "SELECT true FROM users WHERE id = $1", user
            )
            if is_gone:
                await connection.execute("UPDATE erasures SET finished_at = $2 WHERE user_id = $1", user, now)
            return is_gone


async def close_account(connection: Connection, erasure: Erasure, now: datetime) -> None:
    """The account is nobody's from here on: no name, no address, no password, no way in. A repeat takes the texts too,
    where the first one left them.
    """
    await connection.execute(
        """
        INSERT INTO erasures (user_id, with_messages, requested_at) VALUES ($1, $2, $3)
        ON CONFLICT (user_id) DO UPDATE SET with_messages = erasures.with_messages OR excluded.with_messages
        """,
        erasure.user,
        erasure.with_messages,
        now,
    )
    await connection.execute(
        """
        UPDATE users SET username = $2, username_key = $2 || ' ' || id, email = NULL, password_hash = NULL,
            role = 'guest', disabled_at = coalesce(disabled_at, $3)
        WHERE id = $1
        """,
        erasure.user,
        NOBODY,
        now,
    )


_FORGET_NAME = """
    WITH named AS (
        SELECT conversation, seq FROM events
        WHERE kind = 'member.joined' AND data->>'user' = $1::text AND data->>'username' <> $2 LIMIT $3
    )
    UPDATE events e SET data = (e.data::jsonb || jsonb_build_object('username', $2::text))::json
    FROM named n WHERE e.conversation = n.conversation AND e.seq = n.seq
"""

_FORGET_STEERS = """
    WITH said AS (
        SELECT conversation, seq FROM events
        WHERE kind = 'run.steered' AND actor_id = $1::text AND data->>'text' <> '' LIMIT $2
    )
    UPDATE events e SET data = (e.data::jsonb || '{"text": ""}')::json
    FROM said s WHERE e.conversation = s.conversation AND e.seq = s.seq
"""

# One look along an index for each conversation there is: nothing tells where somebody has ever written.
_TRACES = """
    SELECT c.id, c.visibility, c.deleted_at IS NOT NULL AS is_deleted, m.role,
        (SELECT count(*) FROM memberships o WHERE o.conversation = c.id AND o.user_id <> $1) AS other_members,
        EXISTS (
            SELECT FROM memberships o WHERE o.conversation = c.id AND o.user_id <> $1 AND o.role = 'owner'
        ) AS has_other_owner
    FROM conversations c LEFT JOIN memberships m ON m.conversation = c.id AND m.user_id = $1
    WHERE m.user_id IS NOT NULL
        OR c.id IN (SELECT conversation FROM reactions WHERE user_id = $1)
        OR ($2 AND EXISTS (
            SELECT FROM messages w WHERE w.conversation = c.id AND w.actor_id = $1::text AND w.deleted_at IS NULL
        ))
        OR ($2 AND c.deleted_at IS NOT NULL AND c.created_by = $1
            AND NOT EXISTS (SELECT FROM memberships o WHERE o.conversation = c.id)
            AND (c.title IS NOT NULL OR c.system_prompt IS NOT NULL OR EXISTS (
                SELECT FROM events e WHERE e.conversation = c.id AND e.kind <> 'conversation.deleted'
            )))
    ORDER BY c.id
"""

_BLANK_IN_DELETED = """
    WITH chosen AS (
        SELECT seq FROM messages WHERE conversation = $1 AND actor_id = $2 AND deleted_at IS NULL LIMIT $3
    ), blanked AS (
        UPDATE messages m SET text = '', attachments = NULL, mentions = NULL, pinned_at = NULL, deleted_at = now()
        FROM chosen c WHERE m.conversation = $1 AND m.seq = c.seq RETURNING m.seq, m.text_seqs
    ), event AS (
        UPDATE events e SET data = (e.data::jsonb || '{"text": "", "redacted": true}' || CASE e.kind
            WHEN 'message.created' THEN '{"mentions": [], "attachments": []}'::jsonb ELSE '{}'::jsonb END)::json
        WHERE e.conversation = $1 AND e.kind IN ('message.created', 'message.edited')
            AND e.seq = ANY(ARRAY(
                SELECT seq FROM blanked UNION ALL SELECT unnest(text_seqs) FROM blanked
            ))
    )
    DELETE FROM message_words w USING blanked b WHERE w.conversation = $1 AND w.seq = b.seq
"""

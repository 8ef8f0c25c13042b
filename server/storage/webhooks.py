"""Webhooks as they stand: where to, for which events, with which secret. How far each has got stands in its cursor."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec import UNSET, UnsetType

from server.protocol.errors import Conflict, NotFound
from server.protocol.ids import is_id, new_id
from server.storage.database import Connection, Database, Record
from server.storage.log_cursors import CursorKey, LogCursors, subscribe, unsubscribe

READER = "webhooks"
OWNER_PAUSED = "paused by hand"
KEEPER_GONE = "whoever kept it owns or moderates this conversation no more: one who does may enable it"


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """A webhook with where its cursor stands. The secrets are shown to nobody and never logged."""

    id: str
    conversation: str
    url: str
    kinds: list[str] | None
    description: str
    kept_by: str | None
    keeper_may: bool
    created_at: datetime
    updated_at: datetime
    previous_until: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None
    failing_since: datetime | None
    next_at: datetime
    seq: int
    head: int
    dead_letters: int

    @property
    def key(self) -> CursorKey:
        return CursorKey(READER, self.id)


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """What a delivery needs; `secrets` sign, the newest first."""

    id: str
    conversation: str
    url: str
    kinds: list[str] | None
    secrets: tuple[bytes, ...]
    is_ending: bool  # the conversation has been deleted
    keeper_role: str | None  # of the keeper's account; None: they may not manage webhooks here any more
    kept_by: str | None

    def __repr__(self) -> str:
        return f"WebhookTarget({self.id})"


@dataclass(frozen=True, slots=True)
class WebhookUpdate:
    """`by` is who changes it; whoever enables it keeps it from then on."""

    by: str
    url: str | UnsetType = UNSET
    kinds: list[str] | None | UnsetType = UNSET
    description: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    skip_missed: bool = False


class Webhooks:
    def __init__(self, database: Database, cursors: LogCursors) -> None:
        self._database = database
        self._cursors = cursors

    async def add(
        self, conversation: str, url: str, kinds: Sequence[str] | None, description: str, secret: bytes, by: str,
        at: datetime, *, most: int,
    ) -> WebhookRow:  # fmt: skip
        """From the head of the conversation on; `Conflict` when it has `most` already."""
        webhook = new_id()
        async with self._database.transaction() as connection:
            await _lock(connection, conversation)
            count = await connection.fetchval("SELECT count(*) FROM webhooks WHERE conversation = $1", conversation)
            if count >= most:
                raise Conflict(f"a conversation has {most} webhooks at most")
            await connection.execute(
                """
                INSERT INTO webhooks (
                    id, conversation, url, kinds, description, secret, created_by, created_at, updated_at
                )
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
                """,
                webhook, conversation, url, None if kinds is None else list(kinds), description, secret, by, at,
            )  # fmt: skip
            await subscribe(connection, CursorKey(READER, webhook), conversation)
        return await self.one(conversation, webhook)

    async def of(self, conversation: str) -> list[WebhookRow]:
        """The oldest first."""
        rows = await self._database.fetch(f"{_ROWS} WHERE w.conversation = $1 ORDER BY w.id", conversation)
        return [_row(row) for row in rows]

    async def one(self, conversation: str, webhook: str) -> WebhookRow:
        row = None
        if is_id(webhook):
            row = await self._database.fetch_one(
                f"{_ROWS} WHERE w.conversation = $1 AND w.id = $2", conversation, webhook
            )
        if row is None:
            raise NotFound("there is no such webhook")
        return _row(row)

    async def update(self, conversation: str, webhook: str, change: WebhookUpdate, at: datetime) -> WebhookRow:
        async with self._database.transaction() as connection:
            row = await _locked(connection, conversation, webhook)
            url, kinds = change.url, change.kinds
            await connection.execute(
                "UPDATE webhooks SET url = $2, kinds = $3, description = $4, updated_at = $5 WHERE id = $1",
                webhook,
                row["url"] if url is UNSET else url,
                row["kinds"] if kinds is UNSET else kinds,
                row["description"] if change.description is UNSET else change.description,
                at,
            )
            key = CursorKey(READER, webhook)
            if change.enabled is True:
                await connection.execute("UPDATE webhooks SET created_by = $2 WHERE id = $1", webhook, change.by)
                await self._cursors.set_enabled(connection, key, from_head=change.skip_missed)
            elif change.enabled is False:
                await self._cursors.set_disabled(connection, key, OWNER_PAUSED)
            elif url is not UNSET:
                await self._cursors.try_now(connection, key)
        return await self.one(conversation, webhook)

    async def set_secret(
        self, conversation: str, webhook: str, secret: bytes, previous_until: datetime, at: datetime
    ) -> WebhookRow:
        """The one before signs too until then. One that was still signing from an earlier change does no longer."""
        async with self._database.transaction() as connection:
            await _locked(connection, conversation, webhook)
            await connection.execute(
                "UPDATE webhooks SET previous_secret = secret, secret = $2, previous_until = $3, updated_at = $4 "
                "WHERE id = $1",
                webhook, secret, previous_until, at,
            )  # fmt: skip
        return await self.one(conversation, webhook)

    async def delete(self, webhook: str, conversation: str | None = None) -> None:
        """With its cursor, dead letters and attempts."""
        async with self._database.transaction() as connection:
            if conversation is not None:
                await _locked(connection, conversation, webhook)
            await connection.execute("DELETE FROM webhooks WHERE id = $1", webhook)
            await unsubscribe(connection, CursorKey(READER, webhook))

    async def pause(self, target: WebhookTarget, reason: str) -> None:
        """Unless somebody has enabled it meanwhile, and keeps it now."""
        async with self._database.transaction() as connection:
            keeper = await connection.fetchval("SELECT created_by FROM webhooks WHERE id = $1 FOR UPDATE", target.id)
            if keeper == target.kept_by:
                await self._cursors.set_disabled(connection, CursorKey(READER, target.id), reason)

    async def target(self, webhook: str) -> WebhookTarget | None:
        row = await self._database.fetch_one(
            f"""
            SELECT w.id, w.conversation, w.url, w.kinds, w.secret, w.created_by, c.deleted_at, k.role AS keeper_role,
                CASE WHEN w.previous_until > now() THEN w.previous_secret END AS previous_secret
            FROM webhooks w JOIN conversations c ON c.id = w.conversation {_KEEPER} WHERE w.id = $1
            """,
            webhook,
        )
        if row is None:
            return None
        secrets = tuple(secret for secret in (row["secret"], row["previous_secret"]) if secret is not None)
        return WebhookTarget(
            row["id"], row["conversation"], row["url"], row["kinds"], secrets, row["deleted_at"] is not None,
            row["keeper_role"], row["created_by"],
        )  # fmt: skip

    async def prune(self) -> None:
        """Take away what is left of deleted conversations, and old secrets that sign no longer."""
        rows = await self._database.fetch(
            """
            SELECT w.id FROM webhooks w JOIN conversations c ON c.id = w.conversation
            WHERE c.deleted_at < now() - interval '1 day'
            """
        )
        for row in rows:
            await self.delete(row["id"])
        await self._database.execute(
            "UPDATE webhooks SET previous_secret = NULL, previous_until = NULL WHERE previous_until < now()"
        )


async def _lock(connection: Connection, conversation: str) -> None:
    """Two who add at the same moment: the second one counts the first."""
    found = await connection.fetchval(
        "SELECT id FROM conversations WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE", conversation
    )
    if found is None:
        raise NotFound("there is no such conversation")


async def _locked(connection: Connection, conversation: str, webhook: str) -> Record:
    row = None
    if is_id(webhook):
        row = await connection.fetchrow(
            "SELECT url, kinds, description FROM webhooks WHERE id = $1 AND conversation = $2 FOR UPDATE",
            webhook,
            conversation,
        )
    if row is None:
        raise NotFound("there is no such webhook")
    return row


# Nobody tells webhooks of kicks, roles and accounts: the right behind each is looked up whenever it counts.
# `created_by` is who made the webhook, or who has enabled it since.
_KEEPER = """
    LEFT JOIN (memberships km JOIN users k ON k.id = km.user_id AND k.disabled_at IS NULL)
        ON km.conversation = w.conversation AND km.user_id = w.created_by AND km.role IN ('owner', 'moderator')
"""

_ROWS = f"""
    SELECT w.id, w.conversation, w.url, w.kinds, w.description, w.created_by AS kept_by,
        k.id IS NOT NULL AS keeper_may, w.created_at, w.updated_at,
        CASE WHEN w.previous_until > now() THEN w.previous_until END AS previous_until,
        c.disabled_at, c.disabled_reason, c.failing_since, c.next_at, c.seq, h.last_seq AS head,
        (SELECT count(*) FROM dead_letters d WHERE d.reader = c.reader AND d.target = c.target) AS dead_letters
    FROM webhooks w
    JOIN log_cursors c ON c.reader = '{READER}' AND c.target = w.id
    JOIN heads h ON h.conversation = w.conversation
    {_KEEPER}
"""


def _row(row: Record) -> WebhookRow:
    return WebhookRow(**dict(row))

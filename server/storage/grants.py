"""Grants and tokens: what lets somebody in.

A grant is one sign-in of one device or program; ending it ends every token under it. A token is 256 random bits,
handed out once and stored only as its SHA-256: whoever reads the table cannot sign in with what stands there. (A slow
hash is for passwords, which can be guessed; 256 bits cannot.)
Promises: a one-time token is taken by one caller only, decided by one UPDATE. A refresh token that comes back after its
use ends the grant, because two parties hold it (RFC 9700, section 4.14.2).
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from server.protocol.errors import Unauthenticated
from server.protocol.ids import is_id, new_id
from server.storage.database import Connection, Database

TOKEN_BYTES = 32
LAST_USED_EVERY = timedelta(minutes=1)  # a request costs a read; a write only this often


@dataclass(frozen=True, slots=True)
class Grant:
    id: str
    kind: str  # browser or program
    created_at: datetime
    last_used_at: datetime
    address: str | None
    user_agent: str | None


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a token stands for."""

    user_id: str
    username: str
    role: str
    grant_id: str
    last_used_at: datetime


@dataclass(frozen=True, slots=True)
class Redeemed:
    """A one-time token, or what it would give: `role` is that of the account an invitation makes."""

    purpose: str
    user_id: str | None
    grant_id: str | None
    role: str | None


@dataclass(frozen=True, slots=True)
class Rotation:
    grant_id: str
    ended: bool


def sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class Grants:
    def __init__(self, database: Database) -> None:
        self._database = database

    # -- who holds a token --------------------------------------------------------------------------------------------

    async def holder(self, token: str, purpose: str, now: datetime) -> Holder | None:
        """Asked for every request: two joins along primary keys."""
        row = await self._database.fetch_one(
            """
            SELECT u.id AS user_id, u.username, u.role, g.id AS grant_id, g.last_used_at
            FROM tokens t JOIN grants g ON g.id = t.grant_id JOIN users u ON u.id = g.user_id
            WHERE t.sha256 = $1 AND t.purpose = $2 AND t.expires_at > $3 AND u.disabled_at IS NULL
            """,
            sha256(token),
            purpose,
            now,
        )
        return None if row is None else Holder(**dict(row))

    async def touch(self, token: str, grant_id: str, now: datetime, session_expires_at: datetime) -> None:
        """Note that the grant was used; a session lives on from here, an access token does not."""
        await self._database.execute(
            """
            WITH touched AS (UPDATE grants SET last_used_at = $2 WHERE id = $1 AND last_used_at <= $3 RETURNING id)
            UPDATE tokens SET expires_at = $4
            WHERE sha256 = $5 AND purpose = 'session' AND EXISTS (SELECT FROM touched)
            """,
            grant_id,
            now,
            now - LAST_USED_EVERY,
            session_expires_at,
            sha256(token),
        )

    async def is_current(self, grant_id: str, role: str) -> bool:
        """Whether the grant lives, of a user who may sign in and has this role."""
        found: bool = await self._database.fetch_value(
            """
            SELECT EXISTS (
                SELECT FROM grants g JOIN users u ON u.id = g.user_id
                WHERE g.id = $1 AND u.role = $2 AND u.disabled_at IS NULL
            )
            """,
            grant_id,
            role,
        )
        return found

    # -- grants -------------------------------------------------------------------------------------------------------

    async def roles_of(self, grant_ids: Sequence[str], now: datetime) -> dict[str, str]:
        """The account's role for each of these grants that has not ended, expired or been disabled."""
        rows = await self._database.fetch(
            """
            SELECT g.id, u.role FROM grants g JOIN users u ON u.id = g.user_id
            WHERE g.id = ANY($1::uuid[]) AND u.disabled_at IS NULL AND EXISTS (
                SELECT FROM tokens t WHERE t.grant_id = g.id AND t.purpose IN ('session', 'access', 'refresh')
                    AND t.expires_at > $2
            )
            """,
            list(grant_ids),
            now,
        )
        return {row["id"]: row["role"] for row in rows}

    async def add(
        self, connection: Connection, user_id: str, kind: str, address: str, user_agent: str, now: datetime
    ) -> str:
        grant_id = new_id()
        await connection.execute(
            """
            INSERT INTO grants (id, user_id, kind, created_at, last_used_at, address, user_agent)
            VALUES ($1, $2, $3, $4, $4, $5, $6)
            """,
            grant_id,
            user_id,
            kind,
            now,
            address,
            user_agent,
        )
        return grant_id

    async def of_user(self, user_id: str, now: datetime) -> Sequence[Grant]:
        """Those that still let somebody in, the last used one first."""
        rows = await self._database.fetch(
            """
            SELECT g.id, g.kind, g.created_at, g.last_used_at, g.address, g.user_agent FROM grants g
            WHERE g.user_id = $1 AND EXISTS (
                SELECT FROM tokens t
                WHERE t.grant_id = g.id AND t.purpose IN ('session', 'access', 'refresh')
                    AND t.used_at IS NULL AND t.expires_at > $2
            )
            ORDER BY g.last_used_at DESC, g.id
            """,
            user_id,
            now,
        )
        return [Grant(**dict(row)) for row in rows]

    async def ids_of_user(self, user_id: str) -> list[str]:
        rows = await self._database.fetch("SELECT id FROM grants WHERE user_id = $1", user_id)
        return [row["id"] for row in rows]

    async def end(self, user_id: str, grant_id: str) -> bool:
        """False when this user has no such grant."""
        if not is_id(grant_id):
            return False
        return await self._database.execute("DELETE FROM grants WHERE id = $1 AND user_id = $2", grant_id, user_id) == 1

    async def end_all(self, connection: Connection, user_id: str, but: str | None = None) -> list[str]:
        """The ids of those that ended. Who was let in by another transaction before is among them, since both lock the
        user's row first."""
        rows = await connection.fetch(
            "DELETE FROM grants WHERE user_id = $1 AND id IS DISTINCT FROM $2::uuid RETURNING id", user_id, but
        )
        return [row["id"] for row in rows]

    # -- tokens -------------------------------------------------------------------------------------------------------

    async def issue(
        self,
        connection: Connection,
        purpose: str,
        expires_at: datetime,
        *,
        user_id: str | None = None,
        grant_id: str | None = None,
        role: str | None = None,
    ) -> str:
        """A new token; this is the only time its text exists here."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        await connection.execute(
            """
            INSERT INTO tokens (sha256, purpose, user_id, grant_id, role, expires_at) VALUES ($1, $2, $3, $4, $5, $6)
            """,
            sha256(token),
            purpose,
            user_id,
            grant_id,
            role,
            expires_at,
        )
        return token

    async def look_up(self, token: str, purposes: Sequence[str], now: datetime) -> Redeemed | None:
        """What redeeming would give, without using the token up."""
        row = await self._database.fetch_one(
            """
            SELECT purpose, user_id, grant_id, role FROM tokens
            WHERE sha256 = $1 AND purpose = ANY($2::text[]) AND used_at IS NULL AND expires_at > $3
            """,
            sha256(token),
            list(purposes),
            now,
        )
        return None if row is None else Redeemed(**dict(row))

    async def redeem(
        self, connection: Connection, token: str, purposes: Sequence[str], now: datetime
    ) -> Redeemed | None:
        """Use a one-time token up; None when it is unknown, used or expired."""
        row = await connection.fetchrow(
            """
            UPDATE tokens SET used_at = $3
            WHERE sha256 = $1 AND purpose = ANY($2::text[]) AND used_at IS NULL AND expires_at > $3
            RETURNING purpose, user_id, grant_id, role
            """,
            sha256(token),
            list(purposes),
            now,
        )
        return None if row is None else Redeemed(**dict(row))

    async def redeem_ticket(self, ticket: str, now: datetime) -> Holder | None:
        row = await self._database.fetch_one(
            """
            UPDATE tokens t SET used_at = $2 FROM grants g JOIN users u ON u.id = g.user_id
            WHERE t.sha256 = $1 AND t.purpose = 'ticket' AND t.used_at IS NULL AND t.expires_at > $2
                AND g.id = t.grant_id AND u.disabled_at IS NULL
            RETURNING u.id AS user_id, u.username, u.role, g.id AS grant_id, g.last_used_at
            """,
            sha256(ticket),
            now,
        )
        return None if row is None else Holder(**dict(row))

    async def drop_one_time(self, connection: Connection, user_id: str, purposes: Sequence[str]) -> None:
        """Links that were never followed lead nowhere from now on."""
        await connection.execute(
            "DELETE FROM tokens WHERE user_id = $1 AND purpose = ANY($2::text[])", user_id, list(purposes)
        )

    # -- refresh ------------------------------------------------------------------------------------------------------

    async def rotate(self, connection: Connection, token: str, now: datetime, grace: timedelta) -> Rotation:
        """Use a refresh token up. `Rotation.ended` means that it was used before: the grant is gone, and so is the
        thief.

        An answer may get lost on its way, and the client asks again: within `grace` the latest used token counts
        again. What the lost answer held is spoiled at the same moment, so that whoever has it and uses it still ends
        the grant: at no time do two refresh tokens work, and a theft still shows.
        """
        digest = sha256(token)
        grant_id = await connection.fetchval(
            """
            SELECT id FROM grants WHERE id = (
                SELECT grant_id FROM tokens WHERE sha256 = $1 AND purpose = 'refresh' AND expires_at > $2
            ) FOR UPDATE
            """,
            digest,
            now,
        )
        if grant_id is None:
            raise Unauthenticated("this refresh token is unknown or expired")
        # Only now, behind the lock, is it known what others who hold the same token have done.
        row = await connection.fetchrow(
            """
            SELECT used_at IS NOT NULL AS was_used, used_at >= $3 AND used_at = (
                SELECT max(used_at) FROM tokens WHERE grant_id = $1 AND purpose = 'refresh'
            ) AS may_repeat
            FROM tokens WHERE sha256 = $2
            """,
            grant_id,
            digest,
            now - grace,
        )
        assert row is not None
        if not row["was_used"]:
            await connection.execute("UPDATE tokens SET used_at = $2 WHERE sha256 = $1", digest, now)
        elif row["may_repeat"]:
            await connection.execute(
                """
                UPDATE tokens SET used_at = '-infinity' WHERE grant_id = $1 AND purpose = 'refresh' AND used_at IS NULL
                """,
                grant_id,
            )
        else:
            await connection.execute("DELETE FROM grants WHERE id = $1", grant_id)
            return Rotation(grant_id, ended=True)
        return Rotation(grant_id, ended=False)

    # -- the end ------------------------------------------------------------------------------------------------------

    async def prune(self, now: datetime) -> list[str]:
        """Forget what has expired; the ids of the grants that ended with their last token."""
        await self._database.execute("DELETE FROM tokens WHERE expires_at <= $1", now)
        rows = await self._database.fetch(
            """
            DELETE FROM grants g WHERE NOT EXISTS (
                SELECT FROM tokens t WHERE t.grant_id = g.id AND t.purpose IN ('session', 'access', 'refresh')
            ) RETURNING id
            """
        )
        return [row["id"] for row in rows]

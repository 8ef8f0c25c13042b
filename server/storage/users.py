"""People: their names, roles and password hashes.

Writes that belong together with others take the open connection of their transaction; reads stand alone.
A name is given twice: as its owner writes it, and as the key under which two spellings are the same name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from server.protocol.errors import Conflict
from server.protocol.frames import UserSummary
from server.protocol.ids import is_id, new_id
from server.storage.database import Connection, Database, Record, affected

COLUMNS = "id, username, role, email, password_hash IS NOT NULL AS has_password, origin, created_at, disabled_at"


@dataclass(frozen=True, slots=True)
class User:
    id: str
    username: str
    role: str
    email: str | None
    has_password: bool
    origin: str  # here, or import: somebody from an imported log, who cannot sign in
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewUser:
    username: str
    key: str
    role: str
    password_hash: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """What a password is checked against."""

    user_id: str
    password_hash: str | None


class Users:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, user_id: str) -> User | None:
        if not is_id(user_id):
            return None
        row = await self._database.fetch_one(f"SELECT {COLUMNS} FROM users WHERE id = $1", user_id)
        return None if row is None else _user(row)

    async def login_of(self, key: str) -> Login | None:
        """None for everybody who may not sign in, whatever the reason."""
        row = await self._database.fetch_one(
            "SELECT id, password_hash FROM users WHERE username_key = $1 AND disabled_at IS NULL", key
        )
        return None if row is None else Login(row["id"], row["password_hash"])

    async def login_by_id(self, user_id: str) -> Login | None:
        row = await self._database.fetch_one(
            "SELECT id, password_hash FROM users WHERE id = $1 AND disabled_at IS NULL", user_id
        )
        return None if row is None else Login(row["id"], row["password_hash"])

    async def add(self, connection: Connection, new: NewUser, now: datetime) -> User:
        row = await connection.fetchrow(
            f"""
            INSERT INTO users (id, username, username_key, email, role, password_hash, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (username_key) DO NOTHING RETURNING {COLUMNS}
            """,
            new_id(),
            new.username,
            new.key,
            new.email,
            new.role,
            new.password_hash,
            now,
        )
        if row is None:
            raise Conflict(f"the name {new.username} is taken")
        return _user(row)

    async def add_first_admin(self, username: str, key: str, now: datetime) -> bool:
        """An admin without a password, where there is none at all. False where there was one (or the name is taken)."""
        added = await self._database.execute(
            """
            INSERT INTO users (id, username, username_key, role, created_at)
            SELECT $1::uuid, $2::text, $3::text, 'admin', $4::timestamptz
            WHERE NOT EXISTS (SELECT FROM users WHERE role = 'admin') ON CONFLICT DO NOTHING
            """,
            new_id(),
            username,
            key,
            now,
        )
        return added == 1

    async def first_admin(self) -> User | None:
        """The oldest admin who may sign in."""
        row = await self._database.fetch_one(
            f"""
            SELECT {COLUMNS} FROM users WHERE role = 'admin' AND disabled_at IS NULL ORDER BY created_at, id LIMIT 1
            """
        )
        return None if row is None else _user(row)

    async def an_admin_has_a_password(self) -> bool:
        found: bool = await self._database.fetch_value(
            """
            SELECT EXISTS (
                SELECT FROM users WHERE role = 'admin' AND disabled_at IS NULL AND password_hash IS NOT NULL
            )
            """
        )
        return found

    async def lock(self, connection: Connection, user_id: str) -> User | None:
        """The user, unchanged until the transaction ends."""
        if not is_id(user_id):
            return None
        sql = f"SELECT {COLUMNS} FROM users WHERE id = $1 FOR NO KEY UPDATE"
        row = await connection.fetchrow(sql, user_id)
        return None if row is None else _user(row)

    async def lock_login(self, connection: Connection, login: Login) -> User | None:
        """The user while enabled and with this very password: who was disabled while it was checked gets nothing."""
        row = await connection.fetchrow(
            f"""
            SELECT {COLUMNS} FROM users
            WHERE id = $1 AND password_hash = $2 AND disabled_at IS NULL FOR SHARE
            """,
            login.user_id,
            login.password_hash,
        )
        return None if row is None else _user(row)

    async def lock_admins(self, connection: Connection) -> set[str]:
        """Ids of the admins who may sign in, unchanged until the transaction ends; in one order, so that two calls
        cannot wait for each other."""
        rows = await connection.fetch(
            "SELECT id FROM users WHERE role = 'admin' AND disabled_at IS NULL ORDER BY id FOR NO KEY UPDATE"
        )
        return {row["id"] for row in rows}

    async def set_password(self, connection: Connection, user_id: str, password_hash: str) -> None:
        await connection.execute("UPDATE users SET password_hash = $2 WHERE id = $1", user_id, password_hash)

    async def change_password(self, connection: Connection, login: Login, password_hash: str) -> bool:
        """False when the password is no longer the one that was checked (or the account was disabled)."""
        status = await connection.execute(
            """
            UPDATE users SET password_hash = $3
            WHERE id = $1 AND password_hash IS NOT DISTINCT FROM $2 AND disabled_at IS NULL
            """,
            login.user_id,
            login.password_hash,
            password_hash,
        )
        return affected(status) == 1

    async def update(self, connection: Connection, user_id: str, role: str, disabled_at: datetime | None) -> None:
        await connection.execute(
            "UPDATE users SET role = $2, disabled_at = $3 WHERE id = $1", user_id, role, disabled_at
        )

    async def directory(self, prefix_key: str, limit: int) -> Sequence[User]:
        """Everybody who may sign in and whose name holds the key, names that begin with it first."""
        rows = await self._database.fetch(
            f"""
            SELECT {COLUMNS} FROM users
            WHERE origin = 'here' AND disabled_at IS NULL AND strpos(username_key, $1) > 0
            ORDER BY strpos(username_key, $1), username_key LIMIT $2
            """,
            prefix_key,
            limit,
        )
        return [_user(row) for row in rows]

    async def directory_of_guest(self, guest: str, prefix_key: str, limit: int) -> Sequence[User]:
        """The same, of those who share a conversation with the guest, and the guest."""
        rows = await self._database.fetch(
            f"""
            SELECT {COLUMNS} FROM users
            WHERE origin = 'here' AND disabled_at IS NULL AND strpos(username_key, $2) > 0 AND (
                id = $1 OR id IN (
                    SELECT other.user_id FROM memberships mine
                    JOIN memberships other ON other.conversation = mine.conversation
                    JOIN conversations c ON c.id = mine.conversation AND c.deleted_at IS NULL
                    WHERE mine.user_id = $1
                )
            )
            ORDER BY strpos(username_key, $2), username_key LIMIT $3
            """,
            guest,
            prefix_key,
            limit,
        )
        return [_user(row) for row in rows]

    async def page(self, part_of_key: str, offset: int, limit: int) -> tuple[Sequence[User], int]:
        """Everybody, for admins, by name; and how many there are."""
        rows = await self._database.fetch(
            f"""
            SELECT {COLUMNS} FROM users WHERE strpos(username_key, $1) > 0 ORDER BY username_key OFFSET $2 LIMIT $3
            """,
            part_of_key,
            offset,
            limit,
        )
        total = await self._database.fetch_value(
            "SELECT count(*) FROM users WHERE strpos(username_key, $1) > 0", part_of_key
        )
        return [_user(row) for row in rows], total

    async def summary(self, user_id: str) -> UserSummary | None:
        """Somebody who can be invited."""
        row = await self._database.fetch_one(
            "SELECT id, username, role FROM users WHERE id = $1 AND disabled_at IS NULL", user_id
        )
        return UserSummary(id=row["id"], username=row["username"], role=row["role"]) if row else None

    async def member_keys(self, conversation: str) -> dict[str, str]:
        """The names of all members of a conversation, by key, with their ids."""
        rows = await self._database.fetch(
            "SELECT u.username_key, u.id FROM users u JOIN memberships m ON m.user_id = u.id WHERE m.conversation = $1",
            conversation,
        )
        return {row["username_key"]: row["id"] for row in rows}

    async def members_by_key(self, conversation: str, keys: Sequence[str]) -> dict[str, str]:
        """The ids of those members of a conversation whose names have these keys."""
        rows = await self._database.fetch(
            "SELECT u.username_key, u.id FROM users u JOIN memberships m ON m.user_id = u.id "
            "WHERE m.conversation = $1 AND u.username_key = ANY($2)",
            conversation,
            keys,
        )
        return {row["username_key"]: row["id"] for row in rows}


def _user(row: Record) -> User:
    return User(**dict(row))

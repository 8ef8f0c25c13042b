"""People and rooms for a benchmark, made quickly but as the studio itself makes them: everybody an account, a grant
and a token of their own, rooms over HTTP.

In:   the address of the database, the port of a running studio.
Out:  people with access tokens, ids of rooms; files of both for the load client.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx2

from server.protocol.ids import new_id
from server.storage.grants import sha256

TOKEN_LIFETIME = timedelta(hours=1)  # many times as long as a benchmark
REQUEST_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Person:
    id: str
    username: str
    token: str


async def add_people(dsn: str, count: int) -> list[Person]:
    """Accounts without a password: hashing ten thousand of them would take minutes and is not what is measured."""
    batch = secrets.token_hex(3)
    people = [Person(new_id(), f"bench-{batch}-{number}", secrets.token_urlsafe(32)) for number in range(count)]
    now = datetime.now(UTC)
    grants = [new_id() for _ in people]
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute(_ADD_USERS, [p.id for p in people], [p.username for p in people], now)
            await connection.execute(_ADD_GRANTS, grants, [p.id for p in people], now)
            await connection.execute(_ADD_TOKENS, [sha256(p.token) for p in people], grants, now + TOKEN_LIFETIME)
        await connection.execute("ANALYZE users, grants, tokens")
    finally:
        await connection.close()
    return people


def add_room(port: int, owner: Person, members: Sequence[Person] = ()) -> str:
    body = {
        "kind": "room",
        "title": "a room under load",
        "members": [member.id for member in members if member != owner],
    }
    return _post(port, owner, "/api/conversations", body)["id"]


def _post(port: int, person: Person, path: str, body: object) -> dict[str, str]:
    answer = httpx2.post(
        f"http://127.0.0.1:{port}{path}",
        json=body,
        headers={"authorization": f"Bearer {person.token}"},
        timeout=REQUEST_TIMEOUT_S,
    )
    answer.raise_for_status()
    made: dict[str, str] = answer.json()
    return made


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    """A file of the load client: the line of connection 0 first."""
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(0o600)
    return path


_ADD_USERS = """
    INSERT INTO users (id, username, username_key, role, created_at)
    SELECT id, name, name, 'member', $3 FROM unnest($1::uuid[], $2::text[]) AS person(id, name)
"""
_ADD_GRANTS = """
    INSERT INTO grants (id, user_id, kind, created_at, last_used_at)
    SELECT id, user_id, 'program', $3, $3 FROM unnest($1::uuid[], $2::uuid[]) AS entry(id, user_id)
"""
_ADD_TOKENS = """
    INSERT INTO tokens (sha256, purpose, grant_id, expires_at)
    SELECT digest, 'access', grant_id, $3 FROM unnest($1::bytea[], $2::uuid[]) AS token(digest, grant_id)
"""

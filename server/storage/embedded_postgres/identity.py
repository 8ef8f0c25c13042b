"""Who answers on the socket: the Postgres of our cluster, something else, or nobody.

Promise: `Answer.OURS` means that the other side knows our password (SCRAM proves it in both directions) and reads out
the very `postmaster.pid` that we see, so it runs in our directory and the pid in that file is its own.
"""

from enum import Enum, auto
from pathlib import Path

import asyncpg

from server.storage.embedded_postgres.cluster import PORT, SUPERUSER
from server.storage.embedded_postgres.errors import DataDirectoryUnusable, DiskFull, PostgresExited
from server.storage.embedded_postgres.process import Postmaster

PROBE_TIMEOUT_S = 5.0  # a busy machine may take a second to answer

# pgvector is no trusted extension, so only the superuser can install it; from template1 every database here has it.
PREPARATION = (
    (
        "SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'chat_studio')",
        "CREATE ROLE chat_studio LOGIN CREATEDB PASSWORD '{password}'",
    ),
    (
        "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')",
        "CREATE EXTENSION IF NOT EXISTS vector",
    ),
    (
        "SELECT NOT EXISTS (SELECT FROM pg_database WHERE datname = 'chat_studio')",
        "CREATE DATABASE chat_studio OWNER chat_studio",
    ),
)
PROOF = """
    SELECT pg_read_file('postmaster.pid') AS trace,
           EXISTS (SELECT FROM pg_database WHERE datname = 'chat_studio') AS whole
"""


class Answer(Enum):
    NONE = auto()
    NOT_YET = auto()  # it starts, recovers or shuts down, and says so (or did, before it was killed)
    OURS = auto()
    OURS_BARE = auto()  # ours, but a first start was cut off before the database stood


async def ask(postmaster: Postmaster, password: str) -> Answer:
    if not postmaster.is_ready:
        return Answer.NOT_YET  # spares its log a refusal every few milliseconds
    try:
        connection = await _connect(postmaster.socket_dir, password, "postgres")
        try:
            row = await connection.fetchrow(PROOF, timeout=PROBE_TIMEOUT_S)
        finally:
            connection.terminate()
    except asyncpg.CannotConnectNowError:
        return Answer.NOT_YET
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise DataDirectoryUnusable(f"Postgres refuses the password in postgres.password: {error}") from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return Answer.NONE
    traced = Postmaster.parse(row["trace"]) if row else None
    if row is None or traced is None or traced.head != postmaster.head:
        return Answer.NONE
    return Answer.OURS if row["whole"] else Answer.OURS_BARE


async def prepare(socket_dir: Path, password: str) -> None:
    """Makes the studio's role and database. The database comes last: where it stands, all of this was done."""
    try:
        connection = await _connect(socket_dir, password, "template1")
        try:
            for is_needed, statement in PREPARATION:
                if await connection.fetchval(is_needed):
                    await connection.execute(statement.format(password=password))
        finally:
            connection.terminate()
    except asyncpg.DiskFullError as error:
        raise DiskFull(f"no space left on the disk that holds {socket_dir.parent}: {error}") from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise PostgresExited(f"Postgres ran, but did not make the database: {error!r}") from error


async def _connect(socket_dir: Path, password: str, database: str) -> "asyncpg.Connection[asyncpg.Record]":
    return await asyncpg.connect(
        host=str(socket_dir),
        port=PORT,
        user=SUPERUSER,
        password=password,
        database=database,
        ssl=False,
        timeout=PROBE_TIMEOUT_S,
    )

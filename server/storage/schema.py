"""The schema's version: checked with one query at each start, brought up to date in a process of its own.

Alembic and SQLAlchemy are needed for seconds and would stay in memory for the life of the server: the migration runs
in a child, and a start with nothing to migrate imports neither.
"""

import asyncio
import re
import sys
from pathlib import Path

import asyncpg

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
CONNECT_TIMEOUT_S = 10.0  # a name that resolves slowly, a database that has just been started
MIGRATION_TIMEOUT_S = 3600.0  # a large table may be rewritten; an hour without an end is a fault
REVISION = re.compile(r"[0-9]{8}_[0-9]{2}_[a-z0-9_]+")  # how we name ours
# What has been there from the first revision that anybody could talk with, and what no other program has together.
OUR_COLUMNS = (
    ("alembic_version", "version_num"),
    ("heads", "conversation"),
    ("heads", "first_seq"),
    ("heads", "epoch"),
    ("events", "conversation"),
    ("events", "seq"),
    ("events", "body_hash"),
    ("memberships", "conversation"),
    ("memberships", "user_id"),
    ("memberships", "visible_from"),
)


class SchemaError(Exception):
    """The database cannot be used as it is; the message is one line for the operator."""


async def bring_up_to_date(dsn: str) -> None:
    """Leave the database at the newest revision, or raise `SchemaError` with the reason."""
    current = await _current_revision(dsn)
    known = revisions()
    if current == known[-1]:
        return
    if current is not None and current not in known:
        raise SchemaError(
            f"the database is at revision {current}, which this version does not know: it was made by a newer "
            "Chat Studio. Start that version, or restore a backup from before the upgrade."
        )
    await _migrate(dsn)


async def holds_a_studio(connection: asyncpg.Connection) -> bool:
    """Whether the default schema is one of ours, of whatever version. Others use Alembic too."""
    found = await connection.fetchval(_OUR_COLUMNS, *zip(*OUR_COLUMNS, strict=True))
    if found != len(OUR_COLUMNS):
        return False
    named = await connection.fetch("SELECT version_num FROM alembic_version")
    return len(named) == 1 and REVISION.fullmatch(named[0]["version_num"]) is not None


def revisions() -> list[str]:
    """Oldest first: file names begin with the date, and a revision is named like its file."""
    return sorted(path.stem for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


async def _current_revision(dsn: str) -> str | None:
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
        raise SchemaError(f"the database cannot be reached: {str(error) or 'it does not answer'}") from None
    try:
        if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
            return None
        revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
        return revision
    finally:
        await connection.close()


async def _migrate(dsn: str) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "server.storage.migrate",
        stdin=asyncio.subprocess.PIPE,  # the address holds a password: it travels by pipe, not by command line
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=MIGRATIONS.parent,
    )
    try:
        output, _ = await asyncio.wait_for(child.communicate(dsn.encode()), MIGRATION_TIMEOUT_S)
    except (TimeoutError, asyncio.CancelledError):
        child.kill()
        await child.wait()
        raise
    if child.returncode != 0:
        text = output.decode(errors="replace")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("(", "[", " "))]
        raise SchemaError(f"the database could not be migrated: {lines[-1] if lines else 'no reason given'}")


_OUR_COLUMNS = """
    SELECT count(*) FROM unnest($1::text[], $2::text[]) AS ours(name, attribute)
    JOIN pg_class c ON c.relname = ours.name AND c.relkind IN ('r', 'p')
        AND c.relnamespace = current_schema()::regnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = ours.attribute AND NOT a.attisdropped
"""

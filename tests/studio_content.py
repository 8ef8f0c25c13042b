"""A bit of everything in a studio's database, and all rows of a database as a value to compare."""

from datetime import UTC, datetime, timedelta

import asyncpg

from server.hub.permissions import ROLES_ALLOWED, Permission, refusal
from server.protocol.events import MessageCreated, MessageEdited
from server.protocol.frames import Actor
from server.protocol.ids import new_id
from server.storage.conversations import Conversations
from server.storage.database import Database
from server.storage.grants import Grants
from server.storage.message_log import Draft, MessageLog, Stored
from server.storage.new_conversations import NewConversation
from server.storage.users import NewUser, Users

AT = datetime(2026, 11, 22, 12, 0, 0, 123_456, tzinfo=UTC)
FAR = AT + timedelta(days=3650)
# What a careless copy would spoil: the separators, escapes and the end mark of COPY, quotes, other scripts, large rows.
HARD_TEXTS = (
    "a\tb",
    "two\nlines",
    "\\.",
    "\\N",
    "back\\slash",
    "\"q\" 'q'",
    "日本語 🙂",
    "naïve Ünïcode",
    "x" * 15_000,
)
PLACE_BOUND = {"alembic_version", "database_identity"}

Rows = dict[str, list[str]]


async def fill(database: Database) -> str:
    """A room with messages, some edited, and an account with a session and a sign-in link; the room's id."""
    async with database.transaction() as connection:
        ana = await Users(database).add(connection, NewUser("Ürsula [ana]^|", "ürsula [ana]^|", "member"), AT)
        grants = Grants(database)
        grant = await grants.add(connection, ana.id, "browser", "127.0.0.1", "a test", AT)
        await grants.issue(connection, "session", FAR, grant_id=grant, user_id=ana.id)
        await grants.issue(connection, "sign-in", FAR, user_id=ana.id)
    room = NewConversation("room", "a \t room", "public", "all", None, None, ana.id, [(ana.id, "owner")])
    conversation = (await Conversations(database).create([room], AT))[0][0]
    await say(database, conversation, ana.id, HARD_TEXTS)
    return conversation


async def say(database: Database, conversation: str, user: str, texts: tuple[str, ...]) -> None:
    """Each text is sent, and the first of them edited."""
    log = MessageLog(
        database, lambda permission, standing: refusal(Permission(permission), standing),
        sending_roles=sorted(ROLES_ALLOWED[Permission.SEND]),
    )  # fmt: skip
    actor = Actor("user", user, "")

    def draft(data: MessageCreated | MessageEdited, permission: Permission, target: str | None = None) -> Draft:
        return Draft(conversation, actor, data, new_id(), b"hash\\\x00\xff", permission, target, account_role="member")

    sent = [MessageCreated(id=new_id(), client_id=None, text=text) for text in texts]
    drafts = [draft(data, Permission.SEND) for data in sent]
    edited = MessageEdited(id=sent[0].id, text="edited\tlater")
    for batch in (drafts, [draft(edited, Permission.EDIT, sent[0].id)]):
        for outcome in await log.append(batch):
            assert isinstance(outcome, Stored), outcome


async def all_rows(dsn: str) -> Rows:
    """Of every table, in no order; without the epochs, and without what says which database this is."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SET TimeZone = 'UTC'")
        tables = await connection.fetch(
            """
            SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace
                AND relkind IN ('r', 'p') AND NOT relispartition
            """
        )
        rows: Rows = {}
        for name in {row["relname"] for row in tables} - PLACE_BOUND:
            found = await connection.fetch(f"SELECT (to_jsonb(t) - 'epoch')::text AS line FROM \"{name}\" t")
            rows[name] = sorted(row["line"] for row in found)
        return rows
    finally:
        await connection.close()


async def epochs(dsn: str) -> dict[str, str]:
    connection = await asyncpg.connect(dsn)
    try:
        found = await connection.fetch("SELECT conversation::text AS conversation, epoch FROM heads")
        return {row["conversation"]: row["epoch"] for row in found}
    finally:
        await connection.close()

"""Backup and restore of real databases."""

import asyncio
import io
import stat
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import asyncpg
import msgspec
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from server.protocol import clock, codec
from server.protocol.errors import Unavailable
from server.protocol.ids import new_id
from server.storage import database_identity
from server.storage.backup import archive as archives
from server.storage.backup import files
from server.storage.backup.errors import BackupError
from server.storage.backup.replace import Wishes
from server.storage.database import Database
from server.storage.erasures import Erasure, Erasures
from server.storage.migrate import upgrade
from server.storage.schema import revisions
from tests.conftest import copy_of, opened
from tests.integration.storage.backup.library import (
    OVER,
    backed_up,
    empty_database,
    execute,
    manifest_of,
    restored,
    value,
)
from tests.old_postgres import INSTALLED, make_cluster, needs_an_old_postgres, running
from tests.studio_content import all_rows, epochs, fill
from tests.waiting import until

OLD_REVISION = "20261122_06_append_messages"
OLD_ROWS = """
    WITH c AS (
        INSERT INTO conversations (id, kind, title, visibility, created_at)
        VALUES (gen_random_uuid(), 'room', 'old', 'public', now()) RETURNING id
    ), h AS (
        INSERT INTO heads (conversation, last_seq, message_count, epoch, updated_at) SELECT id, 1, 1, 'e', now() FROM c
    ), e AS (
        INSERT INTO events (conversation, seq, kind, actor_kind, actor_id, data, at)
        SELECT id, 1, 'message.created', 'system', 'system', '{}', now() FROM c
    )
    INSERT INTO messages (conversation, seq, id, ordinal, actor_kind, actor_id, text, at)
    SELECT id, 1, gen_random_uuid(), 1, 'system', 'system', 'from of old', now() FROM c
"""
MANY_USERS = """
    INSERT INTO users (id, username, username_key, role, created_at)
    SELECT gen_random_uuid(), repeat('ü', 500) || n, n, 'member', now() FROM generate_series(1, 2000) n
"""
ONE_TIME = "SELECT count(*) FROM tokens WHERE purpose = 'sign-in'"


@pytest.fixture
async def empty(postgres_dsn: str) -> AsyncIterator[str]:
    async with empty_database(postgres_dsn) as dsn:
        yield dsn


@pytest.fixture
async def filled(postgres_dsn: str, template: str) -> AsyncIterator[str]:
    """The address of a studio's database that nobody has open."""
    async with copy_of(postgres_dsn, template) as dsn:
        async with opened(dsn) as database:
            await database_identity.recognise(database)
            await fill(database)
        yield dsn


async def test_every_row_comes_back_as_it_was(filled: str, empty: str, tmp_path: Path) -> None:
    before = await all_rows(filled)
    path = await backed_up(filled, tmp_path / "b.tar")
    made = await restored(empty, path, Wishes(renews=False))
    assert await all_rows(empty) == before
    assert made.rows == sum(map(len, before.values())) + 1  # the identity
    assert await schema_of(empty) == await schema_of(filled)


async def test_a_restored_studio_has_new_epochs_and_keeps_sessions_but_no_links(
    filled: str, empty: str, tmp_path: Path
) -> None:
    await restored(empty, await backed_up(filled, tmp_path / "b.tar"))
    before, after = await epochs(filled), await epochs(empty)
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())
    assert await value(filled, ONE_TIME) == 1
    assert await value(empty, ONE_TIME) == 0
    assert await value(empty, "SELECT count(*) FROM tokens WHERE purpose = 'session'") == 1
    async with opened(empty) as database:
        assert not await database_identity.recognise(database)


async def test_sessions_end_on_demand(filled: str, empty: str, tmp_path: Path) -> None:
    await restored(empty, await backed_up(filled, tmp_path / "b.tar"), Wishes(ends_sessions=True))
    assert await value(empty, "SELECT count(*) FROM tokens") == 0
    assert await value(empty, "SELECT count(*) FROM grants") == 0


async def test_numbers_that_the_database_gives_go_on_where_they_stood(filled: str, empty: str, tmp_path: Path) -> None:
    sequence = "SELECT schemaname || '.' || sequencename FROM pg_sequences WHERE schemaname = 'public' LIMIT 1"
    name = await value(filled, sequence)
    if name is None:
        pytest.skip("no table of ours has a sequence")
    await execute(filled, f"SELECT setval('{name}', 4711)")
    await restored(empty, await backed_up(filled, tmp_path / "b.tar"))
    assert await value(empty, f"SELECT nextval('{name}')") == 4712


async def test_a_studio_is_replaced_only_on_demand(filled: str, database_dsn: str, tmp_path: Path) -> None:
    path = await backed_up(filled, tmp_path / "b.tar")
    before = await all_rows(database_dsn)
    with pytest.raises(BackupError, match="--force replaces it"):
        await restored(database_dsn, path)
    assert await all_rows(database_dsn) == before
    await execute(database_dsn, "CREATE TABLE left_over (n int); CREATE FUNCTION f() RETURNS int RETURN 1")
    await execute(database_dsn, "CREATE TYPE mood AS ENUM ('good'); CREATE VIEW names AS SELECT username FROM users")
    await restored(database_dsn, path, OVER)
    after = await all_rows(database_dsn)
    assert after["messages"] == (await all_rows(filled))["messages"]
    assert "left_over" not in after
    assert await schema_of(database_dsn) == await schema_of(filled)


async def test_what_is_no_studio_is_not_touched(filled: str, empty: str, tmp_path: Path) -> None:
    await execute(empty, "CREATE TABLE accounts_of_a_company (n int)")
    path = await backed_up(filled, tmp_path / "b.tar")
    with pytest.raises(BackupError, match="is no studio"):
        await restored(empty, path, OVER)
    with pytest.raises(BackupError, match="holds no studio"):
        await backed_up(empty, tmp_path / "other.tar")
    assert not (tmp_path / "other.tar").exists()
    assert await all_rows(empty) == {"accounts_of_a_company": []}


OF_OTHERS = """
    CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
    INSERT INTO alembic_version VALUES ('{revision}');
    CREATE TABLE invoices (n int);
    CREATE TABLE {events} (seq bigint, body_hash bytea, conversation uuid)
"""


@pytest.mark.parametrize(
    ("revision", "events"), [("ae1027a6acf", "calendar"), ("ae1027a6acf", "events"), (OLD_REVISION, "events")]
)
async def test_a_database_of_others_who_use_alembic_too_is_not_touched(
    filled: str, empty: str, tmp_path: Path, revision: str, events: str
) -> None:
    await execute(empty, OF_OTHERS.format(revision=revision, events=events))
    before = await all_rows(empty)
    path = await backed_up(filled, tmp_path / "b.tar")
    with pytest.raises(BackupError, match="is no studio"):
        await restored(empty, path, OVER)
    with pytest.raises(BackupError, match="holds no studio"):
        await backed_up(empty, tmp_path / "other.tar")
    assert await all_rows(empty) == before


@pytest.mark.parametrize("revision", ["ae1027a6acf", ""])
async def test_tables_like_ours_at_a_revision_that_is_none_of_ours_are_not_touched(
    filled: str, database_dsn: str, tmp_path: Path, revision: str
) -> None:
    path = await backed_up(filled, tmp_path / "b.tar")
    await execute(database_dsn, f"UPDATE alembic_version SET version_num = '{revision}'")
    before = await all_rows(database_dsn)
    with pytest.raises(BackupError, match="is no studio"):
        await restored(database_dsn, path, OVER)
    assert await all_rows(database_dsn) == before


async def test_a_backup_begun_during_a_migration_has_all_of_it(filled: str, tmp_path: Path) -> None:
    migrating = await asyncpg.connect(filled)
    transaction = migrating.transaction()
    await transaction.start()
    await migrating.execute("ALTER TABLE users ADD COLUMN mood text NOT NULL DEFAULT 'good'")
    await migrating.execute("CREATE TABLE thoughts (n int); INSERT INTO thoughts VALUES (1)")
    await migrating.execute("UPDATE alembic_version SET version_num = '20991231_01_telepathy'")
    backing_up = asyncio.create_task(backed_up(filled, tmp_path / "b.tar"))

    async def it_waits() -> bool:
        return bool(await value(filled, "SELECT true FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass"))

    await until(it_waits)
    await transaction.commit()
    await migrating.close()
    manifest = manifest_of(await backing_up)
    assert manifest.revision == "20991231_01_telepathy"
    tables = {table.name: table for table in manifest.tables}
    assert "mood" in tables["users"].columns
    assert tables["thoughts"].rows == 1
    assert len(manifest.members) == sum(len(table.pieces) for table in manifest.tables)


async def test_who_was_erased_does_not_come_back(filled: str, tmp_path: Path) -> None:
    path = await backed_up(filled, tmp_path / "b.tar")
    ana, stranger = str(await value(filled, "SELECT id FROM users LIMIT 1")), new_id()
    async with opened(filled) as database, database.transaction() as connection:
        erasures = Erasures(database)
        await erasures.request(connection, Erasure(ana, with_messages=True), clock.now())
        await erasures.request(connection, Erasure(stranger, with_messages=False), clock.now())
    await execute(filled, "DELETE FROM users; UPDATE erasures SET finished_at = now()")
    await restored(filled, path, OVER)
    assert await value(filled, "SELECT username FROM users") == "former member"
    assert await value(filled, "SELECT count(*) FROM users WHERE email IS NULL AND disabled_at IS NOT NULL") == 1
    assert await value(filled, "SELECT count(*) FROM tokens") == 0
    assert await value(filled, f"SELECT finished_at IS NOT NULL FROM erasures WHERE user_id = '{stranger}'")
    async with opened(filled) as database:
        assert await Erasures(database).pending() == [Erasure(ana, with_messages=True)]


async def test_a_running_studio_is_not_replaced(
    filled: str, database: Database, database_dsn: str, tmp_path: Path
) -> None:
    path = await backed_up(filled, tmp_path / "b.tar")
    await fill(database)
    before = await all_rows(database_dsn)
    with pytest.raises(BackupError, match="a studio is running on this database"):
        await restored(database_dsn, path, OVER)
    assert await all_rows(database_dsn) == before
    await restored(database_dsn, path, Wishes(replaces=True, disconnects=True))
    found = None
    async with asyncio.timeout(20):  # its connections are made anew
        while found is None:
            with suppress(Unavailable):
                found = await database.fetch_value("SELECT count(*) FROM conversations")
    assert found == 1
    assert await epochs(database_dsn) != await epochs(filled)


@pytest.mark.parametrize("statement", ["ends in the middle", "fails in the middle"])
async def test_a_restore_that_fails_changes_nothing(
    filled: str, database_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    path = await backed_up(filled, tmp_path / "b.tar")
    before, schema = await all_rows(database_dsn), await schema_of(database_dsn)
    rows, calls = archives.ArchiveReader.rows, []

    def rows_until(self: archives.ArchiveReader, name: str) -> bytes:
        calls.append(name)
        if "messages" in name:
            raise asyncio.CancelledError if statement == "ends in the middle" else BackupError("out of tape")
        return rows(self, name)

    monkeypatch.setattr(archives.ArchiveReader, "rows", rows_until)
    with pytest.raises((BackupError, asyncio.CancelledError)):
        await restored(database_dsn, path, OVER)
    assert len(calls) > 3
    assert await all_rows(database_dsn) == before
    assert await schema_of(database_dsn) == schema


async def test_rows_that_are_missing_are_noticed(filled: str, empty: str, tmp_path: Path) -> None:
    path = await backed_up(filled, tmp_path / "b.tar")
    change_manifest(path, lambda table: msgspec.structs.replace(table, rows=table.rows + 1))
    with pytest.raises(BackupError, match=r"rows of .* came out of it"):
        await restored(empty, path)
    assert await all_rows(empty) == {}


async def test_a_backup_of_a_newer_version_is_refused(filled: str, empty: str, tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    await execute(filled, "UPDATE alembic_version SET version_num = '20991231_01_telepathy'")
    await backed_up(filled, path)
    with pytest.raises(BackupError, match="which is newer: its database is at revision 20991231_01_telepathy"):
        await restored(empty, path)
    assert await all_rows(empty) == {}


async def test_a_backup_of_an_older_version_is_brought_up_to_date(empty: str, filled: str, tmp_path: Path) -> None:
    """The way back after an upgrade that went wrong."""
    await migrate_to(empty, OLD_REVISION)
    await execute(empty, OLD_ROWS)
    path = await backed_up(empty, tmp_path / "b.tar")
    assert manifest_of(path).revision == OLD_REVISION
    await restored(filled, path, OVER)
    assert await value(filled, "SELECT version_num FROM alembic_version") == revisions()[-1]
    assert await value(filled, "SELECT text FROM messages") == "from of old"


async def test_a_database_of_a_newer_version_can_be_replaced(filled: str, database_dsn: str, tmp_path: Path) -> None:
    """The way back after an upgrade, with the older version."""
    path = await backed_up(filled, tmp_path / "b.tar")
    await execute(database_dsn, "UPDATE alembic_version SET version_num = '20991231_01_telepathy'")
    await execute(database_dsn, "CREATE TABLE thoughts (conversation uuid REFERENCES heads)")
    await restored(database_dsn, path, OVER)
    assert await schema_of(database_dsn) == await schema_of(filled)


async def test_a_damaged_archive_changes_nothing(filled: str, database_dsn: str, tmp_path: Path) -> None:
    path = await backed_up(filled, tmp_path / "b.tar")
    before = await all_rows(database_dsn)
    damaged = bytearray(path.read_bytes())
    damaged[600] ^= 1  # in the first piece
    path.write_bytes(damaged)
    with pytest.raises(BackupError, match="does not match its checksum"):
        await restored(database_dsn, path, OVER)
    assert await all_rows(database_dsn) == before


async def test_many_pieces_are_one_table_again(
    filled: str, empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.storage.backup.dump.PIECE_BYTES", 7)
    await execute(filled, MANY_USERS)
    path = await backed_up(filled, tmp_path / "b.tar")
    assert max(len(table.pieces) for table in manifest_of(path).tables) > 2
    await restored(empty, path, Wishes(renews=False))
    assert await all_rows(empty) == await all_rows(filled)


async def test_files_travel_along(filled: str, empty: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    kept = here / files.FOLDER / "ab" / "cdef"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(bytes(range(256)) * 5000)
    (here / files.FOLDER / ".half.part").write_bytes(b"half an upload")
    (here / files.FOLDER / "link").symlink_to("/etc/passwd")
    other = there / files.FOLDER / "other"
    other.parent.mkdir(parents=True)
    other.write_text("of the studio that is replaced")
    path = await backed_up(filled, tmp_path / "b.tar", here)
    await restored(empty, path, data_dir=there)
    found = [path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()]
    assert found == ["files/ab/cdef"]
    assert (there / found[0]).read_bytes() == kept.read_bytes()
    assert stat.S_IMODE((there / found[0]).stat().st_mode) == 0o600


async def test_files_of_a_restore_that_fails_hurt_nobody(filled: str, database_dsn: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for place, name in ((here, "new"), (there, "old")):
        (place / files.FOLDER).mkdir(parents=True)
        (place / files.FOLDER / name).write_text(name)
    path = await backed_up(filled, tmp_path / "b.tar", here)
    with pytest.raises(BackupError):
        await restored(database_dsn, path, data_dir=there)
    assert (there / files.FOLDER / "old").read_text() == "old"


async def test_a_file_that_was_damaged_is_put_back(filled: str, empty: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for place, content in ((here, b"as it was"), (there, b"damaged..")):
        (place / files.FOLDER).mkdir(parents=True)
        (place / files.FOLDER / "one").write_bytes(content)
    await restored(empty, await backed_up(filled, tmp_path / "b.tar", here), data_dir=there)
    assert (there / files.FOLDER / "one").read_bytes() == b"as it was"


@needs_an_old_postgres
@pytest.mark.parametrize("major", INSTALLED)
async def test_a_backup_goes_to_an_older_postgres_and_back(filled: str, empty: str, tmp_path: Path, major: str) -> None:
    """Servers of another version, with another C library and with or without ICU."""
    path = await backed_up(filled, tmp_path / "b.tar")
    make_cluster(tmp_path / "old", major)
    async with running(tmp_path / "old", major) as dsn:
        assert str(await value(dsn, "SHOW server_version")).startswith(major)
        await restored(dsn, path, Wishes(renews=False))
        assert await all_rows(dsn) == await all_rows(filled)
        async with opened(dsn) as database:
            assert await database.fetch_value("SELECT count(*) FROM conversations") == 1
        back = await backed_up(dsn, tmp_path / "back.tar")
    await restored(empty, back, Wishes(renews=False))
    assert await all_rows(empty) == await all_rows(filled)


async def migrate_to(dsn: str, revision: str) -> None:
    engine = create_async_engine("postgresql+asyncpg://", connect_args={"dsn": dsn})
    async with engine.begin() as connection:
        await connection.run_sync(upgrade, revision)
    await engine.dispose()


def change_manifest(path: Path, change: Callable[[archives.Table], archives.Table]) -> None:
    manifest = manifest_of(path)
    changed = msgspec.structs.replace(manifest, tables=[change(table) for table in manifest.tables])
    text = codec.encode(changed)
    copy = path.with_suffix(".copy")
    with tarfile.open(path) as old, tarfile.open(copy, "w") as new:
        for member in old.getmembers():
            content = old.extractfile(member)
            if member.name == archives.MANIFEST:
                member.size, content = len(text), io.BytesIO(text)
            new.addfile(member, content)
    copy.replace(path)


async def schema_of(dsn: str) -> list[str]:
    """Columns, constraints, indexes and functions, in words."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            """
            SELECT c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) AS line
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
            WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND c.relkind <> 'i'
            UNION ALL SELECT conname || ' ' || pg_get_constraintdef(oid) || convalidated
            FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
            UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
            UNION ALL SELECT tgname || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal
            UNION ALL SELECT pg_get_functiondef(p.oid) FROM pg_proc p
            WHERE pronamespace = 'public'::regnamespace AND prokind = 'f'
                AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
            """
        )
        return sorted(row["line"] for row in rows)
    finally:
        await connection.close()

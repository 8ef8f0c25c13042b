"""Importing IRC logs on a real Postgres: once, in order, and beside others."""

import asyncio
import importlib.util
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from server.hub.accounts import FIRST_ADMIN
from server.hub.identity import Identity
from server.hub.irc_import import ImportReport, import_irc
from server.hub.usernames import key_of
from server.protocol import clock
from server.protocol.codec import decode_stored, parse
from server.protocol.errors import NotFound, Overloaded, Rejected
from server.protocol.events import MemberLeft, MessageCreated
from server.protocol.ids import new_id
from server.storage.bulk_append import BulkAppend
from server.storage.database import Database, Record
from server.storage.users import Users
from tests.integration.hub.library import Library

DATA = Path(__file__).parents[4] / "shared" / "data"
DAYS = ("2005-05-19", "2006-01-02", "2010-02-13")

Log = Callable[..., Path]


@pytest.fixture
def library(database: Database) -> Library:
    return Library(database)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Writes a log file of these lines."""

    def write(*lines: str, name: str = "2005-05-19.txt") -> Path:
        path = tmp_path / name
        path.write_bytes("".join(f"{line}\n" for line in lines).encode())
        return path

    return write


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.hub.irc_import.CHUNK", 10)


def said(count: int, nick: str = "nick") -> list[str]:
    return [f"[{n // 60 % 24:02}:{n % 60:02}] <{nick}{n % 7}> message {n}" for n in range(count)]


async def load(database: Database, *files: Path, room: str = "ubuntu") -> ImportReport:
    return await import_irc(database, files, room, lambda *_: None)


async def messages(database: Database, conversation: str) -> list[Record]:
    """In the order of the log, checked to be without holes and in step with the log."""
    rows = await database.fetch(
        """
        SELECT m.seq, m.ordinal, m.at, m.text, m.actor_id, m.client_id, u.username, u.origin, e.data, e.at AS event_at
        FROM messages m JOIN users u ON u.id::text = m.actor_id
        JOIN events e ON e.conversation = m.conversation AND e.seq = m.seq AND e.actor_id = m.actor_id
            AND e.client_id = m.client_id AND e.kind = 'message.created'
        WHERE m.conversation = $1 ORDER BY m.seq
        """,
        conversation,
    )
    head = await database.fetch_one("SELECT last_seq, message_count FROM heads WHERE conversation = $1", conversation)
    assert head is not None
    assert [row["ordinal"] for row in rows] == list(range(1, head["message_count"] + 1))
    assert await seqs(database, conversation) == list(range(1, head["last_seq"] + 1))
    return rows


async def seqs(database: Database, conversation: str) -> list[int]:
    rows = await database.fetch("SELECT seq FROM events WHERE conversation = $1 ORDER BY seq", conversation)
    return [row["seq"] for row in rows]


async def admin_of(database: Database) -> Identity:
    admin = await Users(database).first_admin()
    assert admin is not None
    return Identity(admin.id, admin.username, admin.role, new_id())


async def test_messages_come_with_authors_and_times(database: Database, log: Log) -> None:
    file = log(
        "[08:36] <ada> hello",
        "=== bob has joined #ubuntu",
        "[08:37] <Bob`>  two  blanks ",
        "[08:37]  * ADA waves",
        "[08:38] <ada>",
        "[23:59] <demo> 🎉\0",
    )
    report = await load(database, file)
    rows = await messages(database, report.conversation)
    assert [(row["text"], row["at"].strftime("%F %H:%M")) for row in rows] == [
        ("hello", "2005-05-19 08:36"),
        (" two  blanks ", "2005-05-19 08:37"),
        ("/me waves", "2005-05-19 08:37"),
        ("🎉", "2005-05-19 23:59"),
    ]
    names = [row["username"] for row in rows]
    assert names[0] == names[2] == "ada"
    assert names[1].startswith("Bob_-")
    assert names[3].startswith("demo-")
    assert (report.messages, report.added, report.other_lines, report.empty, report.new_people) == (4, 4, 1, 1, 3)
    assert "4 messages were added to 'ubuntu'" in str(report)


async def test_imported_messages_look_as_if_they_had_been_sent(library: Library, database: Database, log: Log) -> None:
    report = await load(database, log("[08:36] <ada> hello"))
    admin = await admin_of(database)
    await library.say(admin, report.conversation, "hello")
    imported, sent = await messages(database, report.conversation)
    shape, sent_shape = parse(imported["data"]), parse(sent["data"])
    assert isinstance(shape, dict)
    assert isinstance(sent_shape, dict)
    assert list(shape) == list(sent_shape)
    data = decode_stored(imported["data"], MessageCreated)
    assert (data.text, data.client_id) == ("hello", imported["client_id"])
    assert imported["at"] == imported["event_at"] == datetime(2005, 5, 19, 8, 36, tzinfo=UTC)
    columns = "to_jsonb(m) - ARRAY['seq', 'id', 'ordinal', 'actor_id', 'client_id', 'at']"
    rows = await database.fetch(f"SELECT DISTINCT {columns} FROM messages m")
    assert len(rows) == 1
    assert {row["hashed"] for row in await database.fetch("SELECT length(body_hash) AS hashed FROM events")} <= {16, 0}


@pytest.mark.usefixtures("small_chunks")
async def test_a_second_run_adds_nothing(database: Database, log: Log) -> None:
    file = log(*said(95))
    first, second = await load(database, file), await load(database, file, file)
    assert first.conversation == second.conversation
    assert (first.added, second.added, second.messages, second.new_people) == (95, 0, 190, 0)
    assert len(await messages(database, first.conversation)) == 95


@pytest.mark.usefixtures("small_chunks")
async def test_a_log_that_has_grown_adds_only_what_is_new(database: Database, log: Log) -> None:
    first = await load(database, log(*said(35)))
    second = await load(database, log(*said(42)))
    assert (second.messages, second.added) == (42, 7)
    rows = await messages(database, first.conversation)
    assert [row["text"] for row in rows] == [f"message {n}" for n in range(42)]


@pytest.mark.usefixtures("small_chunks")
async def test_the_same_words_said_twice_are_two_messages(database: Database, log: Log) -> None:
    report = await load(
        database, log(*["[08:36] <ada> hi"] * 25), log(*["[08:36] <ada> hi"] * 3, name="2005-05-20.txt")
    )
    assert report.added == 28


@pytest.mark.usefixtures("small_chunks")
async def test_a_run_that_was_killed_is_completed_by_the_next(database: Database, log: Log) -> None:
    file = log(*said(1000))
    for delay_s in (0.0, 0.02, 0.03, 0.05):  # somewhere inside a transaction
        run = asyncio.create_task(load(database, file))
        await asyncio.sleep(delay_s)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
    done: int = await database.fetch_value("SELECT coalesce(max(last_seq), 0) FROM heads")

    def kill(_bytes: int, found: int) -> None:
        if found > done:
            run.cancel()

    run = asyncio.create_task(import_irc(database, [file], "ubuntu", kill))  # and between two
    await asyncio.gather(run, return_exceptions=True)
    assert done < await database.fetch_value("SELECT max(last_seq) FROM heads") < 1000
    report = await load(database, file)
    rows = await messages(database, report.conversation)
    assert [row["text"] for row in rows] == [f"message {n}" for n in range(1000)]
    assert await database.fetch_value("SELECT count(*) FROM conversations") == 1


@pytest.mark.usefixtures("small_chunks")
async def test_runs_side_by_side_add_each_message_once(database: Database, log: Log) -> None:
    file = log(*said(200))
    reports = await asyncio.gather(*(load(database, file) for _ in range(4)))
    assert len({report.conversation for report in reports}) == 1
    assert sum(report.added for report in reports) == 200
    rows = await messages(database, reports[0].conversation)
    assert sorted(row["text"] for row in rows) == sorted(f"message {n}" for n in range(200))
    assert sum(report.new_people for report in reports) == len({row["actor_id"] for row in rows}) == 7


@pytest.mark.usefixtures("small_chunks")
async def test_people_go_on_talking_while_a_log_is_imported(library: Library, database: Database, log: Log) -> None:
    room = (await load(database, log("[00:00] <nick0> first"))).conversation
    admin = await admin_of(database)
    run = asyncio.create_task(load(database, log(*said(300), name="2005-05-20.txt")))
    count = 0
    while not run.done() or count < 5:
        await library.say(admin, room, f"live {count}")
        count += 1
    assert (await run).added == 300
    await library.say(admin, room, "after")
    rows = await messages(database, room)
    assert [row["text"] for row in rows if row["text"].startswith("live")] == [f"live {n}" for n in range(count)]
    assert [row["text"] for row in rows if row["text"].startswith("message")] == [f"message {n}" for n in range(300)]
    assert rows[-1]["text"] == "after"
    assert rows[-1]["seq"] == len(rows)


async def test_nobody_with_an_account_is_made_to_have_said_anything(
    library: Library, database: Database, log: Log
) -> None:
    ada = await library.person("Ada")
    file = log("[08:36] <ada> hello", "[08:36] <admin> hello")
    first = await load(database, file)
    rows = await messages(database, first.conversation)
    assert [row["origin"] for row in rows] == ["import", "import"]
    assert ada.user_id not in {row["actor_id"] for row in rows}
    assert {row["username"].partition("-")[0] for row in rows} == {"ada", FIRST_ADMIN}
    await database.execute("DELETE FROM users WHERE id = $1", ada.user_id)  # now the name is free
    second = await load(database, file)
    assert (second.added, second.new_people) == (0, 0)


async def test_imported_people_are_members_and_cannot_sign_in(database: Database, log: Log) -> None:
    room = (await load(database, log("[08:36] <ada> hello", "[08:40] <ada> again", "[08:37] <bob> hi"))).conversation
    rows = await database.fetch(
        """
        SELECT u.username, m.role, u.role AS account_role, u.password_hash, m.joined_at FROM memberships m
        JOIN users u ON u.id = m.user_id WHERE m.conversation = $1 ORDER BY u.username
        """,
        room,
    )
    day = datetime(2005, 5, 19, tzinfo=UTC)
    assert [tuple(row)[:4] for row in rows] == [
        ("ada", "member", "member", None),
        (FIRST_ADMIN, "owner", "admin", None),
        ("bob", "member", "member", None),
    ]
    assert rows[0]["joined_at"] == day.replace(hour=8, minute=36)


async def test_what_is_imported_is_unread_only_for_those_who_were_behind(
    library: Library, database: Database, log: Log
) -> None:
    room = (await load(database, log("[08:36] <ada> hello"))).conversation
    admin = await admin_of(database)
    behind = await library.person("Bea")
    await database.execute(
        "INSERT INTO memberships (conversation, user_id, role, joined_at) VALUES ($1, $2, 'member', $3)",
        room, behind.user_id, clock.now(),
    )  # fmt: skip
    await load(database, log(*said(10), name="2005-05-20.txt"))
    for who, unread in ((admin, 0), (behind, 11)):
        assert (await library.conversations.one(who.user_id, room)).unread == unread


async def test_a_room_is_found_again_by_its_title_but_never_somebody_elses_private_one(
    library: Library, database: Database, log: Log
) -> None:
    ada = await library.person("Ada", "admin")
    bob = await library.person("Bob")
    private = await library.room(bob, title="ubuntu")
    public = await library.room(ada, title="debian", visibility="public")
    assert (await load(database, log("[08:36] <x> hi"), room="debian")).conversation == public
    made = (await load(database, log("[08:36] <x> hi"), room=" ubuntu ")).conversation
    assert made != private
    view = await library.conversations.one(ada.user_id, made)
    assert (view.title, view.kind, view.visibility, view.role) == ("ubuntu", "room", "public", "owner")


async def test_somebody_who_was_shown_the_door_stays_out_unless_there_is_news(
    library: Library, database: Database, log: Log
) -> None:
    file = log("[08:36] <ada> hello", "[08:37] <bob> hello")
    room = (await load(database, file)).conversation
    admin = await admin_of(database)
    rows = await messages(database, room)
    await library.do(admin, room, MemberLeft(user=rows[0]["actor_id"], by=admin.user_id))
    await load(database, file)
    assert await database.fetch_value("SELECT count(*) FROM memberships WHERE conversation = $1", room) == 2


async def test_a_long_text_is_cut_and_said_to_be(database: Database, log: Log) -> None:
    report = await load(database, log(f"[08:36] <ada> {'é' * 16_000}", f"[08:36] <ada> {'é' * 16_001}"))
    assert {row["text"] for row in await messages(database, report.conversation)} == {"é" * 16_000}
    assert report.cut == 1


async def test_what_cannot_be_imported_says_why_and_changes_nothing(database: Database, log: Log) -> None:
    good, undated = log("[08:36] <ada> hi"), log("[08:36] <ada> hi", name="ubuntu.log")
    with pytest.raises(Rejected, match=r"ubuntu\.log"):
        await load(database, good, undated)
    for title in ("", "  ", "x" * 201):
        with pytest.raises(Rejected):
            await load(database, good, room=title)
    assert await database.fetch_value("SELECT count(*) FROM conversations") == 0
    report = await import_irc(database, [undated], "ubuntu", lambda *_: None, date(2005, 5, 19))
    assert report.added == 1


async def test_a_room_that_is_deleted_meanwhile_ends_the_import(database: Database, log: Log) -> None:
    with pytest.raises(NotFound):
        await BulkAppend(database).append(new_id(), [], clock.now())
    assert str(await load(database, log("nothing"))) == "0 messages were added to 'ubuntu'; 1 lines are no messages"


async def test_a_busy_database_is_tried_again(database: Database, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    append, failures = BulkAppend.append, [Overloaded(), Overloaded()]

    async def sometimes(self: BulkAppend, *arguments: Any) -> int:
        if failures:
            raise failures.pop()
        return await append(self, *arguments)

    monkeypatch.setattr(BulkAppend, "append", sometimes)
    assert (await load(database, log("[08:36] <ada> hi"))).added == 1


@pytest.mark.usefixtures("small_chunks")
async def test_progress_goes_up_to_the_end(database: Database, log: Log) -> None:
    files = [log(*said(35)), log(*said(12), "=== end", name="2005-05-20.txt")]
    told: list[tuple[int, int]] = []
    await import_irc(database, files, "ubuntu", lambda *step: told.append(step))
    size = sum(file.stat().st_size for file in files)
    assert told == sorted(told)
    assert told[-1] == (size, 47)


# The reader leaves its files to the collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_days_of_a_real_channel_come_out_as_they_were(database: Database) -> None:
    if not (DATA / "readers.py").exists():
        pytest.skip(f"no real IRC to import: {DATA} is not there")
    spec = importlib.util.spec_from_file_location("readers", DATA / "readers.py")
    assert spec is not None
    assert spec.loader is not None
    readers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readers)
    expected = [
        (line["ts"], line["nick"], line["text"] if line["kind"] == "msg" else f"/me {line['text']}")
        for line in readers.ubuntu_irc()
        if line["kind"] != "system" and line["ts"][:10] in DAYS and line["text"]
    ]
    files = [file for day in DAYS for file in (DATA / "chat" / "ubuntu-irc").glob(f"{day}*.raw.txt")]
    report = await load(database, *files)
    rows = await messages(database, report.conversation)
    assert len(rows) == len(expected) > 1000
    for row, (ts, nick, text) in zip(rows, expected, strict=True):
        assert (row["at"].strftime("%Y-%m-%dT%H:%M:00Z"), row["text"]) == (ts, text)
        assert key_of(row["username"]) == key_of(nick) or row["username"][-7] == "-"
    assert len({row["actor_id"] for row in rows}) == len({key_of(nick) for _, nick, _ in expected})
    assert (await load(database, *files)).added == 0

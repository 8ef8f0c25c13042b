"""Importing raw IRC logs into a room, with authors and times kept.

In:   log files, the title of a room.
Out:  their messages in the room's log, by users who cannot sign in, and a report.
Promises: a line is imported once, however often the import runs, also when it was killed in the middle: its id is made
of day, line number and content. Nicknames are users with `origin` import; where a name is not possible here, or belongs
to somebody with an account, they get one made of it. It works beside a running server, which goes on writing to the
same room: the room's row is held for one chunk at a time. Nothing is announced message by message: the server compares
heads, so whoever has the room open sees the messages within seconds.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from server.hub.accounts import FIRST_ADMIN
from server.hub.irc_log import Line, Said, client_id_of, day_of, lines_of, said, usernames_of
from server.hub.message_drafts import body_hash
from server.hub.usernames import key_of
from server.protocol import clock
from server.protocol.codec import encode
from server.protocol.errors import ChatError, Rejected
from server.protocol.events import MessageCreated
from server.protocol.frames import MAX_TEXT_LENGTH
from server.protocol.ids import uuid7
from server.storage.bulk_append import BulkAppend, Imported
from server.storage.conversations import Conversations
from server.storage.database import Database
from server.storage.new_conversations import NewConversation
from server.storage.users import Users

CHUNK = 2000  # messages a transaction: it holds the room's row for some 50 ms
ATTEMPTS = 5  # of a chunk, while the database is busy or away
MAX_TITLE_LENGTH = 200

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")
Progress = Callable[[int, int], None]  # bytes read, messages found so far


@dataclass(slots=True)
class ImportReport:
    """Counts of lines and, in the end, of messages. `cut` were too long for this studio and were shortened."""

    conversation: str
    title: str
    messages: int = 0
    added: int = 0
    other_lines: int = 0
    empty: int = 0
    cut: int = 0
    new_people: int = 0

    @property
    def repeated(self) -> int:
        return self.messages - self.added

    def __str__(self) -> str:
        parts = [f"{self.added:,} messages were added to {self.title!r}"]
        if self.repeated:
            parts.append(f"{self.repeated:,} were there already")
        if self.new_people:
            parts.append(f"{self.new_people:,} people are new")
        if self.other_lines:
            parts.append(f"{self.other_lines:,} lines are no messages")
        if self.empty:
            parts.append(f"{self.empty:,} messages without a text were left out")
        if self.cut:
            parts.append(f"{self.cut:,} were cut at {MAX_TEXT_LENGTH:,} characters")
        return "; ".join(parts)


async def import_irc(
    database: Database, files: Sequence[Path], room: str, progress: Progress, day: date | None = None
) -> ImportReport:
    """`day` is that of all files, where their names do not say it."""
    days = [day or _day_of(file) for file in files]
    title = room.strip()
    if not 1 <= len(title) <= MAX_TITLE_LENGTH:
        raise Rejected(f"the title of a room has 1 to {MAX_TITLE_LENGTH} characters")
    bulk = BulkAppend(database)
    report = ImportReport(await _room(database, bulk, title), title)
    importer = _Importer(bulk, report, progress)
    for file, file_day in zip(files, days, strict=True):
        await importer.take(file, file_day)
    await importer.flush()
    return report


def _day_of(file: Path) -> date:
    day = day_of(file)
    if day is None:
        raise Rejected(f"the name of {file.name} holds no date such as 2005-05-19")
    return day


async def _room(database: Database, bulk: BulkAppend, title: str) -> str:
    """The room of that title, made if there is none: public, its owner the first admin."""
    users, now = Users(database), clock.now()
    await users.add_first_admin(FIRST_ADMIN, key_of(FIRST_ADMIN), now)
    admin = await users.first_admin()
    if admin is None:
        raise Rejected("the room needs an owner, and every admin of this studio is disabled")
    async with bulk.alone(title):
        found = await bulk.find_room(title, admin.id)
        if found is not None:
            return found
        new = NewConversation("room", title, "public", "all", None, None, admin.id, [(admin.id, "owner")])
        [made] = await Conversations(database).create([new], now)
        return made.conversation


class _Importer:
    """Gathers messages into chunks and writes them."""

    def __init__(self, bulk: BulkAppend, report: ImportReport, progress: Progress) -> None:
        self._bulk = bulk
        self._report = report
        self._progress = progress
        self._bytes_before = 0  # of the files that are done
        self._bytes = 0
        self._chunk: dict[str, tuple[Said, int]] = {}  # by client id: the same file may be given twice
        self._people: dict[str, str] = {}  # user ids by nickname

    async def take(self, file: Path, day: date) -> None:
        for line in lines_of(file):
            self._bytes = self._bytes_before + line.end
            self._gather(line, day)
            if len(self._chunk) == CHUNK:
                await self.flush()
        self._bytes_before = self._bytes

    def _gather(self, line: Line, day: date) -> None:
        one = said(line.text, day)
        if one is None:
            self._report.other_lines += 1
        elif not one.text:
            self._report.empty += 1  # nobody can send such a message here, either
        else:
            self._report.messages += 1
            self._chunk[client_id_of(day, line.number, line.text)] = one, line.number

    async def flush(self) -> None:
        """Write what was gathered. May be called again after it was cancelled: nothing is written twice."""
        await self._find_people()
        drafts = [self._imported(client_id, one, number) for client_id, (one, number) in self._chunk.items()]
        if drafts:
            self._report.added += await _retrying(
                lambda: self._bulk.append(self._report.conversation, drafts, clock.now())
            )
        self._chunk.clear()
        self._progress(self._bytes, self._report.messages)

    async def _find_people(self) -> None:
        unknown = {one.nick: key_of(one.nick) for one, _ in self._chunk.values() if one.nick not in self._people}
        if unknown:
            spelling = {key: nick for nick, key in reversed(unknown.items())}  # the first one of each
            names = [[(name, key_of(name)) for name in usernames_of(nick)] for nick in spelling.values()]
            ids, made = await _retrying(lambda: self._bulk.people(names, clock.now()))
            id_of = dict(zip(spelling, ids, strict=True))
            self._people.update((nick, id_of[key]) for nick, key in unknown.items())
            self._report.new_people += made

    def _imported(self, client_id: str, one: Said, number: int) -> Imported:
        text = one.text
        if len(text) > MAX_TEXT_LENGTH:
            text = text[:MAX_TEXT_LENGTH]
            self._report.cut += 1
        id_ = _message_id(one.at, number)
        return Imported(
            id=id_,
            client_id=client_id,
            body_hash=body_hash("send", text, None, None, False),
            author=self._people[one.nick],
            at=one.at,
            text=text,
            data=encode(MessageCreated(id=id_, client_id=client_id, text=text)).decode(),
        )


def _message_id(at: datetime, number: int) -> str:
    """Of the time at which it was written; ids of one minute follow the lines of the file."""
    counter = number & 0xFFFFFF
    low = (counter >> 12) << 64 | (counter & 0xFFF) << 50 | int.from_bytes(os.urandom(6), "big")
    return uuid7((at - _EPOCH) // timedelta(milliseconds=1), low.to_bytes(10, "big"))


async def _retrying(work: Callable[[], Awaitable[T]]) -> T:
    for attempt in range(ATTEMPTS - 1):
        try:
            return await work()
        except ChatError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(0.2 * 2**attempt)
    return await work()

"""What stands in a raw IRC log: who said what, at what minute.

In:   a file of one day, named by it, of lines such as `[08:36] <nick> text` and `[08:36]  * nick does something`.
Out:  its messages; every other line (joins, parts, changes of names, notices) is none.
Promises: texts are kept byte for byte, but what is no UTF-8 becomes U+FFFD, and NUL, which no database keeps, goes. An
act `* nick waves` becomes the message `/me waves`, as it was typed. All lines of a file belong to its day, in the order
of the file: a log that runs past midnight does not say so. Memory does not grow with the file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from server.hub.usernames import MAX_LENGTH, checked, key_of
from server.protocol.errors import Rejected

MAX_LINE_BYTES = 1024 * 1024  # IRC itself allows 512 bytes; a file without line ends must not fill the memory

_SAID = re.compile(r"\[(\d\d:\d\d)\] <([^>]+)> ?(.*)", re.DOTALL)
_ACTED = re.compile(r"\[(\d\d:\d\d)\]\s+\* ?(\S+) ?(.*)", re.DOTALL)
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class Line:
    number: int  # 1, 2, 3 … in the file
    end: int  # in bytes: how much of the file has been read with this line
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    at: datetime  # to the minute, UTC
    nick: str
    text: str


def lines_of(path: Path) -> Iterator[Line]:
    end = 0
    with path.open("rb") as file:
        for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), start=1):
            end += len(raw)
            yield Line(number, end, raw.removesuffix(b"\n").decode(errors="replace"))


def said(line: str, day: date) -> Said | None:
    """None for a line that is no message."""
    match = _SAID.fullmatch(line)
    prefix = ""
    if match is None:
        match, prefix = _ACTED.fullmatch(line), "/me "
    if match is None:
        return None
    clock, nick, text = match.groups()
    try:
        at = datetime.combine(day, time(int(clock[:2]), int(clock[3:])), UTC)
    except ValueError:
        return None
    return Said(at, nick, (prefix + text).replace("\0", ""))


def day_of(path: Path) -> date | None:
    """The day that the name of the file begins with, or at least holds."""
    match = _DAY.search(path.name)
    try:
        return date.fromisoformat(match[0]) if match else None
    except ValueError:
        return None


def client_id_of(day: date, number: int, line: str) -> str:
    """The same whenever the same line of the same day is read again."""
    return f"irc:{day}:{number}:{blake2b(line.encode(), digest_size=8).hexdigest()}"


def usernames_of(nick: str) -> tuple[str, ...]:
    """The names a nickname may go by here, the best one first: itself where the rules for names allow it, and one that
    is made of it and a mark of its own. Always the same for the same nickname; its case does not matter."""
    made = f"{_possible_part(nick)}-{blake2b(key_of(nick).encode(), digest_size=3).hexdigest()}"
    try:
        return checked(nick), made
    except Rejected:
        return (made,)


def _possible_part(nick: str) -> str:
    part = "".join(character if _may_stand_in_a_name(character) else "_" for character in nick)[: MAX_LENGTH - 7]
    return part if _is_possible(f"{part}-") else "irc"


@lru_cache(maxsize=4096)
def _may_stand_in_a_name(character: str) -> bool:
    return _is_possible(f"x{character}")


def _is_possible(name: str) -> bool:
    try:
        checked(name)
    except Rejected:
        return False
    return True

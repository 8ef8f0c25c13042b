"""Importing IRC logs into a room."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.storage.database import Database

Progress = Callable[[int, int], None]  # bytes read so far, messages inserted so far


@dataclass(frozen=True, slots=True)
class ImportReport:
    conversation: str
    inserted: int


async def import_irc(database: Database, files: Sequence[Path], room: str, progress: Progress) -> ImportReport:
    raise NotImplementedError

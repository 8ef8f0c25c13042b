"""The studio's files beside the database, in a backup and out of it.

A file has a random id for its name and never changes, so those of a backup may be put beside those that are there:
until the database is replaced, the old one finds all of its own; afterwards, the new one does. What only the old one
knew is removed last.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from server.storage.backup.archive import ArchiveReader, ArchiveWriter, Member

FOLDER = "files"  # in the data directory, and in the archive


def add_files(archive: ArchiveWriter, data_dir: Path, progress: Callable[[int, str], None]) -> int:
    """How many. One that is deleted meanwhile is left out: its row, in the snapshot, then points nowhere, as now."""
    added = 0
    for path in _regular_files(data_dir / FOLDER):
        with suppress(FileNotFoundError), path.open("rb") as file:
            archive.add_file(path.relative_to(data_dir).as_posix(), file)
            added += 1
            progress(archive.size_bytes, FOLDER)
    return added


def put_files(archive: ArchiveReader, data_dir: Path, progress: Callable[[int, str], None]) -> None:
    """Beside those that are there, each whole or not at all."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = data_dir.stat()
    done_bytes = 0
    for name in archive.manifest.files:
        member = archive.manifest.members[name]
        path = data_dir / name
        if not _is(path, member):
            _make_folder(path.parent, data_dir, owner)
            _write(path, archive.read(name), owner)
        done_bytes += member.size
        progress(done_bytes, FOLDER)


def remove_other_files(archive: ArchiveReader, data_dir: Path) -> None:
    kept = set(archive.manifest.files)
    for path in list(_regular_files(data_dir / FOLDER)):
        if path.relative_to(data_dir).as_posix() not in kept:
            path.unlink(missing_ok=True)


def _regular_files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            is_draft = name.startswith(".") and name.endswith(".part")
            if path.is_file() and not path.is_symlink() and not is_draft:
                yield path


def _is(path: Path, member: Member) -> bool:
    """One that was damaged, or swapped, may still have its size."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size != member.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == member.sha256


def _make_folder(folder: Path, data_dir: Path, owner: os.stat_result) -> None:
    for step in reversed([folder, *folder.parents]):
        if step.is_relative_to(data_dir) and step != data_dir and not step.is_dir():
            step.mkdir(mode=0o700)
            os.chown(step, owner.st_uid, owner.st_gid)


def _write(path: Path, pieces: Iterator[bytes], owner: os.stat_result) -> None:
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("wb") as file:
            file.writelines(pieces)
            os.fchmod(file.fileno(), 0o600)
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise

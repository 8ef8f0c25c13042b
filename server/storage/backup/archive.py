"""The file of a backup: a plain tar archive that ends with its manifest.

    database/TABLE/000000.gz …   the rows of a table as COPY writes them, gzip-compressed in pieces
    files/…                      the studio's files, as they are
    manifest.json                what the archive holds, with the size and SHA-256 of every member above

`tar -xf` and `zcat` read it without us.
Promises: under its own name an archive is whole: it is written beside, to the disk, and then renamed; only its owner
may read it. Every byte that is read back has been held against the manifest. The manifest is last, so an archive that
was cut off has none.
"""

import fcntl
import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import msgspec

from server.protocol import codec
from server.storage.backup.errors import BackupError

FORMAT = 1
MANIFEST = "manifest.json"
PIECE_BYTES = 4 * 1024 * 1024  # of rows before compression: what a backup holds in memory, a few times over
COMPRESSION = 3  # of 9: chat shrinks to a quarter; the next three steps take twice the time for a tenth of the size
READ_BYTES = 1024 * 1024
MANIFEST_MAX_BYTES = 1024 * 1024 * 1024  # some five million files


class Table(msgspec.Struct, frozen=True):
    name: str
    columns: list[str]
    rows: int
    pieces: list[str]


class Sequence(msgspec.Struct, frozen=True):
    name: str
    last_value: int
    is_called: bool


class Member(msgspec.Struct, frozen=True):
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    format: int
    version: str  # of the studio that wrote it
    revision: str  # of its database
    created_at: str
    postgres: str
    tables: list[Table]
    sequences: list[Sequence]
    members: dict[str, Member]

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)

    @property
    def files(self) -> list[str]:
        return [name for name in self.members if name.startswith("files/")]


class ArchiveWriter:
    """Members go in one by one, the manifest last. Nothing here is shared between threads at the same time."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._tar = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)
        self.members: dict[str, Member] = {}

    @property
    def size_bytes(self) -> int:
        return self._file.tell()

    def add_rows(self, name: str, rows: bytes) -> None:
        self._add(name, io.BytesIO(gzip.compress(rows, COMPRESSION, mtime=0)))

    def add_file(self, name: str, file: BinaryIO) -> None:
        self._add(name, file)

    def finish(self, manifest: Manifest) -> None:
        """From here on the file is a whole archive, on the disk."""
        self._add(MANIFEST, io.BytesIO(codec.encode(manifest)))
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())

    def _add(self, name: str, content: BinaryIO) -> None:
        header = tarfile.TarInfo(name)
        header.size = content.seek(0, io.SEEK_END)
        header.mode = 0o600
        content.seek(0)
        hashed = _Hashed(content)
        self._tar.addfile(header, hashed)  # type: ignore[arg-type]  # it only reads
        self.members[name] = Member(header.size, hashed.hexdigest())


class _Hashed:
    def __init__(self, content: BinaryIO) -> None:
        self._content = content
        self._hash = hashlib.sha256()
        self.hexdigest = self._hash.hexdigest

    def read(self, size: int) -> bytes:
        found = self._content.read(size)
        self._hash.update(found)
        return found


@contextmanager
def new_archive(path: Path, *, replace: bool) -> Iterator[ArchiveWriter]:
    """An archive that appears under `path` when the block has ended well, and `finish` was called in it."""
    _refuse_existing(path, replace)
    draft = path.with_name(f".{path.name}.part")  # one name: what a killed backup left is taken over by the next
    with _locked(draft) as file:
        try:
            yield ArchiveWriter(file)
            _refuse_existing(path, replace)
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    _sync_directory(path.parent)


@contextmanager
def _locked(draft: Path) -> Iterator[BinaryIO]:
    with os.fdopen(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"another backup is writing {draft}") from None
        os.fchmod(file.fileno(), 0o600)
        file.truncate()
        yield file


def _refuse_existing(path: Path, replace: bool) -> None:
    if path.is_dir():
        raise BackupError(f"{path} is a directory; name a file in it")
    if path.exists() and not replace:
        raise BackupError(f"{path} exists already; --force replaces it")


class ArchiveReader:
    """An archive of ours, opened: its manifest is sound, its members are checked as they are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")
        except FileNotFoundError:
            raise BackupError(f"there is no file {path}") from None
        except OSError as error:
            raise BackupError(f"{path} cannot be read: {error.strerror}") from None
        try:
            self._tar = tarfile.TarFile(fileobj=self._file, mode="r")
            self._places = {member.name: member for member in self._tar.getmembers()}
            self.manifest = self._read_manifest()
        except (tarfile.TarError, EOFError, OSError):
            self._file.close()
            raise BackupError(f"{path} is no backup of Chat Studio, or was cut off") from None
        except BaseException:
            self._file.close()
            raise

    def _read_manifest(self) -> Manifest:
        place = self._places.get(MANIFEST)
        if place is None or not place.isreg() or place.size > MANIFEST_MAX_BYTES:
            raise BackupError(f"{self.path} has no {MANIFEST}: it is no backup of Chat Studio, or was cut off")
        text = b"".join(self._pieces(place))
        try:
            found = codec.decode_stored(text, dict[str, object]).get("format")
            if isinstance(found, int) and found > FORMAT:
                raise BackupError(f"{self.path} was made by a newer Chat Studio: its format is {found}, not {FORMAT}")
            manifest = codec.decode_stored(text, Manifest)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise BackupError(f"the {MANIFEST} in {self.path} is damaged") from None
        for name, member in manifest.members.items():
            place = self._places.get(name)
            if place is None or not place.isreg() or place.size != member.size or not _is_inside(name):
                raise BackupError(f"{self.path} is damaged: {name} is not as its manifest says")
        return manifest

    @property
    def size_bytes(self) -> int:
        return sum(member.size for member in self.manifest.members.values())

    def verify(self, name: str) -> None:
        for _ in self.read(name):
            pass

    def read(self, name: str) -> Iterator[bytes]:
        """The bytes of a member; raises at its end when they are not those that were written."""
        digest = hashlib.sha256()
        for piece in self._pieces(self._places[name]):
            digest.update(piece)
            yield piece
        if digest.hexdigest() != self.manifest.members[name].sha256:
            raise BackupError(f"{self.path} is damaged: {name} does not match its checksum")

    def rows(self, name: str) -> bytes:
        """Uncompressed."""
        return gzip.decompress(b"".join(self.read(name)))

    def _pieces(self, place: tarfile.TarInfo) -> Iterator[bytes]:
        content = self._tar.extractfile(place)
        assert content is not None  # a regular file
        while piece := content.read(READ_BYTES):
            yield piece

    def close(self) -> None:
        with suppress(OSError):
            self._tar.close()
            self._file.close()


def _is_inside(name: str) -> bool:
    """Nothing that would be written elsewhere than below the folder it is meant for."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and path.parts[0] in ("database", "files")


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

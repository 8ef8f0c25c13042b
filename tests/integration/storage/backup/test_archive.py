"""The file of a backup: whole or not there, and never believed before it is checked."""

import io
import os
import stat
import tarfile
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest

from server.protocol import codec
from server.storage.backup.archive import (
    FORMAT,
    MANIFEST,
    ArchiveReader,
    ArchiveWriter,
    Manifest,
    Member,
    Table,
    new_archive,
)
from server.storage.backup.errors import BackupError
from tests.studio_process import run

ROWS = b"one\t1\ntwo\t2\n" * 5000


def write(path: Path, *, replace: bool = False) -> Path:
    with new_archive(path, replace=replace) as archive:
        archive.add_rows("database/things/000000.gz", ROWS)
        archive.add_file("files/ab/cd", io.BytesIO(b"a file"))
        archive.finish(manifest_for(archive))
    return path


def manifest_for(archive: ArchiveWriter, **changes: object) -> Manifest:
    table = Table("things", ["name", "n"], 10_000, ["database/things/000000.gz"])
    made = Manifest(FORMAT, "1.0", "r1", "2026-11-22T12:00:00.000Z", "18", [table], [], dict(archive.members))
    return msgspec.structs.replace(made, **changes)


def verify(path: Path) -> None:
    with closing(ArchiveReader(path)) as archive:
        for name in archive.manifest.members:
            archive.verify(name)


def test_what_went_in_comes_out(tmp_path: Path) -> None:
    with closing(ArchiveReader(write(tmp_path / "b.tar"))) as archive:
        assert archive.rows("database/things/000000.gz") == ROWS
        assert b"".join(archive.read("files/ab/cd")) == b"a file"
        assert archive.manifest.files == ["files/ab/cd"]


async def test_an_archive_can_be_read_without_us(tmp_path: Path) -> None:
    write(tmp_path / "b.tar")
    ended = await run("sh", "-c", "tar -xf b.tar && zcat database/things/*.gz", cwd=tmp_path)
    assert (ended.code, ended.out.encode()) == (0, ROWS)


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert stat.S_IMODE(write(tmp_path / "b.tar").stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_file_of_that_name_is_replaced_only_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    path.write_text("precious")
    with pytest.raises(BackupError, match="--force replaces it"):
        write(path)
    assert path.read_text() == "precious"
    verify(write(path, replace=True))


def test_a_backup_that_fails_leaves_nothing_and_the_file_of_before(tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    path.write_text("precious")
    with pytest.raises(ZeroDivisionError), new_archive(path, replace=True) as archive:
        archive.add_rows("database/things/000000.gz", ROWS)
        raise ZeroDivisionError
    assert path.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar"]


def test_what_a_killed_backup_left_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".b.tar.part").write_bytes(b"half" * 100_000)
    verify(write(tmp_path / "b.tar"))
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar"]


def test_two_backups_do_not_write_the_same_file(tmp_path: Path) -> None:
    with new_archive(tmp_path / "b.tar", replace=False) as archive:
        with (
            pytest.raises(BackupError, match="another backup is writing"),
            new_archive(tmp_path / "b.tar", replace=True),
        ):
            pass
        archive.finish(manifest_for(archive, tables=[]))
    verify(tmp_path / "b.tar")


def test_wherever_an_archive_is_cut_off_it_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "b.tar").read_bytes()
    end = len(whole.rstrip(b"\0"))
    cut = tmp_path / "cut.tar"
    for length in {1, 511, 512, 513, end - 1, *range(0, end, 251)}:
        cut.write_bytes(whole[:length])
        with pytest.raises(BackupError, match=r"cut off|damaged"):
            verify(cut)


def test_no_byte_of_the_content_can_change_unseen(tmp_path: Path) -> None:
    path = write(tmp_path / "b.tar")
    with tarfile.open(path) as tar:
        places = [(member.offset_data, member.size) for member in tar.getmembers() if member.name != MANIFEST]
    whole = path.read_bytes()
    for offset, size in places:
        for at in {offset, offset + size // 2, offset + size - 1}:
            changed = bytearray(whole)
            changed[at] ^= 1
            path.write_bytes(changed)
            with pytest.raises(BackupError, match="does not match its checksum"):
                verify(path)


@pytest.mark.parametrize("name", ["files/../../etc/passwd", "/etc/passwd", "elsewhere/x", "files/../x"])
def test_a_member_that_would_be_written_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with new_archive(tmp_path / "b.tar", replace=False) as archive:
        archive.add_file(name, io.BytesIO(b"root::0:0"))
        archive.finish(manifest_for(archive, tables=[]))
    with pytest.raises(BackupError, match="is not as its manifest says"):
        ArchiveReader(tmp_path / "b.tar")


def test_a_link_in_the_place_of_a_member_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    with path.open("wb") as file:
        archive = ArchiveWriter(file)
        link = tarfile.TarInfo("files/x")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive._tar.addfile(link)
        archive.finish(manifest_for(archive, tables=[], members={"files/x": Member(0, "")}))
    with pytest.raises(BackupError, match="is not as its manifest says"):
        ArchiveReader(path)


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    with new_archive(tmp_path / "b.tar", replace=False) as archive:
        archive._add(MANIFEST, io.BytesIO(codec.encode({"format": FORMAT + 1, "something": "else"})))
        archive._tar.close()
    with pytest.raises(BackupError, match="made by a newer Chat Studio"):
        ArchiveReader(tmp_path / "b.tar")


@pytest.mark.parametrize("content", [b"", b"no archive at all" * 100, b"\0" * 10240])
def test_what_is_no_backup_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.tar").write_bytes(content)
    with pytest.raises(BackupError, match="no backup of Chat Studio"):
        ArchiveReader(tmp_path / "b.tar")


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """/dev/full says what a full disk says."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):
        archive = ArchiveWriter(full)
        with suppress(io.UnsupportedOperation):
            archive.add_rows("database/things/000000.gz", os.urandom(1_000_000))

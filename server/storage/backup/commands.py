"""Backup and restore of a whole studio, as the command line orders them.

`database_url` None means the studio's own Postgres in `data_dir`, started where it does not run.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from server.storage.backup import files
from server.storage.backup.archive import ArchiveReader, Manifest, new_archive
from server.storage.backup.dump import dump
from server.storage.backup.errors import BackupError, explained
from server.storage.backup.replace import Wishes, check_revision, replace_database
from server.storage.embedded_postgres import EmbeddedPostgres

# (bytes done, bytes in all or None, what is being done)
Report = Callable[[int, int | None, str], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a studio keeps what it knows."""

    database_url: str | None
    data_dir: Path

    def check_exists(self) -> None:
        """A backup must not begin by making a new, empty studio."""
        if self.database_url is None and not (self.data_dir / "postgres").is_dir():
            raise BackupError(f"there is no studio in {self.data_dir}; --data-dir or DATABASE_URL says where it is")

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[str]:
        """The address of its database."""
        if self.database_url is not None:
            yield self.database_url
            return
        postgres = EmbeddedPostgres(self.data_dir)
        dsn = await postgres.start()
        try:
            yield dsn
        finally:
            await postgres.stop()


async def back_up(place: Place, path: Path, *, replace: bool, report: Report) -> Manifest:
    """Beside a running studio, or without one."""
    place.check_exists()
    with explained("the backup was not made"), new_archive(path, replace=replace) as archive:
        async with place.opened() as dsn:
            found = await dump(dsn, archive, lambda done_bytes, what: report(done_bytes, None, what))
        await asyncio.to_thread(files.add_files, archive, place.data_dir, lambda count, what: report(count, None, what))
        manifest = found.manifest(archive)
        archive.finish(manifest)
    return manifest


async def put_back(place: Place, path: Path, wishes: Wishes, report: Report) -> Manifest:
    """Nothing is touched before the whole archive has been found sound."""
    with explained("nothing was restored"), closing(ArchiveReader(path)) as archive:
        check_revision(archive)
        await asyncio.to_thread(_verify, archive, report)
        async with place.opened() as dsn:
            await _put_back(place, dsn, archive, wishes, report)
        with explained("all was restored, but files of the studio that was replaced are left over"):
            await asyncio.to_thread(files.remove_other_files, archive, place.data_dir)
        return archive.manifest


async def _put_back(place: Place, dsn: str, archive: ArchiveReader, wishes: Wishes, report: Report) -> None:
    data_dir = place.data_dir

    def progress(done_bytes: int, what: str) -> None:
        report(done_bytes, archive.size_bytes, f"restoring {what}")

    async def put_files() -> None:
        if archive.manifest.files:
            await asyncio.to_thread(files.put_files, archive, data_dir, progress)

    await replace_database(dsn, archive, wishes, progress, put_files)


def _verify(archive: ArchiveReader, report: Report) -> None:
    done_bytes = 0
    for name, member in archive.manifest.members.items():
        archive.verify(name)
        done_bytes += member.size
        report(done_bytes, archive.size_bytes, "checking")

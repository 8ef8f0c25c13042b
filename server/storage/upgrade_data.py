"""A data directory of an older PostgreSQL, brought to the one that this studio runs.

The older server is started once more, privately; its rows go into an archive, as in a backup, and from there into a new
cluster beside, which then takes the place of the old one. pg_upgrade would need the programs of both versions built
alike; this needs the old `postgres` alone.

In:   a data directory that nobody uses.
Out:  a line that says what was done, and where the old cluster is kept.
Promises: the old cluster is opened as after a restart and not written otherwise; it stays, under another name. A run
that was cut off at any step, by a kill or a power failure, can be repeated, and no start takes a half for a whole. Rows
are counted; epochs and sessions stay, because nothing was lost: clients resume.
"""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from server.storage.backup.archive import ArchiveReader, Manifest, new_archive
from server.storage.backup.commands import Report
from server.storage.backup.dump import dump
from server.storage.backup.errors import BackupError, explained
from server.storage.backup.replace import Wishes, check_revision, replace_database
from server.storage.embedded_postgres import identity, process
from server.storage.embedded_postgres.cluster import (
    DATABASE,
    MAJOR_VERSION,
    PORT,
    ROLE,
    Cluster,
    program,
    sync_directory,
)
from server.storage.embedded_postgres.locks import FileLock
from server.storage.embedded_postgres.old_versions import find_postgres
from server.storage.embedded_postgres.private import private_postgres
from server.storage.embedded_postgres.process import Account
from server.storage.embedded_postgres.supervisor import make_cluster

ORPHAN_TIMEOUT_S = 60.0  # a Postgres that a killed studio left behind writes its last checkpoint
SPACE_FACTOR = 1.5  # the new cluster is about as large as the old one, the archive a quarter of it

Log = Callable[[str], None]


async def upgrade_data(data_dir: Path, old_bin: Path | None, report: Report, log: Log) -> str:
    upgrade = Upgrade(Cluster(data_dir), report, log)
    with explained("the data was not upgraded"), upgrade.alone():
        return await upgrade.run(old_bin)


class Upgrade:
    def __init__(self, cluster: Cluster, report: Report, log: Log) -> None:
        self._cluster = cluster
        self._report = report
        self._log = log
        self._archive = cluster.data_dir / "postgres.upgrade.tar"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No studio uses this data directory, and none starts meanwhile."""
        if not self._cluster.data_dir.is_dir():
            raise BackupError(f"there is no studio in {self._cluster.data_dir}")
        with closing(FileLock(self._cluster.lock_file)) as starting, closing(FileLock(self._cluster.users_file)) as use:
            if not starting.take():
                raise BackupError(f"process {starting.signature()} is starting or stopping Postgres here; try again")
            starting.sign()
            if not use.take():
                raise BackupError(f"a studio is running on {self._cluster.data_dir}; stop it first")
            yield

    async def run(self, old_bin: Path | None) -> str:
        cluster, major = self._cluster, self._cluster.major_version()
        if major is None and cluster.upgraded.exists():
            cluster.upgraded.rename(cluster.path)
            sync_directory(cluster.data_dir)
            return f"finished the upgrade to PostgreSQL {MAJOR_VERSION} that was cut off"
        if major is None:
            raise BackupError(f"there is no database in {cluster.data_dir}")
        if major == MAJOR_VERSION:
            return f"the data is of PostgreSQL {major} already, there is nothing to do"
        if int(major) > int(MAJOR_VERSION):
            raise BackupError(
                f"the data is of PostgreSQL {major}, newer than {MAJOR_VERSION}; a newer Chat Studio runs it"
            )
        return await self._upgrade(major, find_postgres(major, old_bin))

    async def _upgrade(self, major: str, old_program: Path) -> str:
        cluster = self._cluster
        shutil.rmtree(cluster.upgraded, ignore_errors=True)  # of a run that ended before the old one was put aside
        account = process.unprivileged_account(cluster.path)
        if account is not None:
            cluster.hand_over(account)
        self._check_space()
        began_s = time.monotonic()
        for left in (cluster.path, *(draft / "cluster" for draft in cluster.drafts())):
            await self._end_orphan(left)
        try:
            manifest = await self._read_old(old_program, account, major)
            await self._make_new(account)
        finally:
            self._archive.unlink(missing_ok=True)
        kept = self._swap(major)
        took_s = time.monotonic() - began_s
        return (
            f"upgraded {manifest.rows:,} rows from PostgreSQL {major} to {MAJOR_VERSION} in {took_s:.0f} s; "
            f"the old data is kept in {kept}: delete it when you have seen that all is well"
        )

    def _check_space(self) -> None:
        needed = SPACE_FACTOR * sum(
            path.lstat().st_size for path in (self._cluster.path / "base").rglob("*") if path.is_file()
        )
        free = shutil.disk_usage(self._cluster.data_dir).free
        if free < needed:
            raise BackupError(
                f"the disk that holds {self._cluster.data_dir} has {free / 1e9:.1f} GB free, "
                f"and {needed / 1e9:.1f} GB are needed for the new database beside the old one"
            )

    async def _end_orphan(self, path: Path) -> None:
        """A Postgres that a killed studio, or a killed upgrade, left behind; nobody uses it, as the lock says."""
        postmaster = process.read_postmaster(path)
        if postmaster is None or not process.serves(postmaster.pid, path):
            return
        self._log(f"stopping the Postgres that a killed process left behind (process {postmaster.pid})")
        os.kill(postmaster.pid, signal.SIGINT)
        async with asyncio.timeout(ORPHAN_TIMEOUT_S):
            while process.serves(postmaster.pid, path):
                await asyncio.sleep(0.1)

    async def _read_old(self, old_program: Path, account: Account | None, major: str) -> Manifest:
        cluster = self._cluster
        self._log(f"reading the data with {old_program}")
        cluster.clear_traces(cluster.path)
        async with private_postgres(old_program, cluster.path, account, cluster.password(), cluster.log_file) as socket:
            with new_archive(self._archive, replace=True) as archive:
                found = await dump(
                    self._dsn(socket), archive, lambda done, what: self._report(done, None, f"reading {what}")
                )
                manifest = found.manifest(archive)
                archive.finish(manifest)
        return manifest

    async def _make_new(self, account: Account | None) -> None:
        cluster = self._cluster
        draft = cluster.draft(account)
        try:
            self._log(f"making a database of PostgreSQL {MAJOR_VERSION}")
            await make_cluster(cluster, draft, account)
            new = draft / "cluster"
            async with private_postgres(
                program("postgres"), new, account, cluster.password(), cluster.log_file
            ) as socket:
                await identity.prepare(socket, cluster.password())
                with closing(ArchiveReader(self._archive)) as archive:
                    check_revision(archive)
                    await replace_database(
                        self._dsn(socket), archive, Wishes(renews=False),
                        lambda done, what: self._report(done, archive.size_bytes, f"writing {what}"), _nothing,
                    )  # fmt: skip
            new.rename(cluster.upgraded)
            sync_directory(cluster.data_dir)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _swap(self, major: str) -> Path:
        """Between the two renames there is no database: `postgres.upgraded` keeps a start from making an empty one."""
        kept = self._cluster.data_dir / f"postgres-{major}.old"
        number = 2
        while kept.exists():
            kept = kept.with_name(f"postgres-{major}.old-{number}")
            number += 1
        self._cluster.path.rename(kept)
        sync_directory(self._cluster.data_dir)
        self._cluster.upgraded.rename(self._cluster.path)
        sync_directory(self._cluster.data_dir)
        return kept

    def _dsn(self, socket_dir: Path) -> str:
        host = quote(str(socket_dir), safe="")
        return f"postgresql://{ROLE}:{self._cluster.password()}@/{DATABASE}?host={host}&port={PORT}"


async def _nothing() -> None:
    """The files stay where they are."""

"""Servers and data directories of older PostgreSQL versions, real ones, where this machine has the binaries."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from server.storage.embedded_postgres import BinariesMissing, identity, process
from server.storage.embedded_postgres.cluster import DATABASE, PORT, ROLE, Cluster
from server.storage.embedded_postgres.old_versions import find_postgres
from server.storage.embedded_postgres.private import private_postgres

OLD_VERSIONS = ("15", "16", "17")


def installed() -> list[str]:
    found = []
    for major in OLD_VERSIONS:
        try:
            if (find_postgres(major).parent / "initdb").exists():
                found.append(major)
        except BinariesMissing:
            continue
    return found


INSTALLED = installed()
needs_an_old_postgres = pytest.mark.skipif(
    not INSTALLED, reason="NO UPGRADE OF REAL DATA: this machine has no PostgreSQL 15, 16 or 17"
)


def make_cluster(data_dir: Path, major: str) -> Path:
    """The cluster of a studio of long ago: made by the `initdb` of that version, with the roles' password."""
    cluster = Cluster(data_dir)
    cluster.open_data_dir()
    account = process.unprivileged_account(cluster.path)
    draft = cluster.draft(account)
    initdb = [str(find_postgres(major).parent / "initdb"), "-D", str(draft / "cluster"), "--username=postgres"]
    options = ["--auth=scram-sha-256", f"--pwfile={draft / 'password'}", "--encoding=UTF8", "--locale=C", "--no-sync"]
    log = cluster.open_log(draft / "log")
    try:
        child = process.spawn([*initdb, *options], account=account, reaches=[Path(initdb[0]), draft], output=log)
    finally:
        os.close(log)
    assert child.wait() == 0, (draft / "log").read_text()
    cluster.publish(draft)
    return cluster.path


@asynccontextmanager
async def running(data_dir: Path, major: str) -> AsyncIterator[str]:
    """The address of a studio's database in such a cluster, while it runs."""
    cluster = Cluster(data_dir)
    password = cluster.password()
    account = process.unprivileged_account(cluster.path)
    if account is not None:
        cluster.hand_over(account)
    async with private_postgres(find_postgres(major), cluster.path, account, password, cluster.log_file) as socket:
        await identity.prepare(socket, password)
        yield f"postgresql://{ROLE}:{password}@/{DATABASE}?host={quote(str(socket), safe='')}&port={PORT}"


def copy(made: Path, data_dir: Path) -> Path:
    shutil.copytree(made, data_dir)
    return data_dir

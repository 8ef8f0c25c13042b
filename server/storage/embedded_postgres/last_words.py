"""What Postgres said before it ended, read from its log, and the error it amounts to.

Its messages are in English here: it is started with LC_ALL=C.
"""

import re
import shutil
from pathlib import Path

from server.storage.embedded_postgres.become_account import BLOCKED_EXIT_STATUS
from server.storage.embedded_postgres.errors import AccountBlocked, DiskFull, PostgresError, PostgresExited

TAIL_BYTES = 8192  # some dozens of lines
FULL_BELOW_BYTES = 64 * 1024  # eight pages: less than any start of Postgres writes
LINES = 3  # that a person reads in one error
PREFIX = re.compile(r"^\S+ \S+ \S+ \[\d+\] ")  # time and pid, see log_line_prefix
GRAVE = ("PANIC:", "FATAL:", "ERROR:", "initdb: error:")  # the line before gives the cause, those after tidy up
OTHERS = ("pre-existing shared memory block", 'lock file "postmaster.pid" already exists')


def line(log_file: Path) -> str:
    """The newest line."""
    return "".join(_lines(log_file, 0)[-1:])


def speak_of_others(log_file: Path, since: int) -> bool:
    """Whether it ended because another Postgres, or what is left of one, still works on the same files."""
    return any(sign in line for line in _lines(log_file, since) for sign in OTHERS)


def reason(program: str, status: int, log_file: Path, since: int, data_dir: Path) -> PostgresError:
    """`since`: where in the log this start begins. The shutdown of the last one left errors there too."""
    lines = _lines(log_file, since)
    first = next((number for number, line in enumerate(lines) if line.startswith(GRAVE)), len(lines))
    said = "; ".join(lines[max(0, first - 1) : first + LINES - 1] if first < len(lines) else lines[-LINES:])
    if status == BLOCKED_EXIT_STATUS:
        return AccountBlocked(f"Postgres does not run as root, and {said}")
    # On a full disk its log may have had no place for the reason.
    if "No space left on device" in said or shutil.disk_usage(data_dir).free < FULL_BELOW_BYTES:
        return DiskFull(f"no space left on the disk that holds {data_dir}: {said}")
    return PostgresExited(f"{program} ended with status {status} instead of starting: {said or 'it said nothing'}")


def _lines(log_file: Path, since: int) -> list[str]:
    try:
        with log_file.open("rb") as log:
            log.seek(max(since, log.seek(0, 2) - TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [text for line in lines if (text := PREFIX.sub("", line).strip())]

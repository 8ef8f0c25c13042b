"""What failed in an unattended run, run once more by itself: `python -m tests.once_more` after pytest.

Hundreds of tests here kill processes, cut sockets and wait for repairs on a machine that somebody else may use at the
same time. A few that fail there and pass alone are worth a loud line and a look, not a lost run. A test that fails
twice has failed, and more than a few are no accident.
"""

import json
import subprocess
import sys
from pathlib import Path

LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")  # kept by pytest itself
AT_MOST = 3


def main() -> int:
    """0 when all of them pass now."""
    failed = sorted(json.loads(LAST_FAILED.read_text())) if LAST_FAILED.is_file() else []
    if not 0 < len(failed) <= AT_MOST:
        return 1
    print(f"once more, alone: {', '.join(failed)}", flush=True)
    again = subprocess.run([sys.executable, "-m", "pytest", *failed], stdin=subprocess.DEVNULL, check=False)
    if again.returncode == 0:
        print(f"UNSTEADY: passed only when run once more: {', '.join(failed)}", flush=True)
    return again.returncode


if __name__ == "__main__":
    sys.exit(main())

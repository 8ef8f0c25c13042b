"""Another process of the studio, as a script: starts the Postgres of a data directory and holds it.

    python studio_process.py DATA_DIR [--deaf]

Writes `ready PID` or `failed CLASS MESSAGE` to standard output; then a line on standard input, or its end, makes it
stop Postgres and write `stopped`. `--deaf`: Ctrl-C does not end it, as in a server that drains first.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[4]))

from server.storage.embedded_postgres import EmbeddedPostgres, PostgresError


async def main(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir)
    try:
        await postgres.start()
    except PostgresError as error:
        say(f"failed {type(error).__name__} {error}")
        return
    say(f"ready {os.getpid()}")
    await asyncio.to_thread(sys.stdin.readline)
    await postgres.stop()
    say("stopped")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if "--deaf" in sys.argv:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
asyncio.run(main(Path(sys.argv[1])))

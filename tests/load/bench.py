"""`make bench`: how fast and how small the studio is, beside its peers, in one run on this machine.

In:   `../shared/bench`, the peers and their load client; a C compiler; Linux with two cores. `--help` lists the
options.
Out:  a table, ours beside theirs. Exit code 2 where nothing can be measured, with one line that says why.
Promises: everything is bound to the loopback address, bounded in time and count, and ended by pid, after Ctrl-C too.
Ours and a peer take turns in short rounds, and ratios are medians of neighbours: machines are noisy, so compare
ratios, not figures.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from tests.load import churn, fan_out, latency, long_room, many_rooms, memory, resume, storm, two_workers
from tests.load.load_client import LoadClient, build
from tests.load.machine import describe, load_average, raise_open_files, take_cores
from tests.load.processes import BenchError
from tests.load.profile_report import Profiler, no_profile
from tests.load.setting import Setting
from tests.load.studio_process import studio
from tests.load.table import Row, table

PEERS = Path(__file__).resolve().parents[3] / "shared" / "bench"
PARTS: dict[str, Callable[[Setting], list[Row]]] = {
    "memory": memory.measure,
    "fanout": fan_out.measure,
    "rooms": many_rooms.measure,
    "latency": latency.measure,
    "million": long_room.measure,
    "workers": two_workers.measure,
    "storm": storm.measure,
    "resume": resume.measure,
    "churn": churn.measure,
}
CHURN_MINUTES = 2.0  # in a run of all parts; alone it takes its half-hour
LONG_CHURN_MINUTES = 30.0
QUIET_LOAD = 0.5  # above it somebody else uses the machine


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        return run(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; everything it started has been ended", file=sys.stderr)
        return 130


def run(options: argparse.Namespace) -> int:
    began, noise = time.monotonic(), load_average()
    source = options.peers / "wsload.c"
    if not source.is_file():
        raise BenchError(
            f"NOTHING WAS MEASURED: {options.peers} with the peers and their load client is not there (--peers DIR)"
        )
    if sys.platform != "linux":
        raise BenchError("NOTHING WAS MEASURED: the load client and the clocks it reads are Linux's")
    raise_open_files()
    with ExitStack() as stack:
        work_dir = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="chat-studio-bench-", ignore_cleanup_errors=True))
        )
        work_dir.chmod(0o711)  # as root, Postgres runs as somebody else and must pass
        cores = take_cores()
        program = build(source, work_dir)
        _tell("starting Postgres")
        running_studio = stack.enter_context(studio(work_dir / "data", work_dir / "studio.log"))
        client = LoadClient(program, cores.others, work_dir / "client.log", running_studio.postmaster)
        profile = Profiler(client, work_dir)
        setting = Setting(
            running_studio,
            client,
            cores,
            options.peers,
            work_dir,
            options.quick,
            _churn_minutes(options),
            _tell,
            profile if options.profile else no_profile,
        )
        rows = []
        for name in options.only:
            rows += _measured(name, setting)
        print(f"\n{describe(cores, running_studio.postgres_version)}\n\n{table(rows)}\n")
        if profile.reports:
            print("\n\n".join(profile.reports), end="\n\n")
    disturbed = (
        f"; the machine was busy before it began (load {noise:.1f}): repeat on a quiet one"
        if noise > QUIET_LOAD
        else ""
    )
    print(f"Measured in {time.monotonic() - began:.0f} s{disturbed}")
    return 0


def _measured(name: str, setting: Setting) -> list[Row]:
    try:
        return PARTS[name](setting)
    except BenchError as error:  # the other parts still tell something
        _tell(f"{name}: {error}")
        return [Row(name, "not measured", is_met=False, notes=str(error))]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=_parts, default=list(PARTS), metavar="PART,…", help=f"of {', '.join(PARTS)}")
    parser.add_argument(
        "--quick", action="store_true", help="one round each, and a tenth of the long room: tells whether it runs"
    )
    parser.add_argument(
        "--profile", action="store_true", help="show where the server's CPU goes, from one more round each"
    )
    parser.add_argument(
        "--churn-minutes",
        type=float,
        metavar="N",
        help=f"how long sockets come and go: {LONG_CHURN_MINUTES:.0f} with `--only churn`, else {CHURN_MINUTES:.0f}",
    )
    parser.add_argument("--peers", type=Path, default=PEERS, metavar="DIR", help="where the peers and wsload.c are")
    return parser.parse_args(arguments)


def _churn_minutes(options: argparse.Namespace) -> float:
    asked: float | None = options.churn_minutes
    if asked is not None:
        return asked
    return LONG_CHURN_MINUTES if options.only == ["churn"] else CHURN_MINUTES


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    for part in parts:
        if part not in PARTS:
            raise argparse.ArgumentTypeError(f"{part!r} is none of {', '.join(PARTS)}")
    return parts


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Once: what follows ends everything that was started, has deadlines, and must not be interrupted in its turn."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

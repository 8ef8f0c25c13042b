"""`make chaos`: every fault on a cluster of three workers, one table at the end.

Exit status: 0 when every promise held (with `--sabotage`: when every sabotage was noticed), 1 when one did not, 2 when
it could not be tried.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import report, sabotage
from tests.chaos.checker import summary
from tests.chaos.cluster import cluster
from tests.chaos.crowd import FULL, Size, irc_is_here
from tests.chaos.faults import FAULTS
from tests.chaos.stage import Outcome, play
from tests.redis_server import RedisServer

WORKERS = 3


def main() -> int:
    asked = _arguments()
    if not irc_is_here():
        print("the IRC logs are not here: the crowd says plain lines instead", file=sys.stderr)
    folder = Path(tempfile.mkdtemp(prefix="chat-studio-chaos-"))
    folder.chmod(0o711)  # Postgres runs as an account of its own, and must get through
    work = _sabotage(asked, folder) if asked.sabotage else _faults(asked, folder)
    return asyncio.run(work)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description="Break parts of a cluster, and count.")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="these faults or sabotages alone")
    parser.add_argument("--list", action="store_true", help="name them and end")
    parser.add_argument("--seconds", type=float, help="how long each fault that lasts is to last")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there, too")
    parser.add_argument("--sabotage", action="store_true", help="break promises on purpose; each must be noticed")
    parser.add_argument("--people", type=int, default=FULL.people)
    parser.add_argument("--rooms", type=int, default=FULL.rooms)
    parser.add_argument("--rate", type=float, default=FULL.rate_per_s, help="messages a second of all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without-redis", action="store_true", help="workers that find each other's events by reading")
    asked = parser.parse_args()
    known = sabotage.SABOTAGES if asked.sabotage else FAULTS
    if asked.list:
        print("\n".join(known))
        sys.exit(0)
    if unknown := [name for name in asked.only if name not in known]:
        parser.error(f"there is no {unknown[0]}; --list names what there is")
    return asked


async def _faults(asked: argparse.Namespace, folder: Path) -> int:
    with_redis = RedisServer.is_here() and not asked.without_redis
    wanted = [fault for name, fault in FAULTS.items() if not asked.only or name in asked.only]
    left_out = [fault.name for fault in wanted if fault.needs_redis and not with_redis]
    outcomes: list[Outcome] = []
    async with cluster(folder, WORKERS, with_redis=with_redis) as made:
        for fault in wanted:
            if fault.name in left_out:
                continue
            began = time.monotonic()
            size = Size(asked.people, asked.rooms, asked.rate)
            outcome = await play(made, fault, size, seed=asked.seed, seconds=asked.seconds)
            outcomes.append(outcome)
            print(f"{'ok    ' if outcome.is_met else 'BROKEN'}  {fault.name} ({time.monotonic() - began:.0f} s)")
            for problem in outcome.problems:
                print("        " + problem.replace("\n", "\n        "))
            sys.stdout.flush()
    _show(report.table(outcomes), asked)
    if left_out:
        print(f"\nnot tried, there is no redis-server: {', '.join(left_out)}")
        return 2
    return 0 if all(outcome.is_met for outcome in outcomes) else 1


async def _sabotage(asked: argparse.Namespace, folder: Path) -> int:
    rows: list[tuple[str, str, str, str, bool]] = []
    async with sabotage.servers(folder) as postgres:
        for name, entry in sabotage.SABOTAGES.items():
            if not asked.only or name in asked.only:
                red = {violation.check for violation in await sabotage.try_it(postgres, name, seed=asked.seed)}
                shown = ", ".join(sorted(red)) or "nothing"
                rows.append((name, entry.what, str(entry.check), shown, entry.check in red))
                print(f"{name}: {shown}", flush=True)
        honest = summary(await sabotage.try_without(postgres, seed=asked.seed))
        rows.append(
            ("none", "an honest worker, all of the above done to it", "nothing", honest or "nothing", not honest)
        )
    _show(report.sabotage_table(rows), asked)
    return 0 if all(row[4] for row in rows) else 1


def _show(text: str, asked: argparse.Namespace) -> None:
    print(f"\n{text}")
    if asked.markdown is not None:
        asked.markdown.write_text(text + "\n")


if __name__ == "__main__":
    sys.exit(main())

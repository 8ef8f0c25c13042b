"""A storm: every socket of a crowd is reset at once, while people go on talking in its rooms, and all come back.

A thousand people, and five times as many, each in five rooms of 250 members; twenty messages a second go on. A guest
comes back after a random second, or when it was told to (503, `Retry-After`), and resumes from its cursors. The limits
are on. What they allow one address would stop a crowd of one machine, so people come from several addresses of the
loopback network, a thousand from each; everybody is somebody else, with one socket.

Queries are counted by Postgres, as transactions of the studio's database, each of which is one statement here; those of
the same seconds without a storm are taken off. A backend tells its count up to ten seconds late, so both ends wait.
"""

import asyncio
import json
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from tests.load.machine import children_of, cpu_seconds
from tests.load.metrics_page import Lag, MetricsPage
from tests.load.people import Person, add_room
from tests.load.processes import BenchError, Process, running, tail
from tests.load.setting import Setting
from tests.load.studio_process import Server
from tests.load.table import Row

ROOMS_EACH = 5
ROOM_MEMBERS = 250
TALKERS = 20
PEOPLE_OF_ADDRESS = 1_000
SMALL, LARGE = 1_000, 5_000
SMALL_P95_TARGET_S = 5.0
LARGE_TARGET_S = 15.0
QUERIES_TARGET = 5.0
LAG_TARGET_S = 0.25
COUNTED_LATE_S = 11.0  # Postgres: an idle backend tells its counts after at most ten seconds
BACKGROUND_S = 10.0
CALM_S = 3.0  # between two storms: the buckets of the limits are full again
GATHER_S = 120.0
CROWD_TIMEOUT_S = 90.0  # for any of its lines; it gives a storm 60 s
BUSY = 0.9
PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Storms:
    """Of one crowd, one after the other."""

    people: int
    told: list[dict[str, Any]]  # by the crowd, of each storm
    end: dict[str, Any]
    queries_each: float
    background_per_s: float
    lag: Lag
    busy: dict[str, float]  # by process: its share of a core while the storms lasted

    def quantile_s(self, share: float) -> float:
        """The median of the storms."""
        return statistics.median(quantile(storm["times"], share) for storm in self.told)

    def total(self, what: str) -> int:
        return sum(said.get(what, 0) for said in (*self.told, self.end))

    @property
    def flaws(self) -> str:
        """What may not happen at all."""
        return ", ".join(
            f"{self.total(what)} {what}" for what in ("lost", "lacking", "holes", "doubles") if self.total(what)
        )


def measure(setting: Setting) -> list[Row]:
    rows = []
    for people, rounds in ((SMALL, setting.rounds(3)), (LARGE, range(1))):
        size = people // 10 if setting.is_quick else people
        with setting.studio.serving(setting.cores.server, are_limits_on=True) as server:
            rows += _rows(_storms(setting, server, size, rounds), is_large=people == LARGE)
    return rows


def _storms(setting: Setting, server: Server, size: int, rounds: range) -> Storms:
    setting.tell(f"a crowd of {size:,} gathers")
    told: list[dict[str, Any]] = []
    pages: list[tuple[MetricsPage, MetricsPage]] = []
    queries = _Queries(setting.studio.dsn)
    with _crowd(setting, server, size) as crowd:
        crowd.next("open", GATHER_S)
        clocks = _Clocks({"server": server.pid, "crowd": crowd.process.pid}, setting.studio.postmaster)
        setting.tell("counting the queries of a calm time")
        queries.count_background()
        for number in rounds:
            setting.tell(f"{size:,} sockets are reset, storm {number + 1}")
            before = MetricsPage.of(server)
            with clocks.running():
                crowd.process.send_signal(signal.SIGUSR1)
                told.append(crowd.next("storm", CROWD_TIMEOUT_S))
            pages.append((before, MetricsPage.of(server)))
            time.sleep(CALM_S)
        queries.count_storms()
        crowd.process.send_signal(signal.SIGUSR2)
        end = crowd.next("end", CROWD_TIMEOUT_S)
    if any(not storm["times"] for storm in told):
        raise BenchError(f"nobody came back: {told[0] | {'times': None}}; {tail(crowd.log)}")
    return Storms(
        size,
        told,
        end,
        queries.of_storms / (size * len(told)),
        queries.background_per_s,
        Lag.between(pages),
        clocks.busy,
    )


# The crowd's process


@dataclass(frozen=True, slots=True)
class _Crowd:
    process: Process
    log: Path

    def next(self, phase: str, timeout_s: float) -> dict[str, Any]:
        """What it says at the end of this phase."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(timeout_s, self.process.kill)
        watchdog.start()
        try:
            line = self.process.stdout.readline()
        finally:
            watchdog.cancel()
        said: dict[str, Any] = json.loads(line) if line else {}
        if said.get("phase") != phase:
            raise BenchError(f"the crowd did not come to {phase!r}: {tail(self.log)}")
        return said


@contextmanager
def _crowd(setting: Setting, server: Server, size: int) -> Iterator[_Crowd]:
    plan, log = setting.work_dir / f"crowd-{size}.json", setting.work_dir / "crowd.log"
    plan.write_text(json.dumps(_plan(setting, server, size)))
    command = [sys.executable, "-m", "tests.load.storm_crowd", str(plan)]
    with running(command, core=setting.cores.others, log=log, cwd=PROJECT) as process:
        yield _Crowd(process, log)


def _plan(setting: Setting, server: Server, size: int) -> dict[str, Any]:
    """Who they are, and who is in which room. Each room belongs to one of those who talk."""
    count = max(ROOMS_EACH, size * ROOMS_EACH // ROOM_MEMBERS)
    people, talkers = setting.people(size), setting.people(min(TALKERS, count))
    members: list[list[Person]] = [[] for _ in range(count)]
    for number, person in enumerate(people):
        for step in range(ROOMS_EACH):
            members[(number + step) % count].append(person)
    rooms = [add_room(server.port, talkers[number % len(talkers)], inside) for number, inside in enumerate(members)]
    return {
        "port": server.port,
        "people": [
            {
                "token": person.token,
                "rooms": [rooms[(number + step) % count] for step in range(ROOMS_EACH)],
                "source": f"127.0.0.{2 + number // PEOPLE_OF_ADDRESS}",
            }
            for number, person in enumerate(people)
        ],
        "talkers": [
            {"token": talker.token, "rooms": rooms[number :: len(talkers)]} for number, talker in enumerate(talkers)
        ],
    }


# Clocks and counts


@dataclass(slots=True)
class _Clocks:
    """CPU seconds of each process, and of Postgres with its children, for as long as the clocks run."""

    pids: dict[str, int]
    postmaster: int
    spent_s: dict[str, float] = field(default_factory=dict)
    elapsed_s: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        began, before = time.monotonic(), self._read()
        yield
        self.elapsed_s += time.monotonic() - began
        for name, seconds in self._read().items():
            self.spent_s[name] = self.spent_s.get(name, 0.0) + seconds - before[name]

    @property
    def busy(self) -> dict[str, float]:
        return {name: seconds / self.elapsed_s for name, seconds in self.spent_s.items()}

    def _read(self) -> dict[str, float]:
        by_name = {name: cpu_seconds([pid]) for name, pid in self.pids.items()}
        return by_name | {"Postgres": cpu_seconds([self.postmaster, *children_of(self.postmaster)])}


class _Queries:
    """Transactions of the studio's database, as Postgres counts them."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.background_per_s = self.of_storms = 0.0
        self._since = (0.0, 0)

    def count_background(self) -> None:
        began = self._look()
        time.sleep(BACKGROUND_S)
        self._since = self._look()
        self.background_per_s = (self._since[1] - began[1]) / (self._since[0] - began[0])

    def count_storms(self) -> None:
        """Since `count_background` returned."""
        ended = self._look()
        self.of_storms = ended[1] - self._since[1] - self.background_per_s * (ended[0] - self._since[0])

    def _look(self) -> tuple[float, int]:
        time.sleep(COUNTED_LATE_S)
        return time.monotonic(), asyncio.run(_transactions(self._dsn))


async def _transactions(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        count: int = await connection.fetchval(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        )
        return count
    finally:
        await connection.close()


# What is told


def _rows(storms: Storms, *, is_large: bool) -> list[Row]:
    who = f"{storms.people:,} sockets reset at once"
    p50_s, p95_s, last_s = (storms.quantile_s(share) for share in (0.5, 0.95, 1.0))
    share, target_s, shown = (1.0, LARGE_TARGET_S, "all") if is_large else (0.95, SMALL_P95_TARGET_S, "p95")
    value_s = storms.quantile_s(share)
    others = sum(share for name, share in storms.busy.items() if name != "server")
    notes = [f"p50 {p50_s:.2f} s, p95 {p95_s:.2f} s, the last {last_s:.2f} s"]
    notes += [
        f"{storms.total(what)} {what}" for what in ("refused", "failed", "errors", "resets") if storms.total(what)
    ]
    notes += [f"of a core: {', '.join(f'{name} {100 * share:.0f} %' for name, share in storms.busy.items())}"]
    if others > BUSY:
        notes += ["THE CROWD'S CORE WAS FULL: it may be the crowd that is slow"]
    if storms.flaws:
        notes = [storms.flaws.upper(), *notes]
    return [
        Row(f"{who}: whole again, {shown}", f"{value_s:.2f} s", target=f"<= {target_s:.0f} s",
            is_met=value_s <= target_s and not storms.flaws, notes="; ".join(notes)),
        Row(f"{who}: queries a client", f"{storms.queries_each:.1f}", target=f"<= {QUERIES_TARGET:.0f}",
            is_met=storms.queries_each <= QUERIES_TARGET,
            notes=f"beside {storms.background_per_s:.0f} a second without a storm"),
        Row(f"{who}: event loop lag, p99", f"{1e3 * storms.lag.p99_s:.0f} ms", target=f"<= {1e3 * LAG_TARGET_S:.0f} ms",
            is_met=storms.lag.p99_s <= LAG_TARGET_S,
            notes=f"of {storms.lag.looks} looks, ten a second; none beyond {1e3 * storms.lag.most_s:.0f} ms"),
    ]  # fmt: skip


def quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))]

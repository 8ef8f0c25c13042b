"""Coming and going: five sockets a second that connect, subscribe, send, hear themselves and leave, for half an hour.

What a server keeps of those who have left shows in its memory, and in what it holds elsewhere: its tasks, its open
files, its topics in Redis, its connections to Postgres. A crowd comes and goes before the start's level is taken, so
that the pools are as full as they get; and both levels are taken once the feeds of those who left are closed.
"""

import asyncio
import secrets
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from server.hub.feeds import LINGER_S
from tests.load.line import Line
from tests.load.machine import rss_bytes
from tests.load.metrics_page import MetricsPage, wait_until_ready
from tests.load.peers import TEXT_LENGTH
from tests.load.people import Person, add_room
from tests.load.processes import BenchError
from tests.load.redis_process import Redis, redis_server
from tests.load.setting import Setting
from tests.load.studio_process import Server
from tests.load.table import Row

VISITS_PER_S = 5
PEOPLE = 100
ROOMS = 300  # three times as many as are left within a feed's last thirty seconds: feeds come and go, too
WARMING_VISITS = 60  # at once: more than both pools hold
WARM_UP_SHARE = 0.2
MAX_WARM_UP_S = 300.0
SAMPLE_EVERY_S = 5.0
QUICK_SECONDS = 20.0
QUICK_SAMPLE_EVERY_S = 1.0
CALM_S = 3.0
CALM_AFTER_S = LINGER_S + 2.0
BACK_WITHIN_S = 330.0  # a pool closes what it has not used for 300 s; everything else is back much sooner
SLOPE_TARGET_MB = 1.0
MIN_VERDICT_S = 600.0  # in less time the slope is that of a process which still warms up
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Levels:
    """What the server holds."""

    tasks: int
    open_files: int
    topics: int
    postgres: int  # connections

    def is_within(self, other: "Levels") -> bool:
        return all(mine <= theirs for mine, theirs in zip(self.numbers, other.numbers, strict=True))

    @property
    def numbers(self) -> tuple[int, ...]:
        return self.tasks, self.open_files, self.topics, self.postgres

    @property
    def text(self) -> str:
        return f"{self.tasks} tasks, {self.open_files} files, {self.topics} topics, {self.postgres} connections"


@dataclass(frozen=True, slots=True)
class Watched:
    """A server under churn, and where to look at what it holds."""

    server: Server
    redis: Redis
    dsn: str
    people: list[Person]
    rooms: list[str]

    async def levels(self) -> Levels:
        page = MetricsPage.of(self.server)
        return Levels(
            int(page.samples["chat_tasks"]),
            _open_files(self.server.pid),
            self.redis.channels(),
            await _connections(self.dsn),
        )


@dataclass(frozen=True, slots=True)
class Churned:
    """`memory` is (seconds, bytes), after the warm-up."""

    visits: int
    failures: list[str]
    memory: list[tuple[float, int]]


def measure(setting: Setting) -> list[Row]:
    seconds, every_s = setting.churn_minutes * 60, SAMPLE_EVERY_S
    if setting.is_quick:
        seconds, every_s = QUICK_SECONDS, QUICK_SAMPLE_EVERY_S
    with (
        redis_server(setting.cores.others, setting.work_dir) as redis,
        setting.studio.serving(setting.cores.server, redis_url=redis.url) as server,
    ):
        wait_until_ready(server)
        people = setting.people(PEOPLE)
        rooms = [add_room(server.port, people[0], people) for _ in range(ROOMS)]
        watched = Watched(server, redis, setting.studio.dsn, people, rooms)
        return asyncio.run(_measure(setting, watched, seconds, every_s))


async def _measure(setting: Setting, watched: Watched, seconds: float, every_s: float) -> list[Row]:
    setting.tell(f"{WARMING_VISITS} come and go at once")
    await asyncio.gather(*(_visit(watched, number) for number in range(WARMING_VISITS)))
    await asyncio.sleep(CALM_AFTER_S)
    start = await _highest(watched)
    setting.tell(f"{VISITS_PER_S} a second come and go, for {seconds / 60:.1f} minutes")
    churned = await _churn(watched, seconds, every_s)
    setting.tell("waiting for what they leave behind")
    end = await _until_back(watched, start)
    return [_slope_row(churned, seconds), _levels_row(churned, start, end)]


async def _churn(watched: Watched, seconds: float, every_s: float) -> Churned:
    loop = asyncio.get_running_loop()
    began = loop.time()
    warm_s = min(WARM_UP_SHARE * seconds, MAX_WARM_UP_S)
    visits: set[asyncio.Task[None]] = set()
    churned = Churned(0, [], [])
    count, sample_at = 0, warm_s

    def ended(visit: "asyncio.Task[None]") -> None:
        visits.discard(visit)
        if not visit.cancelled() and (error := visit.exception()) is not None:
            churned.failures.append(str(error))

    while (passed_s := loop.time() - began) < seconds:
        if passed_s >= sample_at:
            churned.memory.append((passed_s, rss_bytes(watched.server.pid)))
            sample_at += every_s
        visit = loop.create_task(_visit(watched, count))
        visits.add(visit)
        visit.add_done_callback(ended)
        count += 1
        await asyncio.sleep(began + count / VISITS_PER_S - loop.time())
    if visits:
        await asyncio.wait(visits)
    await asyncio.sleep(0)  # their callbacks
    return Churned(count, churned.failures, churned.memory)


async def _visit(watched: Watched, number: int) -> None:
    room = watched.rooms[number % ROOMS]
    line = await Line.open(watched.server, watched.people[number % PEOPLE])
    try:
        await line.subscribe({room: None})
        line.send(f"{secrets.token_hex(15)}-{number}", room, "a" * TEXT_LENGTH)
        await line.until_heard(1)
    finally:
        line.close()


async def _highest(watched: Watched) -> Levels:
    """Of a calm moment; what is done once in a while shows now and then."""
    seen = []
    until = time.monotonic() + CALM_S
    while time.monotonic() < until:
        seen.append((await watched.levels()).numbers)
        await asyncio.sleep(0.25)
    return Levels(*(max(column) for column in zip(*seen, strict=True)))


async def _until_back(watched: Watched, start: Levels) -> Levels:
    """At the start's levels, or where they are when the time is up."""
    until = time.monotonic() + BACK_WITHIN_S
    while not (levels := await watched.levels()).is_within(start) and time.monotonic() < until:
        await asyncio.sleep(1.0)
    return levels


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def _connections(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'chat-studio%'"
        )
        return count
    finally:
        await connection.close()


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares: by how much the second number grows with each of the first."""
    if len(points) < 2:
        raise BenchError("two samples are needed to see a slope")
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def _slope_row(churned: Churned, seconds: float) -> Row:
    mb_per_minute = slope([(at_s / 60, used / MB) for at_s, used in churned.memory])
    notes = f"{churned.memory[0][1] / MB:.1f} to {churned.memory[-1][1] / MB:.1f} MB, {len(churned.memory)} samples"
    is_long_enough = seconds >= MIN_VERDICT_S
    if not is_long_enough:
        notes += "; too short for a verdict (`--only churn` takes half an hour)"
    return Row(
        f"{VISITS_PER_S} sockets a second come and go, {seconds / 60:.1f} minutes: memory after the warm-up",
        f"{mb_per_minute:+.2f} MB a minute",
        target=f"<= {SLOPE_TARGET_MB:.0f} MB",
        is_met=mb_per_minute <= SLOPE_TARGET_MB if is_long_enough else None,
        notes=notes,
    )


def _levels_row(churned: Churned, start: Levels, end: Levels) -> Row:
    notes = f"{churned.visits:,} visits"
    if churned.failures:
        notes += f"; {len(churned.failures)} FAILED, such as: {churned.failures[0]}"
    return Row(
        "the same: what the server holds afterwards",
        end.text,
        f"at the start {start.text}",
        target="no more",
        is_met=end.is_within(start) and not churned.failures,
        notes=notes,
    )

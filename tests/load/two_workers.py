"""Two workers with Redis between them, and one with the bus in its memory: what it costs to be several.

Five hundred members of one room, half of them on each worker; who publishes is on the first. Both workers share the
server's core, so that a second of CPU is as long for two as for one; Postgres, Redis and the load share the other.
One worker and two take turns, each freshly started: beside an idle third one of the same database, either would do
part of its work for it.
"""

import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.load.fan_out import MANY, MEMBERS
from tests.load.latency import KEPT_UP, QUEUE_MS, RATE_PER_S
from tests.load.load_client import Load, Outcome
from tests.load.metrics_page import wait_until_ready
from tests.load.people import add_room
from tests.load.redis_process import Redis, redis_server
from tests.load.setting import CrowdedRoom, Setting
from tests.load.studio_process import Server
from tests.load.table import Pairs, Row, thousands

TARGET = 0.7
P99_TARGET_MS = 40.0
SECONDS = 2.0
STEADY_SECONDS = 4.0  # 400 messages a round: p99 is the fourth latest
IN_FLIGHT = (1, MANY)


@dataclass(frozen=True, slots=True)
class Measured:
    """One or two workers, by load: each series is one figure a round."""

    by_in_flight: dict[int, list[Outcome]] = field(default_factory=lambda: {count: [] for count in IN_FLIGHT})
    steady: list[Outcome] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Workers:
    """One, or two with a Redis; the room's `load` reaches both."""

    room: CrowdedRoom
    second: Server | None
    redis: Redis | None

    def run(self, setting: Setting, load: Load) -> Outcome:
        if self.second is None or self.redis is None:
            return setting.client.run(load, self.room.server.pid)
        spread = replace(load, beside_port=self.second.port)
        return setting.client.run(spread, self.room.server.pid, second=self.second.pid, redis=self.redis.pid)


def measure(setting: Setting) -> list[Row]:
    one, two = Measured(), Measured()
    with redis_server(setting.cores.others, setting.work_dir) as redis:
        tokens, room = _crowd(setting)
        for number in setting.rounds(3):
            with _workers(setting, room, tokens, None) as workers:
                _measure(setting, workers, one, f"one worker, round {number + 1}")
            with _workers(setting, room, tokens, redis) as workers:
                _measure(setting, workers, two, f"two workers, round {number + 1}")
                if number == 0:
                    _profile(setting, workers)
    return [*(_row(in_flight, one, two) for in_flight in IN_FLIGHT), *_late(one, two)]


def _crowd(setting: Setting) -> tuple[Path, str]:
    with setting.studio.serving(setting.cores.server) as server:
        people = setting.people(MEMBERS)
        room = add_room(server.port, people[0], people)
    return setting.tokens(people), room


@contextmanager
def _workers(setting: Setting, room: str, tokens: Path, redis: Redis | None) -> Iterator[Workers]:
    with ExitStack() as stack:
        url = redis.url if redis else None
        servers = [
            stack.enter_context(setting.studio.serving(setting.cores.server, redis_url=url))
            for _ in range(2 if redis else 1)
        ]
        for server in servers:
            wait_until_ready(server)
        crowded = CrowdedRoom(servers[0], room, tokens, MEMBERS, payload_bytes=0)
        yield Workers(crowded, servers[1] if redis else None, redis)


def _measure(setting: Setting, workers: Workers, into: Measured, what: str) -> None:
    for in_flight, series in into.by_in_flight.items():
        setting.tell(f"{what}: {in_flight} in flight")
        series.append(workers.run(setting, workers.room.load(in_flight=in_flight, seconds=SECONDS)))
    setting.tell(f"{what}: {RATE_PER_S} messages a second")
    into.steady.append(workers.run(setting, workers.room.load(rate_per_s=RATE_PER_S, seconds=STEADY_SECONDS)))


def _profile(setting: Setting, workers: Workers) -> None:
    """The publisher's worker, then the other, which only hears by way of Redis."""
    load = workers.room.load(in_flight=MANY, seconds=4)
    for name, server in (("first", workers.room.server), ("second", workers.second)):
        if server is not None:
            setting.profile(f"two workers, {MANY} in flight: the {name}", server, lambda: workers.run(setting, load))


def _row(in_flight: int, one: Measured, two: Measured) -> Row:
    ours, beside = two.by_in_flight[in_flight], one.by_in_flight[in_flight]
    pairs = Pairs.of([o.per_cpu_s for o in ours], [o.per_cpu_s for o in beside])
    has_target = in_flight == MANY
    return Row(
        f"{MEMBERS} members on two workers, {in_flight} in flight: deliveries a CPU s of both",
        thousands(pairs.ours),
        f"one worker {thousands(pairs.beside)}",
        pairs.text,
        f">= {TARGET}" if has_target else "",
        pairs.ratio >= TARGET if has_target else None,
        f"two: {_costs(ours)}; one: {_costs(beside)}",
    )


def _late(one: Measured, two: Measured) -> list[Row]:
    figure = f"send to last of {MEMBERS} members on two workers, {RATE_PER_S} messages a second"
    kept_up = all(map(_kept_up, two.steady))
    notes = "from the offer, so the way to the commit is in it; " + _costs(two.steady)
    p50_ms, p99_ms = (statistics.median(getattr(o, name) for o in two.steady) for name in ("p50_ms", "p99_ms"))
    one_p50_ms, one_p99_ms = (statistics.median(getattr(o, name) for o in one.steady) for name in ("p50_ms", "p99_ms"))
    return [
        Row(f"{figure}: p50", f"{p50_ms:.1f} ms", f"one worker {one_p50_ms:.1f} ms", f"{p50_ms / one_p50_ms:.2f}"),
        Row(
            f"{figure}: p99",
            f"{p99_ms:.1f} ms",
            f"one worker {one_p99_ms:.1f} ms",
            f"{p99_ms / one_p99_ms:.2f}",
            f"<= {P99_TARGET_MS:.0f} ms",
            kept_up and p99_ms <= P99_TARGET_MS,
            notes if kept_up else f"DID NOT KEEP UP; {notes}",
        ),
    ]


def _kept_up(outcome: Outcome) -> bool:
    return outcome.deliveries >= KEPT_UP * RATE_PER_S * STEADY_SECONDS * MEMBERS and outcome.p50_ms < QUEUE_MS


def _costs(outcomes: list[Outcome]) -> str:
    server, postgres, redis = (
        sum(spent) for spent in zip(*((o.server_cpu_s, o.postgres_cpu_s, o.redis_cpu_s) for o in outcomes), strict=True)
    )
    beside = f" + Redis {redis:.2f}" if redis else ""
    return f"server {server:.2f} + Postgres {postgres:.2f}{beside} CPU s"

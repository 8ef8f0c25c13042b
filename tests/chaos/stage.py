"""One fault played out: a crowd talks, something breaks, the crowd goes on, and everything is counted afterwards.

In:   a running cluster, a fault, a size.
Out:  an `Outcome`: what the fault broke, and how long it took to be whole again. The cluster is whole again, too.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import measures
from tests.chaos.checker import REVOCATION_S, Violation, summary, violations
from tests.chaos.cluster import Cluster
from tests.chaos.crowd import Crowd, Size
from tests.chaos.history import AnyRecord, now
from tests.chaos.proxy import Mode
from tests.chaos.redis_commands import Tampering
from tests.chaos.snapshot import Snapshot

WARM_S = 1.0  # everybody has said something before it breaks
GO_ON_S = 2.0  # and goes on when it is mended
SETTLE_S = 40.0


class Stage:
    """What a fault works with. `begin` and `end` mark when it was there."""

    def __init__(self, cluster: Cluster, crowd: Crowd, rng: random.Random, seconds: float) -> None:
        self.cluster = cluster
        self.crowd = crowd
        self.rng = rng
        self.seconds = seconds  # how long a fault that lasts is to last
        self.began = 0.0
        self.ended = 0.0
        self.died_at = 0.0  # when a worker was killed that had something in hand
        self.notes: list[str] = []
        self.faults: list[str] = []  # what the fault itself found wrong
        self.late: list[str] = []  # what it found too slow
        self.slow: frozenset[str] = frozenset()  # devices that read slowly on purpose

    def begin(self) -> None:
        self.began = now()

    def end(self) -> None:
        self.ended = now()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def expect(self, is_so: bool, what: str) -> None:
        """A promise of this fault alone."""
        if not is_so:
            self.faults.append(what)

    def expect_within(self, took_s: float, limit_s: float, what: str) -> None:
        """A promised time: it holds on a machine that does nothing else."""
        if took_s > limit_s:
            self.late.append(f"{what}: {took_s:.1f} s, promised are {limit_s:g}")

    @property
    def records(self) -> Sequence[AnyRecord]:
        return self.crowd.history.records


Play = Callable[[Stage], Awaitable[None]]
Afterwards = Callable[[Stage, Snapshot], None]


def nothing_more(stage: Stage, stored: Snapshot) -> None:
    """Most faults are judged by the checker alone."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`limit_s` bounds the repair time: of all devices, or of the fastest 95 in a hundred where `is_p95`. It counts
    from the begin where `goes_on`, else from the end. `seconds` is how long it lasts unless told otherwise.
    """

    name: str
    what: str  # one line for the table
    play: Play
    limit_s: float
    promise: str
    goes_on: bool = True
    is_p95: bool = False
    needs_redis: bool = False
    seconds: float = 2.0
    revocation_s: float = REVOCATION_S
    may_reset: bool = False
    kicks: bool = True  # off where the network itself is slow: what it holds back was sent before the right was lost
    afterwards: Afterwards = nothing_more


@dataclass(slots=True)
class Outcome:
    fault: Fault
    repair_s: float
    repair_p95_s: float
    events: int
    violations: list[Violation]
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    dump: Path | None = None

    @property
    def is_met(self) -> bool:
        return not self.problems

    @property
    def broken(self) -> list[str]:
        """What no machine may be too slow for, one line each."""
        return [*self.faults, *([summary(self.violations)] if self.violations else [])]

    @property
    def problems(self) -> list[str]:
        """What is not as promised: that, and what took too long."""
        found = [*self.broken, *self.late]
        measured = self.repair_p95_s if self.fault.is_p95 else self.repair_s
        if measured > self.fault.limit_s:
            found.append(f"{measured:.2f} s, promised are {self.fault.limit_s:g}")
        if self.dump is not None and found:
            found.append(f"the history is in {self.dump}")
        return found


async def play(cluster: Cluster, fault: Fault, size: Size, *, seed: int, seconds: float | None = None) -> Outcome:
    crowd = Crowd(cluster, size, seed)
    stage = Stage(cluster, crowd, random.Random(seed), seconds or fault.seconds)
    try:
        crowd.may_kick = fault.kicks
        await crowd.gather()
        crowd.begin()
        await asyncio.sleep(WARM_S)
        stage.begin()
        await fault.play(stage)
        if not stage.ended:
            stage.end()
        await asyncio.sleep(GO_ON_S)
        await crowd.hush()
        if left := await crowd.settle(SETTLE_S):
            stage.expect(is_so=False, what=f"not settled: {left}")
    finally:
        await crowd.disperse()
        await mend(cluster)
    stored = await crowd.snapshot()
    return judge(stage, fault, stored)


def judge(stage: Stage, fault: Fault, stored: Snapshot) -> Outcome:
    records = stage.records
    late = list(measures.lateness(records, stored, stage.began if fault.goes_on else stage.ended).values())
    resets = sum(device.recorder.resets for device in stage.crowd.devices)
    stage.expect(fault.may_reset or not resets, f"{resets} resets, where everything could have been resumed")
    fault.afterwards(stage, stored)
    found = violations(records, stored, revocation_s=fault.revocation_s)
    outcome = Outcome(
        fault, max(late, default=0.0), measures.percentile(late, 0.95), len(stored.log),
        found, stage.notes, stage.faults, stage.late,
    )  # fmt: skip
    if outcome.problems:
        outcome.dump = stage.crowd.history.dump(stage.cluster.folder / f"{fault.name}.jsonl")
    return outcome


async def mend(cluster: Cluster) -> None:
    """Whatever the fault left broken."""
    cluster.publishes.set(Tampering.NONE)
    for proxy in cluster.all_proxies():
        proxy.set(Mode.PASS)
    for worker in cluster.workers:
        if worker.is_running:
            worker.order("clock 0")
    await cluster.start_all()

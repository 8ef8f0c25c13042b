"""Workers that die, stand still, are replaced, or have a wrong clock."""

import asyncio
import signal

from tests.chaos import measures
from tests.chaos.history import Acked, Saw
from tests.chaos.snapshot import Snapshot
from tests.chaos.stage import Fault, Stage
from tests.chaos.worker import Point

NTH = 5  # the pass at which a worker kills itself: with others before it that went well
DEATH_TIMEOUT_S = 20.0
DRAIN_S = 30.0  # P11
AN_HOUR_S = 3600


async def kill_one(stage: Stage) -> None:
    worker = stage.rng.choice(stage.cluster.workers)
    await worker.kill()


def kill_at(point: Point) -> Fault:
    async def play(stage: Stage) -> None:
        worker = stage.rng.choice(stage.cluster.workers)
        worker.order(f"kill {point} {NTH}")
        code = await worker.ended(DEATH_TIMEOUT_S)
        stage.begin()
        stage.expect(code == -signal.SIGKILL, f"the worker was to die at {point}, and ended with {code}")

    return Fault(
        f"kill-{point}".replace("_", "-"), f"a worker dies {str(point).replace('_', ' ')}", play, 5.0, "P1 P2 P6",
        is_p95=True,
    )  # fmt: skip


async def kill_all(stage: Stage) -> None:
    await asyncio.gather(*(worker.kill() for worker in stage.cluster.workers))
    await stage.cluster.start_all()


async def pause(stage: Stage) -> None:
    worker = stage.rng.choice(stage.cluster.workers)
    worker.tell(signal.SIGSTOP)
    await asyncio.sleep(stage.seconds)
    worker.tell(signal.SIGCONT)


async def turn_clocks(stage: Stage) -> None:
    for worker, offset_s in zip(stage.cluster.workers, (AN_HOUR_S, -AN_HOUR_S), strict=False):
        worker.order(f"clock {offset_s}")
    await asyncio.sleep(stage.seconds)


def clocks_were_off(stage: Stage, stored: Snapshot) -> None:
    """The log says so: each event is dated by the worker that took it."""
    known: dict[tuple[str, int], float] = {}
    for record in stage.records:
        if isinstance(record, Saw | Acked):
            known.setdefault((record.room, record.seq), record.t)
    off_s = [entry.at - known[entry.room, entry.seq] for entry in stored.log if (entry.room, entry.seq) in known]
    ahead = sum(each > AN_HOUR_S / 2 for each in off_s)
    behind = sum(each < -AN_HOUR_S / 2 for each in off_s)
    stage.note(f"{ahead} events dated an hour ahead, {behind} behind")
    stage.expect(ahead > 0 and behind > 0, "the clocks of the workers were not off")


async def stop_each(stage: Stage) -> None:
    """As an operator restarts them: one after the other, while people talk."""
    for worker in stage.cluster.workers:
        before = asyncio.get_running_loop().time()
        code = await worker.stop()
        took_s = asyncio.get_running_loop().time() - before
        stage.note(f"drained in {took_s:.1f} s")
        stage.expect(code == 0, f"a drained worker ended with {code}")
        stage.expect_within(took_s, DRAIN_S, "draining a worker")
        await worker.start()


def nobody_was_refused(stage: Stage, stored: object) -> None:
    refused = measures.refusals(stage.records, stage.began, stage.ended)
    hard = [each for each in refused if not each.is_retryable and each.code not in ("not_found", "forbidden")]
    stage.expect(not hard, f"{len(hard)} refusals that cannot be retried, such as {hard[:1]}")


FAULTS = [
    Fault("kill-worker", "kill -9 of a worker", kill_one, 5.0, "P1 P6", is_p95=True),
    *(kill_at(point) for point in Point),
    Fault("kill-all", "kill -9 of all workers; they come back", kill_all, 5.0, "P1 P6", goes_on=False, is_p95=True),
    Fault("pause", "a worker stands still (SIGSTOP)", pause, 5.0, "P4 P6", goes_on=False, seconds=15.0),
    Fault("clock", "two workers with clocks off by an hour", turn_clocks, 5.0, "P4", seconds=4.0,
          afterwards=clocks_were_off),
    Fault("drain", "SIGTERM to each worker in turn", stop_each, 5.0, "P11", afterwards=nobody_was_refused),
]  # fmt: skip

"""Answers of models whose worker dies."""

import asyncio
from contextlib import suppress

from tests.chaos.history import Saw, now
from tests.chaos.snapshot import Snapshot
from tests.chaos.stage import Fault, Stage

MARKED_WITHIN_S = 30.0  # P8
ANSWER_TIMEOUT_S = 10.0


async def kill_carrier(stage: Stage) -> None:
    """The worker that took the question carries the answer: it dies in the middle of it."""
    crowd = stage.crowd
    device = next(device for device in crowd.devices if device.is_here)
    asked = device.ask("run", crowd.rooms[0].id)
    answer = await asyncio.wait_for(asked.settled, ANSWER_TIMEOUT_S)
    stage.expect(answer["type"] == "ack", f"no run: {answer}")
    await asyncio.sleep(0.4)
    await crowd.cluster.workers[device.node % len(crowd.cluster.workers)].kill()
    stage.begin()
    with suppress(TimeoutError):
        await crowd.until(lambda: _ends(stage) > 0, MARKED_WITHIN_S + 5)
    stage.note(f"marked after {now() - stage.began:.0f} s")
    stage.expect_within(now() - stage.began, MARKED_WITHIN_S, "marking the run")


def _ends(stage: Stage) -> int:
    return sum(isinstance(record, Saw) and record.kind == "run.ended" for record in stage.records)


def it_was_interrupted(stage: Stage, stored: Snapshot) -> None:
    ended = [run.status for run in stored.runs]
    stage.expect(ended == ["interrupted"], f"the runs ended as {ended}")


FAULTS = [
    Fault("kill-carrier", "the worker that carries an answer dies", kill_carrier, 5.0, "P8", is_p95=True,
          afterwards=it_was_interrupted),
]  # fmt: skip

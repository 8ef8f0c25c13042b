"""Answers of models whose worker dies."""

import asyncio
from contextlib import suppress

from tests.chaos import measures
from tests.chaos.history import Saw, Streamed, now
from tests.chaos.snapshot import Snapshot
from tests.chaos.stage import Fault, Stage

MARKED_WITHIN_S = 30.0  # P8
ANSWER_TIMEOUT_S = 10.0
TEXT_LOST_S = 1.0  # P8
SLACK_S = 0.2  # for writing the checkpoint down
SPEAK_S = 1.7  # before it dies: with a checkpoint each second, one that is never made would be noticed


async def kill_carrier(stage: Stage) -> None:
    """The worker that took the question carries the answer: it dies in the middle of it."""
    crowd = stage.crowd
    device = next(device for device in crowd.devices if device.is_here)
    asked = device.ask("run", crowd.rooms[0].id)
    answer = await asyncio.wait_for(asked.settled, ANSWER_TIMEOUT_S)
    stage.expect(answer["type"] == "ack", f"no run: {answer}")
    await crowd.until(lambda: any(isinstance(record, Streamed) for record in stage.records), ANSWER_TIMEOUT_S)
    await asyncio.sleep(SPEAK_S)
    stage.died_at = now()
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
    for run in stored.runs:
        heard = measures.streamed_text(stage.records, run.id)
        both = min(len(heard), len(run.text))
        stage.expect(both > 0, "the answer was not seen, or nothing of it was kept")
        stage.expect(heard[:both] == run.text[:both], f"{heard!r} was seen, and {run.text!r} was kept")
        lost_s = measures.text_lost_s(stage.records, run.id, run.text, stage.died_at)
        stage.note(f"{lost_s:.1f} s of text lost ({len(heard) - both} of {len(heard)} code points)")
        stage.expect_within(lost_s, TEXT_LOST_S + SLACK_S, "the text that was lost")


FAULTS = [
    Fault("kill-carrier", "the worker that carries an answer dies", kill_carrier, 5.0, "P8", is_p95=True,
          afterwards=it_was_interrupted),
]  # fmt: skip

"""Days of real #ubuntu IRC over real sockets against a real server: everybody sees every message, once, in one order,
byte for byte; whether the server stays up, is killed in the middle, or is stopped and started again.

TEST_REPLAY_DAYS is the number of days to replay (`all` for all), TEST_SEED repeats the moments of an earlier run's
kills.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.irc_replay import LOGS, Replay, days, lines_of, usernames_for
from tests.running_studio import Person
from tests.studio_process import StudioProcess

DAYS = days()
# Few and many people, with IRC's own odd characters among them; one more for the kills.
SHORT_RUN = [day for day in DAYS if day.name[:10] in ("2005-05-19", "2012-06-02")]
DAY_OF_KILLS = next((day for day in DAYS if day.name.startswith("2005-06-20")), None)
MAX_IN_FLIGHT = 48

pytestmark = pytest.mark.skipif(not DAYS, reason=f"NO REPLAY OF REAL CHAT: there are no IRC logs in {LOGS}")


def days_to_replay() -> list[Path]:
    wanted = os.environ.get("TEST_REPLAY_DAYS", "")
    return SHORT_RUN if not wanted else DAYS if wanted == "all" else DAYS[: int(wanted)]


@pytest.mark.parametrize("day", days_to_replay(), ids=lambda day: day.name[:10])
async def test_every_member_sees_every_message_once_in_one_order(started_studio: StudioProcess, day: Path) -> None:
    async with replay_of(started_studio, day) as replay:
        await replay.finish()
        replay.check()
        await replay.check_stored()


async def test_kills_in_mid_flight_lose_and_double_nothing(started_studio: StudioProcess) -> None:
    seed = int(os.environ.get("TEST_SEED", random.randrange(1_000_000)))
    print(f"TEST_SEED={seed}")
    moments = random.Random(seed)
    assert DAY_OF_KILLS is not None
    async with replay_of(started_studio, DAY_OF_KILLS) as replay:
        asker = next(iter(replay.talkers.values())).person
        answer = await begin_answer(asker)
        for _ in range(3):
            saying = asyncio.create_task(replay.say_some(moments.randrange(150, 300)))
            await until_said(replay, replay.said + moments.randrange(20, 140))
            await asyncio.sleep(moments.random() * 0.03)
            await started_studio.kill()
            await started_studio.start()
            await saying
        await replay.until_all_are_here()
        await replay.finish()
        replay.check()
        await replay.check_stored()
        assert sum(talker.repeated for talker in replay.talkers.values()) > 0, "no kill met a message in flight"
        await check_interrupted(asker, answer)


async def test_a_stop_in_mid_traffic_tells_everybody_when_to_come_back(started_studio: StudioProcess) -> None:
    assert DAY_OF_KILLS is not None
    async with replay_of(started_studio, DAY_OF_KILLS) as replay:
        saying = asyncio.create_task(replay.say_some(600))
        await until_said(replay, 200)
        assert await started_studio.stop(signal.SIGTERM) == 0
        assert not started_studio.runs_postgres()
        for talker in replay.talkers.values():
            assert talker.closes == [1012]
            assert len(talker.drains) == 1
        wishes = [talker.drains[0] for talker in replay.talkers.values()]
        assert max(wishes) - min(wishes) > 1000, "all would come back at once"
        await started_studio.start()
        await saying
        await replay.until_all_are_here()  # with the tokens of before
        await replay.finish()
        replay.check()
        await replay.check_stored()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the demo model that somebody has begun to read."""

    room: str
    run: str
    text: str


async def begin_answer(person: Person) -> Answer:
    """Listen for a bit more than the second after which its text is kept; it would go on for two more."""
    made = await person.call("POST", "/api/conversations", {"kind": "assistant", "title": "an answer"}, expect=201)
    async with person.socket("/ws", made["id"]) as socket:
        await socket.say(made["id"], "please tell me")
        run = (await socket.event("run.started"))["data"]["run"]
        await asyncio.sleep(1.4)
        await socket.settle()
        return Answer(made["id"], run, "".join(frame["text"] for frame in socket.seen if frame["type"] == "delta"))


async def check_interrupted(person: Person, answer: Answer) -> None:
    """An answer whose server was killed has ended within half a minute, with what it had said a second before."""
    async with asyncio.timeout(30):
        while True:
            log = await person.call("GET", f"/api/conversations/{answer.room}/events", expect=200)
            ended = [event["data"] for event in log["events"] if event["kind"] == "run.ended"]
            if ended:
                break
            await asyncio.sleep(0.3)
    assert [(data["run"], data["status"]) for data in ended] == [(answer.run, "interrupted")]
    assert ended[0]["text"]
    assert answer.text.startswith(ended[0]["text"]) or ended[0]["text"].startswith(answer.text)


async def until_said(replay: Replay, count: int) -> None:
    async with asyncio.timeout(30):
        while replay.said < count:
            await asyncio.sleep(0.001)


@asynccontextmanager
async def replay_of(studio: StudioProcess, day: Path) -> AsyncIterator[Replay]:
    lines = lines_of(day)
    replay = Replay(lines, await studio.people(usernames_for(lines)), MAX_IN_FLIGHT)
    await replay.open()
    try:
        yield replay
    finally:
        await replay.close()

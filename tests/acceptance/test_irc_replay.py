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
from pathlib import Path

import pytest

from tests.irc_replay import LOGS, Replay, days, lines_of, usernames_for
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
        for _ in range(3):
            saying = asyncio.create_task(replay.say_some(moments.randrange(150, 300)))
            await until_said(replay, replay.said + moments.randrange(20, 140))
            await asyncio.sleep(moments.random() * 0.03)
            await started_studio.kill()
            await started_studio.start()
            await saying
        await replay.finish()
        replay.check()
        await replay.check_stored()
        assert sum(talker.repeated for talker in replay.talkers.values()) > 0, "no kill met a message in flight"


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
        await saying  # with the tokens of before
        await replay.finish()
        replay.check()
        await replay.check_stored()


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

"""Studios in processes of their own, for what only such can show: starts, stops and kills."""

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Protocol

import pytest

from server.ai.scripted import ScriptedModel
from server.storage.database import Database
from tests.running_studio import Person, RunningStudio, run_studio
from tests.studio_process import StudioProcess, copy_data_dir, make_people, studio_on

NUMBERS = count(1)


class MakePeople(Protocol):
    async def __call__(self, *names: str, role: str = "member") -> list[Person]: ...


@pytest.fixture(scope="session")
async def made_studio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a studio after its first start and an orderly stop; to be copied, not used."""
    data_dir = tmp_path_factory.mktemp("made-studio") / "data"
    async with studio_on(data_dir, CHAT_STUDIO_SAMPLE_ROOM="off") as studio:
        await studio.start()
        assert await studio.stop() == 0
    return data_dir


@pytest.fixture
async def stopped_studio(made_studio: Path, tmp_path: Path) -> AsyncIterator[StudioProcess]:
    """A studio that was started before, and stopped."""
    async with studio_on(copy_data_dir(made_studio, tmp_path / "data")) as studio:
        yield studio


@pytest.fixture
async def started_studio(stopped_studio: StudioProcess) -> StudioProcess:
    await stopped_studio.start()
    return stopped_studio


@pytest.fixture(scope="module")
async def shared_studio(module_database: Database) -> AsyncIterator[RunningStudio]:
    """One for all tests of a file, which meet in it as strangers: each makes people and rooms of its own."""
    async with run_studio(module_database, models=[ScriptedModel(pace_s=0.004)]) as running:
        yield running


@pytest.fixture
async def people(shared_studio: RunningStudio) -> AsyncIterator[MakePeople]:
    """Members of the studio, with an access token each and no password; their names end in a number."""
    made: list[Person] = []

    async def make(*names: str, role: str = "member") -> list[Person]:
        unique = [f"{name}-{next(NUMBERS)}" for name in names]
        new = await make_people(shared_studio.parts.database, shared_studio.port, unique, role)
        made.extend(new)
        return new

    yield make
    for person in made:
        await person.http.aclose()

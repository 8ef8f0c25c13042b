"""Studios in processes of their own, for what only such can show: starts, stops and kills."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.running_studio import Person, RunningStudio
from tests.studio_process import StudioProcess, copy_data_dir, make_people, studio_on


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


@pytest.fixture
async def people(studio: RunningStudio) -> MakePeople:
    """Members of the studio by name, with an access token each and no password."""

    async def make(*names: str, role: str = "member") -> list[Person]:
        made = await make_people(studio.parts.database, studio.port, names, role)
        for person in made:
            await studio.stack.enter_async_context(person)
        return made

    return make

"""Data directories for the tests of the studio's own Postgres."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.storage.embedded_postgres.sandbox import Sandbox


@pytest.fixture(scope="session")
async def made_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After a first start and an orderly stop; to be copied, not used."""
    sandbox = Sandbox(tmp_path_factory.mktemp("made") / "data")
    await sandbox.postgres().start()
    await sandbox.clean_up()
    return sandbox.data_dir


@pytest.fixture
async def new(tmp_path: Path) -> AsyncIterator[Sandbox]:
    """Nothing there yet."""
    sandbox = Sandbox(tmp_path / "data")
    yield sandbox
    await sandbox.clean_up()


@pytest.fixture
async def made(made_data_dir: Path, new: Sandbox) -> Sandbox:
    """Started and stopped before."""
    new.take_copy_of(made_data_dir)
    return new

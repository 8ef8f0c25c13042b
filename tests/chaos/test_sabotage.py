"""Every sabotage turns the check red that is named for it, and an honest worker none."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.chaos import sabotage
from tests.chaos.checker import Check, summary
from tests.chaos.cluster import PostgresNode
from tests.chaos.sabotage import SABOTAGES

TOGETHER = 3  # each mostly waits


@pytest.fixture(scope="module")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PostgresNode]:
    async with sabotage.servers(tmp_path_factory.mktemp("sabotage")) as running:
        yield running


async def test_every_sabotage_is_noticed_and_an_honest_worker_is_not(postgres: PostgresNode) -> None:
    turns = asyncio.Semaphore(TOGETHER)

    async def red(name: str) -> set[Check]:
        async with turns:
            return {violation.check for violation in await sabotage.try_it(postgres, name)}

    async def honest() -> str:
        async with turns:
            return summary(await sabotage.try_without(postgres))

    found, *reds = await asyncio.gather(honest(), *map(red, SABOTAGES))
    unnoticed = {
        name: (entry.check, seen)
        for (name, entry), seen in zip(SABOTAGES.items(), reds, strict=True)
        if entry.check not in seen
    }
    assert unnoticed == {}
    assert found == ""


def test_every_promise_that_can_be_broken_by_a_worker_is_broken() -> None:
    """Those left are broken by the network, or would need a worker that invents messages."""
    others = {Check.INVENTED, Check.UNANSWERED, Check.CONTRADICTED, Check.WRONG_BYTES}
    assert {entry.check for entry in SABOTAGES.values()} == set(Check) - others

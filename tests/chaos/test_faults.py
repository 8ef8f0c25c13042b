"""The faults that fit into a minute, one after the other on one cluster; `make chaos` plays all of them.

The bounds of the repair times belong to `make chaos` on a machine that does nothing else: here only what is lost,
doubled, reordered … counts.
"""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.chaos.checker import REVOCATION_S
from tests.chaos.cluster import Cluster, cluster
from tests.chaos.crowd import SMALL, irc_is_here
from tests.chaos.faults import FAULTS
from tests.chaos.stage import play
from tests.redis_server import RedisServer

BOUNDED = [
    "kill-in-commit", "kill-before-publish", "postgres-terminate", "redis-kill", "publish-drop", "copies", "drain",
    "revocation",
]  # fmt: skip

SLOW_MACHINE_S = 10.0  # until nothing may arrive any more: where tests run, others run too
# With Redis, and for those whose right is not given back before the end: longer than the run, the bound would not bind.
BOUNDS_S = {"revocation": REVOCATION_S}

needs_redis = pytest.mark.skipif(not RedisServer.is_here(), reason="there is no redis-server on this machine")
needs_irc = pytest.mark.skipif(not irc_is_here(), reason="the IRC logs are not beside this checkout")


@pytest.fixture(scope="module")
async def three_workers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path_factory.mktemp("chaos"), 3) as running:
        yield running


@needs_redis
@needs_irc
@pytest.mark.parametrize("name", BOUNDED)
async def test_nothing_is_broken_by(name: str, three_workers: Cluster) -> None:
    fault = replace(FAULTS[name], revocation_s=BOUNDS_S.get(name, SLOW_MACHINE_S))
    outcome = await play(three_workers, fault, SMALL, seed=1)
    assert outcome.broken == []
    assert outcome.events > SMALL.rate_per_s

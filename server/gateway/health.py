"""What operators ask: does the process live, should it get traffic, and how is it doing."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.hub.studio import Studio
from server.protocol.codec import encode
from server.protocol.errors import ChatError
from server.telemetry import metrics

Check = Callable[[], Awaitable[object]]


class Health:
    """`database` is one cheap query; `is_bus_healthy` asks the bus; `of_all_workers` is their page of metrics."""

    def __init__(
        self,
        studio: Studio,
        database: Check,
        is_bus_healthy: Callable[[], bool],
        queue_depth: Callable[[], int],
        of_all_workers: Callable[[], Awaitable[bytes]] | None = None,
    ) -> None:
        self._studio = studio
        self._database = database
        self._is_bus_healthy = is_bus_healthy
        self._of_all_workers = of_all_workers
        metrics.feeds.set_function(lambda: studio.hub.feed_count)
        metrics.queue_depth.set_function(queue_depth)
        metrics.tasks.set_function(lambda: len(asyncio.all_tasks()))

    def routes(self) -> list[Route]:
        return [
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
        ]

    async def healthz(self, request: Request) -> Response:
        """The process lives and its event loop turns."""
        return _json(200, {"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Whether new people should be sent here, and if not, why."""
        problems = []
        if self._studio.is_draining:
            problems.append("draining")
        if not self._is_bus_healthy():
            problems.append("bus")
        try:
            await self._database()
        except ChatError:
            problems.append("database")
        return _json(503 if problems else 200, {"status": "not ready" if problems else "ready", "problems": problems})

    async def metrics(self, request: Request) -> Response:
        page = metrics.exposition() if self._of_all_workers is None else await self._of_all_workers()
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")


def _json(status: int, body: object) -> Response:
    return Response(encode(body), status, media_type="application/json")

"""Several workers on one Postgres and one Redis, each of which can be hurt while the others look on.

In:   a folder of its own; how many workers, and which promise they are to break from the start, if any.
Out:  addresses of workers, verbs that hurt, and a way past all proxies to the database.
Promises: every worker reaches Postgres and Redis, and may be reached, through a proxy. Ports stay the same through
restarts and lie below those that the kernel gives to clients. What was started is ended by its pid, Postgres too.

    people ── front proxy ── worker ──┬── proxy ── Postgres
                                      └── proxy ── Redis
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from copy import copy
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit, urlunsplit

import asyncpg

import server
from server.storage.embedded_postgres import EmbeddedPostgres, process
from tests.chaos.proxy import Proxy, tcp, unix
from tests.chaos.redis_commands import Order, PublishFilter
from tests.redis_server import RedisServer, redis_in
from tests.studio_process import GREETING, clean_environment, free_port

ROOT = Path(server.__file__).parents[1]
START_TIMEOUT_S = 60.0  # a second on an idle machine; three start at once, beside whatever else it does
STOP_TIMEOUT_S = 30.0  # P11
TAIL_BYTES = 3000


class Worker:
    """One process with its proxies. `number` is its place in the cluster."""

    def __init__(self, number: int, folder: Path, sabotage: str | None) -> None:
        self.number = number
        self.port = free_port()
        self.log = folder / f"worker-{number}.log"
        self.front = Proxy(tcp(self.port))
        self.to_postgres: Proxy | None = None
        self.to_redis: Proxy | None = None
        self._folder = folder
        self._sabotage = sabotage
        self._running: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[bytes] | None = None
        self._addresses: dict[str, str] = {}

    def reach(self, database_url: str, redis_url: str | None) -> None:
        self._addresses = {"DATABASE_URL": database_url} | ({"REDIS_URL": redis_url} if redis_url else {})

    @property
    def is_running(self) -> bool:
        return self._running is not None and self._running.returncode is None

    @property
    def pid(self) -> int:
        assert self._running is not None
        return self._running.pid

    async def start(self) -> None:
        """Returns once it serves."""
        own = {"CHAT_STUDIO_RATE_LIMITS": "off", "CHAT_STUDIO_SAMPLE_ROOM": "off", **self._addresses}
        if self._sabotage:
            own["CHAOS_SABOTAGE"] = self._sabotage
        # A folder of its own, without a chat-studio.yaml; this checkout, wherever it stands, is found by its path.
        command = [sys.executable, "-m", "tests.chaos.worker", "serve", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._running = await asyncio.create_subprocess_exec(
                *command, env=clean_environment({**own, "PYTHONPATH": str(ROOT)}), cwd=self._folder,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert self._running.stdout is not None
        first = await asyncio.wait_for(self._running.stdout.readline(), START_TIMEOUT_S)
        assert GREETING.fullmatch(first.decode()), f"worker {self.number} did not start: {first!r}\n{self.tail()}"
        self._reading = asyncio.create_task(self._running.stdout.read())

    def order(self, line: str) -> None:
        """See `worker.Orders`."""
        assert self._running is not None
        assert self._running.stdin is not None
        self._running.stdin.write(f"{line}\n".encode())

    def tell(self, number: signal.Signals) -> None:
        assert self._running is not None
        self._running.send_signal(number)

    async def kill(self) -> None:
        self.tell(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """In order; the exit status."""
        self.tell(signal.SIGTERM)
        return await self.ended()

    async def ended(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait until it is gone, by whatever hand."""
        assert self._running is not None
        code = await asyncio.wait_for(self._running.wait(), timeout_s)
        if self._reading is not None:
            await self._reading
        self._running = None
        return code

    async def clean_up(self) -> None:
        if self.is_running:
            with suppress(ProcessLookupError):
                self.tell(signal.SIGCONT)
                await self.kill()

    def tail(self) -> str:
        """The end of what it logged."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            return log.read().decode(errors="replace")


class PostgresNode:
    """The real thing, as the studio itself would start it; reached over TCP by way of proxies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self._embedded = EmbeddedPostgres(self.data_dir)
        self.dsn = ""

    async def start(self) -> None:
        self.dsn = await self._embedded.start()

    async def with_database(self, name: str) -> Self:
        """Another empty database on the same server, to which everything else refers."""
        async with self.connection() as connection:
            await connection.execute(f'CREATE DATABASE "{name}"')
        other = copy(self)
        other.dsn = urlunsplit(urlsplit(self.dsn)._replace(path=f"/{name}"))
        return other

    @property
    def socket(self) -> Path:
        asked = parse_qs(urlsplit(self.dsn).query)
        return Path(asked["host"][0]) / f".s.PGSQL.{asked['port'][0]}"

    def address_at(self, port: int) -> str:
        """For a worker, through the proxy on `port`."""
        parts = urlsplit(self.dsn)
        return f"postgresql://{parts.username}:{parts.password}@127.0.0.1:{port}{parts.path}?sslmode=disable"

    def pid(self) -> int:
        postmaster = process.read_postmaster(self.data_dir / "postgres")
        assert postmaster is not None
        return postmaster.pid

    def kill(self) -> None:
        os.kill(self.pid(), signal.SIGKILL)

    async def backends(self) -> list[int]:
        """The processes that serve the workers' connections."""
        async with self.connection() as connection:
            rows = await connection.fetch(
                "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'chat-studio%' "
                "AND pid <> pg_backend_pid()"
            )
        return [row["pid"] for row in rows]

    async def terminate_connections(self) -> int:
        async with self.connection() as connection:
            ended: int = await connection.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name LIKE 'chat-studio%' AND pid <> pg_backend_pid()"
            )
        return ended

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Past every proxy."""
        connection = await asyncpg.connect(self.dsn)
        try:
            yield connection
        finally:
            connection.terminate()

    async def stop(self) -> None:
        await self._embedded.stop()


class Cluster:
    def __init__(self, folder: Path, postgres: PostgresNode, redis: RedisServer | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.postgres = postgres
        self.redis = redis
        self.publishes = Order()
        self.workers: list[Worker] = []

    async def add_worker(self, stack: AsyncExitStack, sabotage: str | None = None) -> Worker:
        """Its proxies are open, it is not started yet."""
        worker = Worker(len(self.workers), self.folder, sabotage)
        self.workers.append(worker)
        worker.to_postgres = Proxy(unix(self.postgres.socket))
        proxies = [worker.front, worker.to_postgres]
        if self.redis is not None:
            worker.to_redis = Proxy(tcp(self.redis.port), filter_of=lambda: PublishFilter(self.publishes))
            proxies.append(worker.to_redis)
        for proxy in proxies:
            await proxy.open(free_port())
            stack.push_async_callback(proxy.close)
        redis_url = f"redis://127.0.0.1:{worker.to_redis.port}/0" if worker.to_redis else None
        worker.reach(self.postgres.address_at(worker.to_postgres.port), redis_url)
        stack.push_async_callback(worker.clean_up)
        return worker

    async def start_all(self) -> None:
        """Those that do not run; the first alone where there is a schema to make."""
        await asyncio.gather(*(worker.start() for worker in self.workers if not worker.is_running))

    def all_proxies(self) -> list[Proxy]:
        behind = [proxy for w in self.workers for proxy in (w.to_postgres, w.to_redis) if proxy is not None]
        return [*behind, *(worker.front for worker in self.workers)]


@asynccontextmanager
async def cluster(
    folder: Path, workers: int = 3, *, with_redis: bool = True, sabotage: str | None = None
) -> AsyncIterator[Cluster]:
    """Running."""
    async with AsyncExitStack() as stack:
        postgres = PostgresNode(folder)
        await postgres.start()
        stack.push_async_callback(postgres.stop)
        redis = await stack.enter_async_context(redis_in(folder)) if with_redis else None
        made = await stack.enter_async_context(on_servers(folder, postgres, redis, workers, sabotage=sabotage))
        yield made


@asynccontextmanager
async def on_servers(
    folder: Path, postgres: PostgresNode, redis: RedisServer | None, workers: int, *, sabotage: str | None = None
) -> AsyncIterator[Cluster]:
    """Workers on servers that run already and go on when these workers are gone."""
    made = Cluster(folder, postgres, redis)
    if redis is not None:
        made.publishes.side.port = redis.port
    async with AsyncExitStack() as stack:
        for _ in range(workers):
            await made.add_worker(stack, sabotage)
        stack.push_async_callback(made.publishes.side.close)
        await made.start_all()
        yield made

"""Serving: from settings to a running studio, and back to nothing on a signal.

Order of a stop: the drain (see drain.py), the parts, the database, our own Postgres. A second signal is not needed:
every step has a deadline.
"""

import asyncio
import errno
import gc
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn
from loguru import logger

from server.app import Parts, make_app
from server.bus.redis_address import parse_address
from server.drain import Drain
from server.gateway.identity import is_loopback_host
from server.gateway.middleware import App
from server.gateway.websocket_protocol import PreparedFramesProtocol
from server.gateway.worker_metrics import WorkerMetrics
from server.hub.accounts import Accounts
from server.hub.sample_room import make_sample_room
from server.protocol.errors import ChatError
from server.protocol.frames import MAX_FRAME_BYTES
from server.settings import Settings
from server.storage.database import Database
from server.storage.database_identity import recognise
from server.storage.embedded_postgres import EmbeddedPostgres, PostgresError
from server.storage.schema import SchemaError, bring_up_to_date

BACKLOG = 4096  # a storm of reconnects waits in the kernel rather than being refused
WATCH_S = 1.0
PUT_AWAY_TIMEOUT_S = 5.0  # what remains of the 30 s of a stop when the drain has had its time

Announce = Callable[[Settings, Accounts, socket.socket], Awaitable[None]]


class StartError(Exception):
    """The studio cannot start; the message is one line for the operator."""


class Server(uvicorn.Server):
    """uvicorn without its signal handling: a stop is ours to order."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings) -> None:
    """Run as one process until SIGINT or SIGTERM."""
    check_redis_url(settings)
    with listening(settings) as listener:
        stop = Stop()
        with plain_reasons(settings, stop):
            async with studio_database(settings) as (dsn, postgres):
                await run_studio(settings, dsn, listener, stop, postgres=postgres, announce=greet)


def check_redis_url(settings: Settings) -> None:
    """A Redis that is merely away stops no start: the node is not ready until it is there."""
    if settings.redis_url is not None:
        try:
            parse_address(settings.redis_url)
        except ValueError as error:
            raise StartError(f"REDIS_URL: {error}") from None


@contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """The port, taken before anything else is started: one that is not free is known in a millisecond."""
    allow_many_sockets()
    with _listen(settings) as listener:
        yield listener


@asynccontextmanager
async def studio_database(settings: Settings) -> AsyncIterator[tuple[str, EmbeddedPostgres | None]]:
    """The address of the database, brought up to date; and our own Postgres where it is one, stopped at the end."""
    postgres = None if settings.database_url else EmbeddedPostgres(settings.data_dir, log=logger.info)
    try:
        dsn = settings.database_url if postgres is None else await postgres.start()
        assert dsn is not None
        await bring_up_to_date(dsn)
        yield dsn, postgres
    finally:
        if postgres is not None:
            await postgres.stop()


@contextmanager
def plain_reasons(settings: Settings, stop: "Stop") -> Iterator[None]:
    """What keeps a studio from starting, as one line for the operator."""
    try:
        yield
    except asyncio.CancelledError:
        if not stop.is_ordered:
            raise
        logger.info("stopped before the start was through")
    except (PostgresError, SchemaError) as error:
        raise StartError(f"DATABASE_URL: {error}" if settings.database_url else str(error)) from None
    except ChatError as error:
        raise StartError(f"the database cannot be used: {error.detail}") from None
    except OSError as error:
        raise StartError(f"the database cannot be reached: {error}") from None


class Stop:
    """What SIGINT and SIGTERM mean: while the studio starts, give the start up in order; once it serves, drain.

    From the first moment on: a signal that nobody waits for would end us at once and leave our Postgres behind. So
    would SIGHUP, which means nothing until somebody sets `on_hangup`, and nothing any more once a stop is ordered.
    """

    def __init__(self) -> None:
        self.ordered_by: str | None = None  # the signal's name
        self._starting = asyncio.current_task()
        loop = asyncio.get_running_loop()
        self._ordered: asyncio.Future[None] = loop.create_future()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._order, signal.Signals(number).name)
        self.on_hangup: Callable[[], None] | None = None
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)

    @property
    def is_ordered(self) -> bool:
        return self.ordered_by is not None

    def _order(self, name: str) -> None:
        if self.is_ordered:
            return
        self.ordered_by = name
        logger.info("{}: stopping", name)
        if self._starting is not None:
            self._starting.cancel()
        else:
            self._ordered.set_result(None)

    def _hang_up(self) -> None:
        if self.on_hangup is None or self.is_ordered:
            logger.info("SIGHUP: ignored, there are no workers to replace now")
        else:
            self.on_hangup()

    def has_started(self) -> "asyncio.Future[None]":
        """From here on a signal cancels nothing; it is told by the future."""
        self._starting = None
        return self._ordered


async def run_studio(
    settings: Settings,
    dsn: str,
    listener: socket.socket,
    stop: Stop,
    *,
    postgres: EmbeddedPostgres | None = None,
    announce: Announce,
    worker: WorkerMetrics | None = None,
) -> None:
    """A studio on this listener until the stop; `worker` when it is one of several."""
    database = Database(dsn)
    await database.open()
    try:
        parts = Parts(settings, database)
        application = make_app(parts, worker.page if worker else None)
    except ValueError as error:
        await database.close()
        raise StartError(f"CHAT_STUDIO_PUBLIC_URL or CHAT_STUDIO_ALLOWED_ORIGINS: {error}") from None
    keeping = asyncio.get_running_loop().create_task(keep_alive(postgres, database)) if postgres else None
    try:
        if worker is not None:
            await worker.open()
        await recognise(database)  # before anybody resumes: a restored database may lack what they have seen
        await parts.open()
        is_first_start = await parts.studio.accounts.ensure_admin()
        if is_first_start and settings.sample_room:
            await make_sample_room(parts.studio.rooms, parts.studio.accounts, parts.queue)
        server = Server(uvicorn_config(settings, application))
        serving = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        stopped = stop.has_started()
        await announce(settings, parts.studio.accounts, listener)
        # What lives now lives as long as the process: leave it out of every collection that follows.
        gc.collect()
        gc.freeze()
        gc.set_threshold(
            50_000, 20, 50
        )  # frames make no cycles; a collection in mid-fan-out would be seen as a late message
        await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
        # A stop of the whole studio comes as SIGINT to each worker, since nobody stays to take over the sockets.
        await Drain(parts, server, serving).run(others_serve=worker is not None and stop.ordered_by == "SIGTERM")
    finally:
        if keeping is not None:
            keeping.cancel()
        try:
            await asyncio.wait_for(parts.close(), PUT_AWAY_TIMEOUT_S)
        except TimeoutError:
            logger.warning("some work did not end in time; unfinished runs will be marked by the next start")
        if worker is not None:
            await worker.close()
        await database.close()


async def keep_alive(postgres: EmbeddedPostgres, database: Database) -> None:
    """Our own Postgres has nobody else to look after it: should it die, start it again."""
    while True:
        await asyncio.sleep(WATCH_S)
        try:
            await database.ping()
        except ChatError:
            try:
                await postgres.start()
            except PostgresError as error:
                logger.error("Postgres does not come back: {}", error)


def allow_many_sockets() -> None:
    """A login shell often allows 1,024 open files; what the system allows at most is ours to take."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = f"cannot listen on {settings.host}:{settings.port}: {error.strerror}"
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise StartError(f"CHAT_STUDIO_PORT: {reason}; another port: --port 8001") from None
        raise StartError(f"CHAT_STUDIO_HOST: {reason}") from None
    listener.setblocking(False)
    return listener


def uvicorn_config(settings: Settings, application: App) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        loop="none",
        http="httptools",
        ws=PreparedFramesProtocol,
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=None,  # its pong waits behind a slow reader's backlog; the heartbeat is ours
        ws_ping_timeout=None,
        ws_per_message_deflate=False,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        backlog=BACKLOG,
        timeout_graceful_shutdown=2,
    )


async def greet(settings: Settings, accounts: Accounts, listener: socket.socket) -> None:
    """One line for the person who started it: where, and how to get in."""
    host, port = listener.getsockname()[:2]
    shown = "127.0.0.1" if is_loopback_host(settings.host) else host
    address = settings.public_url or f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
    if not settings.rate_limits:
        logger.warning("rate and connection limits are off (CHAT_STUDIO_RATE_LIMITS): for benchmarks only")
    # Behind a proxy nobody can be told to sit at this machine: then the sign-in link would be refused.
    if is_loopback_host(settings.host) and settings.public_url is None:
        token = await accounts.sign_in_link_token()
        link = f"  -  sign in as admin: {address}/#sign-in={token}" if token else ""
    elif await accounts.needs_set_up():
        token = await accounts.set_up_token()
        link = f"  -  claim the admin account: {address}/#set-up={token}"
    else:
        link = ""
    sys.stdout.write(f"Chat Studio: {address}{link}\n")
    sys.stdout.flush()

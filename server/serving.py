"""Serving: from settings to a running studio, and back to nothing on a signal.

Order of a stop: not ready, no new sockets, everybody told when to come back, what was accepted is committed and
acknowledged, sockets closed with 1012, the parts, the database, our own Postgres. A second signal is not needed:
every step has a deadline.
"""

import asyncio
import errno
import gc
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from loguru import logger

from server.app import Parts, make_app
from server.gateway.identity import is_loopback_host
from server.gateway.middleware import App
from server.gateway.websocket_protocol import PreparedFramesProtocol
from server.hub.sample_room import make_sample_room
from server.protocol.errors import ChatError
from server.protocol.frames import MAX_FRAME_BYTES, Drain
from server.settings import Settings
from server.storage.database import Database
from server.storage.embedded_postgres import EmbeddedPostgres, PostgresError
from server.storage.schema import SchemaError, bring_up_to_date

BACKLOG = 4096  # a storm of reconnects waits in the kernel rather than being refused
DRAIN_SPREAD_MS = 3000  # clients come back over three seconds, not all in one
SETTLE_TIMEOUT_S = 3.0
WATCH_S = 1.0


class StartError(Exception):
    """The studio cannot start; the message is one line for the operator."""


class Server(uvicorn.Server):
    """uvicorn without its signal handling: a stop is ours to order."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings) -> None:
    """Run until SIGINT or SIGTERM."""
    if settings.workers > 1:
        raise StartError(
            "CHAT_STUDIO_WORKERS: several workers need the Redis bus, which this version does not have; use 1"
        )
    if settings.redis_url:
        logger.warning("REDIS_URL is set, but one process needs no bus between workers: it is not used")
    _allow_many_sockets()
    listener = _listen(settings)
    stop = Stop()
    postgres: EmbeddedPostgres | None = None
    try:
        dsn = settings.database_url
        if dsn is None:
            postgres = EmbeddedPostgres(settings.data_dir, log=logger.info)
            dsn = await postgres.start()
        await _serve_on(settings, dsn, listener, postgres, stop)
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
    finally:
        listener.close()
        if postgres is not None:
            await postgres.stop()


class Stop:
    """What SIGINT and SIGTERM mean: while the studio starts, give the start up in order; once it serves, drain.

    From the first moment on: a signal that nobody waits for would end us at once and leave our Postgres behind.
    """

    def __init__(self) -> None:
        self.is_ordered = False
        self._starting = asyncio.current_task()
        loop = asyncio.get_running_loop()
        self._ordered: asyncio.Future[None] = loop.create_future()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._order, signal.Signals(number).name)

    def _order(self, name: str) -> None:
        if self.is_ordered:
            return
        self.is_ordered = True
        logger.info("{}: stopping", name)
        if self._starting is not None:
            self._starting.cancel()
        else:
            self._ordered.set_result(None)

    def has_started(self) -> "asyncio.Future[None]":
        """From here on a signal cancels nothing; it is told by the future."""
        self._starting = None
        return self._ordered


async def _serve_on(
    settings: Settings, dsn: str, listener: socket.socket, postgres: EmbeddedPostgres | None, stop: Stop
) -> None:
    await bring_up_to_date(dsn)
    database = Database(dsn)
    await database.open()
    parts = Parts(settings, database)
    try:
        application = make_app(parts)
    except ValueError as error:
        await database.close()
        raise StartError(f"CHAT_STUDIO_PUBLIC_URL or CHAT_STUDIO_ALLOWED_ORIGINS: {error}") from None
    keeping = asyncio.get_running_loop().create_task(_keep_alive(postgres, database)) if postgres else None
    try:
        await parts.open()
        is_first_start = await parts.studio.accounts.ensure_admin()
        if is_first_start and settings.sample_room:
            await make_sample_room(parts.studio.rooms, parts.studio.accounts, parts.queue)
        server = Server(uvicorn_config(settings, application))
        serving = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        stopped = stop.has_started()
        await _greet(settings, parts, listener)
        # What lives now lives as long as the process: leave it out of every collection that follows.
        gc.collect()
        gc.freeze()
        gc.set_threshold(
            50_000, 20, 50
        )  # frames make no cycles; a collection in mid-fan-out would be seen as a late message
        await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
        await _drain(parts, server, serving)
    finally:
        if keeping is not None:
            keeping.cancel()
        try:
            await asyncio.wait_for(parts.close(), 5.0)
        except TimeoutError:
            logger.warning("some work did not end in time; unfinished runs will be marked by the next start")
        await database.close()


async def _keep_alive(postgres: EmbeddedPostgres, database: Database) -> None:
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


def _allow_many_sockets() -> None:
    """A login shell often allows 1,024 open files; what the system allows at most is ours to take."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _listen(settings: Settings) -> socket.socket:
    """Bind before anything else is started: a taken port is known in a millisecond."""
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


async def _drain(parts: Parts, server: Server, serving: "asyncio.Task[None]") -> None:
    parts.studio.is_draining = True
    connections = parts.hub.connections()
    for place, connection in enumerate(connections):
        connection.tell(Drain(reconnect_in_ms=500 + DRAIN_SPREAD_MS * place // max(1, len(connections))))
    try:
        await asyncio.wait_for(parts.queue.settle(), SETTLE_TIMEOUT_S)
    except TimeoutError:
        logger.warning(
            "the database did not answer in time: some sends stay without an answer, their senders will repeat them"
        )
    for connection in parts.hub.connections():
        connection.end(1012, "this server is about to restart")
    server.should_exit = True
    await asyncio.wait([serving], timeout=3.0)


async def _greet(settings: Settings, parts: Parts, listener: socket.socket) -> None:
    """One line for the person who started it: where, and how to get in."""
    host, port = listener.getsockname()[:2]
    shown = "127.0.0.1" if is_loopback_host(settings.host) else host
    address = settings.public_url or f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
    accounts = parts.studio.accounts
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

"""Several workers: a parent that serves nobody and sees to it that N processes do.

The parent takes the port and starts the studio's own Postgres; each worker inherits the listening socket, so that
whoever connects is let in by the worker that has time. Between the workers stands the Redis bus.
Promises: a worker that dies is started again, and should that fail tried again until it serves, at the latest ten
seconds later each time. SIGHUP replaces the workers one after the other, each only once its successor serves: a new
version comes in without a break. For each number one worker serves, whatever dies and is replaced at the same time.
SIGTERM and SIGINT drain them all. A worker whose parent is gone drains and ends, so that nothing is left behind.
"""

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

from loguru import logger

from server.gateway.worker_metrics import WorkerMetrics
from server.hub.accounts import Accounts
from server.serving import (
    StartError,
    Stop,
    check_redis_url,
    greet,
    keep_alive,
    listening,
    plain_reasons,
    run_studio,
    studio_database,
)
from server.settings import Settings
from server.storage.database import Database
from server.storage.schema import SchemaError, bring_up_to_date

START_TIMEOUT_S = 60.0  # a machine that has just booted reads everything from disk
STOP_TIMEOUT_S = 40.0  # a stop takes 30 s, the drain 25 of them; the rest is for a machine that does something else
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
STEADY_AFTER_S = 30.0  # whoever lived as long did not die of its start
READY = b"ready\n"


async def serve_workers(settings: Settings) -> None:
    """Run N workers until SIGINT or SIGTERM."""
    if not settings.redis_url:
        raise StartError(
            "CHAT_STUDIO_WORKERS: several workers tell each other what happens through Redis; "
            "name one, such as REDIS_URL=redis://127.0.0.1:6379/0, or use 1 worker"
        )
    check_redis_url(settings)
    with listening(settings) as listener:
        stop = Stop()
        with plain_reasons(settings, stop):
            async with studio_database(settings) as (dsn, postgres):
                database = Database(dsn)
                await database.open()
                directory = Path(tempfile.mkdtemp(prefix="chat-studio-"))  # only we may look into it
                crew = Crew(settings, dsn, listener, directory)
                tasks = asyncio.get_running_loop()
                keeping = tasks.create_task(keep_alive(postgres, database)) if postgres else None
                try:
                    await crew.start()
                    stopped = stop.has_started()
                    await greet(settings, _accounts(settings, database), listener)
                    stop.on_hangup = crew.renew
                    await stopped
                finally:
                    await crew.stop()
                    if keeping is not None:
                        keeping.cancel()
                    await database.close()
                    shutil.rmtree(directory, ignore_errors=True)


def _accounts(settings: Settings, database: Database) -> Accounts:
    async def no_sockets(_: object) -> None:
        """The parent has none."""

    return Accounts(database, registration=settings.registration, on_grants_ended=no_sockets)


class Crew:
    """The workers of one studio."""

    def __init__(self, settings: Settings, dsn: str, listener: socket.socket, directory: Path) -> None:
        self._settings = settings
        self._dsn = dsn
        self._listener = listener
        self._directory = directory
        self._workers: dict[int, Worker] = {}
        self._replacing = {number: asyncio.Lock() for number in range(1, settings.workers + 1)}
        self._others: set[Worker] = set()  # that start, or whose successors serve already
        self._keepers: list[asyncio.Task[None]] = []
        self._renewing: asyncio.Task[None] | None = None
        self._is_stopping = False

    async def start(self) -> None:
        started = await asyncio.gather(*(self._start(number) for number in self._replacing), return_exceptions=True)
        if any(isinstance(outcome, BaseException) for outcome in started):
            raise StartError("a worker does not start; it has said why")
        loop = asyncio.get_running_loop()
        self._keepers = [loop.create_task(self._keep(number)) for number in self._replacing]

    async def stop(self) -> None:
        """Nobody is left, neither those in the middle of their start nor those who were about to be replaced."""
        self._is_stopping = True
        workers = {*self._workers.values(), *self._others}
        tasks = [*self._keepers, *([self._renewing] if self._renewing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *(worker.stop(signal.SIGINT) for worker in workers), return_exceptions=True)

    def renew(self) -> None:
        """Replace all workers, one after the other."""
        if not self._is_stopping and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        logger.info("replacing the workers")
        try:
            await bring_up_to_date(self._dsn)  # the files may be those of a newer version by now
            for number in self._replacing:
                await self._replace(number)
        except (SchemaError, StartError) as error:
            logger.error("the workers could not be replaced, the former ones go on: {}", error)
        except Exception:  # noqa: BLE001 - the edge of a task: reported, and the next SIGHUP may do better
            logger.exception("the workers could not be replaced, the former ones go on")
        else:
            logger.info("all workers are replaced")

    async def _replace(self, number: int) -> None:
        async with self._replacing[number]:
            former = self._workers[number]
            await self._start(number)
        self._others.add(former)
        try:
            await former.stop(signal.SIGTERM)
        finally:
            self._others.discard(former)

    async def _start(self, number: int) -> None:
        worker = Worker(number, self._settings, self._dsn, self._listener, self._directory)
        self._others.add(worker)
        try:
            await worker.start()
        except BaseException:
            await worker.stop(signal.SIGINT)
            raise
        finally:
            self._others.discard(worker)
        self._workers[number] = worker

    async def _keep(self, number: int) -> None:
        """Start a worker again whenever it dies; more and more slowly when it dies of its start."""
        pause_s = FIRST_PAUSE_S
        while True:
            worker = self._workers[number]
            began = time.monotonic()
            code = await worker.ended()
            if time.monotonic() - began > STEADY_AFTER_S:
                pause_s = FIRST_PAUSE_S
            try:
                async with self._replacing[number]:
                    if self._workers[number] is not worker:
                        continue  # its successor serves already
                    logger.error("worker {} ended with {}; starting it again", number, code)
                    await self._start(number)
            except StartError as error:
                logger.error("{}; next try in {} s", error, pause_s)
            except Exception:  # noqa: BLE001 - without its keeper the number would stay empty for good
                logger.exception("worker {} does not start; next try in {} s", number, pause_s)
            else:
                continue
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


class Worker:
    """One process, told by its standard input; end of input tells it to end."""

    def __init__(self, number: int, settings: Settings, dsn: str, listener: socket.socket, directory: Path) -> None:
        self.number = number
        self._settings = settings
        self._dsn = dsn
        self._listener = listener
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Return when it serves; `StartError` when it will not."""
        try:
            self._process = await self._fork()
        except OSError as error:  # no memory, no process or no file left: not for ever
            raise StartError(f"worker {self.number} cannot be started: {error.strerror}") from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # The address of the database holds a password: it travels by pipe, not by command line.
        self._process.stdin.write(self._dsn.encode() + b"\n")
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                said = await self._process.stdout.readline()
        except TimeoutError:
            said = b""
        if said != READY:
            raise StartError(f"worker {self.number} does not start")

    async def _fork(self) -> asyncio.subprocess.Process:
        settings = self._settings
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "server", "worker", "--number", str(self.number),
            "--listener", str(self._listener.fileno()), "--directory", str(self._directory),
            "--host", settings.host, "--port", str(settings.port), "--data-dir", str(settings.data_dir),
            "--workers", str(settings.workers),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, pass_fds=[self._listener.fileno()],
            start_new_session=True,  # Ctrl-C is for the parent, which tells its workers in order
        )  # fmt: skip

    async def ended(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    async def stop(self, order: signal.Signals) -> None:
        """SIGTERM: others go on serving, and take over its people one by one. SIGINT: all end. Either has its time."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(order)
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            logger.error("worker {} does not end; it is killed", self.number)
            process.kill()
            await process.wait()


async def serve_as_worker(settings: Settings, number: int, listener_fd: int, directory: Path) -> None:
    """The child: what `Worker.start` starts."""
    logger.configure(extra={"worker": number})
    with socket.socket(fileno=listener_fd) as listener:
        stop = Stop()
        dsn = (await asyncio.to_thread(sys.stdin.readline)).strip()
        watching = asyncio.get_running_loop().create_task(_end_with_parent())
        try:
            with plain_reasons(settings, stop):
                metrics = WorkerMetrics(directory, number)
                await run_studio(settings, dsn, listener, stop, announce=_say_ready, worker=metrics)
        finally:
            watching.cancel()


async def _end_with_parent() -> None:
    """The end of the input is the end of the parent."""
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sys.stdin.fileno(), _settle, gone)
    try:
        await gone
    finally:
        loop.remove_reader(sys.stdin.fileno())
    logger.warning("the parent is gone: stopping")
    os.kill(os.getpid(), signal.SIGINT)


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


async def _say_ready(settings: Settings, accounts: Accounts, listener: socket.socket) -> None:
    sys.stdout.buffer.write(READY)
    sys.stdout.flush()

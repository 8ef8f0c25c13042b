"""The studio's own Postgres, from outside: start it, find it again, share it, stop it.

In:   a data directory.
Out:  the address of a running database in it.
Promises:
- Nothing is believed from a pid file alone: who answers on the socket must prove to be ours (`identity`). Only then is
  it used, and only then may its pid be signalled.
- Any number of processes may use one data directory. The first starts Postgres, the others share it, the last one out
  stops it; one that was left behind by a killed studio is adopted.
- A recovery after a crash takes the time it takes and is reported; a Postgres that exits is noticed at once.
"""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from server.storage.embedded_postgres import identity, last_words, process
from server.storage.embedded_postgres.cluster import DATABASE, PORT, ROLE, Cluster
from server.storage.embedded_postgres.errors import PostgresSilent, explained
from server.storage.embedded_postgres.identity import Answer
from server.storage.embedded_postgres.locks import FileLock
from server.storage.embedded_postgres.process import Account, Child, Postmaster

POLL_S = 0.015  # a later start takes 0.2 s in all: asking more seldom would show
REPORT_S = 3.0  # how long a person waits before wondering
SILENT_S = 60.0  # a Postgres that recovers says so; one that says nothing for this long is stuck
ORPHANS_S = 30.0  # backends of a killed Postgres leave within a second, unless a query keeps them busy
ORPHANS_PAUSE_S = 0.2  # each try to start beside them costs a process
STOP_LOCK_S = 1.5  # who starts Postgres at this moment is going to use it
STOP_STEPS = (  # 8 s in all: the whole studio has 10 s to stop
    (signal.SIGINT, 6.0),  # "fast": clients are cut off, everything is written; the next start recovers nothing
    (signal.SIGQUIT, 1.5),  # "immediate": the next start recovers
    (signal.SIGKILL, 0.5),
)


class EmbeddedPostgres:
    """One process' share in the Postgres of a data directory. `start` may be called again when it has died."""

    def __init__(self, data_dir: Path, *, log: Callable[[str], None] = lambda line: None) -> None:
        self._cluster = Cluster(data_dir)
        self._log = log
        self._users: FileLock | None = None  # held, shared, while we use Postgres
        self._child: Child | None = None  # Postgres, when it was us who started it
        self._log_offset = 0  # where, in its log, it begins
        self._proved: tuple[Postmaster, str] | None = None  # who answered, and its command line at that time

    async def start(self) -> str:
        """The address of the database. Raises a `PostgresError`, whose text is one line for a person."""
        try:
            self._cluster.open_data_dir()
            async with self._alone():
                try:
                    return await self._start()
                except BaseException:
                    await self._leave()
                    raise
        except OSError as error:
            raise explained(error, self._cluster.data_dir) from error

    async def stop(self) -> None:
        """Stops Postgres if nobody else uses it: in order, after 6 s at once, after 7.5 s by force."""
        if self._users is None:
            return
        try:
            async with self._alone(deadline_s=STOP_LOCK_S):
                await self._leave()
        except TimeoutError:
            self._disown("another process is starting it")

    @asynccontextmanager
    async def _alone(self, *, deadline_s: float | None = None) -> AsyncIterator[None]:
        """Meanwhile nobody else starts or stops this Postgres. A start has no deadline: the other may be recovering."""
        lock, waiting = FileLock(self._cluster.lock_file), Waiting(self._log)
        try:
            while not lock.take():
                if deadline_s is not None and waiting.seconds > deadline_s:
                    raise TimeoutError
                waiting.report(f"waiting for process {lock.signature()}, which is starting or stopping Postgres")
                await asyncio.sleep(POLL_S)
            lock.sign()
            yield
        finally:
            lock.close()

    # Starting

    async def _start(self) -> str:
        if self._users is None:
            self._users = FileLock(self._cluster.users_file)
            self._users.share()  # never refused: only who holds the other lock takes this one alone
        account = process.unprivileged_account(self._cluster.path)
        if not self._cluster.is_made():
            await self._make(account)
        elif account is not None:
            self._cluster.hand_over(account)
        password = self._cluster.password()
        socket_dir = await self._until_it_answers(account, password)
        return f"postgresql://{ROLE}:{password}@/{DATABASE}?host={quote(str(socket_dir), safe='')}&port={PORT}"

    async def _make(self, account: Account | None) -> None:
        self._log(f"making a new database in {self._cluster.path}")
        draft = self._cluster.draft(account)
        try:
            await make_cluster(self._cluster, draft, account)
            self._cluster.publish(draft)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    async def _until_it_answers(self, account: Account | None, password: str) -> Path:
        """Waits for a Postgres of ours, and starts one whenever there is none. Returns the directory of its socket."""
        waiting, silence, tried = Waiting(self._log), Waiting(self._log), False
        while True:
            postmaster = process.read_postmaster(self._cluster.path)
            if postmaster is not None:
                match await identity.ask(postmaster, password):
                    case Answer.OURS:
                        self._believe(postmaster)
                        return postmaster.socket_dir
                    case Answer.OURS_BARE:
                        await identity.prepare(postmaster.socket_dir, password)
                        continue
                    case Answer.NOT_YET:
                        silence = Waiting(self._log)
                    case Answer.NONE:
                        pass
            if self._child is not None and (status := self._child.poll()) is not None:
                self._child = None  # one of an earlier start may have died at any time; one of this start must not
                said = (self._cluster.log_file, self._log_offset)
                if tried and (waiting.seconds > ORPHANS_S or not last_words.speak_of_others(*said)):
                    raise last_words.reason("Postgres", status, *said, self._cluster.data_dir)
                await asyncio.sleep(ORPHANS_PAUSE_S)
            if self._child is None and not (postmaster and process.serves(postmaster.pid, self._cluster.path)):
                self._child, tried = self._spawn(account), True
            if silence.seconds > SILENT_S:
                raise PostgresSilent(_silent(self._cluster, postmaster))
            waiting.report(f"Postgres is not ready yet: {last_words.line(self._cluster.log_file)}")
            await asyncio.sleep(POLL_S)

    def _spawn(self, account: Account | None) -> Child:
        socket_dir = self._cluster.socket_dir(account)
        self._cluster.clear_traces(socket_dir)
        log = self._cluster.open_log(self._cluster.log_file)
        self._log_offset = os.fstat(log).st_size
        return _run(self._cluster.postgres(socket_dir), account, [self._cluster.path, socket_dir], log)

    def _believe(self, postmaster: Postmaster) -> None:
        self._proved = (postmaster, process.command_of(postmaster.pid))
        if self._child is None:
            self._log(f"using the Postgres that already runs (process {postmaster.pid})")
        elif self._child.pid != postmaster.pid:
            self._child = None  # one that a killed studio had just started was faster; ours sees it and ends

    # Stopping

    async def _leave(self) -> None:
        users, self._users = self._users, None
        if users is None:
            return
        try:
            if users.take():
                await self._shut_down()
            else:
                self._disown("another process uses it")
        finally:
            users.close()

    async def _shut_down(self) -> None:
        (postmaster, command), child = self._proved or (None, ""), self._child
        self._child = self._proved = None

        def is_gone() -> bool:
            if child is not None:
                return child.poll() is not None
            # One we did not start is no child to wait for. Another command line under the pid that was proved is
            # another process; none at all is one that is gone, or a zombie that nobody reaps.
            return postmaster is None or process.command_of(postmaster.pid) != command or not command

        pid = child.pid if child is not None else postmaster.pid if postmaster is not None else 0
        for number, patience_s in STOP_STEPS:
            if is_gone():
                break
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            await _until(is_gone, deadline_s=patience_s)
        if postmaster is not None:
            self._cluster.drop_socket_dir(postmaster.socket_dir)

    def _disown(self, why: str) -> None:
        self._log(f"leaving Postgres running: {why}")
        if self._child is not None:
            self._child.returncode = 0  # else Popen, when collected, warns of a child that still runs
        if self._users is not None:
            self._users.close()
        self._child = self._proved = self._users = None


class Waiting:
    """Tells, every few seconds, what is waited for."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._since = time.monotonic()
        self._reported_s = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._since

    def report(self, line: str) -> None:
        if self.seconds - self._reported_s >= REPORT_S:
            self._reported_s = self.seconds
            self._log(f"{line} ({self.seconds:.0f} s)")


async def make_cluster(cluster: Cluster, draft: Path, account: Account | None) -> None:
    """A new cluster in `draft`, a folder of `cluster.draft`."""
    log = cluster.open_log(draft / "log")
    initdb = _run(cluster.initdb(draft), account, [draft], log)
    try:
        await _until(lambda: initdb.poll() is not None)
    finally:
        if initdb.poll() is None:
            os.killpg(initdb.pid, signal.SIGKILL)  # initdb and the Postgres it runs; the group is its own
            initdb.wait()
    if initdb.returncode != 0:
        raise last_words.reason("initdb", initdb.returncode, draft / "log", 0, cluster.data_dir)


def _run(command: list[str], account: Account | None, places: list[Path], output: int) -> Child:
    """Runs a program of Postgres that works in `places`; takes the descriptor `output` over."""
    try:
        return process.spawn(command, account=account, reaches=[Path(command[0]), *places], output=output)
    finally:
        os.close(output)


async def _until(condition: Callable[[], bool], *, deadline_s: float = float("inf")) -> None:
    waited_until = time.monotonic() + deadline_s
    while not condition() and time.monotonic() < waited_until:
        await asyncio.sleep(POLL_S)


def _silent(cluster: Cluster, postmaster: Postmaster | None) -> str:
    line = f"Postgres on {cluster.path} has said nothing for {SILENT_S:.0f} s"
    return f"{line}; it is process {postmaster.pid}: end it with `kill -INT {postmaster.pid}`" if postmaster else line

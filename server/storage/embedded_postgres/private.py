"""A Postgres for one piece of work, on a cluster of any version, that nobody else can reach.

In:   the `postgres` to run, a cluster that nobody runs on, the account to run it as.
Out:  the folder of its socket, while the block lasts.
Promises: it listens in a private folder alone. When the block ends it has been shut down in order, with everything on
the disk; it is killed only when that takes minutes.
"""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg

from server.storage.embedded_postgres import last_words, process
from server.storage.embedded_postgres.cluster import PORT, SUPERUSER
from server.storage.embedded_postgres.errors import DataDirectoryUnusable, PostgresSilent
from server.storage.embedded_postgres.process import Account, Child

POLL_S = 0.05
START_TIMEOUT_S = 3600.0  # it may have to recover from a crash first, and then tells so in its log
STOP_STEPS = ((signal.SIGINT, 300.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))

# Settings that every version since 15 knows.
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "20",
    "max_wal_size": "2GB",
    "fsync": "on",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "jit": "off",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] ",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


@asynccontextmanager
async def private_postgres(
    program: Path, cluster: Path, account: Account | None, password: str, log_file: Path
) -> AsyncIterator[Path]:
    socket_dir = Path(tempfile.mkdtemp(prefix="chat-studio-"))
    try:
        if account is not None:
            os.chown(socket_dir, account.uid, account.gid)
        log = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        log_offset = os.fstat(log).st_size
        settings = {**SETTINGS, "port": str(PORT), "unix_socket_directories": str(socket_dir)}
        flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
        try:
            command = [str(program), "-D", str(cluster), *flags]
            child = process.spawn(command, account=account, reaches=[program, cluster, socket_dir], output=log)
        finally:
            os.close(log)
        try:
            await _answered(child, socket_dir, password, lambda: _reason(child, log_file, log_offset, cluster.parent))
            yield socket_dir
        finally:
            await _stopped(child)
    finally:
        shutil.rmtree(socket_dir, ignore_errors=True)


async def _answered(child: Child, socket_dir: Path, password: str, reason: Callable[[], Exception]) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                if child.poll() is not None:
                    raise reason()
                with suppress(OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
                    connection = await asyncpg.connect(
                        host=str(socket_dir),
                        port=PORT,
                        user=SUPERUSER,
                        password=password,
                        database="postgres",
                        ssl=False,
                    )
                    connection.terminate()
                    return
                await asyncio.sleep(POLL_S)
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise DataDirectoryUnusable(f"Postgres refuses the password in postgres.password: {error}") from error
    except TimeoutError:
        raise PostgresSilent(f"Postgres did not start within {START_TIMEOUT_S:.0f} s") from None


def _reason(child: Child, log_file: Path, log_offset: int, data_dir: Path) -> Exception:
    return last_words.reason("Postgres", child.returncode, log_file, log_offset, data_dir)


async def _stopped(child: Child) -> None:
    for number, patience_s in STOP_STEPS:
        if child.poll() is not None:
            return
        child.send_signal(number)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while child.poll() is None:
                    await asyncio.sleep(POLL_S)

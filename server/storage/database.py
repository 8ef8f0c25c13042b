"""The way to Postgres: pools, and what its failures mean to our callers.

Promises: every wait has a deadline; a database that is away, full or stalled shows as `Unavailable` (retryable) and
never as a driver's exception. A statement that ran into its deadline may still have been committed: callers repeat
with the same id, and the log's constraint makes that safe.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from server.protocol.errors import Overloaded, Unavailable

CONNECT_TIMEOUT_S = 2.0  # sends must be refused within 3 s when Postgres is away
POOL_WAIT_S = 10.0  # in a storm of reconnects a query waits its turn; refusing would bring the client back at once
STATEMENT_TIMEOUT_S = 15.0  # the slowest page or search; beyond it something is wrong
LOG_TIMEOUT_S = 2.8  # a send is answered within 3 s, one way or the other: the wait for a connection counts too
PING_TIMEOUT_S = 2.0  # whoever asks for readiness has a deadline of some seconds
POOL_SIZE = 8
LOG_POOL_SIZE = 6  # the main lane, four side lanes, one spare for a connection being replaced

Record = asyncpg.Record
Connection = asyncpg.pool.PoolConnectionProxy | asyncpg.Connection


# After these a connection is cut. Left in the middle of a statement, by a deadline or a cancellation, it would have to
# be cancelled before its next use, and a Postgres that stands still confirms nothing. And one whose end was announced
# still looks open for a moment, in which the driver takes no statement.
UNUSABLE_AFTER = (
    TimeoutError,
    asyncio.CancelledError,
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InternalClientError,
)


class Database:
    """Two pools on one database: `read`/`write` for everything, `log` for appending to the log alone."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: asyncpg.Pool | None = None
        self._log_pool: asyncpg.Pool | None = None
        self._kept: asyncpg.pool.PoolConnectionProxy | None = None  # of the log's pool
        self._is_kept_in_use = False

    async def open(self) -> None:
        with _Translated():
            self._pool = await asyncpg.create_pool(
                self._dsn,
                min_size=1,
                max_size=POOL_SIZE,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=STATEMENT_TIMEOUT_S,
                init=_prepare,
                reset=_keep,
                server_settings={"application_name": "chat-studio", "jit": "off"},
            )
            self._log_pool = await asyncpg.create_pool(
                self._dsn,
                min_size=1,
                max_size=LOG_POOL_SIZE,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=LOG_TIMEOUT_S,
                init=_prepare,
                reset=_keep,
                server_settings={
                    "application_name": "chat-studio log",
                    "jit": "off",
                    "synchronous_commit": "on",  # an `ack` is a promise: the operator's default does not decide it
                    "lock_timeout": "2s",
                    # A batch looks up some dozens of keys in large tables. The planner, which guesses a hundred rows
                    # for an unnested array, would scan and hash whole tables for them: measured nine times slower.
                    "enable_hashjoin": "off",
                    "enable_mergejoin": "off",
                    "enable_seqscan": "off",
                },
            )

    async def close(self) -> None:
        for pool in (self._pool, self._log_pool):
            if pool is not None:
                pool.terminate()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside a transaction; an exception rolls back."""
        assert self._pool is not None
        with _Translated():
            async with _borrowed(self._pool, POOL_WAIT_S) as connection, _transaction(connection):
                yield connection

    @asynccontextmanager
    async def log_transaction(self) -> AsyncIterator[Connection]:
        assert self._log_pool is not None
        with _Translated():
            async with (
                asyncio.timeout(LOG_TIMEOUT_S),
                _borrowed(self._log_pool, LOG_TIMEOUT_S) as connection,
                _transaction(connection),
            ):
                yield connection

    async def log_fetch(self, sql: str, *arguments: object) -> list[Record]:
        """One statement of the log, a transaction in itself.

        Borrowing a connection costs as much as a small commit: one is kept for whoever comes while nobody else does.
        """
        assert self._log_pool is not None
        with _Translated():
            async with asyncio.timeout(LOG_TIMEOUT_S):
                if self._is_kept_in_use:
                    async with _borrowed(self._log_pool, LOG_TIMEOUT_S) as connection:
                        return list(await connection.fetch(sql, *arguments))
                self._is_kept_in_use = True
                try:
                    kept = await self._kept_of(self._log_pool)
                    try:
                        return list(await kept.fetch(sql, *arguments))
                    except UNUSABLE_AFTER:
                        kept.terminate()
                        raise
                finally:
                    self._is_kept_in_use = False

    async def _kept_of(self, pool: asyncpg.Pool) -> asyncpg.pool.PoolConnectionProxy:
        if self._kept is None or _has_gone(self._kept):
            self._kept = None
            self._kept = await pool.acquire(timeout=LOG_TIMEOUT_S)
        return self._kept

    async def fetch(self, sql: str, *arguments: object) -> list[Record]:
        assert self._pool is not None
        with _Translated():
            async with _borrowed(self._pool, POOL_WAIT_S) as connection:
                rows: list[Record] = await connection.fetch(sql, *arguments)
                return rows

    async def fetch_one(self, sql: str, *arguments: object) -> Record | None:
        rows = await self.fetch(sql, *arguments)
        return rows[0] if rows else None

    async def fetch_value(self, sql: str, *arguments: object) -> Any:
        row = await self.fetch_one(sql, *arguments)
        return None if row is None else row[0]

    async def ping(self) -> None:
        """Raise `Unavailable` when the database does not answer."""
        assert self._pool is not None
        with _Translated():
            async with asyncio.timeout(PING_TIMEOUT_S), _borrowed(self._pool, PING_TIMEOUT_S) as connection:
                await connection.fetchval("SELECT 1")

    async def execute(self, sql: str, *arguments: object) -> int:
        """The number of rows that the statement touched."""
        assert self._pool is not None
        with _Translated():
            async with _borrowed(self._pool, POOL_WAIT_S) as connection:
                status: str = await connection.execute(sql, *arguments)
        return affected(status)

    async def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        assert self._pool is not None
        with _Translated():
            async with _borrowed(self._pool, POOL_WAIT_S) as connection:
                await connection.executemany(sql, rows)


def _has_gone(connection: asyncpg.pool.PoolConnectionProxy) -> bool:
    """A connection that was lost or cut has gone back to its pool by itself, and its proxy then answers no question."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


@asynccontextmanager
async def _borrowed(pool: asyncpg.Pool, wait_s: float) -> AsyncIterator[Connection]:
    """A connection of the pool, which takes back only those that can be used again."""
    async with pool.acquire(timeout=wait_s) as connection:
        try:
            yield connection
        except UNUSABLE_AFTER:
            connection.terminate()
            raise


@asynccontextmanager
async def _transaction(connection: Connection) -> AsyncIterator[None]:
    """Like the driver's own, but it rolls nothing back on a connection that is about to be cut."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    except UNUSABLE_AFTER:
        raise
    except BaseException:
        await transaction.rollback()
        raise
    await transaction.commit()


def affected(status: str) -> int:
    """`UPDATE 3` → 3."""
    count = status.rpartition(" ")[2]
    return int(count) if count.isdigit() else 0


async def _prepare(connection: asyncpg.Connection) -> None:
    # Ids are strings in Python; parsing them into UUID objects and back would cost more than the round trip's share.
    await connection.set_type_codec("uuid", schema="pg_catalog", encoder=str, decoder=str, format="text")


class _Translated:
    """Driver errors become ours at the border of this package."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        match error:
            case asyncpg.LockNotAvailableError():
                raise Overloaded("this conversation is busy, please try again") from error
            case asyncpg.TransactionRollbackError():  # a deadlock, or an order of commits that could not be
                raise Overloaded("somebody else changed the same, please try again") from error
            case asyncpg.DiskFullError() | asyncpg.OutOfMemoryError():
                raise Unavailable("the database has no room left, please tell the operator") from error
            case (
                asyncpg.PostgresConnectionError()
                | asyncpg.InterfaceError()
                | asyncpg.InternalClientError()  # the connection is about to be gone
                | asyncpg.OperatorInterventionError()  # shutting down, starting up, connection terminated
                | asyncpg.TooManyConnectionsError()
                | asyncpg.InvalidAuthorizationSpecificationError()
                | asyncpg.ReadOnlySQLTransactionError()  # a standby after a failover
                | OSError()
                | TimeoutError()
            ):
                raise Unavailable() from error


async def _keep(connection: asyncpg.Connection) -> None:
    """Nothing to reset: no session state is ever set on a pooled connection, and the default is one more round trip."""

"""Postgres dies, stands still, loses its connections, holds a row, or is migrated while people talk."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from sqlalchemy import Connection, text

from server.storage import migrate as runner
from tests.chaos import measures
from tests.chaos.history import Acked, Disconnected, Sent
from tests.chaos.proxy import Mode
from tests.chaos.snapshot import Snapshot
from tests.chaos.stage import Fault, Stage

REFUSED_WITHIN_S = 3.0  # P7
SLACK_S = 0.7  # of our own event loop, of a machine with two cores on which all parts run
OTHERS_WITHIN_S = 2.0
MIGRATION_WITHIN_S = 40.0
NEW_COLUMNS = {"messages": "text NOT NULL DEFAULT ''", "events": "integer", "heads": "integer"}


async def kill(stage: Stage) -> None:
    stage.cluster.postgres.kill()
    await asyncio.sleep(stage.seconds)
    await stage.cluster.postgres.start()


async def stall(stage: Stage) -> None:
    """Every connection stays open, and nothing is answered."""
    backends = await stage.cluster.postgres.backends()
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(stage.seconds)
    finally:
        for pid in backends:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def cut_off(stage: Stage) -> None:
    """A firewall between the workers and Postgres: connections are reset, and no new ones come through."""
    proxies = [worker.to_postgres for worker in stage.cluster.workers if worker.to_postgres is not None]
    for proxy in proxies:
        proxy.set(Mode.RESET)
    await asyncio.sleep(stage.seconds)
    for proxy in proxies:
        proxy.set(Mode.PASS)


async def swallow(stage: Stage) -> None:
    """The network between them forgets every packet."""
    proxies = [worker.to_postgres for worker in stage.cluster.workers if worker.to_postgres is not None]
    for proxy in proxies:
        proxy.set(Mode.STALL)
    await asyncio.sleep(stage.seconds)
    for proxy in proxies:
        proxy.reset_all()
        proxy.set(Mode.PASS)


async def terminate(stage: Stage) -> None:
    ended = 0
    for _ in range(3):
        ended += await stage.cluster.postgres.terminate_connections()
        await asyncio.sleep(stage.seconds / 3)
    stage.note(f"{ended} connections")
    stage.expect(ended > 0, "no connection was there to be terminated")


def refused_in_time(stage: Stage, stored: Snapshot) -> None:
    """What came while Postgres was away was refused soon, as something to be tried again, and no socket was closed."""
    until = stage.ended - REFUSED_WITHIN_S / 2
    refused = [r for r in measures.refusals(stage.records, stage.began, stage.ended) if r.code == "unavailable"]
    stage.expect(bool(refused) or stage.ended - stage.began < REFUSED_WITHIN_S, "nothing was refused")
    slowest = max((r.waited_s for r in refused), default=0.0)
    stage.note(f"refused after {slowest:.1f} s at most")
    stage.expect_within(slowest, REFUSED_WITHIN_S + SLACK_S, "refusing")
    stage.expect(all(r.is_retryable for r in refused), "a refusal said not to try again")
    closed = [r for r in stage.records if isinstance(r, Disconnected) and stage.began < r.t < until]
    stage.expect(not closed, f"{len(closed)} sockets were closed")


async def lock_a_room(stage: Stage) -> None:
    room = stage.crowd.rooms[0]
    async with stage.cluster.postgres.connection() as connection, connection.transaction():
        await connection.execute("SELECT 1 FROM heads WHERE conversation = $1 FOR UPDATE", room.id)
        await asyncio.sleep(stage.seconds)


def others_go_on(stage: Stage, stored: Snapshot) -> None:
    locked = stage.crowd.rooms[0].id
    asked = {(r.who, r.id): r.t for r in stage.records if isinstance(r, Sent) and r.room != locked}
    times = [
        r.t - asked[r.who, r.id]
        for r in stage.records
        if isinstance(r, Acked) and r.room != locked and stage.began < asked[r.who, r.id] < stage.ended
    ]
    slowest = measures.percentile(times, 0.99)
    stage.note(f"other rooms: answered within {slowest:.2f} s (p99)")
    stage.expect_within(slowest, OTHERS_WITHIN_S, "an answer in another room")
    stage.expect(len(times) > stage.crowd.size.rate_per_s * stage.seconds / 4, "the other rooms stood still")


async def migrate(stage: Stage) -> None:
    """As a later version would: by the real runner, which gives up soon and tries again rather than hold people up.
    Meanwhile somebody reads for long, as a backup does.
    """
    dsn = stage.cluster.postgres.dsn
    async with _reading(stage, "messages", 2 * runner.PAUSE_S):
        await _alter(stage, dsn, *(f"ALTER TABLE {name} ADD COLUMN chaos {kind}" for name, kind in NEW_COLUMNS.items()))
    worker = stage.cluster.workers[0]
    await worker.stop()
    await worker.start()  # the new version, beside the old ones
    await _alter(stage, dsn, *(f"ALTER TABLE {name} DROP COLUMN chaos" for name in NEW_COLUMNS))


@asynccontextmanager
async def _reading(stage: Stage, table: str, seconds: float) -> AsyncIterator[None]:
    async def read() -> None:
        async with stage.cluster.postgres.connection() as connection, connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE")
            held.set()
            await asyncio.sleep(seconds)

    held = asyncio.Event()
    reading = asyncio.create_task(read())
    await held.wait()
    try:
        yield
    finally:
        await reading


async def _alter(stage: Stage, dsn: str, *statements: str) -> None:
    """Each in a transaction of its own, as migrations are."""
    async with runner.connected(dsn) as connection:
        for statement in statements:
            try:
                await runner.patiently(connection, partial(_execute, statement), give_up_s=MIGRATION_WITHIN_S)
            except runner.Blocked:
                stage.expect(is_so=False, what=f"no lock for: {statement}")


def _execute(statement: str, connection: Connection) -> None:
    connection.execute(text(statement))


FAULTS = [
    Fault(
        "postgres-kill", "Postgres is killed and comes back after a while", kill, 5.0, "P1 P7", goes_on=False,
        seconds=3.0, afterwards=refused_in_time,
    ),
    Fault(
        "postgres-stall", "the workers' backends stand still (SIGSTOP)", stall, 5.0, "P7", goes_on=False, seconds=5.0,
        afterwards=refused_in_time,
    ),
    Fault(
        "postgres-cut", "the way to Postgres is closed", cut_off, 5.0, "P7", goes_on=False, seconds=5.0,
        afterwards=refused_in_time,
    ),
    Fault(
        "postgres-silent", "the way to Postgres swallows everything", swallow, 5.0, "P7", goes_on=False, seconds=6.0,
        afterwards=refused_in_time,
    ),
    Fault("postgres-terminate", "all connections to Postgres are terminated", terminate, 5.0, "P1 P7", seconds=1.5),
    Fault("row-lock", "the row of one room is locked", lock_a_room, 5.0, "P3", goes_on=False, seconds=10.0,
          afterwards=others_go_on),
    Fault("migration", "tables are altered, one worker is replaced", migrate, 5.0, "P12"),
]  # fmt: skip

"""Postgres dies, stands still, loses its connections, holds a row, or is migrated while people talk."""

import asyncio
import os
import signal
from contextlib import suppress

import asyncpg

from tests.chaos import measures
from tests.chaos.history import Acked, Disconnected, Sent
from tests.chaos.proxy import Mode
from tests.chaos.snapshot import Snapshot
from tests.chaos.stage import Fault, Stage

REFUSED_WITHIN_S = 3.0  # P7
SLACK_S = 0.7  # of our own event loop, of a machine with two cores on which all parts run
OTHERS_WITHIN_S = 2.0
MIGRATION_TRIES = 20


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
    for _ in range(3):
        stage.note(f"{await stage.cluster.postgres.terminate_connections()} connections")
        await asyncio.sleep(stage.seconds / 3)


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
    """As a later version would: in a transaction, giving up soon and trying again rather than holding everybody up."""
    async with stage.cluster.postgres.connection() as connection:
        await _alter(stage, connection, "ALTER TABLE messages ADD COLUMN chaos text NOT NULL DEFAULT ''")
        await _alter(stage, connection, "ALTER TABLE events ADD COLUMN chaos integer")
        await _alter(stage, connection, "ALTER TABLE heads ADD COLUMN chaos integer")
        worker = stage.cluster.workers[0]
        await worker.stop()
        await worker.start()  # the new version, beside the old ones
        for table in ("messages", "events", "heads"):
            await _alter(stage, connection, f"ALTER TABLE {table} DROP COLUMN chaos")


async def _alter(stage: Stage, connection: asyncpg.Connection, statement: str) -> None:
    for _ in range(MIGRATION_TRIES):
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '500ms'")
                await connection.execute(statement)
            return
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(0.1)
    stage.expect(is_so=False, what=f"no lock for: {statement}")


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

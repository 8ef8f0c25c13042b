"""Redis dies, stands still, forgets, is full, or loses, repeats and swaps what is published."""

import asyncio
import signal

from tests.chaos import measures
from tests.chaos.cluster import Cluster
from tests.chaos.proxy import Mode
from tests.chaos.redis_commands import Tampering
from tests.chaos.snapshot import Snapshot
from tests.chaos.stage import Fault, Play, Stage
from tests.redis_server import RedisServer

WITHOUT_REDIS_S = 2.0  # P7: delivery by reading the log
REPAIR_S = 5.0  # P4
REVOCATION_WITHOUT_REDIS_S = 10.0  # P10
EVERY = 5  # publish is tampered with
BY_DESIGN = "harmless by design, as nothing is kept there"
MARK = "chaos:mark"  # a key of our own


def _redis(cluster: Cluster) -> RedisServer:
    assert cluster.redis is not None
    return cluster.redis


async def kill(stage: Stage) -> None:
    await _redis(stage.cluster).kill()
    await asyncio.sleep(stage.seconds)
    await _redis(stage.cluster).start()


async def stall(stage: Stage) -> None:
    _redis(stage.cluster).tell(signal.SIGSTOP)
    await asyncio.sleep(stage.seconds)
    _redis(stage.cluster).tell(signal.SIGCONT)


async def cut_off(stage: Stage) -> None:
    """One worker alone cannot reach it."""
    proxy = stage.cluster.workers[0].to_redis
    assert proxy is not None
    proxy.set(Mode.RESET)
    await asyncio.sleep(stage.seconds)
    proxy.set(Mode.PASS)


async def swallow(stage: Stage) -> None:
    """The network of one worker forgets every packet to and from Redis."""
    proxy = stage.cluster.workers[0].to_redis
    assert proxy is not None
    proxy.set(Mode.STALL)
    await asyncio.sleep(stage.seconds)
    proxy.set(Mode.PASS)


async def flush(stage: Stage) -> None:
    """Nothing of the studio's is kept in Redis: whoever comes to keep something there finds out here."""
    redis = _redis(stage.cluster)
    for _ in range(3):
        await redis.ask("SET", MARK, "here")
        await redis.ask("FLUSHALL")
        stage.expect(await redis.ask("GET", MARK) is None, "FLUSHALL left a key")
        await asyncio.sleep(stage.seconds / 3)


async def fill(stage: Stage) -> None:
    """Publishing needs no room; what is refused is keeping."""
    redis = _redis(stage.cluster)
    await redis.ask("CONFIG", "SET", "maxmemory", "1")
    answer = await redis.ask("SET", MARK, "here")
    stage.expect(str(answer).startswith("OOM"), f"Redis is full and answers a SET with {answer!r}")
    await asyncio.sleep(stage.seconds)
    await redis.ask("CONFIG", "SET", "maxmemory", "0")


async def cut_subscribers(stage: Stage) -> None:
    cut = 0
    for _ in range(3):
        answer = await _redis(stage.cluster).ask("CLIENT", "KILL", "TYPE", "pubsub")
        cut += answer if isinstance(answer, int) else 0
        await asyncio.sleep(stage.seconds / 3)
    stage.note(f"{cut} cut")
    stage.expect(cut > 0, "nobody was subscribed")


def tamper(tampering: Tampering) -> Play:
    async def play(stage: Stage) -> None:
        order = stage.cluster.publishes
        before = order.tampered
        order.set(tampering, EVERY)
        await asyncio.sleep(stage.seconds)
        order.set(Tampering.NONE)
        stage.note(f"{order.tampered - before} publishes")
        stage.expect(order.tampered > before, "no publish came by")

    return play


def all_acknowledged(stage: Stage, stored: Snapshot) -> None:
    """Sending does not need Redis."""
    refused = [r for r in measures.refusals(stage.records, stage.began, stage.ended) if r.is_retryable]
    stage.expect(not refused, f"{len(refused)} sends were refused, such as {refused[:1]}")
    slowest = measures.percentile(measures.answer_times(stage.records, stage.began, stage.ended), 0.99)
    stage.note(f"acknowledged within {slowest:.2f} s (p99)")
    stage.expect_within(slowest, WITHOUT_REDIS_S, "an acknowledgement")


def away(name: str, what: str, play: Play, seconds: float = 4.0) -> Fault:
    return Fault(
        name, what, play, WITHOUT_REDIS_S, "P7", needs_redis=True, seconds=seconds, afterwards=all_acknowledged,
        revocation_s=REVOCATION_WITHOUT_REDIS_S,
    )  # fmt: skip


def lossy(name: str, what: str, play: Play) -> Fault:
    return Fault(
        name, what, play, REPAIR_S, "P4", needs_redis=True, seconds=3.0, afterwards=all_acknowledged,
        revocation_s=REVOCATION_WITHOUT_REDIS_S,
    )  # fmt: skip


FAULTS = [
    away("redis-kill", "Redis is killed and comes back after a while", kill),
    away("redis-stall", "Redis stands still (SIGSTOP)", stall, 6.0),
    away("redis-cut", "one worker cannot reach Redis", cut_off),
    away("redis-silent", "the way of one worker to Redis swallows everything", swallow, 8.0),
    away("redis-full", f"Redis has no memory left; {BY_DESIGN}", fill, 3.0),
    lossy("redis-flush", f"FLUSHALL, three times; {BY_DESIGN}", flush),
    lossy("subscriber-cut", "CLIENT KILL TYPE pubsub, three times", cut_subscribers),
    lossy("publish-drop", f"1 publish in {EVERY} gets lost", tamper(Tampering.DROP)),
    lossy("publish-repeat", f"1 publish in {EVERY} comes twice", tamper(Tampering.REPEAT)),
    lossy("publish-reorder", f"1 publish in {EVERY} comes late, behind others", tamper(Tampering.REORDER)),
]

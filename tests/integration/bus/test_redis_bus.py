"""Two nodes, one Redis, and what becomes of their notices when it fails in its various ways."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import msgspec
import pytest
from prometheus_client import Counter

from server.bus import redis_bus
from server.bus.bus import EventNotice, EventsNotice, HeadMoved, Notice, PassingNotice
from server.bus.notice_codec import MAX_MESSAGE_BYTES
from server.bus.outgoing import MAX_BYTES, Outgoing
from server.bus.redis_bus import RedisBus
from server.telemetry import metrics
from tests.redis_server import RedisServer, pack_command, redis_in

PATIENCE_S = 30.0
HEALTH_S = 6.0  # promised are about three; the rest is for a machine that does something else


class Node:
    """A bus, all that it hears, and how often it was told to compare."""

    def __init__(self, url: str, namespace: str = "chat-studio") -> None:
        self.bus = RedisBus(url, namespace=namespace)
        self.heard: list[Notice] = []
        self.gaps = 0
        self.bus.on_gap = self._count
        self.tasks: set[asyncio.Task[object]] = set()

    def _count(self) -> None:
        self.gaps += 1

    async def listen(self, *topics: str) -> None:
        await self.bus.listen(topics, self.heard.append)


@asynccontextmanager
async def nodes(url: str, count: int = 2, namespace: str = "chat-studio") -> AsyncIterator[list[Node]]:
    opened = [Node(url, namespace) for _ in range(count)]
    for node in opened:
        before = asyncio.all_tasks()
        await node.bus.open()
        node.tasks = asyncio.all_tasks() - before
    yield opened
    for node in opened:
        await node.bus.close()
        assert all(task.done() for task in node.tasks)


async def until(is_true: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not is_true():
            await asyncio.sleep(0.01)


def event(seq: int, size: int = 20) -> EventsNotice:
    return EventsNotice("c", [EventNotice(seq, "message.created", b"x" * size)])


def value(counter: Counter, *labels: str) -> float:
    found: float = (counter.labels(*labels) if labels else counter)._value.get()
    return found


async def arrives(sender: Node, receiver: Node, topic: str = "c") -> None:
    """Something published now is heard."""
    marker = PassingNotice("c", os.urandom(8), False)
    sender.bus.publish(topic, marker)
    await until(lambda: marker in receiver.heard)


# While all is well


async def test_the_other_node_hears_everything_once_and_in_order(shared_redis: RedisServer) -> None:
    async with nodes(shared_redis.url, 3) as (a, b, c):
        await asyncio.gather(a.listen("c"), b.listen("c"), c.listen("d"))
        said: list[Notice] = [event(seq) for seq in range(1, 501)]
        for notice in said[:250]:
            a.bus.publish("c", notice)
        await asyncio.sleep(0)
        for notice in said[250:]:
            a.bus.publish("c", notice)
        assert a.heard == said
        await until(lambda: len(b.heard) >= 500)
        await arrives(c, b)
        assert b.heard[:500] == said
        assert len(a.heard) == 501
        assert c.heard == []


async def test_every_kind_of_notice_arrives_as_it_was(shared_redis: RedisServer) -> None:
    async with nodes(shared_redis.url) as (a, b):
        await b.listen("c")
        kinds = msgspec.inspect.type_info(Notice)
        assert isinstance(kinds, msgspec.inspect.UnionType)
        made: list[Notice] = [
            cast(Notice, kind.cls(*(SAMPLES[type(field.type)] for field in kind.fields)))
            for kind in kinds.types
            if isinstance(kind, msgspec.inspect.StructType)
        ]
        assert len(made) == len(kinds.types)
        for notice in made:
            a.bus.publish("c", notice)
        await until(lambda: len(b.heard) >= len(made))
        assert b.heard == made


SAMPLES: dict[type[msgspec.inspect.Type], object] = {
    msgspec.inspect.StrType: "text",
    msgspec.inspect.IntType: 2**53,
    msgspec.inspect.FloatType: 1.5,
    msgspec.inspect.BoolType: True,
    msgspec.inspect.BytesType: b"\x00\xff",
    msgspec.inspect.ListType: [],
    msgspec.inspect.DictType: {},
    msgspec.inspect.UnionType: 2**64 - 1,  # of a number and None
}


async def test_events_above_16_kb_are_split_or_only_named(shared_redis: RedisServer) -> None:
    async with nodes(shared_redis.url) as (a, b):
        await b.listen("c")
        busy = EventsNotice("c", [EventNotice(seq, "message.created", b"x" * 500) for seq in range(1, 65)])
        one_large = event(65, MAX_MESSAGE_BYTES)
        mixed = EventsNotice("c", [*event(66).events, *event(67, 20_000).events, *event(68).events])
        too_many = EventsNotice("c", [EventNotice(seq, "message.created", b"x" * 1000) for seq in range(69, 169)])
        for notice in (busy, one_large, mixed, too_many, event(169)):
            a.bus.publish("c", notice)
        await until(lambda: event(169) in b.heard)
        parts = [notice for notice in b.heard if isinstance(notice, EventsNotice)][:-1]
        assert len(parts) > 1
        assert [one for part in parts for one in part.events] == busy.events
        assert all(sum(len(one.payload) for one in part.events) < MAX_MESSAGE_BYTES for part in parts)
        assert [notice for notice in b.heard if isinstance(notice, HeadMoved)] == [
            HeadMoved("c", 65), HeadMoved("c", 68), HeadMoved("c", 168),
        ]  # fmt: skip


async def test_a_large_passing_frame_travels_whole(shared_redis: RedisServer) -> None:
    async with nodes(shared_redis.url) as (a, b):
        await b.listen("c")
        said = PassingNotice("c", os.urandom(200_000), False)
        a.bus.publish("c", said)
        await until(lambda: b.heard == [said])


async def test_studios_with_another_namespace_or_database_hear_nothing(shared_redis: RedisServer) -> None:
    async with (
        nodes(shared_redis.url) as (a, same),
        nodes(shared_redis.url, 1, "other") as (foreign,),
        nodes(f"redis://127.0.0.1:{shared_redis.port}/1", 1) as (elsewhere,),
    ):
        for node in (same, foreign, elsewhere):
            await node.listen("c")
        await arrives(a, same)
        await arrives(foreign, foreign)
        assert len(foreign.heard) == 1
        assert elsewhere.heard == []


async def test_what_a_newer_node_says_is_ignored_where_it_is_not_known(shared_redis: RedisServer) -> None:
    class Novel(msgspec.Struct, tag="novel"):
        conversation: str

    class HeadAndMore(msgspec.Struct, tag="head"):
        conversation: str
        seq: int
        mood: str

    async with nodes(shared_redis.url) as (a, b):
        await b.listen("c")
        stranger = b"\x01" + b"12345678"
        kinds, versions, malformed = (value(metrics.bus_ignored, why) for why in ("kind", "version", "malformed"))
        for data in (
            stranger + msgspec.msgpack.encode(Novel("c")),
            b"\x02" + stranger[1:] + msgspec.msgpack.encode(HeadMoved("c", 1)),
            stranger + b"\xc1",
            b"",
            stranger + msgspec.msgpack.encode(HeadAndMore("c", 7, "merry")),
        ):
            await shared_redis.ask("PUBLISH", "chat-studio:0:c", data)  # type: ignore[arg-type]
        await until(lambda: b.heard == [HeadMoved("c", 7)])
        assert value(metrics.bus_ignored, "kind") == kinds + 1
        assert value(metrics.bus_ignored, "version") == versions + 2
        assert value(metrics.bus_ignored, "malformed") == malformed + 1
        await arrives(a, b)


async def test_when_listening_returns_redis_has_confirmed_it(shared_redis: RedisServer) -> None:
    async with nodes(shared_redis.url, 1, "confirmed") as (a,):
        for number in range(20):
            await a.listen(f"topic {number}")
            # Asked without a turn of the event loop in between, in which it might still come true.
            with socket.create_connection(("127.0.0.1", shared_redis.port)) as asking:
                asking.sendall(pack_command("PUBSUB", "NUMSUB", f"confirmed:0:topic {number}"))
                assert asking.recv(1000).endswith(b":1\r\n")


async def test_topics_that_nobody_listens_to_are_left(shared_redis: RedisServer) -> None:
    async with nodes(shared_redis.url, 1, "leaving") as (a,):
        for _ in range(5):
            topics = [f"topic {number}" for number in range(700)]
            await a.listen(*topics)
            await a.bus.unlisten(topics)
        await a.listen("c")
        assert await topics_of(shared_redis, "leaving") == 3  # and two of the bus itself


async def test_listening_and_leaving_in_any_order_ends_as_wanted(shared_redis: RedisServer) -> None:
    async with nodes(shared_redis.url, 2, "to and fro") as (a, b):
        await a.listen("c")
        for _ in range(20):
            await asyncio.gather(
                a.bus.unlisten(["c"]), a.listen("c", "d"), a.bus.unlisten(["d"]), a.listen("c"), a.listen("e")
            )
            await arrives(b, a, "c")
            await arrives(b, a, "e")
        await asyncio.gather(*(a.listen(f"many {number}") for number in range(300)))
        await arrives(b, a, "many 299")
        assert await topics_of(shared_redis, "to and fro") == 302 + 3


async def topics_of(server: RedisServer, namespace: str) -> int:
    await asyncio.sleep(0)
    found = await server.ask("PUBSUB", "CHANNELS", f"{namespace}:*")
    assert isinstance(found, list)
    return len(found)


# When Redis fails


async def test_after_redis_was_killed_topics_are_subscribed_again_and_gaps_told(redis_server: RedisServer) -> None:
    async with nodes(redis_server.url) as (a, b):
        await asyncio.gather(a.listen("c"), b.listen("c", *(f"topic {number}" for number in range(1500))))
        await arrives(a, b)
        await redis_server.kill()
        await until(lambda: not a.bus.is_healthy() and not b.bus.is_healthy(), HEALTH_S)
        a.bus.publish("c", event(1))
        assert event(1) in a.heard
        await b.listen("late")  # returns although nothing can be confirmed
        gaps = a.gaps, b.gaps
        await redis_server.start()
        await until(lambda: a.bus.is_healthy() and b.bus.is_healthy(), HEALTH_S)
        await until(lambda: a.gaps > gaps[0] and b.gaps > gaps[1])
        await arrives(a, b)
        await arrives(a, b, "topic 1499")
        await arrives(a, b, "late")
        assert event(1) not in b.heard  # which is what the gap was for


async def test_a_redis_that_is_away_for_long_is_found_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_bus, "MAX_BACKOFF_S", 0.0)  # what takes an hour, in seconds
    server = RedisServer(tmp_path)
    failures = value(metrics.bus_disconnects)
    try:
        async with nodes(server.url, 1) as (a,):
            await until(lambda: value(metrics.bus_disconnects) >= failures + 2 * 2000)
            assert not any(task.done() for task in a.tasks)
            await server.start()
            await until(a.bus.is_healthy)
    finally:
        await server.kill()


async def test_a_stalled_redis_holds_nobody_up_and_is_found(redis_server: RedisServer) -> None:
    async with nodes(redis_server.url) as (a, b):
        await b.listen("c")
        await arrives(a, b)
        redis_server.tell(signal.SIGSTOP)
        began = time.monotonic()
        for seq in range(1000):
            a.bus.publish("c", event(seq))
        await b.listen("meanwhile")
        assert time.monotonic() - began < PATIENCE_S
        await until(lambda: not a.bus.is_healthy() and not b.bus.is_healthy(), HEALTH_S)
        gaps = b.gaps
        redis_server.tell(signal.SIGCONT)
        await until(lambda: a.bus.is_healthy() and b.bus.is_healthy(), HEALTH_S)
        await until(lambda: b.gaps > gaps)
        await arrives(a, b)
        await arrives(a, b, "meanwhile")


async def test_a_subscriber_that_is_cut_comes_back_and_compares(redis_server: RedisServer) -> None:
    async with nodes(redis_server.url) as (a, b):
        await b.listen("c")
        for _ in range(3):
            gaps = b.gaps
            await redis_server.ask("CLIENT", "KILL", "TYPE", "pubsub")
            await until(lambda: b.gaps > gaps)  # noqa: B023 - waited for in this turn
            await arrives(a, b)


async def test_what_a_node_could_not_send_makes_the_others_compare(redis_server: RedisServer) -> None:
    async with nodes(redis_server.url) as (a, b):
        await b.listen("c")
        await arrives(a, b)
        # Publishing fails and subscriptions live on: b's own connections tell it nothing.
        await redis_server.ask("ACL", "SETUSER", "default", "-publish")
        lost = value(metrics.bus_lost, "refused")
        a.bus.publish("c", event(1))
        await until(lambda: value(metrics.bus_lost, "refused") > lost)
        assert not a.bus.is_healthy()
        gaps = b.gaps
        await redis_server.ask("ACL", "SETUSER", "default", "+publish")
        await until(lambda: a.bus.is_healthy(), HEALTH_S)
        await until(lambda: b.gaps > gaps)
        await arrives(a, b)


async def test_a_redis_that_is_emptied_or_full_still_carries_notices(redis_server: RedisServer) -> None:
    async with nodes(redis_server.url) as (a, b):
        await b.listen("c")
        await redis_server.ask("FLUSHALL")
        await arrives(a, b)
        await redis_server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        await redis_server.ask("CONFIG", "SET", "maxmemory", "1mb")
        assert "OOM" in str(await redis_server.ask("SET", "key", "x" * 1000))
        await arrives(a, b)
        await b.listen("another")
        await arrives(a, b, "another")
        await arrives(b, b, "another")
        assert a.bus.is_healthy()


async def test_a_subscriber_that_redis_throws_out_for_being_slow_compares(redis_server: RedisServer) -> None:
    async with nodes(redis_server.url) as (a, b):
        await b.listen("c")
        await redis_server.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 65536 65536 1")
        gaps = b.gaps
        for _ in range(20):
            a.bus.publish("c", PassingNotice("c", os.urandom(500_000), False))
            await asyncio.sleep(0)
        await until(lambda: b.gaps > gaps)
        await until(lambda: b.bus.is_healthy())
        await redis_server.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 33554432 8388608 60")
        await arrives(a, b)


async def test_a_start_without_redis_waits_for_it_in_peace(redis_server: RedisServer) -> None:
    await redis_server.kill()
    async with nodes(redis_server.url) as (a, b):
        await b.listen("c")
        a.bus.publish("c", event(1))
        assert not a.bus.is_healthy()
        await redis_server.start()
        await until(lambda: a.bus.is_healthy() and b.bus.is_healthy(), HEALTH_S)
        await until(lambda: b.gaps > 0)
        await arrives(a, b)


async def test_what_was_published_before_the_end_still_goes_out(shared_redis: RedisServer) -> None:
    async with nodes(shared_redis.url, 1, "ending") as (b,):
        await b.listen("c")
        a = Node(shared_redis.url, "ending")
        await a.bus.open()
        for seq in range(500):
            a.bus.publish("c", event(seq))
        await a.bus.close()
        await until(lambda: b.heard == [event(seq) for seq in range(500)])


async def test_waiting_messages_are_bounded_and_typing_goes_first() -> None:
    lost: list[tuple[int, str]] = []
    outgoing = Outgoing(lambda messages, reason: lost.append((len(messages), reason)))
    half = bytes(MAX_BYTES // 2)
    outgoing.put(b"c", half, is_missed=True)
    outgoing.put(b"c", b"typing", is_missed=False, is_droppable=True)
    assert lost == [(1, "shed")]
    outgoing.put(b"c", half, is_missed=True)
    outgoing.put(b"c", b"one more", is_missed=True)
    assert lost == [(1, "shed"), (1, "full")]
    assert [len(await outgoing.take()) for _ in range(2)] == [1, 1]
    assert len(outgoing) == 0


@asynccontextmanager
async def passage(port: int) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """A way to Redis, and an event after which what is connected goes dead without ending, as behind a router that was
    switched off; what connects later gets through.
    """
    is_dead = asyncio.Event()
    passing: set[asyncio.Task[None]] = set()

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_early: bool) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if not (is_early and is_dead.is_set()):
                    sink.write(data)
        sink.close()

    async def let_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_early = not is_dead.is_set()
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        for source, sink in ((reader, up_writer), (up_reader, writer)):
            task = asyncio.create_task(pump(source, sink, is_early))
            passing.add(task)
            task.add_done_callback(passing.discard)

    server = await asyncio.start_server(let_in, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], is_dead
    server.close()
    while passing:
        await asyncio.wait(passing)


async def test_connections_that_are_dead_without_having_ended_are_replaced(shared_redis: RedisServer) -> None:
    async with passage(shared_redis.port) as (port, is_dead), nodes(f"redis://127.0.0.1:{port}") as (a, b):
        await b.listen("c")
        await arrives(a, b)
        gaps = b.gaps
        is_dead.set()
        await until(lambda: not a.bus.is_healthy() and not b.bus.is_healthy(), HEALTH_S)
        await until(lambda: a.bus.is_healthy() and b.bus.is_healthy())
        await until(lambda: b.gaps > gaps)
        await arrives(a, b)


# With a password, over a socket, by Sentinel


async def test_a_redis_with_a_password_or_on_a_unix_socket_is_reached(redis_is_here: None, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    async with redis_in(tmp_path, "--requirepass", "p@ss/word", "--unixsocket", str(path)) as server:
        async with (
            nodes(f"redis://:p%40ss%2Fword@127.0.0.1:{server.port}", 1) as (a,),
            nodes(f"unix://default:p%40ss%2Fword@{path}", 1) as (b,),
        ):
            await b.listen("c")
            await arrives(a, b)
        async with nodes(server.url, 1) as (stranger,):
            assert not stranger.bus.is_healthy()


async def test_nodes_follow_sentinel_to_the_new_master(redis_is_here: None, tmp_path: Path) -> None:
    async with redis_in(tmp_path) as first, redis_in(tmp_path, "--replicaof", "127.0.0.1", str(first.port)) as second:
        config = (
            f"sentinel monitor studio 127.0.0.1 {first.port} 1\n"
            "sentinel down-after-milliseconds studio 1000\n"
            "sentinel failover-timeout studio 5000\n"
        )
        async with redis_in(tmp_path, config=config, is_sentinel=True) as sentinel:
            async with asyncio.timeout(PATIENCE_S):
                while "slaves=1" not in str(await sentinel.ask("INFO", "sentinel")):
                    await asyncio.sleep(0.1)
            nobody = RedisServer(tmp_path).port  # a Sentinel that is away
            url = f"redis+sentinel://127.0.0.1:{nobody},127.0.0.1:{sentinel.port}/studio/0"
            async with nodes(url) as (a, b):
                await b.listen("c")
                await arrives(a, b)
                gaps = b.gaps
                await first.kill()
                await until(lambda: not a.bus.is_healthy(), HEALTH_S)
                await until(lambda: a.bus.is_healthy() and b.bus.is_healthy(), 60.0)
                await until(lambda: b.gaps > gaps)
                await arrives(a, b)
                role = await second.ask("ROLE")
                assert isinstance(role, list)
                assert role[0] == "master"

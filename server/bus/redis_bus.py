"""The bus of a studio with several nodes: Redis publish and subscribe. Redis >= 6.2, alone, replicated or by Sentinel.

In:   notices of this node; `listen` and `unlisten`; whatever happens to Redis.
Out:  the same notices at the other nodes; `on_gap` where some may have been lost.
Promises: `publish` neither waits nor raises. This node's own listener is called at once, in its own turn of the event
loop, and the echo from Redis is ignored. Notices of one topic that this node publishes arrive in order. `listen` waits
a second at most, `open` two, `close` half a second. A connection that fails is tried again, however often. After every
reconnect all topics are subscribed again and then `on_gap` is called; what this node could not send makes the other
nodes compare as soon as it can send again. `is_healthy` is the word of a probe that goes the whole way, through the
queue, Redis and the subscription, about once a second.

Two connections, since one that subscribes may do nothing else in RESP2, and so that a burst in one direction does not
hold up the other. We read and write on redis-py's connections directly: its `PubSub` retries, reconnects and checks on
its own clock, and the way here is the hot path of every message.
"""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from loguru import logger

from server.bus.bus import Listener, Notice, PassingNotice, tell
from server.bus.notice_codec import NODE_BYTES, Gap, NoticeCodec
from server.bus.outgoing import Message, Outgoing
from server.bus.probe import Probe
from server.bus.redis_address import parse_address
from server.bus.redis_connection import FAULTS, Door, Link, NotConnected, Refused
from server.bus.subscriptions import Subscriptions
from server.telemetry import metrics

SEND_DEADLINE_S = 1.0  # one round trip, of everything that had gathered
LISTEN_DEADLINE_S = 1.0
OPEN_DEADLINE_S = 2.0
FLUSH_DEADLINE_S = 0.5  # what was published before `close` still goes out, if Redis takes it
FIRST_BACKOFF_S = 0.05
MAX_BACKOFF_S = 2.0  # so that readiness tells of Redis's return within about as much
MAX_DOUBLINGS = 10  # far beyond `MAX_BACKOFF_S`; an hour's failures as an exponent are more than a float can hold
WATCH_MASTER_EVERY_S = 5.0
GATHER_GAPS_S = 0.02  # several nodes that come back at once are one reason to compare, not several


class RedisBus:
    """Raises ValueError for a URL that is none. Studios that share one Redis need different namespaces or databases."""

    def __init__(self, url: str, *, namespace: str = "chat-studio") -> None:
        self.address = parse_address(url)
        # Redis knows no databases in publish and subscribe, but who gave two studios two of them means two studios.
        self._prefix = f"{namespace}:{self.address.db}:"
        self._node = secrets.token_bytes(NODE_BYTES)
        self._codec = NoticeCodec(self._node)
        self._canary = self._channel(f"bus:{self._node.hex()}")
        self._between_buses = self._channel("bus")
        self._listeners: dict[bytes, Listener] = {}
        self.on_gap: Callable[[], None] = lambda: None
        self._door = Door(self.address)
        self._outgoing: Outgoing | None = None
        self._subscriptions: Subscriptions | None = None  # of the connection that subscribes now
        self._subscriber: Link | None = None
        self._publisher: Link | None = None
        self._is_sending = False
        self._commands_planned = False
        self._has_missed = False  # some topic was wanted that no connection was subscribed to
        self._owes_gap = False  # the others have missed something of ours
        self._gap_timer: asyncio.TimerHandle | None = None
        self._probe = Probe(
            self._send_canary,
            found=self._came_back,
            missed=lambda: self._went_away("it does not answer in time"),
            cut=self._cut,
        )
        self._is_away = False  # as far as the log has been told
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Redis that is away is no reason to fail: the bus goes on trying."""
        self._loop = asyncio.get_running_loop()
        self._outgoing = Outgoing(self._lost)
        metrics.bus_healthy.set_function(lambda: float(self.is_healthy()))
        self._tasks = [
            self._loop.create_task(self._keep(self._subscribe_on)),
            self._loop.create_task(self._keep(self._publish_on)),
            self._loop.create_task(self._probe.run()),
        ]
        if self.address.master:
            self._tasks.append(self._loop.create_task(self._watch_master()))
        for task in self._tasks:
            task.add_done_callback(self._report_end)
        with suppress(TimeoutError):
            async with asyncio.timeout(OPEN_DEADLINE_S):
                while not self.is_healthy():
                    await asyncio.sleep(0.01)

    async def close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_DEADLINE_S):
                while self._publisher is not None and (self._outgoing or self._is_sending):
                    await asyncio.sleep(0.005)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._gap_timer is not None:
            self._gap_timer.cancel()
        self._outgoing = None
        self._listeners.clear()
        metrics.bus_healthy.set_function(lambda: 0.0)
        metrics.bus_topics.set(0)

    def is_healthy(self) -> bool:
        return self._probe.is_healthy()

    # What this node says

    def publish(self, topic: str, notice: Notice) -> None:
        channel = self._channel(topic)
        self._tell_listener(channel, notice)
        if self._outgoing is None:
            return
        is_droppable = isinstance(notice, PassingNotice) and notice.droppable
        for data in self._codec.encode(notice):
            # A frame that no log keeps cannot be found by comparing.
            self._outgoing.put(
                channel, data, is_missed=not isinstance(notice, PassingNotice), is_droppable=is_droppable
            )

    async def _publish_on(self, link: Link) -> None:
        assert self._outgoing is not None
        self._publisher = link
        self._probe.ask_soon()
        try:
            while True:
                batch = await self._outgoing.take()
                self._is_sending = True
                await self._send(link, batch)
                self._is_sending = False
        finally:
            self._is_sending = False
            self._publisher = None

    async def _send(self, link: Link, batch: list[Message]) -> None:
        """One round trip; the answers are what tells us that Redis has them."""
        answers = 0
        try:
            async with asyncio.timeout(SEND_DEADLINE_S):
                link.write((b"PUBLISH", message.channel, message.data) for message in batch)
                for message in batch:
                    try:
                        await link.read()
                    except Refused as refusal:
                        self._lost([message], "refused")
                        self._went_away(str(refusal))
                    answers += 1
        except FAULTS:
            self._lost(batch[answers:], "unconfirmed")
            raise
        metrics.bus_sent.inc(answers)

    def _lost(self, messages: Sequence[Message], reason: str) -> None:
        metrics.bus_lost.labels(reason).inc(len(messages))
        if reason != "shed":
            self._probe.fail()
        if any(message.is_missed for message in messages):
            self._owes_gap = True

    # What the others say

    async def listen(self, topics: Sequence[str], listener: Listener) -> None:
        channels = [self._channel(topic) for topic in topics]
        self._listeners.update(dict.fromkeys(channels, listener))
        metrics.bus_topics.set(len(self._listeners))
        subscriptions = self._subscriptions
        if subscriptions is None:
            self._has_missed = True
            return
        number = subscriptions.subscribe(channels)
        self._plan_commands()
        confirmed = subscriptions.confirmed(number)
        try:
            async with asyncio.timeout(LISTEN_DEADLINE_S):
                await confirmed
        except TimeoutError:
            # Should it come after all, what was published meanwhile has not been heard.
            subscriptions.confirmed(number).add_done_callback(self._compare_if)

    async def unlisten(self, topics: Sequence[str]) -> None:
        channels = [self._channel(topic) for topic in topics]
        for channel in channels:
            self._listeners.pop(channel, None)
        metrics.bus_topics.set(len(self._listeners))
        if self._subscriptions is not None:
            self._subscriptions.unsubscribe(channels)
            self._plan_commands()

    def _plan_commands(self) -> None:
        """All that one turn of the event loop asks for is one command."""
        if not self._commands_planned:
            self._commands_planned = True
            self._loop.call_soon(self._send_commands)

    def _send_commands(self) -> None:
        self._commands_planned = False
        if self._subscriber is not None and self._subscriptions is not None:
            with suppress(NotConnected):  # whoever reads from it learns so too, and begins again
                self._subscriber.write(self._subscriptions.commands())

    async def _subscribe_on(self, link: Link) -> None:
        subscriptions = Subscriptions()
        number = subscriptions.subscribe([self._canary, self._between_buses, *self._listeners])
        self._subscriber, self._subscriptions = link, subscriptions
        subscriptions.confirmed(number).add_done_callback(self._is_subscribed)
        self._send_commands()
        try:
            while True:
                # No deadline: the probe cuts a connection that has nothing to say for too long.
                self._on_reply(await link.read(), subscriptions)
        finally:
            self._subscriber = self._subscriptions = None
            self._has_missed = True
            subscriptions.end()

    def _is_subscribed(self, confirmed: "asyncio.Future[bool]") -> None:
        if confirmed.result():
            self._probe.ask_soon()
            if self._has_missed:
                self._has_missed = False
                self._compare()

    def _on_reply(self, reply: object, subscriptions: Subscriptions) -> None:
        match reply:
            case [b"message", bytes(channel), bytes(data)]:
                if not self._codec.is_own(data):
                    self._on_message(channel, data)
                elif channel == self._canary:
                    self._probe.hear(int.from_bytes(data[len(self._codec.header) :], "big"))
            case [b"subscribe" | b"unsubscribe", *_]:
                subscriptions.answered()

    def _on_message(self, channel: bytes, data: bytes) -> None:
        if channel not in self._listeners and channel != self._between_buses:
            return  # of a topic that we have just left
        notice = self._codec.decode(data)
        if isinstance(notice, Gap):
            self._compare()
        elif notice is not None:
            metrics.bus_received.inc()
            self._tell_listener(channel, notice)

    def _tell_listener(self, channel: bytes, notice: Notice) -> None:
        tell(self._listeners.get(channel), notice)

    def _compare_if(self, confirmed: "asyncio.Future[bool]") -> None:
        if confirmed.result():
            self._compare()

    def _compare(self) -> None:
        if self._gap_timer is None:
            self._gap_timer = self._loop.call_later(GATHER_GAPS_S, self._tell_gap)

    def _tell_gap(self) -> None:
        self._gap_timer = None
        metrics.bus_gaps.inc()
        try:
            self.on_gap()
        except Exception:  # noqa: BLE001 - the edge of a timer: reported
            logger.exception("what was to be done about a gap failed")

    # Whether notices travel

    def _send_canary(self, number: int) -> bool:
        if self._subscriber is None or self._publisher is None or self._outgoing is None:
            return False
        self._outgoing.put(self._canary, self._codec.header + number.to_bytes(8, "big"), is_missed=False)
        return True

    def _came_back(self) -> None:
        if self._is_away:
            self._is_away = False
            logger.info("the bus is back: Redis at {} answers", self.address)
        if self._owes_gap and self._outgoing is not None:
            self._owes_gap = False  # it is owed again should this get lost too
            for data in self._codec.encode(Gap()):
                self._outgoing.put(self._between_buses, data, is_missed=True)

    def _went_away(self, reason: str) -> None:
        self._probe.fail()
        if not self._is_away:
            self._is_away = True
            logger.warning(
                "the bus is away, Redis at {}: {}; nodes learn of each other's messages from the database until it is "
                "back", self.address, reason,
            )  # fmt: skip

    # Connections

    async def _keep(self, use: Callable[[Link], Awaitable[None]]) -> None:
        """A connection, and after its end another one, as long as the bus is open."""
        failures = 0
        while True:
            try:
                link = await self._door.connect()
                try:
                    failures = 0
                    await use(link)
                finally:
                    await link.close()
            except FAULTS as fault:
                metrics.bus_disconnects.inc()
                self._went_away(str(fault) or type(fault).__name__)
            except Exception:  # noqa: BLE001 - the edge of a task: reported, and the next connection may do better
                logger.exception("the bus has a fault")
                self._went_away("a fault of the bus itself")
            failures += 1
            if self._outgoing is not None:
                self._outgoing.give_up_late()
            # Full jitter: many nodes lose the same Redis in the same moment.
            await asyncio.sleep(random.uniform(0, _longest_backoff_s(failures)))  # noqa: S311 - no secret

    def _report_end(self, task: "asyncio.Task[None]") -> None:
        """They end only when the bus closes: any other end is ours, and must not pass in silence."""
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("a part of the bus has ended; restart this node")
            self._went_away("a fault of the bus itself")

    def _cut(self) -> None:
        for link in (self._subscriber, self._publisher):
            if link is not None:
                link.cut()

    async def _watch_master(self) -> None:
        """Sentinel cuts the clients of a master that it replaces, but only one that it can reach."""
        while True:
            await asyncio.sleep(WATCH_MASTER_EVERY_S)
            try:
                master = await self._door.find_master()
            except FAULTS:
                continue  # the Sentinels are away: what we have may still serve
            if self._door.last != master and self._subscriber is not None:
                logger.warning("another Redis is master now: {}:{}", *master)
                self._cut()

    def _channel(self, topic: str) -> bytes:
        return f"{self._prefix}{topic}".encode()


def _longest_backoff_s(failures: int) -> float:
    return min(MAX_BACKOFF_S, FIRST_BACKOFF_S * (1 << min(failures, MAX_DOUBLINGS)))

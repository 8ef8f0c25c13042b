"""The open feeds of this node: opened when somebody follows, kept whole, closed when nobody does for a while.

In:   conversations that connections want to follow; notices about them from the bus.
Out:  feeds that stand at the head of their log.
Promises: a feed listens on the bus before it reads its head, so that nothing falls between. However many connections
ask in one turn, it is one listening and one read. A hole is read once for everybody here; events that nobody announced
are found by comparing heads. A hole that is too long to send ends in a `reset`, after what it changes about who may
listen has been applied.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from loguru import logger

from server.bus.bus import Bus, CursorsNotice, EventsNotice, HeadMoved, Notice, PassingNotice, conversation_topic
from server.hub.event_frames import notice_of
from server.hub.feed import Effect, Feed, Prepare
from server.protocol.codec import encode
from server.protocol.errors import ChatError
from server.protocol.frames import Reset
from server.storage.log_reader import Head, LogReader
from server.telemetry import metrics

REPAIR_EVENTS = 1000  # read at once when a hole is found; a longer hole is a `reset`, as it is for a resume
COMPARE_EVERY_S = 2.0  # with the read itself, well within the five seconds in which a lost notice must be made good
COMPARE_EVERY_WITHOUT_BUS_S = 0.75  # the heads are the only doorbell then
COMPARED_AT_ONCE = 2000  # heads in one query: five milliseconds of the event loop
LINGER_S = 30.0  # clients of a worker that restarts, or of a proxy that was cut, find their feed with its ring

FeedNotice = EventsNotice | HeadMoved | PassingNotice | CursorsNotice


class Feeds:
    """`effects` are applied by feeds; `on_other_log` is told of a feed whose log was replaced by another one, as by a
    restored backup.
    """

    def __init__(
        self,
        bus: Bus,
        reader: LogReader,
        prepare: Prepare,
        effects: dict[str, Effect],
        on_other_log: Callable[[Feed], None],
    ) -> None:
        self._bus = bus
        self._reader = reader
        self._prepare = prepare
        self._effects = effects
        self.check_rights: Callable[[], Awaitable[None]] = _nothing_to_check
        self._on_other_log = on_other_log
        self._loop = asyncio.get_running_loop()
        self._feeds: dict[str, Feed] = {}
        self._opening: dict[str, asyncio.Future[None]] = {}
        self._wanted: list[str] = []  # of those that are opening, the ones that nobody works on yet
        self._early: dict[str, list[FeedNotice]] = {}  # notices about feeds whose head is being read
        self._gap = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, conversation: str) -> Feed | None:
        return self._feeds.get(conversation)

    def __len__(self) -> int:
        return len(self._feeds)

    # Following

    async def follow(self, conversations: Sequence[str]) -> dict[str, Feed]:
        """The open feeds of those conversations that exist; pair each with `unfollow`."""
        opening = [self._opening.get(c) or self._open_soon(c) for c in conversations if c not in self._feeds]
        if opening:
            await asyncio.wait(opening)  # which leaves them alone when whoever asked has gone
            for each in opening:
                each.result()
        found = {conversation: feed for conversation in conversations if (feed := self._feeds.get(conversation))}
        for feed in found.values():
            feed.followers += 1
        return found

    def unfollow(self, feed: Feed) -> None:
        feed.followers -= 1
        if feed.followers <= 0 and self._feeds.get(feed.conversation) is feed:
            self._linger(feed)

    def _linger(self, feed: Feed) -> None:
        feed.lingering = feed.lingering or self._loop.call_later(LINGER_S, self._close_if_unfollowed, feed)

    def _close_if_unfollowed(self, feed: Feed) -> None:
        feed.lingering = None
        if feed.followers <= 0 and self._feeds.get(feed.conversation) is feed:
            self._drop(feed)

    def _drop(self, feed: Feed) -> None:
        del self._feeds[feed.conversation]
        feed.close()
        self._spawn(self._unlisten_unless_open(feed.conversation))

    async def _unlisten_unless_open(self, conversation: str) -> None:
        if conversation not in self._feeds and conversation not in self._opening:
            await self._bus.unlisten([conversation_topic(conversation)])

    def _open_soon(self, conversation: str) -> "asyncio.Future[None]":
        """All that is asked for in one turn is opened together: in a storm a thousand clients want the same few."""
        opened = self._opening[conversation] = self._loop.create_future()
        opened.add_done_callback(lambda done: done.cancelled() or done.exception())  # there may be nobody to tell
        self._wanted.append(conversation)
        if len(self._wanted) == 1:
            self._loop.call_soon(lambda: self._spawn(self._open_wanted()))
        return opened

    async def _open_wanted(self) -> None:
        wanted, self._wanted = self._wanted, []
        error: BaseException | None = None
        try:
            await self._open(wanted)
        except BaseException as broken:
            error = broken
            if not isinstance(broken, ChatError):
                raise
        finally:
            for conversation in wanted:
                opened = self._opening.pop(conversation)
                if isinstance(error, Exception):
                    opened.set_exception(error)
                elif error is not None:
                    opened.cancel()
                else:
                    opened.set_result(None)

    async def _open(self, conversations: list[str]) -> None:
        self._early.update((conversation, []) for conversation in conversations)
        heads: dict[str, Head] = {}
        try:
            await self._bus.listen([conversation_topic(c) for c in conversations], self.on_notice)
            heads = await self._reader.heads(conversations)
        finally:
            early = {conversation: self._early.pop(conversation) for conversation in conversations}
            for conversation, head in heads.items():
                feed = self._feeds[conversation] = self._make(conversation, head)
                self._linger(feed)  # until whoever asked follows it
            nobody = [conversation_topic(c) for c in conversations if c not in heads]
            if nobody:
                self._spawn(self._bus.unlisten(nobody))
        for notices in early.values():
            for notice in notices:
                self.on_notice(notice)

    def _make(self, conversation: str, head: Head) -> Feed:
        feed = Feed(
            conversation, head.epoch, head.last, prepare=self._prepare, repair=self._repair, effects=self._effects
        )
        feed.begins_at(head.first)
        return feed

    # What the bus brings

    def on_notice(self, notice: Notice) -> None:
        if not isinstance(notice, FeedNotice):
            return
        feed = self._feeds.get(notice.conversation)
        if feed is None:
            early = self._early.get(notice.conversation)
            if early is not None:
                early.append(notice)
            return
        match notice:
            case EventsNotice():
                feed.push(notice.events)
            case HeadMoved():
                feed.announce(notice.seq)
            case PassingNotice():
                feed.pass_on(notice.payload, droppable=notice.droppable)
            case CursorsNotice():
                feed.cursors_moved(notice.cursors)

    # Repair

    async def _repair(self, feed: Feed) -> None:
        """Read what the feed misses, once for everybody here."""
        metrics.feed_repairs.inc()
        try:
            rows = await self._reader.since(feed.conversation, feed.head, REPAIR_EVENTS + 1)
            oldest = rows[0][0].seq if rows else feed.first
            begins_later = oldest > feed.head + 1  # the oldest are not kept any more
            if len(rows) > REPAIR_EVENTS or begins_later:
                await self._jump(feed)
                return
        except ChatError:
            return  # the database is away: whoever asked asks again
        feed.push([notice_of(stored, actor) for stored, actor in rows])

    async def _jump(self, feed: Feed) -> None:
        """Leave out a hole that is too long to send, but nothing of what it changes about who may listen."""
        head = (await self._reader.heads([feed.conversation])).get(feed.conversation)
        if head is None:
            return
        applied = feed.head
        while rows := await self._reader.since(
            feed.conversation, applied, REPAIR_EVENTS, up_to=head.last, kinds=list(self._effects)
        ):
            for stored, actor in rows:
                self._effects[stored.kind](feed, notice_of(stored, actor))
            applied = rows[-1][0].seq
        reset = Reset(conversation=feed.conversation, head=head.last, epoch=feed.epoch)
        feed.jump(head.last, self._prepare(encode(reset)))

    def forget_texts(self) -> None:
        """Whoever resumes now reads the log as it is now, in every conversation."""
        for feed in self._feeds.values():
            feed.forget_texts()

    def compare_soon(self) -> None:
        """Notices may have been lost: look at all heads now."""
        self._gap.set()

    async def look_out(self) -> None:
        """Find, for ever, events that were committed and never announced, with nothing behind them that would show the
        hole: their committer died, or gave up waiting for the commit's answer, or was another program such as an
        import, or the bus lost them.
        """
        while True:
            try:
                pause_s = COMPARE_EVERY_S if self._bus.is_healthy() else COMPARE_EVERY_WITHOUT_BUS_S
                async with asyncio.timeout(pause_s):
                    await self._gap.wait()
            except TimeoutError:
                pass
            may_have_missed = self._gap.is_set() or not self._bus.is_healthy()
            self._gap.clear()
            try:
                await self._reader.recognise_database()
                if may_have_missed:
                    await self.check_rights()  # first: what is read now must not reach who lost the right meanwhile
                await self.compare()
                if may_have_missed:
                    await self._learn_blocks()
            except ChatError:
                continue  # the database is away, and then nothing moves
            except Exception:  # noqa: BLE001 - the look-out must not end
                logger.exception("heads could not be compared")

    async def compare(self) -> None:
        """Hold the heads of all open feeds against the log's."""
        conversations = list(self._feeds)
        for start in range(0, len(conversations), COMPARED_AT_ONCE):
            watched = {
                conversation: Head(feed.head, feed.first, feed.epoch)
                for conversation in conversations[start : start + COMPARED_AT_ONCE]
                if (feed := self._feeds.get(conversation))
            }
            for conversation, head in (await self._reader.moved(watched)).items():
                feed = self._feeds.get(conversation)
                if feed is None:
                    continue
                if head.epoch == feed.epoch:
                    feed.begins_at(head.first)
                    feed.announce(head.last)
                else:
                    self._on_other_log(feed)
                    if self._feeds.get(conversation) is feed:
                        self._drop(feed)

    async def _learn_blocks(self) -> None:
        """A block is announced and is no event: where the announcement may be lost, ask."""
        hushed = await self._reader.hushed(list(self._feeds))
        for conversation, feed in self._feeds.items():
            feed.is_hushed = conversation in hushed

    async def close(self) -> None:
        repairs = [repair for feed in self._feeds.values() if (repair := feed.close()) is not None]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *repairs, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("a task of the feeds failed")


async def _nothing_to_check() -> None:
    """Until somebody knows how."""

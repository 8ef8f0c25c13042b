"""Following conversations: from cursors to streams, through every lost connection, without a hole.

In:   what to follow and from where; frames of the server.
Out:  items to the streams; what else somebody follows is asked for on each new connection.
Promises: an entry reaches the streams once, after the one before it. What was missed comes from the server after the
cursor; where that is too much for the socket, it is read over HTTP; where it is gone, the streams are told `Reset`.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakSet, finalize

from server.client.comeback import Chance, pause_s
from server.client.errors import Closed, StudioAway, refusal
from server.client.items import Added, Entry, Item, Removed, Reset
from server.client.positions import Answer, Phase, Position, Verdict
from server.client.streams import MAX_UNREAD, Stream
from server.protocol.codec import encode
from server.protocol.errors import ChatError, Forbidden, NotFound
from server.protocol.frames import (
    MAX_FRAME_BYTES,
    MAX_SUBSCRIPTIONS,
    ClientFrame,
    ConversationRemoved,
    ConversationSummary,
    Cursor,
    ErrorFrame,
    Event,
    Heads,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
)
from server.protocol.frames import Reset as ResetFrame
from server.protocol.ids import new_id
from server.protocol.views import EventPage, MessagePage

RESET_PAGE = 50
NO_EPOCH = ""
PATIENCE_WITH_A_HOLE_S = 8.0  # the server finds quiet holes by itself within 5 s


@dataclass(slots=True)
class Faults:
    """What a server that keeps its promises never makes a client count."""

    repeats: int = 0  # an entry came again on the same subscription
    holes: int = 0  # an entry came before the one in front of it
    late: int = 0  # the head had moved, and the entries did not come


class Log(Protocol):
    """Reading over HTTP."""

    async def messages(self, conversation: str, *, limit: int) -> MessagePage: ...
    async def events(self, conversation: str, after: int) -> EventPage: ...


class Subscriptions:
    def __init__(
        self, write: Callable[[ClientFrame], bool], log: Log, chance: Chance, *, follow_all: bool = False,
        cursors: dict[str, Cursor] | None = None, max_unread: int = MAX_UNREAD,
    ) -> None:  # fmt: skip
        self._write = write
        self._log = log
        self._chance = chance
        self._follow_all = follow_all
        self._kept = dict(cursors or {})  # of conversations that nobody follows yet
        self._max_unread = max_unread
        self._loop = asyncio.get_running_loop()
        self._positions: dict[str, Position] = {}
        self._first_answers: dict[str, asyncio.Future[None]] = {}
        self._streams: WeakSet[Stream] = WeakSet()
        self._tasks: set[asyncio.Task[None]] = set()
        self._known: set[str] | None = None  # conversations of mine, as of the last welcome
        self._is_up = False
        self._refusals = 0
        self._end: Exception | None = None
        self.faults = Faults()

    # What the program asks for

    def stream(self, conversation: str | None) -> Stream:
        made = Stream(conversation, closed=self._closed, has_room=self._room_again, max_unread=self._max_unread)
        if self._end is not None:
            made.end(self._end)
        self._streams.add(made)
        # One that is full and dropped unread tells nobody that there is room.
        finalize(made, self._was_dropped).atexit = False
        self._room_again()
        return made

    def follow(self, conversation: str, after: Cursor | int | None = None) -> asyncio.Future[None]:
        """From `after` on, else from the cursor that was handed in at the start, else from the head. Done once the
        server has answered. Raises `NotFound` there."""
        if conversation in self._positions:
            if after is not None:
                raise ValueError(f"{conversation} is followed already; it goes on from where it is")
            return self._first_answers[conversation]
        if len(self._positions) >= MAX_SUBSCRIPTIONS:
            raise ValueError(f"one connection follows at most {MAX_SUBSCRIPTIONS} conversations")
        cursor = self._kept.pop(conversation, None) if after is None else after
        if isinstance(cursor, int):
            # The epoch may be left out at 0 only; later, the log itself is asked which one it is.
            position = Position(conversation, cursor, None)
        else:
            seq, epoch = (None, None) if cursor is None else (cursor.seq, cursor.epoch)
            position = Position(conversation, seq, epoch)
        answered = self._first_answers[conversation] = self._loop.create_future()
        answered.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._end is not None:
            answered.set_exception(self._end)
            return answered
        self._positions[conversation] = position
        self._begin([position])
        return answered

    def unfollow(self, conversation: str) -> None:
        position = self._positions.pop(conversation, None)
        if position is not None:
            if position.cursor is not None:
                self._kept[conversation] = position.cursor
            answered = self._first_answers.pop(conversation)
            if not answered.done():
                answered.set_exception(Closed(f"{conversation} is not followed any more"))
            self._write(Unsubscribe(id=new_id(), conversations=[conversation]))

    def is_followed(self, conversation: str) -> bool:
        return conversation in self._positions

    @property
    def cursors(self) -> dict[str, Cursor]:
        """Up to where the readers of all streams are done, for each conversation."""
        found = dict(self._kept)
        for position in self._positions.values():
            if position.seq is None:
                continue
            unread = [stream.oldest_unread(position.conversation) for stream in self._streams]
            if any(isinstance(item, Reset) for item in unread):
                # Of no log, so that whoever comes with it hears of the reset again.
                found[position.conversation] = Cursor(seq=position.seq, epoch=NO_EPOCH)
            else:
                seq = min((item.seq - 1 for item in unread if isinstance(item, Entry)), default=position.seq)
                found[position.conversation] = Cursor(seq=seq, epoch=position.epoch)
        return found

    # What the connection says

    def up(self, welcome: Welcome) -> None:
        self._meet(welcome.conversations)
        self._is_up, self._refusals = True, 0
        self._begin([p for p in self._positions.values() if p.phase is Phase.WAITING])

    def down(self) -> None:
        self._is_up = False
        for position in self._positions.values():
            if position.phase in (Phase.ASKED, Phase.LIVE):
                position.phase = Phase.WAITING

    def event(self, frame: Event) -> None:
        position = self._positions.get(frame.conversation)
        if position is None:
            return
        verdict = position.judge(frame.seq)
        if verdict is Verdict.NEXT:
            self._take(position, frame)
        elif verdict is Verdict.REPEAT:
            self.faults.repeats += position.phase is Phase.LIVE
        elif verdict is Verdict.HOLE:
            self.faults.holes += 1
            self._ask([position])

    def subscribed(self, frame: Subscribed) -> None:
        for conversation, answer in frame.conversations.items():
            position = self._positions.get(conversation)
            if position is None or position.asked != frame.id or position.phase is not Phase.ASKED:
                continue
            match position.answered(answer):
                case Answer.GO_ON:
                    position.phase = Phase.LIVE
                    self._answered(conversation)
                case Answer.READ:
                    self._read(position)
                case Answer.GONE:
                    self.removed(conversation, str(answer.error))

    def refused(self, frame: ErrorFrame) -> None:
        """A `subscribe` was, perhaps."""
        asked = [p for p in self._positions.values() if p.asked == frame.id and p.phase is Phase.ASKED]
        if not asked:
            return
        if not frame.retryable:
            for position in asked:
                self.removed(position.conversation, frame.code)
            return
        least_s = frame.retry_after_s if isinstance(frame.retry_after_s, float | int) else 0.0
        self._refusals += 1
        self._loop.call_later(least_s + pause_s(self._refusals, self._chance), self._ask_again, str(frame.id))

    def reset(self, frame: ResetFrame) -> None:
        position = self._positions.get(frame.conversation)
        if position is not None and position.phase is not Phase.READING:
            self._read(position)

    def heads(self, frame: Heads) -> None:
        for conversation, head in frame.conversations.items():
            position = self._positions.get(conversation)
            if position is not None and position.phase is Phase.LIVE and (position.seq or 0) < head:
                self._loop.call_later(PATIENCE_WITH_A_HOLE_S, self._look, position, head)

    def added(self, summary: ConversationSummary) -> None:
        if self._known is not None:
            self._known.add(summary.id)
        self._tell(Added(summary), None)
        if self._follow_all:
            self._follow_unread(summary)

    def lost(self, frame: ConversationRemoved) -> None:
        position = self._positions.get(frame.conversation)
        if position is None or position.phase is not Phase.ASKED:
            self.removed(frame.conversation, frame.code)
        # Else this may be older than what was asked, after an invitation for instance: the answer tells.

    def removed(self, conversation: str, code: str) -> None:
        if self._known is not None:
            self._known.discard(conversation)
        if self._positions.pop(conversation, None) is not None:
            answered = self._first_answers.pop(conversation)
            if not answered.done():
                answered.set_exception(refusal(code, "this conversation cannot be followed"))
        self._kept.pop(conversation, None)
        self._tell(Removed(conversation, code), conversation)

    def end(self, error: Exception) -> None:
        """Nothing comes any more."""
        self._is_up, self._end = False, error
        for task in self._tasks:
            task.cancel()
        for answered in self._first_answers.values():
            if not answered.done():
                answered.set_exception(error)
        for stream in tuple(self._streams):
            if isinstance(error, Closed):
                stream.end(StopAsyncIteration())
            else:
                stream.end(error)

    async def ended(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Asking

    def _meet(self, summaries: Iterable[ConversationSummary]) -> None:
        """Conversations that became mine, or ceased to be, while nobody was connected."""
        before, self._known = self._known, {summary.id for summary in summaries}
        for summary in summaries:
            if before is not None and summary.id not in before:
                self.added(summary)
            elif self._follow_all and summary.id not in self._positions:
                after = None if summary.id in self._kept else Cursor(seq=summary.head, epoch=summary.epoch)
                self._follow_if_possible(summary.id, after)

    def _follow_unread(self, summary: ConversationSummary) -> None:
        """What was said before we heard of it, the first private message for instance, is news."""
        if summary.id not in self._positions:
            self._follow_if_possible(summary.id, Cursor(seq=summary.read, epoch=summary.epoch))

    def _follow_if_possible(self, conversation: str, after: Cursor | None) -> None:
        if len(self._positions) < MAX_SUBSCRIPTIONS:
            self.follow(conversation, after)

    def _begin(self, positions: list[Position]) -> None:
        lost = [position for position in positions if position.epoch is None and position.seq]
        for position in lost:  # a number without an epoch says nothing to the server
            self._read(position)
        self._ask([position for position in positions if position not in lost])

    def _ask(self, positions: list[Position]) -> None:
        if not positions:
            return
        frame = Subscribe(id=new_id(), conversations={position.conversation: position.cursor for position in positions})
        if len(positions) > 1 and len(encode(frame)) > MAX_FRAME_BYTES:
            middle = len(positions) // 2
            self._ask(positions[:middle])
            self._ask(positions[middle:])
            return
        is_written = self._is_up and self._write(frame)
        for position in positions:
            position.asked = frame.id
            position.phase = Phase.ASKED if is_written else Phase.WAITING

    def _ask_again(self, asked: str) -> None:
        self._ask([p for p in self._positions.values() if p.asked == asked and p.phase is Phase.ASKED])

    def _look(self, position: Position, head: int) -> None:
        if self._stands(position) and position.phase is Phase.LIVE and (position.seq or 0) < head:
            self.faults.late += 1
            self._ask([position])

    def _stands(self, position: Position) -> bool:
        return self._positions.get(position.conversation) is position

    # Taking

    def _take(self, position: Position, frame: Event) -> None:
        position.seq = frame.seq
        if self._tell(Entry(frame), frame.conversation) and position.phase is Phase.LIVE:
            position.phase = Phase.PAUSED
            self._write(Unsubscribe(id=new_id(), conversations=[position.conversation]))

    def _tell(self, item: Item, conversation: str | None) -> bool:
        """To the streams that want it; whether one of them is full now. None: to those of everything."""
        is_full = False
        for stream in tuple(self._streams):
            if stream.conversation is None if conversation is None else stream.wants(conversation):
                stream.put(item)
                is_full = is_full or stream.is_full
        return is_full

    def _is_full(self, conversation: str) -> bool:
        return any(stream.is_full for stream in self._streams if stream.wants(conversation))

    def _room_again(self) -> None:
        paused = [position for position in self._positions.values() if position.phase is Phase.PAUSED]
        self._ask([position for position in paused if not self._is_full(position.conversation)])

    def _closed(self, stream: Stream) -> None:
        self._streams.discard(stream)
        self._room_again()

    def _was_dropped(self) -> None:
        """Told by the garbage collection: in the middle of anything, on any thread."""
        with suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(self._room_again)

    def _answered(self, conversation: str) -> None:
        answered = self._first_answers[conversation]
        if not answered.done():
            answered.set_result(None)

    # Reading the log over HTTP

    def _read(self, position: Position) -> None:
        position.phase = Phase.READING
        task = self._loop.create_task(self._read_on(position))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read_on(self, position: Position) -> None:
        attempt = 0
        while self._stands(position):
            try:
                await self._read_to_the_head(position)
                if self._stands(position):
                    self._ask([position])
                return
            except (NotFound, Forbidden) as error:
                if self._stands(position):
                    self.removed(position.conversation, error.code)
            except (ChatError, StudioAway):
                attempt += 1
                await asyncio.sleep(pause_s(attempt, self._chance))
            except Exception as error:  # noqa: BLE001 - the edge of a task: those who read are told
                self.end(error)
                return

    async def _read_to_the_head(self, position: Position) -> None:
        conversation = position.conversation
        while self._stands(position):
            page = await self._log.events(conversation, position.seq or 0)
            if not self._stands(position):
                return
            if not position.continues_in(page):
                await self._begin_anew(position)
                return
            for event in page.events:
                if event.seq == (position.seq or 0) + 1:
                    self._take(position, event)
            if (position.seq or 0) >= page.head:
                return
            while self._is_full(conversation):
                await asyncio.sleep(0.05)

    async def _begin_anew(self, position: Position) -> None:
        page = await self._log.messages(position.conversation, limit=RESET_PAGE)
        if self._stands(position):
            position.seq, position.epoch = page.head, page.epoch
            self._tell(Reset(position.conversation, page), position.conversation)
            with suppress(KeyError):
                self._answered(position.conversation)

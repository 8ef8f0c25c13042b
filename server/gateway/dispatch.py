"""From a frame to the part of the hub that acts on it: one table, each frame with its permission.

In:   the text of a frame, in the turn in which it arrives.
Out:  for a frame with an `id` exactly one answer that carries it.
Frames of one connection are handled in the order they came: one that must wait for something makes the next ones wait
behind it. Sending waits for nothing here, so that many messages share one commit.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from loguru import logger
from msgspec import UNSET, UnsetType

from server.gateway.connection import Connection
from server.gateway.rate_limits import BadFrameMeter, RateLimits
from server.gateway.subscribing import Subscriber
from server.hub.permissions import MEMBERS, Permission
from server.hub.studio import Studio
from server.protocol.clock import rfc3339
from server.protocol.codec import BadFrameWithId, decode_frame
from server.protocol.errors import BadFrame, BadJson, ChatError, Forbidden, Internal, NotFound, RateLimited, Unavailable
from server.protocol.events import Mention
from server.protocol.frames import (
    Ack,
    ClientFrame,
    Decide,
    Delete,
    Delivered,
    Durable,
    Edit,
    Hello,
    Pin,
    Ping,
    Pong,
    React,
    Read,
    Send,
    StartRun,
    Steer,
    Stop,
    Subscribe,
    Typing,
    TypingNotice,
    Unsubscribe,
    client_frame_types,
)
from server.storage.message_log import Stored
from server.telemetry import metrics

TYPING_EVERY_S = 2.0
LINE_TIMEOUT_S = 2.5  # a send is answered within 3 s, also behind something that the database keeps waiting
MAX_BACKLOG = 1000  # frames of one connection that wait behind one another

Handled = Awaitable[None] | None
F = TypeVar("F", bound=ClientFrame)


@dataclass(frozen=True, slots=True)
class Handling:
    permission: Permission
    handle: Callable[["Dispatcher", Connection, Any], Handled]


class Dispatcher:
    """The frames of one connection."""

    def __init__(self, studio: Studio, limits: RateLimits, connection: Connection) -> None:
        self._studio = studio
        self._limits = limits
        self._connection = connection
        self._bad_frames = BadFrameMeter()
        self._frames = limits.frame_meter()
        self._backlog: deque[tuple[ClientFrame, float]] = deque()  # each with the time since when it waits
        self._line_timer: asyncio.TimerHandle | None = None
        self._worker: asyncio.Task[None] | None = None
        self._typing: dict[str, tuple[float, bool]] = {}  # conversation → when it was last told, and what
        self._loop = asyncio.get_running_loop()

    def receive(self, text: str) -> None:
        connection = self._connection
        if connection.is_closed:
            return
        try:
            frame = decode_frame(text)
        except (BadJson, BadFrame) as error:
            self._refuse_bad(error)
            return
        _counters[type(frame)].inc()
        if self._frames is not None:
            try:
                self._frames.check(self._loop.time())
            except RateLimited as error:
                connection.refuse(_id_of(frame), error)
                return
        if self._worker is not None:
            self._wait_in_line(frame)
            return
        waiting = self._begin(frame)
        if waiting is not None:
            connection.began()  # until the line is empty: whoever is sent away is answered first
            self._worker = self._loop.create_task(self._work(frame, waiting))

    def close(self) -> None:
        if self._line_timer is not None:
            self._line_timer.cancel()
        if self._worker is not None:
            self._worker.cancel()

    def _refuse_bad(self, error: ChatError) -> None:
        frame_id = error.frame_id if isinstance(error, BadFrameWithId) else None
        self._connection.refuse(frame_id if isinstance(frame_id, str) and len(frame_id) <= 64 else None, error)
        if self._bad_frames.is_full_after(self._loop.time()):
            self._connection.end(4501, "too many bad frames")

    def _wait_in_line(self, frame: ClientFrame) -> None:
        self._backlog.append((frame, self._loop.time()))
        if isinstance(frame, Durable) and self._line_timer is None:
            self._line_timer = self._loop.call_later(LINE_TIMEOUT_S, self._refuse_who_waits_too_long)
        if len(self._backlog) > MAX_BACKLOG:
            self._connection.end(4013, "too many frames at once")

    def _refuse_who_waits_too_long(self) -> None:
        """What is to be kept; the rest may wait. Whoever sends it again stands in line again."""
        self._line_timer = None
        until, staying = self._loop.time() - LINE_TIMEOUT_S + 1e-3, deque[tuple[ClientFrame, float]]()
        for frame, since in self._backlog:
            if not isinstance(frame, Durable):
                staying.append((frame, since))
            elif since <= until:
                self._connection.refuse(frame.id, Unavailable())
            else:
                staying.append((frame, since))
                if self._line_timer is None:
                    self._line_timer = self._loop.call_at(since + LINE_TIMEOUT_S, self._refuse_who_waits_too_long)
        self._backlog = staying

    def _begin(self, frame: ClientFrame) -> Handled:
        """Handle a frame as far as possible without waiting."""
        try:
            return FRAMES[type(frame)].handle(self, self._connection, frame)
        except ChatError as error:
            self._connection.refuse(_id_of(frame), error)
        except Exception:  # noqa: BLE001 - the edge of a task: reported
            logger.bind(connection=self._connection.id).exception("a {} frame broke", frame.__struct_config__.tag)
            self._connection.refuse(_id_of(frame), Internal())
        return None

    async def _work(self, frame: ClientFrame, waiting: Awaitable[None]) -> None:
        """Wait for one frame, then go through those that came behind it."""
        try:
            await self._finish(frame, waiting)
            while self._backlog and not self._connection.is_closed:
                frame, _ = self._backlog.popleft()
                following = self._begin(frame)
                if following is not None:
                    await self._finish(frame, following)
        finally:
            self._worker = None
            self._connection.finished()

    async def _finish(self, frame: ClientFrame, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except ChatError as error:
            self._connection.refuse(_id_of(frame), error)
        except Exception:  # noqa: BLE001 - the edge of a task: reported
            logger.bind(connection=self._connection.id).exception("a {} frame broke", frame.__struct_config__.tag)
            self._connection.refuse(_id_of(frame), Internal())

    # One handler a frame

    def hello(self, connection: Connection, frame: Hello) -> Handled:
        raise BadFrame("this socket is signed in already")

    def ping(self, connection: Connection, frame: Ping) -> Handled:
        connection.tell(Pong(id=UNSET if frame.id is None else frame.id))
        return None

    def subscribe(self, connection: Connection, frame: Subscribe) -> Handled:
        wait_s = self._limits.resume_turn_s()
        return self._subscribe(connection, frame, wait_s)

    async def _subscribe(self, connection: Connection, frame: Subscribe, wait_s: float) -> None:
        if wait_s:
            await asyncio.sleep(wait_s)
        await Subscriber(self._studio, connection).subscribe(frame)

    def unsubscribe(self, connection: Connection, frame: Unsubscribe) -> Handled:
        conversations = [connection.bound] if connection.bound and frame.conversations is UNSET else frame.conversations
        if isinstance(conversations, UnsetType):
            raise BadFrame("`conversations` is missing")
        for conversation in conversations:
            connection.remove(conversation)
        connection.tell(Ack(id=frame.id))
        return None

    def durable(self, connection: Connection, frame: Durable) -> Handled:
        self._limits.check_send(connection.user_id)
        conversation = _conversation(connection, frame.conversation)
        found = self._studio.messenger.mentions_known(frame, conversation)
        if found is None:
            return self._with_names(connection, conversation, frame)
        self._put(connection, conversation, frame, found)
        return None

    async def _with_names(self, connection: Connection, conversation: str, frame: Durable) -> None:
        assert isinstance(frame, Send)
        # Names are told only to those who may read: for others the log will say that there is no such conversation.
        found = await self._studio.messenger.mentions_in(frame.text, conversation)
        self._put(connection, conversation, frame, found)

    def _put(self, connection: Connection, conversation: str, frame: Durable, found: list[Mention]) -> None:
        def settled(outcome: Stored | ChatError) -> None:
            connection.finished()
            if isinstance(outcome, ChatError):
                connection.refuse(frame.id, outcome)
            else:
                connection.tell(_ack(frame, outcome))

        connection.began()
        try:
            self._studio.messenger.put(connection.identity, conversation, frame, settled, found)
        except BaseException:
            connection.finished()
            raise

    def mark(self, connection: Connection, frame: Delivered | Read) -> Handled:
        conversation = _conversation(connection, frame.conversation)
        if not connection.follows(conversation):
            return self._mark_elsewhere(connection, conversation, frame)
        self._note(connection, conversation, frame)
        return None

    async def _mark_elsewhere(self, connection: Connection, conversation: str, frame: Delivered | Read) -> None:
        await self._studio.check(connection.identity, Permission.READ, conversation)
        self._note(connection, conversation, frame)

    def _note(self, connection: Connection, conversation: str, frame: Delivered | Read) -> None:
        if isinstance(frame, Read):
            self._studio.receipts.note(conversation, connection.user_id, read=frame.seq)
        else:
            self._studio.receipts.note(conversation, connection.user_id, delivered=frame.seq)

    def typing(self, connection: Connection, frame: Typing) -> Handled:
        conversation = _conversation(connection, frame.conversation)
        if not connection.follows(conversation) or connection.subscriptions[conversation].feed.is_hushed:
            return self._type_elsewhere(connection, conversation, frame.on)
        if connection.subscriptions[conversation].role not in MEMBERS:
            raise Forbidden("your role in this conversation does not allow this")
        self._tell_typing(connection, conversation, frame.on)
        return None

    async def _type_elsewhere(self, connection: Connection, conversation: str, is_on: bool) -> None:
        await self._studio.check(connection.identity, Permission.SEND, conversation)
        self._tell_typing(connection, conversation, is_on)

    def _tell_typing(self, connection: Connection, conversation: str, is_on: bool) -> None:
        # A key held down is no news, and a room of five hundred would hear each time.
        now, (told_at, was_on) = self._loop.time(), self._typing.get(conversation, (0.0, False))
        if is_on == was_on and now - told_at < TYPING_EVERY_S:
            return
        if is_on and now - told_at < TYPING_EVERY_S / 4:
            return
        self._typing[conversation] = now, is_on
        notice = TypingNotice(conversation=conversation, user=connection.user_id, on=is_on)
        self._studio.hub.pass_on(conversation, notice, droppable=True)

    async def run(self, connection: Connection, frame: StartRun) -> None:
        self._limits.check_send(connection.user_id)
        conversation = _conversation(connection, frame.conversation)
        stored, data = await self._studio.assistant.start(
            connection.identity, conversation, frame.id, model=frame.model, message=frame.message
        )
        connection.tell(Ack(id=frame.id, conversation=conversation, run=data.run, message=data.message, seq=stored.seq))

    async def stop(self, connection: Connection, frame: Stop) -> None:
        await self._studio.check_run(connection.identity, Permission.STOP, frame.run)
        stored = await self._studio.assistant.stop(connection.identity, frame.id, frame.run)
        connection.tell(Ack(id=frame.id, conversation=stored.conversation, seq=stored.seq))

    async def steer(self, connection: Connection, frame: Steer) -> None:
        self._limits.check_send(connection.user_id)
        await self._studio.check_run(connection.identity, Permission.STEER, frame.run)
        stored = await self._studio.assistant.steer(connection.identity, frame.id, frame.run, frame.text)
        connection.tell(Ack(id=frame.id, conversation=stored.conversation, seq=stored.seq))

    async def decide(self, connection: Connection, frame: Decide) -> None:
        await self._studio.check_run(connection.identity, Permission.DECIDE, frame.run)
        raise NotFound("this run has proposed no such call")


# `subscribe` and the frames without an answer look at standings themselves; a durable frame is judged inside its
# transaction.
FRAMES: dict[type[ClientFrame], Handling] = {
    Hello: Handling(Permission.ANYONE, Dispatcher.hello),
    Ping: Handling(Permission.SIGNED_IN, Dispatcher.ping),
    Subscribe: Handling(Permission.READ, Dispatcher.subscribe),
    Unsubscribe: Handling(Permission.SIGNED_IN, Dispatcher.unsubscribe),
    Send: Handling(Permission.SEND, Dispatcher.durable),
    Edit: Handling(Permission.EDIT, Dispatcher.durable),
    Delete: Handling(Permission.DELETE, Dispatcher.durable),
    React: Handling(Permission.REACT, Dispatcher.durable),
    Pin: Handling(Permission.PIN, Dispatcher.durable),
    Delivered: Handling(Permission.READ, Dispatcher.mark),
    Read: Handling(Permission.READ, Dispatcher.mark),
    Typing: Handling(Permission.SEND, Dispatcher.typing),
    StartRun: Handling(Permission.RUN, Dispatcher.run),
    Stop: Handling(Permission.STOP, Dispatcher.stop),
    Steer: Handling(Permission.STEER, Dispatcher.steer),
    Decide: Handling(Permission.DECIDE, Dispatcher.decide),
}


_counters = {shape: metrics.frames_in.labels(tag) for tag, shape in client_frame_types.items()}


def _ack(frame: Durable, stored: Stored) -> Ack:
    if isinstance(frame, Send):
        message = UNSET if stored.message is None else stored.message
        return Ack(
            id=frame.id, conversation=stored.conversation, seq=stored.seq, message=message, at=rfc3339(stored.at)
        )
    return Ack(id=frame.id, conversation=stored.conversation, seq=stored.seq)


def _conversation(connection: Connection, named: str | UnsetType) -> str:
    if named is not UNSET:
        return named
    if connection.bound is None:
        raise BadFrame("`conversation` is missing")
    return connection.bound


def _id_of(frame: ClientFrame) -> str | None:
    frame_id: str | None = getattr(frame, "id", None)
    return frame_id

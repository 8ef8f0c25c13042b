"""The hub of this node: who is connected, which feeds are open, and how what was committed reaches both.

In:   connections that come and go; notices from the bus.
Out:  frames to connections, by way of feeds.
Promises: what changes who may listen (a kick, a deletion, a room closed to visitors) is applied in the
order of the log.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from loguru import logger

from server.bus.bus import (
    STUDIO_TOPIC,
    Bus,
    EventNotice,
    EventsNotice,
    GrantsEnded,
    HeadMoved,
    Notice,
    PassingNotice,
    UserNotice,
    conversation_topic,
    user_topic,
)
from server.hub.event_frames import notice_of
from server.hub.feed import Feed, Listener, Prepare
from server.hub.feeds import Feeds
from server.protocol.codec import decode_stored, encode
from server.protocol.events import ConversationUpdated, MemberJoined, MemberLeft, MemberRole
from server.protocol.frames import Actor, Event, ServerFrame
from server.storage.log_reader import LogReader
from server.storage.message_log import Stored

SESSION_ENDED = 4500
RIGHTS_CHANGED = 4014


class Connection(Listener, Protocol):
    """A socket, as the hub sees it."""

    @property
    def grant_id(self) -> str: ...

    @property
    def account_role(self) -> str: ...

    def tell(self, frame: ServerFrame) -> None:
        """Write one frame to this connection alone."""

    def look(self, now: float) -> None:
        """Once a heartbeat, with the event loop's clock: end it if it is dead, else ask for a sign of life."""

    def role_changed(self, conversation: str, role: str) -> None: ...

    def end(self, code: int, reason: str) -> None:
        """Close at once; what waits to be written is thrown away."""

    def end_when_answered(self, code: int, reason: str) -> None:
        """Read nothing more, and close as soon as what was read is answered."""


SummaryOf = Callable[[str, str, str], Awaitable[ServerFrame | None]]


class Hub:
    """`prepare` frames a payload; `summary_of(user, account role, conversation)` makes a `conversation.added` frame."""

    def __init__(self, bus: Bus, reader: LogReader, prepare: Prepare) -> None:
        self._bus = bus
        self._prepare = prepare
        self._feeds = Feeds(bus, reader, prepare, self._effects, self._on_other_log)
        self._connections: dict[str, dict[Connection, None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.summary_of: SummaryOf | None = None
        self.live_answers_of: Callable[[str], Iterable[ServerFrame]] = lambda _: ()

    async def open(self) -> None:
        self._bus.on_gap = self._feeds.compare_soon
        await self._bus.listen([STUDIO_TOPIC], self._on_notice)
        self.spawn(self._feeds.look_out())

    # Connections

    async def attach(self, connection: Connection) -> None:
        user = connection.user_id
        sockets = self._connections.setdefault(user, {})
        sockets[connection] = None
        if len(sockets) == 1:
            await self._bus.listen([user_topic(user)], self._on_notice)

    def detach(self, connection: Connection) -> None:
        user = connection.user_id
        sockets = self._connections.get(user, {})
        sockets.pop(connection, None)
        if not sockets and self._connections.pop(user, None) is not None:
            self.spawn(self._unlisten_unless_online(user))

    async def _unlisten_unless_online(self, user: str) -> None:
        if user not in self._connections:
            await self._bus.unlisten([user_topic(user)])

    def connections(self) -> list[Connection]:
        return [connection for sockets in self._connections.values() for connection in sockets]

    @property
    def connection_count(self) -> int:
        return sum(map(len, self._connections.values()))

    @property
    def feed_count(self) -> int:
        return len(self._feeds)

    def is_online(self, user: str) -> bool:
        return user in self._connections

    # Feeds

    async def follow(self, conversations: Sequence[str]) -> dict[str, Feed]:
        """The open feeds of those conversations that exist; pair each with `unfollow`."""
        return await self._feeds.follow(conversations)

    def unfollow(self, feed: Feed) -> None:
        self._feeds.unfollow(feed)

    def feed(self, conversation: str) -> Feed | None:
        return self._feeds.get(conversation)

    def live_answers(self, conversation: str) -> bytes:
        """What each running answer has said so far, as prepared frames: for whoever comes in the middle."""
        return b"".join(self._prepare(encode(frame)) for frame in self.live_answers_of(conversation))

    def _on_other_log(self, feed: Feed) -> None:
        """The log behind a feed was replaced: whoever follows comes back, and its cursor is answered with `reset`."""
        for connection in self.connections():
            if connection.remove(feed.conversation):
                connection.end(RIGHTS_CHANGED, "the history was restored from a backup")

    # What travels

    def publish(self, committed: Iterable[tuple[Stored, Actor]]) -> None:
        """Tell all nodes what was committed; to be called after the commit, never before."""
        by_conversation: dict[str, list[EventNotice]] = {}
        for stored, actor in committed:
            by_conversation.setdefault(stored.conversation, []).append(notice_of(stored, actor))
        for conversation, events in by_conversation.items():
            self._bus.publish(conversation_topic(conversation), EventsNotice(conversation, events))

    def pass_on(self, conversation: str, frame: ServerFrame, *, droppable: bool) -> None:
        """A frame that no log keeps, to everybody who listens to the conversation."""
        self._bus.publish(conversation_topic(conversation), PassingNotice(conversation, encode(frame), droppable))

    def added(self, user: str, conversation: str) -> None:
        self._bus.publish(user_topic(user), UserNotice(user, "added", conversation))

    def removed(self, user: str, conversation: str, code: str) -> None:
        self._bus.publish(user_topic(user), UserNotice(user, "removed", conversation, code))

    async def end_grants(self, grants: Sequence[str]) -> None:
        """Cut the sockets under these grants, on every node."""
        self._bus.publish(STUDIO_TOPIC, GrantsEnded(list(grants), SESSION_ENDED))

    async def renew_rights(self, grants: Sequence[str]) -> None:
        """Cut the sockets under these grants: they come back and learn their new rights."""
        self._bus.publish(STUDIO_TOPIC, GrantsEnded(list(grants), RIGHTS_CHANGED))

    def _on_notice(self, notice: Notice) -> None:
        match notice:
            case EventsNotice() | HeadMoved() | PassingNotice():
                self._feeds.on_notice(notice)
            case UserNotice():
                self._tell_user(notice)
            case GrantsEnded():
                ended = set(notice.grants)
                for connection in self.connections():
                    if connection.grant_id in ended:
                        reason = "session ended" if notice.close_code == SESSION_ENDED else "your rights have changed"
                        connection.end(notice.close_code, reason)

    def _tell_user(self, notice: UserNotice) -> None:
        sockets = tuple(self._connections.get(notice.user, ()))
        match notice.verb:
            case "removed":
                for connection in sockets:
                    connection.lose(notice.conversation, notice.code)
            case "added" if sockets:
                self.spawn(self._tell_added(notice.user, sockets, notice.conversation))

    async def _tell_added(self, user: str, sockets: tuple[Connection, ...], conversation: str) -> None:
        assert self.summary_of is not None
        frame = await self.summary_of(user, sockets[0].account_role, conversation)
        if frame is not None:
            for connection in sockets:
                connection.tell(frame)

    # What changes who may listen

    @property
    def _effects(self) -> dict[str, Callable[[Feed, EventNotice], None]]:
        return {
            "member.left": self._on_left,
            "member.joined": self._on_joined,
            "member.role": self._on_role,
            "conversation.updated": self._on_updated,
            "conversation.deleted": self._on_deleted,
            "message.deleted": lambda feed, _: feed.forget_texts(),
        }

    def _on_left(self, feed: Feed, event: EventNotice) -> None:
        feed.note_rights_changed()
        left = decode_stored(decode_stored(event.payload, Event).data, MemberLeft)
        for connection in tuple(self._connections.get(left.user, ())):
            connection.remove(feed.conversation)

    def _on_joined(self, feed: Feed, event: EventNotice) -> None:
        feed.note_rights_changed()
        joined = decode_stored(decode_stored(event.payload, Event).data, MemberJoined)
        for connection in tuple(self._connections.get(joined.user, ())):
            connection.role_changed(feed.conversation, joined.role)
            feed.visitors.discard(connection)

    def _on_role(self, feed: Feed, event: EventNotice) -> None:
        feed.note_rights_changed()
        changed = decode_stored(decode_stored(event.payload, Event).data, MemberRole)
        for connection in tuple(self._connections.get(changed.user, ())):
            connection.role_changed(feed.conversation, changed.role)

    def _on_updated(self, feed: Feed, event: EventNotice) -> None:
        feed.note_rights_changed()
        updated = decode_stored(decode_stored(event.payload, Event).data, ConversationUpdated)
        if updated.visibility == "private":
            for visitor in tuple(feed.visitors):
                visitor.lose(feed.conversation, "not_found")

    def _on_deleted(self, feed: Feed, event: EventNotice) -> None:
        for visitor in tuple(feed.visitors):
            visitor.lose(feed.conversation, "deleted")
        for connection in self.connections():  # members are told by a notice of their own
            connection.remove(feed.conversation)

    def spawn(self, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception:  # noqa: BLE001 - the edge of a task: reported
                logger.exception("a task of the hub failed")

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        self._feeds.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

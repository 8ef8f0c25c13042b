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
    AnswersWanted,
    Bus,
    CursorsNotice,
    EventNotice,
    EventsNotice,
    GrantsEnded,
    HeadMoved,
    Notice,
    OwnCursors,
    PassingNotice,
    UserNotice,
    conversation_topic,
    user_topic,
)
from server.hub.event_frames import notice_of
from server.hub.feed import Feed, Listener, Prepare
from server.hub.feeds import Feeds
from server.protocol.codec import decode_stored, encode
from server.protocol.errors import ChatError
from server.protocol.events import ConversationUpdated, MemberJoined, MemberLeft, MemberRole
from server.protocol.frames import Actor, Event, Receipt, ServerFrame
from server.storage.log_reader import LogReader
from server.storage.message_log import Stored

SESSION_ENDED = 4500
ACCOUNT_REMOVED = 4503
RIGHTS_CHANGED = 4014
GRANT_ENDS = {SESSION_ENDED: "session ended", ACCOUNT_REMOVED: "account removed"}
ASK_EVERY_S = 0.5  # many who come at once get one answer
MAX_ASKED = 10_000
UNLISTEN_AFTER_S = 1.0


class Connection(Listener, Protocol):
    """A socket, as the hub sees it."""

    @property
    def grant_id(self) -> str: ...

    @property
    def account_role(self) -> str: ...

    @property
    def is_full(self) -> bool: ...

    def follows(self, conversation: str) -> bool: ...

    def tell(self, frame: ServerFrame) -> None:
        """Write one frame to this connection alone."""

    def look(self, now: float) -> None:
        """Often, with the event loop's clock: when it is due, end it if it is dead, else ask for a sign of life."""

    def regained(self, conversation: str) -> None:
        """It is this user's again: losing it once more will be told."""

    def rights_as_of(self, conversation: str) -> int:
        """Up to which seq the log's kicks and roles are in what is known of this user's rights."""

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
        self.connection_count = 0  # kept, not counted: each socket asks for it at each heartbeat
        self._unlistening: asyncio.TimerHandle | None = None
        self._gone: set[str] = set()  # users whose last socket has closed, and whose topic is still had
        self._listening: dict[str, asyncio.Task[None]] = {}  # by user, the topic of whom is asked for or had
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._asked: dict[str, float] = {}  # when other nodes were last asked for the answers of a conversation
        self.summary_of: SummaryOf | None = None
        self.on_block: Callable[[str, str], Awaitable[None]] | None = None  # of a user's private chat
        self.live_answers_of: Callable[[str], Iterable[ServerFrame]] = lambda _: ()
        self.is_online: Callable[[str], bool] = lambda _: False  # whether a user is present on any node
        self.on_gap: list[Callable[[], None]] = []  # for what else the bus may have lost

    async def open(self) -> None:
        self._bus.on_gap = self._on_gap
        await self._bus.listen([STUDIO_TOPIC], self._on_notice)
        self.spawn(self._feeds.look_out())

    def check_rights_by(self, check: Callable[[], Awaitable[None]]) -> None:
        """What to do before the log is read for notices that may have been lost, since a lost one may have ended a
        sign-in.
        """
        self._feeds.check_rights = check

    def _on_gap(self) -> None:
        self._feeds.compare_soon()
        for look in self.on_gap:
            look()

    # Connections

    async def attach(self, connection: Connection) -> None:
        user = connection.user_id
        self._connections.setdefault(user, {})[connection] = None
        self.connection_count += 1
        listening = self._listening.get(user)
        if listening is None:
            listening = self._loop.create_task(self._bus.listen([user_topic(user)], self._on_notice))
            self._listening[user] = listening
        await asyncio.shield(listening)

    def detach(self, connection: Connection) -> None:
        user = connection.user_id
        sockets = self._connections.get(user, {})
        if connection in sockets:
            del sockets[connection]
            self.connection_count -= 1
        if not sockets and self._connections.pop(user, None) is not None:
            if not self._gone:
                self._unlistening = self._loop.call_later(UNLISTEN_AFTER_S, self._unlisten_soon)
            self._gone.add(user)

    def _unlisten_soon(self) -> None:
        self.spawn(self._unlisten_to_the_gone())

    async def _unlisten_to_the_gone(self) -> None:
        """All of a second at once; who is back by then has never been away."""
        gone = [user for user in self._gone if user not in self._connections]
        self._gone.clear()
        for user in gone:
            self._listening.pop(user, None)
        await self._bus.unlisten([user_topic(user) for user in gone])

    def connections(self) -> list[Connection]:
        return [connection for sockets in self._connections.values() for connection in sockets]

    @property
    def feed_count(self) -> int:
        return len(self._feeds)

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

    def ask_for_answers(self, conversation: str) -> None:
        """The same of answers that other nodes carry; it comes as passing frames, to everybody who follows."""
        now = self._loop.time()
        if (
            any(True for _ in self.live_answers_of(conversation))
            or now - self._asked.get(conversation, 0.0) < ASK_EVERY_S
        ):
            return
        if len(self._asked) > MAX_ASKED:
            self._asked.clear()
        self._asked[conversation] = now
        self._bus.publish(STUDIO_TOPIC, AnswersWanted(conversation))

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

    def cursors_moved(self, conversation: str, cursors: list[tuple[str, int, int]], *, is_told: bool) -> None:
        """(user, delivered, read) of each: for the other devices of that user, and where `is_told` for everybody who
        follows the conversation.
        """
        if is_told:
            self._bus.publish(conversation_topic(conversation), CursorsNotice(conversation, cursors))
        for user, delivered, read in cursors:
            self._bus.publish(user_topic(user), OwnCursors(user, conversation, delivered, read, is_told))

    def blocks_changed(self, users: Iterable[str], conversation: str) -> None:
        for user in users:
            self._bus.publish(user_topic(user), UserNotice(user, "block", conversation))

    async def end_grants(self, grants: Sequence[str]) -> None:
        """Cut the sockets under these grants, on every node."""
        self._bus.publish(STUDIO_TOPIC, GrantsEnded(list(grants), SESSION_ENDED))

    async def remove_accounts(self, grants: Sequence[str]) -> None:
        """Cut the sockets under these grants: there is nobody behind them any more."""
        self._bus.publish(STUDIO_TOPIC, GrantsEnded(list(grants), ACCOUNT_REMOVED))

    async def renew_rights(self, grants: Sequence[str]) -> None:
        """Cut the sockets under these grants: they come back and learn their new rights."""
        self._bus.publish(STUDIO_TOPIC, GrantsEnded(list(grants), RIGHTS_CHANGED))

    def _on_notice(self, notice: Notice) -> None:
        match notice:
            case EventsNotice() | HeadMoved() | PassingNotice() | CursorsNotice():
                self._feeds.on_notice(notice)
            case AnswersWanted():
                for frame in self.live_answers_of(notice.conversation):
                    self.pass_on(notice.conversation, frame, droppable=False)
            case UserNotice():
                self._tell_user(notice)
            case OwnCursors():
                self._tell_own_cursors(notice)
            case GrantsEnded():
                if notice.close_code == ACCOUNT_REMOVED:
                    self._feeds.forget_texts()  # its name stands in rings, also of conversations that it had left
                ended = set(notice.grants)
                for connection in self.connections():
                    if connection.grant_id in ended:
                        connection.end(notice.close_code, GRANT_ENDS.get(notice.close_code, "your rights have changed"))

    def _tell_user(self, notice: UserNotice) -> None:
        sockets = tuple(self._connections.get(notice.user, ()))
        match notice.verb:
            case "removed" if sockets:
                self.spawn(self._tell_removed(notice, sockets))
            case "added":
                self.tell_added(notice.user, notice.conversation)
            case "block" if self.on_block is not None:
                self.spawn(self.on_block(notice.user, notice.conversation))

    def _tell_own_cursors(self, own: OwnCursors) -> None:
        """A socket that follows the conversation hears it there, with everybody's; a slow one does without."""
        frame = Receipt(conversation=own.conversation, user=own.user, delivered=own.delivered, read=own.read)
        for connection in tuple(self._connections.get(own.user, ())):
            if not connection.is_full and not (own.is_told and connection.follows(own.conversation)):
                connection.tell(frame)

    def tell_added(self, user: str, conversation: str) -> None:
        """A conversation is this user's, for those of their sockets here that may not know; telling twice does no
        harm.
        """
        sockets = tuple(self._connections.get(user, ()))
        if sockets:
            self.spawn(self._tell_added(user, sockets, conversation))

    async def _tell_removed(self, notice: UserNotice, sockets: tuple[Connection, ...]) -> None:
        """Notices of two nodes come in any order: who has been let in again meanwhile has lost nothing."""
        assert self.summary_of is not None
        try:
            is_theirs = notice.code != "deleted" and await self.summary_of(
                notice.user, sockets[0].account_role, notice.conversation
            )
        except ChatError:
            is_theirs = None  # nobody can tell now: the notice stands
        if not is_theirs:
            for connection in sockets:
                connection.lose(notice.conversation, notice.code)

    async def _tell_added(self, user: str, sockets: tuple[Connection, ...], conversation: str) -> None:
        assert self.summary_of is not None
        frame = await self.summary_of(user, sockets[0].account_role, conversation)
        if frame is not None:
            for connection in sockets:
                connection.regained(conversation)
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
        frame = decode_stored(event.payload, Event)
        if frame.actor.kind == "system":
            feed.forget_texts()  # an account is erased: its name stands in earlier frames
        left = decode_stored(frame.data, MemberLeft)
        code = "left" if left.by == left.user else "kicked"
        for connection in self._with_older_rights(left.user, feed, event):
            connection.lose(feed.conversation, code)

    def _with_older_rights(self, user: str, feed: Feed, event: EventNotice) -> list[Connection]:
        """The sockets of a user that do not know of this event yet. A feed that lags applies what is long over to those
        who have come back since, and must not.
        """
        sockets = self._connections.get(user, ())
        return [connection for connection in sockets if connection.rights_as_of(feed.conversation) < event.seq]

    def _on_joined(self, feed: Feed, event: EventNotice) -> None:
        feed.note_rights_changed()
        joined = decode_stored(decode_stored(event.payload, Event).data, MemberJoined)
        for connection in self._with_older_rights(joined.user, feed, event):
            connection.role_changed(feed.conversation, joined.role)
            feed.visitors.discard(connection)

    def _on_role(self, feed: Feed, event: EventNotice) -> None:
        feed.note_rights_changed()
        changed = decode_stored(decode_stored(event.payload, Event).data, MemberRole)
        for connection in self._with_older_rights(changed.user, feed, event):
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
        if self._unlistening is not None:
            self._unlistening.cancel()
        await self._feeds.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

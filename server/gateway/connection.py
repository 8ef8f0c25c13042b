"""One open socket with an identity: its subscriptions, and the only place that writes to it.

In:   prepared frames from feeds, single frames from the dispatcher.
Out:  bytes to the socket.
Promises: a slow socket hurts nobody and loses nothing. Past 256 KiB unsent it is *behind*: it leaves the feeds' live
lists, typing and presence are left out for it, and as it drains it is fed from the ring or the log, in order, until
it stands at the head. What is lost (a kick, a deleted conversation) is lost at once.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from msgspec import UNSET

from server.gateway import send_budget
from server.gateway.catch_up import CatchUp, Subscription
from server.gateway.websocket_protocol import prepare_frame
from server.hub.feed import Feed
from server.hub.hub import Hub
from server.hub.identity import Identity
from server.hub.presence import Presence
from server.protocol.codec import encode
from server.protocol.errors import ChatError
from server.protocol.frames import ConversationRemoved, ErrorFrame, ServerFrame
from server.protocol.ids import new_id
from server.storage.log_reader import LogReader
from server.telemetry import metrics

PING = b"\x89\x00"  # a ping frame without a payload (RFC 6455, section 5.5.2); browsers answer it by themselves
LOOK_EVERY_S = 5.0  # at one socket
PING_EVERY_S = 20.0  # with the time between two looks 25 s at most: the heartbeat that clients are told of
NO_LIFE_S = 34.0  # a ping unanswered for 9 s at least; with the time between two looks found within 40 s
MIN_DRAIN_BYTES_PER_S = 1024
MAX_SLOW_S = 60.0
RIGHTS_LOST = frozenset({4014, 4500, 4503, 4507})  # after these nothing more may arrive
MAX_UNSENT_AT_END_BYTES = 16 * 1024  # what was written in this very turn; more than that is a backlog
NOT_YET = 2**62
MAX_IN_FLIGHT = 256  # durable frames of one socket that wait for their commit; beyond it the socket is not read


class Socket(Protocol):
    """What a connection writes to; see websocket_protocol.PreparedSocket."""

    @property
    def write(self) -> Callable[[bytes], None]: ...
    def close(self, code: int, reason: str) -> None: ...
    def abort(self) -> None: ...
    def pause(self, is_paused: bool) -> None: ...
    def limit_unsent(self, most_bytes: int) -> None: ...
    @property
    def last_life(self) -> float: ...
    @property
    def unsent(self) -> int: ...


class Connection:
    """`bound` is the conversation of a socket that was opened for one alone; its frames may leave the field out."""

    __slots__ = (
        "_catch_up",
        "_drained_at",
        "_ending",
        "_hub",
        "_in_flight",
        "_looked_at",
        "_loop",
        "_lost",
        "_next_look",
        "_pinged_at",
        "_presence",
        "_replies",
        "_share_bytes",
        "_slow_since",
        "_socket",
        "_unsent",
        "bound",
        "id",
        "identity",
        "is_closed",
        "is_full",
        "subscriptions",
    )  # fmt: skip

    def __init__(
        self, socket: Socket, identity: Identity, hub: Hub, reader: LogReader, presence: Presence, bound: str | None
    ) -> None:
        self.id = new_id()
        self.identity = identity
        self.bound = bound
        self.subscriptions: dict[str, Subscription] = {}
        self.is_full = False
        self.is_closed = False
        self._socket = socket
        self._loop = asyncio.get_running_loop()  # asking for it costs a system call each time
        self._hub = hub
        self._presence = presence
        self._replies: list[bytes] = []
        self._share_bytes = 0
        self._lost: frozenset[str] = frozenset()  # conversations whose loss has been told
        self._in_flight = 0
        self._ending: tuple[int, str] | None = None
        self._slow_since = self._looked_at = self._next_look = 0.0
        self._pinged_at = socket.last_life  # as if asked and answered: an unanswered ping is younger than any life
        self._unsent = 0
        self._drained_at = 0.0
        self._catch_up = CatchUp(self, reader)

    @property
    def user_id(self) -> str:
        return self.identity.user_id

    @property
    def grant_id(self) -> str:
        return self.identity.grant_id

    @property
    def account_role(self) -> str:
        return self.identity.account_role

    # Writing

    def tell(self, frame: ServerFrame) -> None:
        """Write one frame. Answers of one turn leave together, with what a feed has for this connection in the same
        turn.
        """
        if self.is_closed:
            return
        if not self._replies:
            self._loop.call_soon(self._flush_replies)
        self._replies.append(prepare_frame(encode(frame)))

    def refuse(self, frame_id: str | None, error: ChatError) -> None:
        metrics.frames_refused.labels(error.code).inc()
        retry_after_s = UNSET if error.retry_after_s is None else round(error.retry_after_s, 3)
        frame = ErrorFrame(
            id=UNSET if frame_id is None else frame_id, code=error.code, message=error.detail,
            retryable=error.retryable, retry_after_s=retry_after_s,
        )  # fmt: skip
        self.tell(frame)

    def look(self, now: float) -> None:
        """Now and then: end the socket when it is dead, or drains so slowly that it is as good as dead."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY_S
        self.limit_unsent()
        if self.is_full:
            self._look_at_drain(now)
        else:
            self._look_at_life(now)

    def _look_at_life(self, now: float) -> None:
        """Nobody is dead who was not asked, and had time to answer: it may be us who stood still."""
        life, since_ping = max(self._socket.last_life, self._drained_at), now - self._pinged_at
        if self._pinged_at > life:
            if now - life > NO_LIFE_S and since_ping >= NO_LIFE_S - PING_EVERY_S - LOOK_EVERY_S:
                self.end(4012, "no life")
        elif since_ping >= PING_EVERY_S:
            self._pinged_at = now
            self.write(PING)

    def limit_unsent(self) -> None:
        """Leave no more unsent than this socket's share of what the process may hold."""
        share = send_budget.share_bytes(self._hub.connection_count)
        if share != self._share_bytes:
            self._share_bytes = share
            self._socket.limit_unsent(share)

    @property
    def share_bytes(self) -> int:
        return self._share_bytes

    def _look_at_drain(self, now: float) -> None:
        unsent = self._socket.unsent
        if self._unsent - unsent >= MIN_DRAIN_BYTES_PER_S * (now - self._looked_at):
            self._slow_since = now
        elif now - self._slow_since >= MAX_SLOW_S:
            self.end(4008, "too slow")
        self._unsent, self._looked_at = unsent, now

    def write(self, frames: bytes) -> None:
        """Write prepared frames, behind the answers that wait to leave."""
        if self._replies:
            frames = b"".join((*self._replies, frames))
            self._replies.clear()
        try:
            self._socket.write(frames)
        except Exception:  # noqa: BLE001 - a dying transport raises
            self.broken()

    def broken(self) -> None:
        self._socket.abort()
        self.close()

    def end(self, code: int, reason: str) -> None:
        """Close. A socket with a backlog is cut, so that nothing that waits is delivered after this moment."""
        if self.is_closed:
            return
        if self.is_full or (code in RIGHTS_LOST and self._socket.unsent > MAX_UNSENT_AT_END_BYTES):
            self._socket.abort()
        else:
            self._flush_replies()
            self._socket.close(code, reason)
        self.close()

    def end_when_answered(self, code: int, reason: str) -> None:
        """Read nothing more, and close as soon as what was read is answered."""
        self._ending = (code, reason)
        self._pause_or_go_on()
        self._end_if_answered()

    def _end_if_answered(self) -> None:
        if self._ending is not None and not self._in_flight:
            self.end(*self._ending)

    def _flush_replies(self) -> None:
        if self._replies:
            self.write(b"")

    # Subscriptions

    def reserve(self, feed: Feed) -> Subscription:
        """Hold a place in a feed that the caller has followed, before it is known whether this user may read it."""
        self.remove(feed.conversation)  # subscribing again starts again, from the new cursor
        subscription = Subscription(feed)
        if self.is_closed:
            self._hub.unfollow(feed)
        else:
            self.subscriptions[feed.conversation] = subscription
        return subscription

    def holds(self, subscription: Subscription) -> bool:
        return not self.is_closed and self.subscriptions.get(subscription.feed.conversation) is subscription

    def follows(self, conversation: str) -> bool:
        """Whether it is known that this user may read here."""
        subscription = self.subscriptions.get(conversation)
        return subscription is not None and subscription.is_confirmed

    def confirm(self, subscription: Subscription, role: str | None, first: int) -> None:
        """This user may read here; `first` is the first seq they may see."""
        subscription.role, subscription.first, subscription.is_confirmed = role, first, True
        self.regained(subscription.feed.conversation)
        if role is None:
            subscription.feed.visitors.add(self)
        self._presence.arrived(subscription.feed.conversation, self.user_id)

    def start(self, subscription: Subscription, seq: int) -> None:
        """Deliver everything above `seq`: from the ring at once where it reaches, else from the log."""
        if self.is_full or not self.go_live(subscription, seq):
            self._catch_up.later(subscription, seq)
            self._catch_up.go_on()

    def remove(self, conversation: str) -> bool:
        subscription = self.subscriptions.pop(conversation, None)
        if subscription is None:
            return False
        subscription.feed.drop(self)
        self._hub.unfollow(subscription.feed)
        if subscription.is_confirmed:
            self._presence.departed(conversation, self.user_id)
        return True

    def lose(self, conversation: str, code: str) -> None:
        """Told once, by the log or by a notice, whichever comes first, until the conversation is regained."""
        self.remove(conversation)
        if self.is_closed or conversation in self._lost:
            return
        self._lost = self._lost | {conversation}
        self.tell(ConversationRemoved(conversation=conversation, code=code))
        if self.bound == conversation:
            self.end(4507, "this conversation is closed to you")

    def rights_as_of(self, conversation: str) -> int:
        """Up to which seq the log's kicks and roles are known already; without end where they are about to be read."""
        subscription = self.subscriptions.get(conversation)
        return subscription.as_of if subscription is not None and subscription.is_confirmed else NOT_YET

    def regained(self, conversation: str) -> None:
        self._lost = self._lost - {conversation}

    def role_changed(self, conversation: str, role: str) -> None:
        subscription = self.subscriptions.get(conversation)
        if subscription is not None:
            subscription.role = role

    def close(self) -> None:
        """Leave all feeds. The socket itself is closed by whoever called."""
        if self.is_closed:
            return
        self.is_closed = True
        for conversation in tuple(self.subscriptions):
            self.remove(conversation)
        self._replies.clear()  # nothing goes out behind a close frame
        self._catch_up.close()
        if self.is_full:
            metrics.behind.dec()

    # Falling behind and catching up

    def on_full(self, is_full: bool) -> None:
        if self.is_closed or is_full == self.is_full:
            return
        self.is_full = is_full
        metrics.behind.inc(1 if is_full else -1)
        self._pause_or_go_on()
        if is_full:
            self._slow_since = self._looked_at = self._loop.time()
            self._unsent = self._socket.unsent
            for subscription in self.subscriptions.values():
                seq = subscription.feed.suspend(self)
                if seq is not None:
                    self._catch_up.later(subscription, seq)
        else:
            self._drained_at = self._loop.time()  # to have read so much is a sign of life
            self.write(PING)
            self._catch_up.go_on()

    def go_live(self, subscription: Subscription, seq: int) -> bool:
        """Write what the ring has above `seq` and become live, without an await in between; False: it has not all."""
        feed = subscription.feed
        missing = feed.go_live(self, self._socket.write, seq)
        if missing is None:
            return False
        frames = missing + self._hub.live_answers(feed.conversation)
        if frames or self._replies:  # the feed may write later in this turn, and the answers must be out by then
            self.write(frames)
        if subscription.is_answering:
            self._hub.ask_for_answers(feed.conversation)
        return True

    # Frames in flight

    def began(self) -> None:
        self._in_flight += 1
        if self._in_flight == MAX_IN_FLIGHT:
            self._pause_or_go_on()

    def finished(self) -> None:
        self._in_flight -= 1
        if self._in_flight == MAX_IN_FLIGHT - 1:
            self._pause_or_go_on()
        if self._ending is not None and not self._in_flight:
            self._loop.call_soon(self._end_if_answered)  # the last answer is written in this turn

    def _pause_or_go_on(self) -> None:
        """Whoever does not read its answers, or has too much in flight, is not read either."""
        if not self.is_closed:
            is_over = self._ending is not None
            self._socket.pause(is_over or self.is_full or self._in_flight >= MAX_IN_FLIGHT)

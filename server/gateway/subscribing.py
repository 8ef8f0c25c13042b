"""Subscribing: from cursors to feeds, with nothing lost between history and live.

The feed is followed before anything is read, so an event that commits meanwhile is either in what is read or comes
live. What would be too much to send, or belongs to another log, answers `reset: true`: never a silent part.
"""

from dataclasses import dataclass

from msgspec import UnsetType

from server.gateway.catch_up import Subscription
from server.gateway.connection import Connection
from server.hub.feed import Feed
from server.hub.permissions import may_read
from server.hub.studio import Studio
from server.protocol.errors import BadFrame, Unavailable
from server.protocol.frames import MAX_SUBSCRIPTIONS, Cursor, Subscribe, Subscribed, SubscribedTo
from server.protocol.ids import is_id
from server.storage.standings import Standing

MAX_MISSED_EVENTS = 1_000  # a conversation
MAX_MISSED_BYTES = 4 * 1024 * 1024  # a resume
MAX_ROUNDS = 5  # of asking for rights; from the second on only where they changed, which takes a few milliseconds
FRAME_BYTES = 200  # what an event's frame has around its data


@dataclass
class _Wish:
    subscription: Subscription
    cursor: Cursor | None
    start: int = 0
    is_reset: bool = False
    read: int = 0

    @property
    def feed(self) -> Feed:
        return self.subscription.feed


class Subscriber:
    def __init__(self, studio: Studio, connection: Connection) -> None:
        self._studio = studio
        self._connection = connection

    async def subscribe(self, frame: Subscribe) -> None:
        """Answer, then deliver what was missed, then live events."""
        wanted = self._wanted(frame)
        connection = self._connection
        reserved: list[_Wish] = []
        try:
            await self._reserve(wanted, reserved)
            wishes = await self._permitted(reserved)
            for wish in wishes:
                self._place(wish)
            await self._reset_what_is_too_much(wishes)
        except BaseException:
            for wish in reserved:  # no answer goes out, so nothing is followed
                if connection.holds(wish.subscription):
                    connection.remove(wish.feed.conversation)
            raise
        # From here to the end nothing waits. A place that is gone by now was lost to a kick while we were reading.
        wishes = [wish for wish in wishes if connection.holds(wish.subscription)]
        answers = {conversation: SubscribedTo(error="not_found") for conversation in wanted}
        answers |= {wish.feed.conversation: _answer(wish) for wish in wishes}
        connection.tell(Subscribed(id=frame.id, conversations=answers))
        for wish in wishes:
            connection.start(wish.subscription, wish.start)

    async def follow_from_head(self, conversation: str) -> bool:
        """Subscribe without an answer, as a socket for one conversation begins. False: there is none to be read."""
        reserved: list[_Wish] = []
        await self._reserve({conversation: None}, reserved)
        wishes = await self._permitted(reserved)
        for wish in wishes:
            self._place(wish)
            self._connection.start(wish.subscription, wish.start)
        return bool(wishes)

    def _wanted(self, frame: Subscribe) -> dict[str, Cursor | None]:
        connection = self._connection
        if isinstance(frame.conversations, UnsetType):
            if connection.bound is None:
                raise BadFrame("`conversations` is missing")
            return {connection.bound: None}
        if len(frame.conversations.keys() | connection.subscriptions.keys()) > MAX_SUBSCRIPTIONS:
            raise BadFrame(f"a socket follows at most {MAX_SUBSCRIPTIONS} conversations")
        return frame.conversations

    async def _reserve(self, wanted: dict[str, Cursor | None], wishes: list[_Wish]) -> None:
        """A place in each feed, from which nothing is delivered yet but which a kick already takes away."""
        feeds = await self._studio.hub.follow([conversation for conversation in wanted if is_id(conversation)])
        for conversation, feed in feeds.items():
            wishes.append(_Wish(self._connection.reserve(feed), wanted[conversation]))

    async def _permitted(self, wishes: list[_Wish]) -> list[_Wish]:
        connection = self._connection
        standings = await self._standings_at_rest([wish.feed for wish in wishes])
        permitted = []
        for wish in wishes:
            standing = standings.get(wish.feed.conversation)
            if not connection.holds(wish.subscription):
                continue
            if standing is None or not may_read(standing):
                connection.remove(wish.feed.conversation)
                continue
            wish.feed.is_hushed = standing.is_blocked
            wish.subscription.is_answering = standing.is_answering
            wish.subscription.as_of = standing.as_of
            connection.confirm(wish.subscription, standing.role, standing.visible_from)
            wish.read = standing.read
            permitted.append(wish)
        return permitted

    async def _standings_at_rest(self, feeds: list[Feed]) -> dict[str, Standing]:
        """Where somebody's role or a room's door changed while we asked, ask again. In five hundred conversations
        something always changes: the others are not asked for again.
        """
        identity = self._connection.identity
        standings: dict[str, Standing] = {}
        asked: dict[str, int] = {}  # what `rights_changed` was before
        stale = feeds
        for _ in range(MAX_ROUNDS):
            asked |= {feed.conversation: feed.rights_changed for feed in stale}
            conversations = [feed.conversation for feed in stale]
            found = await self._studio.standings.of_many(identity.user_id, identity.account_role, conversations)
            for conversation in conversations:
                standings.pop(conversation, None)
            standings |= found
            stale = [feed for feed in feeds if feed.rights_changed != asked[feed.conversation]]
            if not stale:
                return standings
        raise Unavailable("too many people come and go there just now")

    def _place(self, wish: _Wish) -> None:
        """Where delivery starts, as far as the cursor alone tells. Another node may have told more than this one has
        heard of: what counts is the log's head, which the rights were read with.
        """
        cursor, head = wish.cursor, max(wish.feed.head, wish.subscription.as_of)
        if cursor is None:
            wish.start = max(wish.feed.head, wish.subscription.first - 1)
        elif cursor.seq > head or (cursor.epoch != wish.feed.epoch and not (cursor.epoch is None and cursor.seq == 0)):
            _reset(wish)
        else:
            wish.start = max(cursor.seq, wish.subscription.first - 1)
            if wish.start + 1 < wish.feed.first:
                _reset(wish)

    async def _reset_what_is_too_much(self, wishes: list[_Wish]) -> None:
        """What the ring holds is sent as it is; of what must be read from the log, only so much."""
        long = [wish for wish in wishes if not wish.is_reset and wish.feed.since(wish.start) is None]
        if not long:
            return
        least_bytes = 0  # since numbers have no holes, it is known without asking that so many events are too much
        for wish in long:
            events = wish.feed.head - wish.start
            least_bytes += FRAME_BYTES * events
            if events > MAX_MISSED_EVENTS or least_bytes > MAX_MISSED_BYTES:
                _reset(wish)
        missed = await self._studio.reader.missed(
            {wish.feed.conversation: (wish.start, wish.feed.head) for wish in long if not wish.is_reset}
        )
        total_bytes = 0
        for wish in long:
            if wish.is_reset:
                continue
            found = missed.get(wish.feed.conversation)
            if found is not None:
                wish.feed.begins_at(found.first)
            if found is None or wish.start + 1 < found.first:
                _reset(wish)
                continue
            total_bytes += found.bytes + FRAME_BYTES * found.events
            if total_bytes > MAX_MISSED_BYTES:
                _reset(wish)


def _reset(wish: _Wish) -> None:
    wish.start, wish.is_reset = max(wish.feed.head, wish.subscription.first - 1), True


def _answer(wish: _Wish) -> SubscribedTo:
    # A reset starts at the head of this moment, not of the moment when it was decided: the client loads a page after
    # this answer.
    if wish.is_reset:
        _reset(wish)
    return SubscribedTo(
        head=max(wish.feed.head, wish.start),
        epoch=wish.feed.epoch,
        first=max(wish.feed.first, wish.subscription.first),
        reset=wish.is_reset,
        read=wish.read,
    )

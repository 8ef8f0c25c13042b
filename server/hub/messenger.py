"""What people do to messages: send, edit, delete, react, pin; and reading them back.

Sockets use `put`, which returns at once and answers by callback; HTTP uses `append`, which waits. Both make the same
draft.
"""

import asyncio
from collections.abc import Callable

from server.hub import mentions
from server.hub.event_frames import event_of
from server.hub.feed import Feed
from server.hub.identity import Identity
from server.hub.message_drafts import draft_of
from server.hub.message_queue import MessageQueue, Settled
from server.hub.model_catalog import ModelCatalog
from server.protocol.errors import BadFrame, NotFound, Unavailable
from server.protocol.events import Mention
from server.protocol.frames import Durable, Send
from server.protocol.ids import is_id
from server.protocol.views import EventPage, Message, MessagePage
from server.storage.log_reader import LogReader
from server.storage.message_log import Stored
from server.storage.messages import Messages
from server.storage.standings import Standing
from server.storage.users import Users

NAMES_TIMEOUT_S = 1.5  # a send is refused within 3 s when the database stands still, whether or not it names somebody


class Messenger:
    def __init__(
        self,
        queue: MessageQueue,
        messages: Messages,
        reader: LogReader,
        users: Users,
        models: ModelCatalog,
        feed_of: Callable[[str], Feed | None],
    ) -> None:
        self._queue = queue
        self._messages = messages
        self._reader = reader
        self._users = users
        self._models = models
        self._feed_of = feed_of

    def put(
        self,
        identity: Identity,
        conversation: str,
        frame: Durable,
        settled: Settled,
        found: list[Mention] | None = None,
    ) -> None:
        self._queue.put(draft_of(identity, conversation, frame, found), settled)

    async def append(self, identity: Identity, conversation: str, frame: Durable) -> Stored:
        found = await self.mentions_in(frame.text, conversation) if isinstance(frame, Send) else None
        return await self._queue.append(draft_of(identity, conversation, frame, found))

    def mentions_known(self, frame: Durable, conversation: str) -> list[Mention] | None:
        """The mentions of a frame, when they can be told without asking the database; else None."""
        if not isinstance(frame, Send) or "@" not in frame.text:
            return []
        found = mentions.candidates(frame.text)
        if not found:
            return []
        feed = self._feed_of(conversation)
        if feed is None or feed.names is None:
            return None
        return mentions.resolve(found, feed.names, self._models.names)

    async def mentions_in(self, text: str, conversation: str) -> list[Mention]:
        """Members of the conversation, and models, that the text calls by name."""
        found = mentions.candidates(text)
        if not found or not is_id(conversation):
            return []
        try:
            async with asyncio.timeout(NAMES_TIMEOUT_S):
                return await self._resolved(found, conversation)
        except TimeoutError:
            raise Unavailable() from None

    async def _resolved(self, found: list[tuple[int, str]], conversation: str) -> list[Mention]:
        feed = self._feed_of(conversation)
        if feed is None:
            users = await self._users.members_by_key(conversation, list(mentions.possible_keys(found)))
            return mentions.resolve(found, users, self._models.names)
        if feed.names is None:
            generation = feed.rights_changed
            names = await self._users.member_keys(conversation)
            if generation != feed.rights_changed:
                # Somebody came or went meanwhile: keep nothing.
                return mentions.resolve(found, names, self._models.names)
            feed.names = names
        return mentions.resolve(found, feed.names, self._models.names)

    async def page(
        self, conversation: str, standing: Standing, *, before: int | None, after: int | None, limit: int
    ) -> MessagePage:
        if before is not None and after is not None:
            raise BadFrame("`before` and `after` exclude each other")
        return await self._messages.page(
            conversation, before=before, after=after, limit=limit, visible_from=standing.visible_from
        )

    async def one(self, conversation: str, standing: Standing, message: str) -> Message:
        """One that was deleted is an empty place, as on a page."""
        found = await self._messages.one(conversation, message, visible_from=standing.visible_from)
        if found is None:
            raise NotFound("there is no such message here")
        return found

    async def events(self, conversation: str, standing: Standing, *, after: int, limit: int) -> EventPage:
        """The log itself, from `after` on. Head first: an event that comes in between belongs to the next page."""
        head = (await self._reader.heads([conversation]))[conversation]
        rows = await self._reader.since(conversation, max(after, standing.visible_from - 1), limit, up_to=head.last)
        return EventPage(
            events=[event_of(stored, actor) for stored, actor in rows], head=head.last,
            first=max(head.first, standing.visible_from), epoch=head.epoch,
        )  # fmt: skip

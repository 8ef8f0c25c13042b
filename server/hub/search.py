"""Search: full text over messages and titles, of what the caller may see.

In:   words as somebody types them: all must be there; "quotes" hold a phrase together; the last word may be a
      beginning.
Out:  messages, newest first, and conversations whose title matches.
Promises: what was committed before the search began is found, unless `complete` says that the index is behind. Nothing
in a query has a meaning of its own to the database: it is cut into words like any text.
"""

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from time import monotonic

from loguru import logger

from server.hub.identity import Identity
from server.protocol.errors import BadFrame, ChatError, NotFound, Overloaded, TooLarge
from server.protocol.ids import is_id
from server.protocol.search import SearchAnswer, SearchResult
from server.protocol.views import Conversation, Message
from server.storage.conversations import Conversations
from server.storage.messages import Messages
from server.storage.search import Hit, SearchIndex, Viewer, Wanted

MAX_QUERY_LENGTH = 500  # characters; beyond it somebody has pasted a text
MAX_TITLES = 20
CATCH_UP_S = 1.0  # a search waits so long for the index, some ten thousand messages
KEEP_UP_EVERY_S = 2.0
KEEP_UP_S = 1.0  # of reading, before a pause as long: half a processor at most while a large import is read

_TERM = re.compile(r'["“”„]([^"“”„]*)["“”„]?|([^\s"“”„]+)')
_CURSOR = re.compile(r"(\d{1,18})-([0-9a-f-]{36})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Search:
    def __init__(self, index: SearchIndex, messages: Messages, conversations: Conversations) -> None:
        self._index = index
        self._messages = messages
        self._conversations = conversations
        self._keeping_up: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._keeping_up = asyncio.get_running_loop().create_task(self._keep_up())

    async def close(self) -> None:
        if self._keeping_up is not None:
            self._keeping_up.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping_up

    async def search(
        self, identity: Identity, query: str, *, conversation: str | None = None, model: str | None = None,
        date_from: str | None = None, date_to: str | None = None, before: str | None = None, limit: int = 20,
    ) -> SearchAnswer:  # fmt: skip
        """Dates are days (`date_to` included) or moments, in UTC unless they say otherwise."""
        terms, is_open = terms_of(query)
        wanted = Wanted(
            terms, is_open, conversation, model,
            since=None if date_from is None else _moment(date_from, "date_from"),
            until=None if date_to is None else _moment(date_to, "date_to", end_of_day=True),
            before=None if before is None else _position(before),
        )  # fmt: skip
        viewer = Viewer(identity.user_id, sees_public=identity.account_role in ("admin", "member"))
        if conversation is not None and not (is_id(conversation) and await self._index.may_see(viewer, conversation)):
            raise NotFound("there is no such conversation")
        words = await self._index.query_of(wanted)
        if words is None:
            return SearchAnswer(results=[], conversations=[], next=None, complete=True)
        complete = await self._catch_up(viewer)
        hits = await self._index.hits(viewer, words, wanted, limit + 1)
        shown = hits[:limit]
        return SearchAnswer(
            results=await self._results(shown),
            conversations=await self._titled(viewer, words, wanted),
            next=_cursor(shown[-1]) if len(hits) > limit else None,
            complete=complete,
        )

    async def _results(self, hits: Sequence[Hit]) -> list[SearchResult]:
        seqs: dict[str, list[int]] = {}
        for hit in hits:
            seqs.setdefault(hit.conversation, []).append(hit.seq)
        found: dict[str, Message] = {}
        for conversation, wanted in seqs.items():
            found |= {message.id: message for message in await self._messages.several(conversation, wanted)}
        return [
            SearchResult(conversation=hit.conversation, title=hit.title, message=found[hit.id])
            for hit in hits
            if hit.id in found and found[hit.id].deleted_at is None  # deleted since it was hit
        ]

    async def _titled(self, viewer: Viewer, words: str, wanted: Wanted) -> list[Conversation]:
        """Only where the search is for everything, and on its first page: titles have no model and no date."""
        narrowed = (wanted.conversation, wanted.model, wanted.since, wanted.until, wanted.before)
        if any(filter_ is not None for filter_ in narrowed):
            return []
        titled = await self._index.titled(viewer, words, MAX_TITLES)
        return await self._conversations.several(viewer.user, titled) if titled else []

    # Keeping the index up

    async def _catch_up(self, viewer: Viewer) -> bool:
        try:
            return await self._index.catch_up(viewer, CATCH_UP_S)
        except Overloaded:
            return False  # another worker reads the same conversation and takes long: search what is there

    async def _keep_up(self) -> None:
        while True:
            started = monotonic()
            complete = False
            try:
                complete = await self._index.catch_up(None, KEEP_UP_S)
            except ChatError as error:
                logger.warning("the search index cannot be kept up: {}; trying again", error.code)
                complete = True
            except Exception:  # noqa: BLE001 - the edge of a task: reported, and the index is brought up later
                logger.exception("the search index cannot be kept up")
                complete = True
            # With very many conversations even the question who lags takes time: no more than a twentieth of ours.
            took_s = monotonic() - started
            await asyncio.sleep(max(KEEP_UP_EVERY_S, 20 * took_s) if complete else took_s)


def terms_of(query: str) -> tuple[list[str], bool]:
    """The terms of a query, and whether the last one may go on: it does not after a quote or anything else that ends a
    word."""
    if len(query) > MAX_QUERY_LENGTH:
        raise TooLarge(f"a search may have {MAX_QUERY_LENGTH} characters, this one has {len(query)}")
    if not query.strip():
        raise BadFrame("a search has a word to look for")
    return [quoted or plain for quoted, plain in _TERM.findall(query) if quoted or plain], query[-1].isalnum()


def _moment(value: str, name: str, *, end_of_day: bool = False) -> datetime:
    try:
        if len(value) == len("2026-11-22"):
            moment = datetime.combine(date.fromisoformat(value) + timedelta(days=end_of_day), time(), UTC)
        else:
            moment = datetime.fromisoformat(value)
            moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadFrame(f"`{name}` is a day (2026-11-22) or a moment (2026-11-22T09:30:00Z)") from None
    return moment


def _cursor(hit: Hit) -> str:
    return f"{(hit.at - _EPOCH) // timedelta(microseconds=1)}-{hit.id}"


def _position(cursor: str) -> tuple[datetime, str]:
    match = _CURSOR.fullmatch(cursor)
    try:
        if match is None or not is_id(match[2]):
            raise ValueError(cursor)
        return _EPOCH + timedelta(microseconds=int(match[1])), match[2]
    except (ValueError, OverflowError):
        raise BadFrame("`before` is the `next` of an earlier answer") from None

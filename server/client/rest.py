"""The studio over HTTP, as this program: signed in, and patient with a server that is away.

Promises: only what may be repeated is repeated: reading, and writing that is idempotent by itself or by a key.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec

from server.client.comeback import Chance, pause_s
from server.client.errors import StudioAway
from server.client.sign_in import SignIn
from server.client.web_requests import NoAnswer, WebRequests
from server.protocol.accounts import UsersAnswer
from server.protocol.errors import ChatError, Unauthenticated
from server.protocol.frames import UserSummary
from server.protocol.views import Conversation, EventPage, Member, MessagePage

T = TypeVar("T")

PATIENCE_S = 60.0  # longer than a restart takes, shorter than somebody waits for a program that hangs
PAGE_SIZE = 100
NOTHING_HAPPENED = {"rate_limited", "overloaded", "draining"}  # refused before anything was tried


class _Mine(msgspec.Struct, frozen=True):
    total_pages: int
    conversations: list[Conversation]


class _Several(msgspec.Struct, frozen=True):
    conversations: list[Conversation]


class _Members(msgspec.Struct, frozen=True):
    members: list[Member]


class _Member(msgspec.Struct, frozen=True):
    member: Member


class Rest:
    """`address(n)` is where the attempt after `n` failed ones goes."""

    def __init__(self, requests: WebRequests, sign_in: SignIn, address: Callable[[int], str], chance: Chance) -> None:
        self._requests = requests
        self._sign_in = sign_in
        self._address = address
        self._chance = chance

    async def conversation(self, conversation: str) -> Conversation:
        return await self.call("GET", _of(conversation), Conversation)

    async def conversations(self) -> list[Conversation]:
        """All of mine."""
        found: list[Conversation] = []
        page, pages = 1, 1
        while page <= pages:
            query = urlencode({"page": page, "page_size": PAGE_SIZE, "sort_by": "created_at"})
            answer = await self.call("GET", f"/api/conversations?{query}", _Mine)
            found += answer.conversations
            page, pages = page + 1, answer.total_pages
        return found

    async def public_rooms(self, text: str) -> list[Conversation]:
        """Public rooms that I have not joined, whose title holds `text`."""
        query = urlencode({"query": text[:200], "limit": PAGE_SIZE})
        return (await self.call("GET", f"/api/conversations/public?{query}", _Several)).conversations

    async def create(self, draft: dict[str, object]) -> Conversation:
        return await self.call("POST", "/api/conversations", Conversation, body=draft, is_repeatable=False)

    async def change(self, conversation: str, change: dict[str, str | None]) -> Conversation:
        return await self.call("PATCH", _of(conversation), Conversation, body=change)

    async def delete(self, conversation: str) -> None:
        await self.call("DELETE", _of(conversation), type(None), is_repeatable=False)

    async def join(self, conversation: str) -> Conversation:
        return await self.call("POST", f"{_of(conversation)}/join", Conversation)

    async def leave(self, conversation: str) -> None:
        await self.call("POST", f"{_of(conversation)}/leave", type(None), is_repeatable=False)

    async def members(self, conversation: str) -> list[Member]:
        return (await self.call("GET", f"{_of(conversation)}/members", _Members)).members

    async def put_member(self, conversation: str, user: str, role: str) -> Member:
        path = f"{_of(conversation)}/members/{quote(user, safe='')}"
        return (await self.call("PUT", path, _Member, body={"role": role})).member

    async def remove_member(self, conversation: str, user: str) -> None:
        path = f"{_of(conversation)}/members/{quote(user, safe='')}"
        await self.call("DELETE", path, type(None), is_repeatable=False)

    async def messages(
        self, conversation: str, *, limit: int = 50, before: int | None = None, after: int | None = None
    ) -> MessagePage:
        """The newest page, or the one before or after a seq; oldest first."""
        wanted = {"limit": limit, "before": before, "after": after}
        query = urlencode({name: value for name, value in wanted.items() if value is not None})
        return await self.call("GET", f"{_of(conversation)}/messages?{query}", MessagePage)

    async def events(self, conversation: str, after: int, limit: int = 1000) -> EventPage:
        query = urlencode({"after": after, "limit": limit})
        return await self.call("GET", f"{_of(conversation)}/events?{query}", EventPage)

    async def users(self, text: str) -> list[UserSummary]:
        """People whose name begins with `text`."""
        return (await self.call("GET", f"/api/users?{urlencode({'query': text})}", UsersAnswer)).users

    async def call(
        self, method: str, path: str, shape: type[T], *, body: object = None, key: str | None = None,
        is_repeatable: bool = True, patience_s: float = PATIENCE_S,
    ) -> T:  # fmt: skip
        """Any route. Raises what the server refused as `ChatError`, or `StudioAway` when patience is over."""
        loop = asyncio.get_running_loop()
        deadline, failures, was_refused = loop.time() + patience_s, 0, False
        while True:
            url, token = self._address(failures), ""
            try:
                token = await self._sign_in.access_token(url)
                return await self._requests.ask(url, method, path, shape, body=body, token=token, key=key)
            except Unauthenticated:
                if was_refused:
                    raise
                was_refused = True
                self._sign_in.was_refused(token)
                continue
            except ChatError as error:
                if not (error.retryable if is_repeatable else error.code in NOTHING_HAPPENED) or loop.time() > deadline:
                    raise
                least_s = error.retry_after_s or 0.0
            except NoAnswer as error:
                if not is_repeatable or loop.time() > deadline:
                    raise StudioAway(f"{url}: {error!r}") from error
                least_s = 0.0
            await asyncio.sleep(least_s + pause_s(failures, self._chance))
            failures += 1


def _of(conversation: str) -> str:
    return f"/api/conversations/{quote(conversation, safe='')}"

"""Who this program is: a password, a refresh token or an access token, and the access token of the moment.

Promises: many who need a token at once cause one request. A refresh token that was used is replaced at once, and
`on_refresh` hears of the new one, so that a program can keep it.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from server.client.errors import SignedOut, WrongPassword
from server.client.web_requests import WebRequests
from server.protocol.accounts import TokenAnswer
from server.protocol.errors import Unauthenticated

EARLY_S = 30.0  # an access token is replaced so long before it expires: the request that carries it takes time, too


@dataclass(frozen=True, slots=True)
class Credentials:
    """Any one will do. With a password and a refresh token, the password stands in when the other is refused."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.username is None) != (self.password is None):
            raise ValueError("a username comes with a password")
        if self.password is None and self.token is None and self.refresh_token is None:
            raise ValueError("name who this is: username and password, token or refresh_token")


class SignIn:
    def __init__(
        self,
        requests: WebRequests,
        credentials: Credentials,
        now: Callable[[], float],
        on_refresh: Callable[[str], None] | None = None,
    ) -> None:
        self._requests = requests
        self._credentials = credentials
        self._now = now
        self._on_refresh = on_refresh
        self._access = credentials.token
        self._expires_at = float("inf")  # of a token that was handed in nobody said when
        self.refresh_token = credentials.refresh_token
        self._lock = asyncio.Lock()

    async def access_token(self, url: str) -> str:
        """A token that is good as far as is known. Raises `SignedOut` when there is no way to a new one, a retryable
        `ChatError` or `NoAnswer` when the server is away."""
        async with self._lock:
            if self._access is None or self._now() > self._expires_at - EARLY_S:
                self._access = await self._new_one(url)
            return self._access

    def was_refused(self, token: str) -> None:
        """The server did not take this one. Somebody else may have replaced it meanwhile."""
        if self._access == token:
            self._access = None

    async def _new_one(self, url: str) -> str:
        if self.refresh_token is not None:
            form = {"grant_type": "refresh_token", "refresh_token": self.refresh_token}
            try:
                return await self._ask(url, form)
            except Unauthenticated as error:
                self.refresh_token = None
                if self._credentials.password is None:
                    raise SignedOut(error.detail) from error
        username, password = self._credentials.username, self._credentials.password
        if username is None or password is None:
            raise SignedOut("the access token was not accepted, and there is no other way to sign in")
        try:
            return await self._ask(url, {"grant_type": "password", "username": username, "password": password})
        except Unauthenticated as error:
            raise WrongPassword(error.detail) from error

    async def _ask(self, url: str, form: Mapping[str, str]) -> str:
        answer = await self._requests.ask(url, "POST", "/api/auth/token", TokenAnswer, form=form)
        self.refresh_token = answer.refresh_token
        self._expires_at = self._now() + answer.expires_in
        if self._on_refresh is not None:
            self._on_refresh(answer.refresh_token)
        return answer.access_token

"""One request over HTTP: a typed answer, or the refusal as an error."""

from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec

from server.client.errors import refusal
from server.protocol.codec import decode_stored, encode
from server.protocol.errors import ChatError

T = TypeVar("T")

ANSWER_TIMEOUT_S = 8.0  # under the 10 s for which a refresh token may be shown again when its answer got lost

NoAnswer = httpx2.TransportError


class Unreadable(NoAnswer):
    """An answer that is not the studio's: the page of a proxy in front of it, perhaps. As good as none."""


class Problem(msgspec.Struct, frozen=True):
    """Problem details (RFC 9457), as far as a client needs them."""

    code: str
    detail: str = ""
    retryable: bool = False
    retry_after_s: float | None = None


class WebRequests:
    def __init__(self) -> None:
        self._clients: dict[bool, httpx2.AsyncClient] = {}

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    async def ask(
        self, url: str, method: str, path: str, shape: type[T], *, body: object = None,
        form: Mapping[str, str] | None = None, token: str | None = None, key: str | None = None,
    ) -> T:  # fmt: skip
        """Raises `ChatError` for a refusal, and `NoAnswer` where nobody answers or the answer cannot be read. `key` is
        the idempotency key."""
        headers = {}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        if key is not None:
            headers["Idempotency-Key"] = key
        answer = await self._client(url).request(
            method, f"{url.rstrip('/')}{path}", headers=headers, content=None if body is None else encode(body),
            data=form,
        )  # fmt: skip
        if not answer.is_success:
            raise _refusal(answer)
        try:
            return decode_stored(answer.content or b"null", shape)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Unreadable(f"{method} {path}: {answer.status_code}, and not what was asked for: {error}") from error

    def _client(self, url: str) -> httpx2.AsyncClient:
        # Certificates and proxies cost a seventh of a second to set up, and plain HTTP is asked for without them.
        is_secure = urlsplit(url).scheme == "https"
        if is_secure not in self._clients:
            self._clients[is_secure] = httpx2.AsyncClient(
                timeout=ANSWER_TIMEOUT_S, verify=is_secure, trust_env=is_secure
            )
        return self._clients[is_secure]


def _refusal(answer: httpx2.Response) -> ChatError:
    try:
        problem = decode_stored(answer.content, Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):  # not from the studio: from a proxy in front of it, perhaps
        code = {401: "unauthenticated", 404: "not_found", 429: "rate_limited"}.get(answer.status_code)
        code = code or ("unavailable" if answer.status_code >= 500 else "refused")
        problem = Problem(code=code, detail=f"the address answered {answer.status_code}")
    return refusal(problem.code, problem.detail, retryable=problem.retryable, retry_after_s=problem.retry_after_s)

"""The one way out over HTTP: whatever address people write down, it is called through here.

In:   a method, a URL, a body.
Out:  an answer of bounded size; `OutboundRefused` (never try again) or `OutboundFailed` (try again later).
Promises: only public addresses and the operator's exceptions are called; see `addresses` and `guarded_transport`. No
redirect is followed: it would be an address that nobody checked. The deadline holds for the whole request, from the
lookup to the last byte of the answer. Nothing is carried from one call to the next: no cookies, no credentials.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from server.outbound.addresses import OutboundRefused, Target, refusal_of_host, target_of
from server.outbound.lookup import Lookup, Resolve

if TYPE_CHECKING:
    import httpx2

    from server.outbound.guarded_transport import Connector, GuardedTransport

__all__ = ["Answer", "Outbound", "OutboundFailed", "OutboundRefused"]

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 64 * 1024
MAX_CALLS_TO_ONE = 8  # at the same time: a receiver that hangs must not take every connection
USER_AGENT = "Chat-Studio"


class OutboundFailed(Exception):
    """It did not work this time. `kind`: name, connect, tls, timeout, reset, protocol or busy."""

    def __init__(self, detail: str, kind: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Answer:
    """Header names are in small letters; of one that came twice the last counts. `body` may be cut at the size asked
    for, and is as it was sent, without unpacking."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Outbound:
    """`exceptions` are exact `scheme://host:port` that may be called although they are not public."""

    def __init__(
        self,
        exceptions: Iterable[str] = (),
        *,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        connector: "Connector | None" = None,
    ) -> None:
        self._exceptions = frozenset(target_of(exception).origin for exception in exceptions)
        self._resolve = resolve
        self._tls = tls
        self._connector = connector
        self._transport: GuardedTransport | None = None
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def check(self, url: str) -> None:
        """Raises `OutboundRefused` for what can be told to be bad without the network: ask before storing it."""
        self._checked(url)

    def is_exception(self, url: str) -> bool:
        """Whether it may be called only because the operator said so."""
        return target_of(url).origin in self._exceptions

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float = TIMEOUT_S,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        return await self.request(
            "POST", url, body=body, headers=headers, timeout_s=timeout_s, max_answer_bytes=max_answer_bytes
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        target = self._checked(url)
        turn = self._turns.setdefault(target.origin, asyncio.Semaphore(MAX_CALLS_TO_ONE))
        has_turn = False
        try:
            async with asyncio.timeout(timeout_s), turn:
                has_turn = True
                return await self._send(target, method, url, body, headers or {}, timeout_s, max_answer_bytes)
        except TimeoutError:
            if not has_turn:
                raise OutboundFailed(f"{target.shown} is still busy with earlier calls", "busy") from None
            raise OutboundFailed(f"{target.shown} did not answer in {timeout_s:g} s", "timeout") from None

    def transport(self) -> "GuardedTransport":
        """For clients that make their own requests, such as the SDKs of model providers. They share its connections,
        and must neither close it nor follow redirects."""
        if self._transport is None:
            from server.outbound.guarded_transport import GuardedTransport

            self._transport = GuardedTransport(
                self._exceptions, self._resolve or Lookup(), tls=self._tls, connector=self._connector
            )
        return self._transport

    async def close(self) -> None:
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    def _checked(self, url: str) -> Target:
        target = target_of(url)
        reason = None if target.origin in self._exceptions else refusal_of_host(target.host)
        if reason is not None:
            raise OutboundRefused(f"{target.shown} is not called: {reason}")
        return target

    async def _send(
        self,
        target: Target,
        method: str,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float,
        max_answer_bytes: int,
    ) -> Answer:
        import httpx2

        try:
            request = httpx2.Request(
                method,
                url,
                content=body,
                headers={"user-agent": USER_AGENT, "accept-encoding": "identity", **_lower(headers)},
                extensions={"timeout": httpx2.Timeout(timeout_s).as_dict()},
            )
            response = await self.transport().handle_async_request(request)
            try:
                if 300 <= response.status_code < 400:
                    raise OutboundRefused(
                        f"{target.shown} answered with a redirect ({response.status_code}), which is not followed"
                    )
                answered = await _first_bytes(response, max_answer_bytes)
            finally:
                await response.aclose()
        except (httpx2.LocalProtocolError, httpx2.InvalidURL, UnicodeError):
            reason = "its headers or its method cannot be sent"
            raise OutboundRefused(f"{target.shown} is not called: {reason}") from None
        except httpx2.TransportError as error:
            raise _failure(target, error) from None
        return Answer(response.status_code, dict(response.headers), answered)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


async def _first_bytes(response: "httpx2.Response", limit: int) -> bytes:
    """Not one byte more is kept; closing an answer that was not read to its end closes the connection."""
    parts = bytearray()
    async for part in response.aiter_raw():
        parts += part[: limit - len(parts)]
        if len(parts) >= limit:
            break
    return bytes(parts)


def _failure(target: Target, error: "httpx2.TransportError") -> OutboundFailed:
    import httpx2

    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        kind, said = "tls", "proved no identity that can be trusted"
    elif any(isinstance(cause, socket.gaierror) for cause in causes):
        kind, said = "name", "has a name that cannot be looked up"
    elif isinstance(error, httpx2.PoolTimeout):
        kind, said = "busy", "has to wait: too many calls or lookups are under way"
    elif isinstance(error, httpx2.TimeoutException):
        kind, said = "timeout", "did not answer in time"
    elif isinstance(error, httpx2.ConnectError):
        kind, said = "connect", "cannot be reached"
    elif isinstance(error, httpx2.RemoteProtocolError) and "disconnected" not in str(error):
        kind, said = "protocol", "does not speak HTTP"
    else:
        kind, said = "reset", "broke the connection off"
    return OutboundFailed(f"{target.shown} {said}", kind)


def _causes(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

"""The transport under every HTTP client of the studio: it connects to public addresses and to listed exceptions.

In:   requests, from `Outbound` or from a client that was given this transport.
Out:  answers; `OutboundRefused` where the address is not allowed.
Promises: the name is looked up once for each connection, all its addresses are checked, and the connection goes to one
of those that were checked: a second answer of the resolver counts for nothing. The request itself is left alone, so
the Host header, the name in the TLS handshake and the certificate's check use the name. A connection is used again
only for the same scheme, name and port. No proxy is asked, whatever the environment says.

Imported on first use only: the client library takes some megabytes.
"""

import asyncio
import ssl
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Protocol

import httpcore2
import httpx2

from server.outbound.addresses import OutboundRefused, Target, is_public, refusal_of_host, target_of
from server.outbound.lookup import Address, LookupBusy, Resolve

MAX_CONNECTIONS = 100  # of each kind, checked and excepted
MAX_IDLE_CONNECTIONS = 20
IDLE_S = 15.0  # a receiver is called again soon or not at all; the name is looked up anew after that

SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class Connector(Protocol):
    """What opens a connection to an address that has been looked up."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore2.AsyncNetworkStream: ...


class GuardedTransport(httpx2.AsyncBaseTransport):
    def __init__(
        self,
        exceptions: frozenset[str],
        resolve: Resolve,
        *,
        tls: ssl.SSLContext | None = None,
        connector: Connector | None = None,
    ) -> None:
        """`exceptions` are origins as `Target.origin` gives them."""
        self._exceptions = exceptions
        tls = tls or httpx2.create_ssl_context()
        connector = connector or httpcore2.AnyIOBackend()
        self._guarded = _Pool(tls, _Pinned(resolve, connector, is_open=False))
        self._open = _Pool(tls, _Pinned(resolve, connector, is_open=True))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        target = target_of(str(request.url.copy_with(username=None, password=None, query=None, fragment=None)))
        if request.url.userinfo:
            raise OutboundRefused("an address holds no user name or password")
        # What connects is the client's own reading of the URL; it must be the one that is checked.
        if request.url.raw_host.decode("ascii").lower() != target.host and not _same_ip(request.url.host, target):
            raise OutboundRefused(f"{target.shown} is not called: its host can be read in two ways")
        if target.origin in self._exceptions:
            return await self._open.handle_async_request(request)
        reason = refusal_of_host(target.host)
        if reason is not None:
            raise OutboundRefused(f"{target.shown} is not called: {reason}")
        return await self._guarded.handle_async_request(request)

    async def aclose(self) -> None:
        await self._guarded.aclose()
        await self._open.aclose()


def _same_ip(host: str, target: Target) -> bool:
    try:
        return str(ip_address(host)) == target.host
    except ValueError:
        return False


class _Pool(httpx2.AsyncHTTPTransport):
    def __init__(self, tls: ssl.SSLContext, network: httpcore2.AsyncNetworkBackend) -> None:
        super().__init__(verify=tls, trust_env=False)
        # The library has no public way to hand the network over; tests hold that this one works.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_IDLE_CONNECTIONS,
            keepalive_expiry=IDLE_S,
            network_backend=network,
        )


class _Pinned(httpcore2.AsyncNetworkBackend):
    """Looks a name up, checks what comes, and connects to that."""

    def __init__(self, resolve: Resolve, connector: Connector, *, is_open: bool) -> None:
        self._resolve = resolve
        self._connector = connector
        self._is_open = is_open

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                return await self._connect(await self._addresses(host, port), port, socket_options)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout("no connection in time") from error

    async def _addresses(self, host: str, port: int) -> list[Address]:
        try:
            return [ip_address(host)]
        except ValueError:
            pass
        try:
            found = await self._resolve(host, port)
        except LookupBusy as error:
            raise httpcore2.PoolTimeout(str(error)) from error  # as where no connection is free: nothing was asked
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            raise httpcore2.ConnectError("this name cannot be looked up") from error
        # One that is not public refuses them all: whoever controls the name mixes them to be tried until one serves.
        if not self._is_open and not all(is_public(address) for address in found):
            raise OutboundRefused(f"{host} is not called: it is no public address")
        return found

    async def _connect(
        self, addresses: list[Address], port: int, socket_options: Iterable[SocketOption] | None
    ) -> httpcore2.AsyncNetworkStream:
        failure: Exception = httpcore2.ConnectError("this name has no address")
        for address in addresses:
            try:
                return await self._connector.connect_tcp(str(address), port, socket_options=socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

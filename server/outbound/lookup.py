"""Finding the addresses of a name, with a deadline.

In:   a name that anybody may have written down, and whose servers may say nothing on purpose.
Out:  its addresses; `OSError` (`socket.gaierror` among it) where there is no such name, `TimeoutError` when its servers
      are silent, `LookupBusy` when it was never asked for.
Promises: a lookup cannot be broken off, so it keeps its place until it ends; there is a bounded number of places, in
threads of their own. A name has one place at most, a domain two, and the domains that were silent lately share a few:
silent names leave room for the others. Who waits for a place waits in a bounded queue and not for long; a lookup for
which nobody waits any more is not begun.
"""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from time import monotonic

LOOKUP_TIMEOUT_S = 5.0  # what a resolver needs to ask a second server when the first is silent
QUEUE_S = 3.0  # with a lookup after it still less than the ten seconds that a webhook's request has
MAX_QUEUED = 64  # names; with more of them, those at the end would not be reached in time
MAX_LOOKUPS = 8  # a thread each, nearly always for milliseconds
MAX_OF_DOMAIN = 2
MAX_SUSPECTS = 3  # places of all domains that were silent lately
SUSPECT_S = 600.0
MAX_SUSPECT_DOMAINS = 10_000

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[Address]]]


class LookupBusy(Exception):
    """Too many names are being looked up; this one was not asked for."""


class _Query:
    """One lookup, for everybody who waits for it."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        # Without a list of public suffixes this is near enough: under `co.uk`, many share two places.
        self.domain = ".".join(host.split(".")[-2:])
        self.waiters = 0
        self.has_begun = asyncio.Event()
        self.ends_at = 0.0  # then nobody waits any longer
        self.answer: asyncio.Future[list[Address]] = asyncio.get_running_loop().create_future()


class Lookup:
    def __init__(self) -> None:
        self._queued: dict[str, _Query] = {}  # by name, the first come first
        self._running: dict[str, _Query] = {}
        self._silent_until: dict[str, float] = {}  # by domain

    @property
    def is_working(self) -> bool:
        return bool(self._queued or self._running)

    async def __call__(self, host: str, port: int) -> list[Address]:
        query = self._running.get(host) or self._queued.get(host) or self._ask(host, port)
        query.waiters += 1
        try:
            await self._place(query)
            async with asyncio.timeout(max(0.0, query.ends_at - monotonic())):
                return await asyncio.shield(query.answer)
        except TimeoutError:
            self._suspect(query.domain)
            raise
        finally:
            query.waiters -= 1
            if query.waiters == 0 and self._queued.get(host) is query:
                del self._queued[host]

    async def _place(self, query: _Query) -> None:
        try:
            async with asyncio.timeout(QUEUE_S):
                await query.has_begun.wait()
        except TimeoutError:
            raise LookupBusy("too many names are being looked up") from None

    def _ask(self, host: str, port: int) -> _Query:
        query = _Query(host, port)
        if self._may_begin(query):
            self._begin(query)
        elif len(self._queued) < MAX_QUEUED:
            self._queued[host] = query
        else:
            raise LookupBusy("too many names wait to be looked up")
        return query

    def _may_begin(self, query: _Query) -> bool:
        domains = [other.domain for other in self._running.values()]
        if len(domains) >= MAX_LOOKUPS or domains.count(query.domain) >= MAX_OF_DOMAIN:
            return False
        return not self._is_suspect(query.domain) or sum(map(self._is_suspect, domains)) < MAX_SUSPECTS

    def _begin(self, query: _Query) -> None:
        self._queued.pop(query.host, None)
        self._running[query.host] = query
        query.ends_at = monotonic() + LOOKUP_TIMEOUT_S
        query.has_begun.set()
        loop = asyncio.get_running_loop()

        def run() -> None:
            outcome = _look_up(query.host, query.port)
            with suppress(RuntimeError):  # the loop has ended meanwhile, and everybody who waited
                loop.call_soon_threadsafe(self._ended, query, outcome)

        # A daemon: the end of the process does not wait for a silent server.
        threading.Thread(target=run, name="lookup", daemon=True).start()

    def _ended(self, query: _Query, outcome: list[Address] | Exception) -> None:
        del self._running[query.host]
        if monotonic() > query.ends_at:
            self._suspect(query.domain)
        if isinstance(outcome, Exception):
            query.answer.set_exception(outcome)
            query.answer.exception()  # seen: whoever waited is told, or has gone
        else:
            query.answer.set_result(outcome)
        for waiting in list(self._queued.values()):
            if self._may_begin(waiting):
                self._begin(waiting)

    def _suspect(self, domain: str) -> None:
        self._silent_until.pop(domain, None)  # the latest last
        self._silent_until[domain] = monotonic() + SUSPECT_S
        if len(self._silent_until) > MAX_SUSPECT_DOMAINS:
            del self._silent_until[next(iter(self._silent_until))]

    def _is_suspect(self, domain: str) -> bool:
        return self._silent_until.get(domain, 0.0) > monotonic()


def _look_up(host: str, port: int) -> list[Address] | Exception:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        # A zone of a link-local address stays in the text ("%eth0"), and the guard refuses it.
        return list(dict.fromkeys(ip_address(address[0]) for *_, address in found))
    except Exception as error:  # noqa: BLE001 - it is raised where somebody waits
        return error

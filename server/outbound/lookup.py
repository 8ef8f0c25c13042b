"""Finding the addresses of a name, with a deadline."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

LOOKUP_TIMEOUT_S = 5.0  # what a resolver needs to ask a second server when the first is silent
MAX_LOOKUPS = 2  # the event loop looks names up in four threads of its own: a silent resolver must not take all

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[Address]]]


class Lookup:
    """Raises `OSError` (`socket.gaierror` among it) where there is no such name, `TimeoutError` after the deadline."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(MAX_LOOKUPS)
        self._running: set[asyncio.Task[list[Address]]] = set()

    async def __call__(self, host: str, port: int) -> list[Address]:
        # A lookup cannot be broken off. It keeps its turn until it ends, also when nobody waits for it any more.
        task = asyncio.get_running_loop().create_task(self._look_up(host, port))
        self._running.add(task)
        task.add_done_callback(self._ended)
        async with asyncio.timeout(LOOKUP_TIMEOUT_S):
            return await asyncio.shield(task)

    async def _look_up(self, host: str, port: int) -> list[Address]:
        async with self._turns:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
            )
        # A zone of a link-local address stays in the text ("%eth0"), and the guard refuses it.
        return list(dict.fromkeys(ip_address(address[0]) for *_, address in found))

    def _ended(self, task: asyncio.Task[list[Address]]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen: whoever waited has been told, or has gone

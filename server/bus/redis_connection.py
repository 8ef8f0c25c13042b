"""Connections to Redis, and how to find the server.

In:   an address.
Out:  links: connections that have answered once, to write on without waiting and to read from.
Promises: opening one has a deadline; a link that is cut is gone at once, whatever was still unsent.
"""

import asyncio
import math
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from server.bus.redis_address import Credentials, RedisAddress

CONNECT_DEADLINE_S = 1.0
SENTINEL_DEADLINE_S = 0.5  # each: three of them, one after the other, still take less than two seconds

NotConnected = RedisConnectionError
Refused = ResponseError  # Redis understood, and will not
FAULTS = (RedisError, OSError, TimeoutError)


class Link:
    """One connection that is ready for use."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        # redis-py's own way to write makes a task for every deadline, and it cannot abort: to close it politely, a
        # peer that has stopped would first have to take what is still unsent.
        assert connection._writer is not None
        self._writer = connection._writer

    def write(self, commands: Iterable[tuple[bytes, ...]]) -> None:
        """Never waits."""
        if self._writer.is_closing():
            raise NotConnected("the connection is closed")
        self._writer.write(b"".join(self._connection.pack_commands(commands)))

    async def read(self) -> object:
        reply: object = await self._connection.read_response(timeout=math.inf, disconnect_on_error=False)
        return reply

    async def ask(self, *command: bytes) -> object:
        self.write([command])
        return await self.read()

    def cut(self) -> None:
        self._writer.transport.abort()

    async def close(self) -> None:
        self.cut()
        with suppress(RedisError):
            await self._connection.disconnect()


class Door:
    """Opens connections to the server, which is where Sentinel says when there is one."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._sentinels = list(address.hosts) if address.master else []
        self.last: tuple[str, int] | None = None  # the master of the latest connection

    async def connect(self) -> Link:
        address = self._address
        self.last = server = await self.find_master() if address.master else None
        async with asyncio.timeout(CONNECT_DEADLINE_S):
            link = await self._open(server or (address.hosts or [None])[0], address.credentials, address.db)
            try:
                await self._check(link)
            except BaseException:
                await link.close()
                raise
            return link

    async def _check(self, link: Link) -> None:
        """A server that has stopped still accepts connections, so one is good only once something has come back.

        A Sentinel may name a master that is one no more, and a replica would tell only those at its side.
        """
        if not self._address.master:
            await link.ask(b"PING")
            return
        match await link.ask(b"ROLE"):
            case [b"master", *_]:
                return
        raise NotConnected("the Sentinels name a server that is no master")

    async def find_master(self) -> tuple[str, int]:
        """The first Sentinel that knows is asked first the next time."""
        for place, sentinel in enumerate(tuple(self._sentinels)):
            with suppress(*FAULTS):
                async with asyncio.timeout(SENTINEL_DEADLINE_S):
                    link = await self._open(sentinel, self._address.sentinel_credentials, 0)
                    try:
                        found = await link.ask(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._address.master.encode())
                    finally:
                        await link.close()
                match found:
                    case [bytes(host), bytes(port)]:
                        self._sentinels.insert(0, self._sentinels.pop(place))
                        return host.decode(), int(port)
        raise NotConnected("no Sentinel answers with the master's address")

    async def _open(self, server: tuple[str, int] | None, credentials: Credentials, db: int) -> Link:
        connection = self._connection(server, credentials, db)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return Link(connection)

    def _connection(self, server: tuple[str, int] | None, credentials: Credentials, db: int) -> AbstractConnection:
        given: dict[str, Any] = {
            "db": db,
            "username": credentials.user,
            "password": credentials.password,
            "protocol": 2,
            "socket_timeout": None,  # deadlines are ours, around whole round trips
            "socket_connect_timeout": CONNECT_DEADLINE_S,
            "driver_info": None,  # two commands less at the start
        }
        if server is None:
            return UnixDomainSocketConnection(path=self._address.path, **given)
        given["host"], given["port"] = server
        if self._address.has_tls:
            given.update(self._address.tls)
            return SSLConnection(**given)
        return Connection(**given)

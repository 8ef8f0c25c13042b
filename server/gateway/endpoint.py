"""The door of the sockets: who may come in, and what happens between the upgrade and the first frame.

`/ws` is for all conversations; `/ws/room/{conversation}` and `/ws/private/{user}` are bound to one. A wrong
credential is refused before the upgrade, with problem details; no credential at all is let in for ten seconds, to
send `hello` with a ticket.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from loguru import logger

from server.gateway.connection import Connection
from server.gateway.dispatch import Dispatcher
from server.gateway.fallback_socket import FallbackSocket
from server.gateway.heartbeat import HEARTBEAT_S
from server.gateway.identity import Identifier, client_address
from server.gateway.rate_limits import RateLimits
from server.gateway.subscribing import Subscriber
from server.gateway.websocket_protocol import EXTENSION, PreparedSocket
from server.hub.identity import Identity
from server.hub.permissions import Permission
from server.hub.studio import Studio
from server.protocol.codec import decode_frame, encode
from server.protocol.errors import BadFrame, ChatError, Draining, Forbidden, NotFound, RateLimited, Unauthenticated
from server.protocol.frames import SUBPROTOCOL, ErrorFrame, Hello, Welcome
from server.telemetry import metrics

HELLO_TIMEOUT_S = 10.0
GREETED_AT_ONCE = 32  # keeps the database's connections busy, and the event loop's turns short
COME_BACK_S = 1.0  # to another worker, or to this one's successor
ADDRESS = re.compile(r"/ws(?:/(room|private)/([^/]+))?")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Refused(Exception):
    """The socket is closed with this code, after the upgrade."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class SocketEndpoint:
    """An ASGI application for the three addresses."""

    def __init__(self, studio: Studio, identifier: Identifier, limits: RateLimits) -> None:
        self._studio = studio
        self._identifier = identifier
        self._limits = limits
        # Whoever is let in is greeted to the end before the next ones are begun: in a storm a few are soon whole, and
        # talk, where else all would wait until the last.
        self._greeting = asyncio.Semaphore(GREETED_AT_ONCE)
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        place = _Place(self._limits, client_address(scope))
        try:
            if self._studio.is_draining:
                raise Draining(retry_after_s=COME_BACK_S)
            self._limits.check_accept(place.address, self._waiting)
            async with self._turn():
                identity = await self._identify(scope, place.address)
                bound = None
                if identity is None:
                    place.take_as_stranger()
                else:
                    place.take(identity)
                    bound = await self._bound(scope, identity)
        except ChatError as error:
            place.leave()
            await _deny(scope, send, error)
            return
        except BaseException:
            place.leave()
            raise
        offered = scope.get("subprotocols") or []
        accept: dict[str, Any] = {"type": "websocket.accept"}
        if SUBPROTOCOL in offered:
            accept["subprotocol"] = SUBPROTOCOL
        try:
            await send(accept)
            if identity is None:
                identity = await self._wait_for_hello(receive, place.address)
                _take_after_hello(place, identity)
                bound = await self._bound_after_hello(scope, identity)
        except Refused as refused:
            place.leave()
            await send({"type": "websocket.close", "code": refused.code, "reason": refused.reason})
            return
        except BaseException:
            place.leave()
            raise
        await self._serve(scope, receive, send, identity, bound, place)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        self._waiting += 1
        try:
            await self._greeting.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._greeting.release()

    async def _identify(self, scope: Scope, address: str) -> Identity | None:
        try:
            return await self._identifier.of_socket(dict(scope))
        except Unauthenticated:
            self._limits.note_bad_credential(address)
            raise

    async def _bound(self, scope: Scope, identity: Identity) -> str | None:
        """The conversation in the path, which must be one that this person may read."""
        address = ADDRESS.fullmatch(scope["path"])
        if address is None:
            raise NotFound("there is no such address")
        kind, name = address.groups()
        if kind == "room":
            await self._studio.check(identity, Permission.READ, name)
            return str(name)
        if kind == "private":
            return await self._studio.private_chats.with_person(identity, name)
        return None

    async def _bound_after_hello(self, scope: Scope, identity: Identity) -> str | None:
        try:
            return await self._bound(scope, identity)
        except (NotFound, Forbidden):
            raise Refused(4507, "there is no such conversation") from None
        except ChatError as error:
            raise Refused(1013, error.code) from None

    async def _wait_for_hello(self, receive: Receive, address: str) -> Identity:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                message = await receive()
        except TimeoutError:
            raise Refused(4502, "no hello") from None
        if message["type"] == "websocket.disconnect":
            raise Refused(1000, "gone")
        text = message.get("text")
        if text is None:
            raise Refused(1003, "frames are text")
        try:
            frame = decode_frame(text)
            if not isinstance(frame, Hello):
                raise BadFrame("the first frame is `hello`")
            return await self._studio.accounts.access.redeem_ticket(frame.ticket)
        except ChatError as error:
            if isinstance(error, Unauthenticated):
                self._limits.note_bad_credential(address)
            raise Refused(4502, "no valid ticket") from None

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, identity: Identity, bound: str | None, place: "_Place"
    ) -> None:
        studio = self._studio
        prepared: PreparedSocket | None = scope["extensions"].get(EXTENSION)
        socket = prepared or FallbackSocket(receive, send)
        connection = Connection(socket, identity, studio.hub, studio.reader, studio.presence, bound)
        dispatcher = Dispatcher(studio, self._limits, connection)

        log = logger.bind(connection=connection.id, user=identity.user_id)

        def closed() -> None:
            log.debug("socket closed")
            metrics.connections.dec()
            place.leave()
            dispatcher.close()
            connection.close()
            studio.hub.detach(connection)

        metrics.connections.inc()
        try:
            async with self._turn():
                await studio.hub.attach(connection)
                connection.limit_unsent()
                # From here on an ended grant cuts this socket; one that ended while it was let in must be asked about.
                if not await studio.accounts.access.is_current(identity):
                    connection.end(4500, "session ended")
                await self._welcome(connection)
            log.debug("socket opened")
        except ChatError as error:
            connection.tell(ErrorFrame(code=error.code, message=error.detail, retryable=error.retryable))
            connection.end(1013, error.code)
        except BaseException:
            closed()
            raise
        socket.take_over(dispatcher.receive, connection.on_full, closed)
        if isinstance(socket, FallbackSocket):
            await socket.until_closed()

    async def _welcome(self, connection: Connection) -> None:
        studio, identity = self._studio, connection.identity
        await studio.receipts.write()
        conversations = await studio.rooms.mine(identity)
        connection.tell(
            Welcome(
                user=identity.summary, connection=connection.id, heartbeat_s=HEARTBEAT_S, conversations=conversations
            )
        )
        if connection.bound is not None and not await Subscriber(studio, connection).follow_from_head(connection.bound):
            connection.end(4507, "there is no such conversation")


class _Place:
    """What a socket takes of the limits, given back once."""

    __slots__ = ("_leave", "_limits", "address")

    def __init__(self, limits: RateLimits, address: str) -> None:
        self._limits = limits
        self.address = address
        self._leave: Callable[[], None] | None = None

    def take_as_stranger(self) -> None:
        self._limits.acquire_stranger(self.address)
        self._leave = lambda: self._limits.release_stranger(self.address)

    def take(self, identity: Identity) -> None:
        """In place of a stranger's, where there was one."""
        self._limits.acquire_socket(identity.user_id, self.address)
        self.leave()
        self._leave = lambda: self._limits.release_socket(identity.user_id, self.address)

    def leave(self) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


def _take_after_hello(place: _Place, identity: Identity) -> None:
    try:
        place.take(identity)
    except RateLimited:
        raise Refused(4504, "too many connections") from None


async def _deny(scope: Scope, send: Send, error: ChatError) -> None:
    """Answer the handshake with problem details instead of an upgrade."""
    body = encode({
        "type": f"/docs#{error.code}", "title": error.title, "status": error.status, "code": error.code,
        "detail": error.detail, "retryable": error.retryable,
    })  # fmt: skip
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, round(error.retry_after_s))).encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})

"""One lasting connection over many sockets: opens, listens for life, comes back.

In:   addresses, a sign-in, and frames to write.
Out:  what the server says, to `hear`; each change of the connection, to `changed`.
Promises: at most one socket at a time. A socket on which no byte came for 1.8 heartbeats (45 s) is given up. After a
lost one it comes back when the server said (`drain`, `Retry-After`), else after a random pause whose bound doubles;
closed with a final code it raises `SignedOut`.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn, Protocol

import websockets
from websockets.asyncio.client import ClientConnection, connect

from server.client.comeback import STEADY_S, Chance, final_reason, least_pause_s, pause_s, socket_address
from server.client.errors import SignedOut
from server.client.items import ConnectionChange, Down, Up
from server.client.sign_in import SignIn
from server.client.web_requests import NoAnswer
from server.protocol.codec import decode_server_frame, encode
from server.protocol.errors import BadFrame, BadJson, ChatError
from server.protocol.frames import SUBPROTOCOL, ClientFrame, Drain, ServerFrame, Welcome

OPENING_S = 15.0  # a handshake that takes longer is a lost packet: a new one is faster
CLOSING_S = 1.0  # the server's close frame may be lost with the network; nothing of ours waits for it
HEARTBEATS_OF_SILENCE = 1.8  # the server pings once a heartbeat; one may be late, two are not
LOOK_EVERY_S = 5.0
MAX_FRAME_BYTES = 32 * 1024 * 1024  # a `welcome` of a hundred thousand conversations

OnFrame = Callable[[str, bytes], None]  # "in" or "out", and the bytes


class Listener(Protocol):
    """What is built on the link."""

    def up(self, welcome: Welcome) -> None: ...
    def hear(self, frame: ServerFrame) -> None: ...
    def down(self) -> None: ...


@dataclass(slots=True)
class _End:
    """How an attempt or a socket ended."""

    reason: str
    code: int | None = None
    status: int | None = None
    least_pause_s: float = 0.0
    told_pause_s: float | None = None
    was_steady: bool = False


class Link:
    def __init__(
        self, address: Callable[[int], str], sign_in: SignIn, listener: Listener, *, chance: Chance,
        on_frame: OnFrame | None = None, on_connection: Callable[[ConnectionChange], None] | None = None,
        silence_s: float | None = None,
    ) -> None:  # fmt: skip
        self._address = address
        self._sign_in = sign_in
        self._listener = listener
        self._chance = chance
        self._on_frame = on_frame
        self._on_connection = on_connection
        self._silence_s = silence_s
        self._loop = asyncio.get_running_loop()
        self._outgoing: deque[bytes] = deque()
        self._has_more = asyncio.Event()
        self.attempt = 0
        self.is_up = False
        self.last_failure = ""
        self.unreadable = 0  # frames of the server that could not be read

    def write(self, frame: ClientFrame) -> bool:
        """False where there is nobody to write to; nothing is kept here."""
        if not self.is_up:
            return False
        raw = encode(frame)
        if self._on_frame is not None:
            self._on_frame("out", raw)
        self._outgoing.append(raw)
        self._has_more.set()
        return True

    async def run(self) -> None:
        """Until cancelled, or `SignedOut`."""
        failures = 0
        while True:
            url = self._address(self.attempt)
            end = await self._attempt(url)
            reason = final_reason(end.code) if end.code is not None else None
            if reason is not None:
                self._tell(Down(url, reason, end.code, end.status, 0.0))
                raise SignedOut(reason, end.code)
            failures = 0 if end.was_steady else failures
            pause = end.told_pause_s if end.told_pause_s is not None else pause_s(failures, self._chance)
            pause = max(pause, end.least_pause_s)
            self.last_failure = f"{url}: {end.reason}"
            self._tell(Down(url, end.reason, end.code, end.status, pause))
            self.attempt, failures = self.attempt + 1, failures + 1
            await asyncio.sleep(pause)

    async def _attempt(self, url: str) -> _End:
        """One socket, from its opening to its end."""
        token = ""
        try:
            token = await self._sign_in.access_token(url)
            line = await self._open(url, token)
        except websockets.InvalidStatus as error:
            return self._turned_away(error, token)
        except ChatError as error:
            if not error.retryable:
                raise
            return _End(f"{error.code}: {error.detail}", least_pause_s=error.retry_after_s or 0.0)
        except (OSError, EOFError, TimeoutError, websockets.WebSocketException, NoAnswer) as error:
            return _End(f"{type(error).__name__}: {error}")
        return await self._live_on(line, url)

    async def _open(self, url: str, token: str) -> "_Line":
        address = socket_address(url)
        line = await connect(
            address, additional_headers={"Authorization": f"Bearer {token}"}, create_connection=_Line,
            subprotocols=[websockets.Subprotocol(SUBPROTOCOL)], compression=None, ping_interval=None,
            open_timeout=OPENING_S, close_timeout=CLOSING_S, max_size=MAX_FRAME_BYTES, max_queue=None,
            proxy=True if address.startswith("wss:") else None,
        )  # fmt: skip
        assert isinstance(line, _Line)
        return line

    def _turned_away(self, error: websockets.InvalidStatus, token: str) -> _End:
        status = error.response.status_code
        if status == 401:
            self._sign_in.was_refused(token)  # the next attempt brings a new one, or finds that there is none
        with suppress(KeyError, ValueError):
            return _End(str(error), status=status, least_pause_s=float(error.response.headers["Retry-After"]))
        return _End(str(error), status=status)

    async def _live_on(self, line: "_Line", url: str) -> _End:
        opened_at = self._loop.time()
        writing = self._loop.create_task(self._write(line))
        reason = "no welcome"
        try:
            await self._hear(line, url)
        except websockets.ConnectionClosed as error:
            reason = str(error)
        except TimeoutError:
            pass
        finally:
            is_cut_short = line.state is websockets.State.OPEN  # we are being cancelled, or nothing was said
            was_up, self.is_up = self.is_up, False
            self._outgoing.clear()
            writing.cancel()
            if was_up:
                self._listener.down()
            if is_cut_short:
                await self._close(line)
        code = line.silent_code or line.close_code or 1006
        was_steady = was_up and self._loop.time() - opened_at >= STEADY_S
        return _End(reason, code, None, least_pause_s(code), line.told_pause_s, was_steady)

    async def _hear(self, line: "_Line", url: str) -> NoReturn:
        """Until the socket is closed, which raises."""
        recv, hook, hear = line.recv, self._on_frame, self._listener.hear
        async with asyncio.timeout(OPENING_S):
            while not self.is_up:
                raw = await recv(decode=False)
                if hook is not None:
                    hook("in", raw)
                frame = self._read(raw)
                if isinstance(frame, Welcome):
                    self._begin(line, url, frame)
        while True:
            raw = await recv(decode=False)
            if hook is not None:
                hook("in", raw)
            frame = self._read(raw)
            if frame is None:
                continue
            if isinstance(frame, Drain):
                line.told_pause_s = frame.reconnect_in_ms / 1000
            hear(frame)

    def _begin(self, line: "_Line", url: str, welcome: Welcome) -> None:
        self.is_up = True
        silence_s = self._silence_s or HEARTBEATS_OF_SILENCE * welcome.heartbeat_s
        line.give_up_after(silence_s, min(LOOK_EVERY_S, silence_s / 4))
        self._tell(Up(url, welcome.connection, line))
        self._listener.up(welcome)

    def _read(self, raw: bytes) -> ServerFrame | None:
        try:
            return decode_server_frame(raw)
        except (BadJson, BadFrame):  # a fault of the server; what is missing is found by its place in the order
            self.unreadable += 1
            return None

    async def _write(self, line: "_Line") -> None:
        with suppress(websockets.ConnectionClosed):
            while True:
                while self._outgoing:
                    await line.send(self._outgoing.popleft(), text=True)
                self._has_more.clear()
                await self._has_more.wait()

    async def _close(self, line: "_Line") -> None:
        with suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(line.close()), CLOSING_S)
        line.cut()

    def _tell(self, change: ConnectionChange) -> None:
        if self._on_connection is not None:
            self._on_connection(change)


class _Line(ClientConnection):
    """A socket that knows when the last byte came."""

    silent_code: int | None = None  # 4012: given up by us
    # As `drain` said. It counts from the close: all are closed at the same time, and those whose pause was over by then
    # would come back at once.
    told_pause_s: float | None = None
    _heard_at: float = 0.0

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        super().data_received(data)

    def give_up_after(self, silence_s: float, look_every_s: float) -> None:
        def look() -> None:
            if self.state is not websockets.State.OPEN:
                return
            if self.loop.time() - self._heard_at > silence_s:
                self.silent_code = 4012
                self.cut()
            else:
                self.loop.call_later(look_every_s, look)

        look()

    def stall(self) -> None:
        self.transport.pause_reading()

    def flow(self) -> None:
        self.transport.resume_reading()

    def cut(self) -> None:
        self.transport.abort()

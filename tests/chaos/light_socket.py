"""A WebSocket client that costs a thousand sockets in one process next to nothing (RFC 6455, the part that is needed).

In:   a port and an access token; texts to send.
Out:  each text frame of the server to `on_text`, and the close code, once, to `on_closed`.
Promises: pings are answered. Server frames are neither masked nor, from this server, fragmented.
"""

import asyncio
import re
import socket
import struct
from collections.abc import Callable
from typing import cast

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: chat-studio.v1\r\nAuthorization: Bearer {token}\r\n\r\n"
)
OPEN_TIMEOUT_S = 10.0
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
RETRY_AFTER = re.compile(r"(?i)\nretry-after: *([0-9.]+)")
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class NotLetIn(Exception):
    """The handshake was refused; `status` is HTTP's, 0 when nothing sensible came."""

    def __init__(self, status: int, answer: str) -> None:
        super().__init__(answer)
        self.status = status
        found = RETRY_AFTER.search(answer)
        self.retry_after_s = float(found[1]) if found else None


class LightSocket(asyncio.Protocol):
    def __init__(self, on_text: Callable[[bytes], None], on_closed: Callable[[int | None], None]) -> None:
        self.last_heard = 0.0
        self._on_text = on_text
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._code: int | None = None
        self._is_closed = False

    @classmethod
    async def open(
        cls, port: int, token: str, on_text: Callable[[bytes], None], on_closed: Callable[[int | None], None],
        path: str = "/ws", source: str | None = None, timeout_s: float = OPEN_TIMEOUT_S,
    ) -> "LightSocket":  # fmt: skip
        """`source` is the address to come from. Raises `OSError`, `TimeoutError` or `NotLetIn`."""
        made = cls(on_text, on_closed)
        async with asyncio.timeout(timeout_s):
            await made._loop.create_connection(
                lambda: made, "127.0.0.1", port, local_addr=(source, 0) if source else None
            )
            assert made._transport is not None
            made._transport.write(HANDSHAKE.format(path=path, port=port, token=token).encode())
            try:
                await made._opened
            except BaseException:
                made.reset()
                raise
        return made

    # What the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its class

    def data_received(self, data: bytes) -> None:
        self.last_heard = self._loop.time()
        data = self._rest + data
        if not self._opened.done():
            head, separator, data = data.partition(b"\r\n\r\n")
            if not separator:
                self._rest = head
                return
            self._answered(head)
        self._rest = self._read_frames(data) if self._opened.done() and not self._opened.exception() else b""

    def connection_lost(self, error: Exception | None) -> None:
        if not self._opened.done():
            self._opened.set_exception(NotLetIn(0, "the connection was lost"))
        self._closed()

    # Frames

    def _answered(self, head: bytes) -> None:
        words = head.split(maxsplit=2)
        status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        if status == 101:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(NotLetIn(status, head.decode(errors="replace")))

    def _read_frames(self, data: bytes) -> bytes:
        at = 0
        while len(data) - at >= 2:
            length, begin = data[at + 1], at + 2
            if length == 126:
                begin += 2
                length = int.from_bytes(data[at + 2 : begin], "big")
            elif length == 127:
                begin += 8
                length = int.from_bytes(data[at + 2 : begin], "big")
            if len(data) < begin + length:
                break
            self._take(data[at] & 0x0F, data[begin : begin + length])
            at = begin + length
        return data[at:]

    def _take(self, opcode: int, payload: bytes) -> None:
        if self._is_closed:
            return
        if opcode == TEXT:
            self._on_text(payload)
        elif opcode == PING:
            self._write(PONG, payload)
        elif opcode == CLOSE:
            self._code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
            self._write(CLOSE, payload[:2])
            if self._transport is not None:
                self._transport.close()

    def _write(self, opcode: int, payload: bytes) -> None:
        """Masked with zeros, which changes nothing and is as good as any mask on the loopback address."""
        if self._transport is None or self._transport.is_closing():
            return
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 65536:
            head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8, "big")
        self._transport.write(head + b"\0\0\0\0" + payload)

    # Verbs

    def send(self, text: bytes) -> None:
        self._write(TEXT, text)

    def pause(self, is_paused: bool) -> None:
        """Read nothing for a while: a slow reader."""
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.pause_reading if is_paused else self._transport.resume_reading)()

    def reset(self) -> None:
        """Cut it the hard way."""
        if self._transport is not None:
            connection = self._transport.get_extra_info("socket")
            if connection is not None and not self._transport.is_closing():
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self._transport.abort()
        self._closed()

    def close(self) -> None:
        self._write(CLOSE, (1000).to_bytes(2, "big"))
        if self._transport is not None:
            self._transport.close()
        self._closed()

    def _closed(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._on_closed(self._code)

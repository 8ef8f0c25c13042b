"""The socket under the socket: uvicorn's WebSocket protocol, opened for prepared frames.

A room of five hundred gets the same bytes five hundred times. ASGI's `send` would frame them anew for each member, at
ten times the cost of the write itself; so this subclass hands the application an extension, `chat_studio.socket`,
that writes a frame prepared once, and passes text frames to a callback in the turn in which they arrive.

Promises: nothing is written before the handshake or behind a close frame: a socket is taken over after the one, and
`on_closed` tells of the other before it goes out. A transport that dies in between raises, at the write.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.speedups import apply_mask

EXTENSION = "chat_studio.socket"
HIGH_WATER_BYTES = 256 * 1024  # unsent bytes of ours a socket may hold; past it the socket is behind
LOW_WATER_BYTES = 64 * 1024  # drained so far, it is fed again
SEND_BUFFER_BYTES = 128 * 1024  # the kernel's share; its default of megabytes would hide a slow reader


def prepare_frame(payload: bytes) -> bytes:
    """An unmasked text frame (RFC 6455, section 5.2), the same bytes for every receiver."""
    length = len(payload)
    if length < 126:
        return b"\x81" + length.to_bytes(1, "big") + payload
    if length < 65536:
        return b"\x81\x7e" + length.to_bytes(2, "big") + payload
    return b"\x81\x7f" + length.to_bytes(8, "big") + payload


def take_text_frame(data: bytes) -> tuple[str | None, int]:
    """The text of the frame that `data` begins with, and its length in bytes; None unless it is whole, masked,
    unfragmented, shorter than 64 KiB and valid UTF-8."""
    if len(data) < 6 or data[0] != 0x81 or not 0x80 <= data[1] < 0xFF:
        return None, 0
    length, start = data[1] & 0x7F, 6
    if length == 126:
        length, start = int.from_bytes(data[2:4], "big"), 8
        if length < 126:
            return None, 0  # not the shortest form: the parser has the right words for it
    end = start + length
    if len(data) < end:
        return None, 0
    try:
        return str(apply_mask(data[start:end], data[start - 4 : start]), "utf-8"), end
    except UnicodeDecodeError:
        return None, 0


def split_frames(frames: bytes) -> list[bytes]:
    """The payloads of frames made by `prepare_frame`, for a server without the extension."""
    payloads, at = [], 0
    while at < len(frames):
        length, start = frames[at + 1], at + 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, start = int.from_bytes(frames[start : start + size], "big"), start + size
        payloads.append(frames[start : start + length])
        at = start + length
    return payloads


class PreparedSocket:
    """What the application sees of one socket."""

    __slots__ = ("_protocol", "write")

    def __init__(self, protocol: "PreparedFramesProtocol") -> None:
        self._protocol = protocol
        # The transport's own: whoever calls has been told by `on_closed` before a close begins, and a dead one raises.
        self.write = protocol.transport.write

    def take_over(
        self, on_text: Callable[[str], None], on_full: Callable[[bool], None], on_closed: Callable[[], None]
    ) -> None:
        """From now on the socket lives by these callbacks and the ASGI call may return: an idle socket needs no task.

        `on_text` gets each text frame in the turn in which it arrives, `on_full` hears when too much is unsent and
        when it has drained, `on_closed` is called once, at the end.
        """
        self._protocol.take_over(on_text, on_full, on_closed)

    def close(self, code: int, reason: str) -> None:
        self._protocol.close_with(code, reason)

    def abort(self) -> None:
        """Drop the connection and everything unsent."""
        self._protocol.transport.abort()

    def pause(self, is_paused: bool) -> None:
        """Stop or go on reading: whoever has too much in flight waits."""
        self._protocol.pause(is_paused)

    def limit_unsent(self, most_bytes: int) -> None:
        """`on_full` hears when more than this is unsent, and when three quarters of it have drained."""
        if not self._protocol.transport.is_closing():  # a dead one raises
            self._protocol.transport.set_write_buffer_limits(most_bytes, most_bytes // 4)

    @property
    def unsent(self) -> int:
        """Bytes of ours that the kernel has not taken yet."""
        size: int = self._protocol.transport.get_write_buffer_size()
        return size

    @property
    def last_life(self) -> float:
        """When the last byte came, by the event loop's clock: any byte counts as life."""
        return self._protocol.last_life


class PreparedFramesProtocol(WebSocketsSansIOProtocol):
    on_text: Callable[[str], None] | None = None
    on_full: Callable[[bool], None] | None = None
    on_closed: Callable[[], None] | None = None
    is_taken_over = False
    last_life = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.last_life = self.loop.time()
        self.transport.set_write_buffer_limits(HIGH_WATER_BYTES, LOW_WATER_BYTES)
        raw = self.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)
        if scope is not None:  # None: the handshake was refused
            scope["extensions"][EXTENSION] = PreparedSocket(self)

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True  # a refusal is an answer too; else uvicorn logs an error for each

    def data_received(self, data: bytes) -> None:
        self.last_life = self.loop.time()
        # Nearly all that comes is whole, short text frames: those are read here. Everything else is the parser's, and
        # nothing is when it stands in the middle of a frame or a fragmented message.
        while self.on_text is not None and not (self.close_sent or self.frames or self.conn.reader.buffer):
            text, used = take_text_frame(data)
            if text is None:
                break
            self.on_text(text)
            data = data[used:]
        if data:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._tell_closed()

    def handle_close(self, event: Frame) -> None:
        self._tell_closed()
        super().handle_close(event)

    def handle_parser_exception(self) -> None:
        self._tell_closed()
        super().handle_parser_exception()

    def _tell_closed(self) -> None:
        """Once, as soon as the end is certain: nothing may be written behind a close frame."""
        on_closed, self.on_closed = self.on_closed, None
        if on_closed is not None:
            on_closed()

    async def run_asgi(self) -> None:
        """As uvicorn's, but a socket that was taken over outlives the call."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except Exception:
            self.logger.exception("the socket endpoint broke")
            self.send_500_response()
        if not self.is_taken_over and self.close_timer is None:
            self.transport.close()

    def take_over(
        self, on_text: Callable[[str], None], on_full: Callable[[bool], None], on_closed: Callable[[], None]
    ) -> None:
        if self.disconnected:
            self.loop.call_soon(on_closed)
            return
        self.on_text, self.on_full, self.on_closed, self.is_taken_over = on_text, on_full, on_closed, True
        # The handshake's own things are of no use any more; ten thousand idle sockets would keep them.
        self.scope = self.request = self.response = None  # type: ignore[assignment]
        self.pause(False)
        if not self.writable.is_set():
            on_full(True)  # what was written before nobody was told of
        self._pass_on_queued(on_text)

    def send_receive_event_to_app(self) -> None:
        if self.on_text is None or self.close_sent:
            super().send_receive_event_to_app()
            return
        if self.curr_msg_data_type != "text":
            self.frames = []
            self.close_with(1003, "frames are text")
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        try:
            text = str(data, "utf-8")
        except UnicodeDecodeError:
            self.close_with(1007, "invalid UTF-8")
            return
        self.on_text(text)

    def _pass_on_queued(self, on_text: Callable[[str], None]) -> None:
        """Frames that came before the take-over wait in uvicorn's queue: pass them on first."""
        while not self.queue.empty():
            message: Any = self.queue.get_nowait()
            if message["type"] == "websocket.receive" and message.get("text") is not None:
                on_text(message["text"])
            elif message["type"] == "websocket.receive":
                self.close_with(1003, "frames are text")

    def close_with(self, code: int, reason: str) -> None:
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self._tell_closed()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.pause(False)  # the answer to our close frame must be readable
        # Not `close`, which would wait for ever for a peer that takes nothing.
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)

    def pause(self, is_paused: bool) -> None:
        if is_paused != self.read_paused and not self.transport.is_closing():
            self.read_paused = is_paused
            (self.transport.pause_reading if is_paused else self.transport.resume_reading)()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.on_full is not None:
            self.on_full(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.on_full is not None:
            self.on_full(False)

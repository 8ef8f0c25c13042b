"""A socket under a server that knows no prepared frames: the same promises by ASGI's plain `send`, only slower."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from server.gateway.websocket_protocol import HIGH_WATER_BYTES, split_frames

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class FallbackSocket:
    """One task writes; what it has not written yet counts as unsent. `until_closed` reads."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._unsent: asyncio.Queue[bytes] = asyncio.Queue()
        self._unsent_bytes = 0
        self._is_full = False
        self._most_bytes = HIGH_WATER_BYTES
        self._on_text: Callable[[str], None] = lambda _: None
        self._on_full: Callable[[bool], None] = lambda _: None
        self._on_closed: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._writer = self._loop.create_task(self._write_out())

    def take_over(
        self, on_text: Callable[[str], None], on_full: Callable[[bool], None], on_closed: Callable[[], None]
    ) -> None:
        self._on_text, self._on_full, self._on_closed = on_text, on_full, on_closed
        if self._is_full:
            on_full(True)

    async def until_closed(self) -> None:
        try:
            while True:
                message = await self._receive()
                if message["type"] == "websocket.disconnect":
                    return
                if message.get("text") is None:
                    self.close(1003, "frames are text")
                else:
                    self._on_text(message["text"])
        finally:
            self._writer.cancel()
            self._on_closed()

    def write(self, frames: bytes) -> None:
        if frames[:1] != b"\x81":
            return  # a ping: this server keeps its own
        for payload in split_frames(frames):
            self._unsent_bytes += len(payload)
            self._unsent.put_nowait(payload)
        self._look()

    def close(self, code: int, reason: str) -> None:
        self._writer.cancel()
        self._writer = self._loop.create_task(self._close(code, reason))

    def abort(self) -> None:
        self.close(1006, "")

    def pause(self, is_paused: bool) -> None:
        """Reading goes frame by frame here: nothing to stop."""

    def limit_unsent(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes

    @property
    def unsent(self) -> int:
        return self._unsent_bytes

    @property
    def last_life(self) -> float:
        return self._loop.time()  # pings and their answers are the server's own business

    async def _write_out(self) -> None:
        while True:
            payload = await self._unsent.get()
            try:
                await self._send({"type": "websocket.send", "text": payload.decode()})
            except Exception:  # noqa: BLE001 - the peer is gone; the receiving side notices and ends the connection
                return
            self._unsent_bytes -= len(payload)
            self._look()

    async def _close(self, code: int, reason: str) -> None:
        try:
            await self._send({"type": "websocket.close", "code": code if code != 1006 else 1000, "reason": reason})
        except Exception:  # noqa: BLE001 - closed already
            return

    def _look(self) -> None:
        is_full = self._unsent_bytes > (self._most_bytes // 4 if self._is_full else self._most_bytes)
        if is_full != self._is_full:
            self._is_full = is_full
            self._on_full(is_full)

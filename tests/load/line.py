"""One socket of one person, for the parts that need a few of them: it subscribes, sends, and waits for events."""

import asyncio
import json
from typing import Any, TypeVar

from tests.chaos.light_socket import LightSocket, NotLetIn
from tests.load.people import Person
from tests.load.processes import BenchError
from tests.load.studio_process import Server

ANSWER_TIMEOUT_S = 20.0

T = TypeVar("T")
Answers = dict[str, dict[str, Any]]  # of `subscribed`, by conversation


class Line:
    """Raises `BenchError` when it is refused, answered with an error, lost, or kept waiting."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._socket: LightSocket | None = None
        self._awaited: dict[bytes, asyncio.Future[bytes]] = {}  # the next frame of a type
        self._wanted = 0
        self._all_heard: asyncio.Future[None] | None = None
        self._fault: str | None = None

    @classmethod
    async def open(cls, server: Server, person: Person) -> "Line":
        """Open, and greeted."""
        line = cls()
        greeted = line._next(b"welcome")
        try:
            line._socket = await LightSocket.open(server.port, person.token, line._hear, line._closed)
        except (OSError, TimeoutError, NotLetIn) as error:
            raise BenchError(f"a socket is refused: {' '.join(str(error).split())[:200]}") from None
        await line._until(greeted, "welcome")
        return line

    async def subscribe(self, cursors: dict[str, Any]) -> Answers:
        self._send({"type": "subscribe", "id": "s", "conversations": cursors})
        answer = await self._until(self._next(b"subscribed"), "subscribed")
        answers: Answers = json.loads(answer)["conversations"]
        return answers

    def send(self, frame_id: str, conversation: str, text: str) -> None:
        self._send({"type": "send", "id": frame_id, "conversation": conversation, "text": text})

    async def until_heard(self, count: int) -> None:
        """So many events since the socket was opened."""
        if len(self.events) < count:
            self._wanted, self._all_heard = count, self._loop.create_future()
            await self._until(self._all_heard, f"event {count}")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _send(self, frame: dict[str, Any]) -> None:
        assert self._socket is not None
        self._socket.send(json.dumps(frame).encode())

    def _hear(self, text: bytes) -> None:
        if text.startswith(b'{"type":"event"'):
            self.events.append(text)
            if len(self.events) == self._wanted and self._all_heard is not None:
                _settle(self._all_heard, None)
        elif text.startswith(b'{"type":"error"'):
            self._break(text.decode())
        else:
            kind = text[9 : text.index(b'"', 9)]
            if kind in self._awaited:
                _settle(self._awaited.pop(kind), text)

    def _closed(self, code: int | None) -> None:
        self._break(f"the socket was closed with {code}")

    def _break(self, why: str) -> None:
        """Whoever waits hears of it; whoever waits later, too."""
        self._fault = self._fault or why
        for future in (*self._awaited.values(), self._all_heard):
            if future is not None and not future.done():
                future.set_exception(BenchError(why))
                future.exception()  # there may be nobody who waits

    def _next(self, kind: bytes) -> "asyncio.Future[bytes]":
        awaited = self._awaited[kind] = self._loop.create_future()
        return awaited

    async def _until(self, future: "asyncio.Future[T]", what: str) -> T:
        if self._fault is not None and not future.done():
            raise BenchError(self._fault)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await future
        except TimeoutError:
            raise BenchError(f"no {what} within {ANSWER_TIMEOUT_S:.0f} s, and {len(self.events)} events") from None


def _settle(future: "asyncio.Future[T]", value: T) -> None:
    if not future.done():
        future.set_result(value)

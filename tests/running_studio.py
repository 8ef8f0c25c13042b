"""A studio that runs for a test, and people who use it as programs do: real HTTP, real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx2
import websockets
from websockets.asyncio.client import ClientConnection, connect

from server.ai.adapter import Model
from server.app import Parts, make_app
from server.protocol.codec import encode, parse
from server.protocol.frames import SUBPROTOCOL
from server.protocol.ids import new_id
from server.serving import Server, uvicorn_config
from server.settings import Settings
from server.storage.database import Database
from server.storage.database_identity import recognise

ANSWER_TIMEOUT_S = 10.0
PASSWORD = "correct horse battery"

Frame = dict[str, Any]


@dataclass
class RunningStudio:
    """`parts` are at hand for what no client can see."""

    parts: Parts
    port: int
    stack: AsyncExitStack
    people: list["Person"] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def person(self, name: str, role: str = "member") -> "Person":
        """Somebody with an account and an access token."""
        user = await self.parts.studio.accounts.create_user(name, PASSWORD, role)
        person = Person(self.port, user.id, name)
        await self.stack.enter_async_context(person)
        await person.sign_in()
        self.people.append(person)
        return person


@asynccontextmanager
async def run_studio(
    database: Database, *, models: Sequence[Model] | None = None, **settings: Any
) -> AsyncIterator[RunningStudio]:
    """A whole studio in this event loop, on a free port of the loopback address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    listener.setblocking(False)
    parts = Parts(Settings(**{"rate_limits": False, **settings}), database, models)
    await recognise(database)  # a copy of a template, and no restored backup
    await parts.open()
    server = Server(uvicorn_config(parts.settings, make_app(parts)))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.002)
    try:
        async with AsyncExitStack() as stack:
            yield RunningStudio(parts, listener.getsockname()[1], stack)
    finally:
        for connection in parts.hub.connections():
            connection.end(1012, "the test is over")
        server.should_exit = True
        await serving
        await parts.close()


def http_client(port: int) -> httpx2.AsyncClient:
    """Without what takes a seventh of a second to make and is for others: certificates, proxies."""
    address = f"http://127.0.0.1:{port}"
    return httpx2.AsyncClient(base_url=address, timeout=ANSWER_TIMEOUT_S, verify=False, trust_env=False)


class Person:
    """A program with an access token: `get`, `post` … over HTTP, `socket()` for frames."""

    def __init__(self, port: int, user_id: str, name: str, password: str = PASSWORD) -> None:
        self.id = user_id
        self.name = name
        self.password = password
        self.port = port
        self.token = ""
        self.http = http_client(port)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.aclose()

    async def sign_in(self) -> None:
        form = {"grant_type": "password", "username": self.name, "password": self.password}
        answer = await self.http.post("/api/auth/token", data=form)
        assert answer.status_code == 200, answer.text
        self.token = answer.json()["access_token"]
        self.http.headers["authorization"] = f"Bearer {self.token}"

    async def call(self, method: str, path: str, body: object = None, *, expect: int | None = None, **more: Any) -> Any:
        """The answer's JSON; `expect` is the status it must have."""
        content = None if body is None else encode(body)
        headers = {**more.pop("headers", {}), **({"content-type": "application/json"} if content is not None else {})}
        answer = await self.http.request(method, path, content=content, headers=headers, **more)
        if expect is not None:
            assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    async def room(self, title: str = "a room", **more: Any) -> str:
        """A new room of mine."""
        made = await self.call("POST", "/api/conversations", {"kind": "room", "title": title, **more}, expect=201)
        identifier: str = made["id"]
        return identifier

    @asynccontextmanager
    async def socket(self, path: str = "/ws", *conversations: str) -> AsyncIterator["Socket"]:
        """An open socket past its `welcome`, subscribed to `conversations` from their heads."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with connect(
            f"ws://127.0.0.1:{self.port}{path}", additional_headers=headers,
            subprotocols=[websockets.Subprotocol(SUBPROTOCOL)], max_size=None, max_queue=None, compression=None,
            ping_interval=None,
        ) as connection:  # fmt: skip
            opened = Socket(connection)
            opened.welcome = await opened.wait_for(lambda frame: frame["type"] == "welcome")
            if conversations:
                await opened.subscribe(dict.fromkeys(conversations))
            yield opened


class Socket:
    """Frames out and in: all that came is in `seen`; waiting for one takes it and leaves the others."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.seen: list[Frame] = []
        self.welcome: Frame = {}
        self._untaken: list[Frame] = []

    async def send(self, frame_type: str, **fields: Any) -> str:
        """Send one frame; its id (a new one unless given)."""
        frame_id: str = fields.setdefault("id", new_id())
        await self.connection.send(encode({"type": frame_type, **fields}).decode())
        return frame_id

    async def send_raw(self, text: str | bytes) -> None:
        await self.connection.send(text)

    async def ask(self, frame_type: str, **fields: Any) -> Frame:
        """Send, and wait for the answer that carries the same id."""
        frame_id = await self.send(frame_type, **fields)
        return await self.wait_for(
            lambda frame: frame.get("id") == frame_id and frame["type"] in ("ack", "error", "subscribed", "pong")
        )

    async def subscribe(self, conversations: dict[str, Frame | None]) -> Frame:
        return await self.ask("subscribe", conversations=conversations)

    async def say(self, conversation: str, text: str, **fields: Any) -> Frame:
        """Send a message and wait for its `ack`."""
        answer = await self.ask("send", conversation=conversation, text=text, **fields)
        assert answer["type"] == "ack", answer
        return answer

    async def event(self, kind: str, **fields: Any) -> Frame:
        """Wait for the next event of this kind whose fields are as given."""
        return await self.wait_for(
            lambda frame: (
                frame["type"] == "event"
                and frame["kind"] == kind
                and all(frame[name] == value for name, value in fields.items())
            )
        )

    async def wait_for(self, wanted: Callable[[Frame], bool], timeout_s: float = ANSWER_TIMEOUT_S) -> Frame:
        """Take the first frame that fits; the others stay for whoever waits for them."""
        async with asyncio.timeout(timeout_s):
            at = 0
            while True:
                while at < len(self._untaken):
                    if wanted(self._untaken[at]):
                        return self._untaken.pop(at)
                    at += 1
                await self.receive()

    async def receive(self) -> Frame:
        frame = parse(str(await self.connection.recv()))
        assert isinstance(frame, dict)
        self.seen.append(frame)
        self._untaken.append(frame)
        return frame

    async def settle(self) -> None:
        """Everything the server sent before this call has arrived."""
        await self.ask("ping")

    def events(self, conversation: str) -> list[Frame]:
        return [frame for frame in self.seen if frame["type"] == "event" and frame["conversation"] == conversation]

    def of_type(self, frame_type: str) -> list[Frame]:
        return [frame for frame in self.seen if frame["type"] == frame_type]

    def forget(self) -> None:
        """Begin anew with what is seen and waited for."""
        self.seen.clear()
        self._untaken.clear()

    async def closed(self, timeout_s: float = ANSWER_TIMEOUT_S) -> int | None:
        """Read until the server closes; the close code."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    await self.receive()
        except websockets.ConnectionClosed:
            return self.connection.close_code

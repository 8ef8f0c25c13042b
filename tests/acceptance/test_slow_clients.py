"""A client that does not read hurts nobody, is not dropped for it, and in the end has everything, once and in order."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect

from server.gateway import connection as gateway_connection
from server.gateway import heartbeat, send_budget, websocket_protocol
from server.protocol.codec import parse
from tests.running_studio import Person, RunningStudio, Socket

MESSAGES = 400
TEXT = "x" * 15_000  # six megabytes in all: more than the kernel's buffers on both sides take


@asynccontextmanager
async def slow_socket(studio: RunningStudio, person: Person) -> AsyncIterator[ClientConnection]:
    """A socket with small buffers, which takes nothing that it is not asked to."""
    narrow = socket.create_connection(("127.0.0.1", studio.port))
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    async with connect(
        f"ws://127.0.0.1:{studio.port}/ws",
        sock=narrow,
        additional_headers={"Authorization": f"Bearer {person.token}"},
        max_size=None,
        max_queue=1,
        compression=None,
        ping_interval=None,
        close_timeout=0.5,
    ) as opened:
        yield opened


async def test_a_slow_reader_gets_everything_from_the_log_while_others_are_served(studio: RunningStudio) -> None:
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as hers, slow_socket(studio, ben) as slow:
        his = Socket(slow)
        await his.subscribe({room: None})
        for number in range(MESSAGES):
            await hers.send("send", conversation=room, text=f"{number} {TEXT}")
        await hers.wait_for(lambda frame: frame["type"] == "event" and frame["seq"] == MESSAGES, timeout_s=60)
        (behind,) = [c for c in studio.parts.hub.connections() if c.user_id == ben.id]
        assert behind.is_full
        got = [event["seq"] for event in his.events(room)]
        async with asyncio.timeout(60):
            while not got or got[-1] < MESSAGES:
                frame = parse(str(await slow.recv()))
                assert isinstance(frame, dict)
                if frame["type"] == "event":
                    got.append(frame["seq"])
        assert got == list(range(1, MESSAGES + 1))
        await hers.say(room, "and live again")
        assert "and live again" in str(await slow.recv())


async def test_what_is_unsent_is_bounded(studio: RunningStudio) -> None:
    """The server keeps at most its high-water mark and one tick for a socket that does not read."""
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as hers, slow_socket(studio, ben) as slow:
        await Socket(slow).subscribe({room: None})
        for number in range(100):
            await hers.say(room, f"{number} {TEXT}")
        (connection,) = [c for c in studio.parts.hub.connections() if c.user_id == ben.id]
        assert connection._socket.unsent <= 256 * 1024 + 2 * 16_000  # type: ignore[attr-defined]


async def test_a_socket_that_takes_nothing_for_a_minute_is_closed_and_one_that_drains_is_not(
    studio: RunningStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_connection, "MAX_SLOW_S", 1.0)
    monkeypatch.setattr(gateway_connection, "LOOK_EVERY_S", 0.5)
    monkeypatch.setattr(heartbeat, "HEARTBEAT_S", 0.5)
    await studio.parts.heartbeat.stop()
    studio.parts.heartbeat.start()
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room(members=[ben.id])
    async with ana.socket("/ws", room) as hers, slow_socket(studio, ben) as slow:
        await Socket(slow).subscribe({room: None})
        for number in range(100):
            await hers.send("send", conversation=room, text=f"{number} {TEXT}")
        await hers.wait_for(lambda frame: frame["type"] == "event" and frame["seq"] == 100, timeout_s=30)
        for _ in range(20):  # two seconds of reading a little: slow alone is no reason
            await slow.recv()
            await asyncio.sleep(0.1)
        assert studio.parts.hub.connection_count == 2
        async with asyncio.timeout(10):  # and then nothing at all
            while studio.parts.hub.connection_count > 1:
                await asyncio.sleep(0.05)


async def test_who_is_behind_before_the_first_event_is_known_to_be(
    studio: RunningStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket for one room that does not even take its `welcome`."""
    monkeypatch.setattr(websocket_protocol, "SEND_BUFFER_BYTES", 4 * 1024)
    monkeypatch.setattr(send_budget, "HIGH_WATER_BYTES", 16 * 1024)
    ana, ben = await studio.person("ana"), await studio.person("ben")
    for number in range(150):  # a welcome of more than all the buffers
        await ben.room(f"{number} ".ljust(100, "x"))
    room = await ana.room(members=[ben.id])
    with socket.socket() as narrow:
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024)
        narrow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(narrow, ("127.0.0.1", studio.port))
        upgrade = (
            f"GET /ws/room/{room} HTTP/1.1\r\nHost: 127.0.0.1:{studio.port}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Authorization: Bearer {ben.token}\r\n\r\n"
        )
        await loop.sock_sendall(narrow, upgrade.encode())
        async with ana.socket("/ws", room) as hers:
            async with asyncio.timeout(10):
                while not any(c.user_id == ben.id and c.follows(room) for c in studio.parts.hub.connections()):
                    await asyncio.sleep(0.01)
            (connection,) = [c for c in studio.parts.hub.connections() if c.user_id == ben.id]
            for number in range(30):
                await hers.say(room, f"{number} {TEXT}")
            assert connection.is_full
            assert connection._socket.unsent < 10 * len(TEXT)  # type: ignore[attr-defined]

"""Under a server without prepared frames the same promises hold, by plain ASGI `send`."""

import asyncio
import socket

import pytest
import uvicorn

from server import serving
from server.app import make_app
from server.gateway.websocket_protocol import prepare_frame, split_frames
from tests.running_studio import RunningStudio


async def test_the_same_conversation_over_uvicorns_own_protocol(studio: RunningStudio) -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    config = serving.uvicorn_config(studio.parts.settings, make_app(studio.parts))
    config.ws_protocol_class = None
    plain = uvicorn.Config(config.app, ws="websockets-sansio", lifespan="off", log_config=None, ws_ping_interval=None)
    server = serving.Server(plain)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    ana, ben = await studio.person("ana"), await studio.person("ben")
    room = await ana.room(members=[ben.id])
    ben.port = listener.getsockname()[1]
    while not server.started:
        await asyncio.sleep(0.01)
    async with ana.socket("/ws", room) as hers, ben.socket("/ws", room) as his:
        await hers.say(room, "prepared")
        await his.say(room, "plain " + "x" * 200)
        for reader in (hers, his):
            texts = [(await reader.event("message.created"))["data"]["text"][:8] for _ in range(2)]
            assert texts == ["prepared", "plain xx"]
        await his.connection.send(b"binary")
        assert await his.closed() == 1003
    server.should_exit = True
    await running


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536, 70_000])
def test_prepared_frames_can_be_taken_apart(length: int) -> None:
    payloads = [b"a" * length, b"", b"b" * 130]
    assert split_frames(b"".join(map(prepare_frame, payloads))) == payloads

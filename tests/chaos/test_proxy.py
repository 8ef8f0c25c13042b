"""What the proxy does to a connection, with an echo behind it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.chaos.proxy import Mode, Proxy, tcp
from tests.studio_process import free_port

PATIENCE_S = 10.0
QUIET_S = 0.2  # in which nothing may come


@asynccontextmanager
async def echo_behind_a_proxy() -> AsyncIterator[Proxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    behind, port = free_port(), free_port()
    server = await asyncio.start_server(echo, "127.0.0.1", behind)
    proxy = Proxy(tcp(behind))
    await proxy.open(port)
    try:
        yield proxy
    finally:
        await proxy.close()
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def caller(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def answer(reader: asyncio.StreamReader, size: int) -> bytes:
    return await asyncio.wait_for(reader.readexactly(size), PATIENCE_S)


async def test_it_passes_bytes_both_ways() -> None:
    async with echo_behind_a_proxy() as proxy, caller(proxy) as (reader, writer):
        sent = bytes(range(256)) * 4000
        writer.write(sent)
        assert await answer(reader, len(sent)) == sent


async def test_a_stall_holds_everything_and_lets_it_go_later() -> None:
    async with echo_behind_a_proxy() as proxy, caller(proxy) as (reader, writer):
        writer.write(b"one")
        await answer(reader, 3)
        proxy.set(Mode.STALL)
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), QUIET_S)
        proxy.set(Mode.PASS)
        assert await answer(reader, 3) == b"two"


async def test_a_reset_cuts_the_old_and_lets_in_no_new() -> None:
    async with echo_behind_a_proxy() as proxy, caller(proxy) as (reader, writer):
        writer.write(b"one")
        await answer(reader, 3)
        proxy.set(Mode.RESET)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), PATIENCE_S)
        async with caller(proxy) as (second, _):
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(second.read(1), PATIENCE_S)
        proxy.set(Mode.PASS)
        async with caller(proxy) as (third, talk):
            talk.write(b"two")
            assert await answer(third, 3) == b"two"


async def test_one_dead_link_leaves_the_others_alone() -> None:
    async with echo_behind_a_proxy() as proxy, caller(proxy) as (reader, writer), caller(proxy) as (second, talk):
        for read, write in ((reader, writer), (second, talk)):
            write.write(b"one")
            await answer(read, 3)
        next(iter(proxy.links)).is_dead = True
        writer.write(b"two")
        talk.write(b"two")
        assert await answer(second, 3) == b"two"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), QUIET_S)


async def test_delay_and_throttle_change_no_byte() -> None:
    async with echo_behind_a_proxy() as proxy, caller(proxy) as (reader, writer):
        proxy.set(Mode.DELAY, delay_s=0.05)
        writer.write(b"late")
        assert await answer(reader, 4) == b"late"
        proxy.set(Mode.THROTTLE, bytes_per_s=20_000)
        sent = bytes(range(200)) * 20
        writer.write(sent)
        assert await answer(reader, len(sent)) == sent


async def test_an_end_is_passed_on() -> None:
    async with echo_behind_a_proxy() as proxy, caller(proxy) as (reader, writer):
        writer.write(b"last")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b"last"

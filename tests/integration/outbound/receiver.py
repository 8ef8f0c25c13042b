"""Somebody to call: a real HTTP server on loopback, well behaved or not, as the path says.

/ok            200 with what came
/status/404    that status, with a Retry-After
/redirect      302 to /ok
/slow          the head at once, the body a byte at a time, for ever
/silent        takes the request and says nothing
/huge          a body without end
/reset         closes with a TCP reset in mid-answer
/nonsense      no HTTP
/cookie        sets one
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

CERTIFICATES = Path(__file__).parent / "certificates"
NAME = "hook.test"  # whom the certificate is made out to


@dataclass
class Receiver:
    port: int = 0
    heads: list[str] = field(default_factory=list)  # of every request that came, method and path first
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    names: list[str | None] = field(default_factory=list)  # asked for in TLS handshakes

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    (int(line[15:]) for line in head.lower().split("\r\n") if line[:15] == "content-length:"), 0
                )
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(length))
                await self._answer(head.split()[1], writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        match path.split("?")[0].split("/")[1:]:
            case ["status", status]:
                writer.write(f"HTTP/1.1 {status} No\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno".encode())
            case ["redirect"]:
                writer.write(b"HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n")
            case ["slow"]:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                while True:
                    writer.write(b"1\r\nx\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            case ["silent"]:
                await asyncio.sleep(3600)
            case ["huge"]:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                while True:
                    writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                    await writer.drain()
            case ["reset"]:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                await writer.drain()
                await asyncio.sleep(0.05)  # or else the answer's beginning would be thrown away with the rest
                socket_ = writer.get_extra_info("socket")
                socket_.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise ConnectionResetError
            case ["nonsense"]:
                writer.write(b"220 mail.example ESMTP\r\n\r\n")
            case ["cookie"]:
                writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: who=ana; Path=/\r\nContent-Length: 0\r\n\r\n")
            case _:
                body = self.bodies[-1]
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()


@asynccontextmanager
async def receiver(*, tls: bool = False) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATES / "hook.test.pem")
        context.sni_callback = lambda _, name, __: receiver.names.append(name)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(receiver.answer(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def trusting_tls() -> ssl.SSLContext:
    """Trusts the tests' own authority and nobody else."""
    return ssl.create_default_context(cafile=CERTIFICATES / "authority.pem")

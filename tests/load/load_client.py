"""The load client: the one of the peers' benchmark, with what a log of many rooms needs added before it is compiled.

In:   a `Load`: how many sockets say hello how, how many of them publish, and how fast.
Out:  an `Outcome`: what arrived, how late, and what it cost the server and Postgres while it was counted.
Promises: ours and the peers are measured by the same program. Every change to it is one of `CHANGES`, each anchored
to a line of its source that must be there exactly once.
"""

import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.load.client_changes import CHANGES
from tests.load.machine import children_of, cpu_seconds
from tests.load.processes import BenchError, Process, running, tail

CONNECT_TIMEOUT_S = 35.0  # once all have been asked for, the client itself waits 30 s
CONNECTS_PER_S = 300  # at least; an idle machine does thousands


@dataclass(frozen=True, slots=True)
class Load:
    """`in_flight` messages a publisher (a closed loop), or `rate_per_s` of all (an open one). `publish` and `hello`
    are templates.
    """

    port: int
    path: str
    sockets: int
    hello: Sequence[str] = ()
    ready_mark: str | None = None
    publish: str | None = None
    padding_bytes: int = 0
    publishers: int = 1
    in_flight: int = 0
    rate_per_s: int = 0
    seconds: float = 2.0
    warm_s: float = 0.4
    settle_s: float = 0.5
    hold_s: int = 0
    tokens: Path | None = None
    rooms: Path | None = None
    is_own_room: bool = False
    latency_of_last: bool = False
    pong: str | None = None
    beside_port: int | None = None  # of a second worker, for every second socket
    may_lose: int = 0  # sockets; a storm of them may find the database too busy for one or another

    def arguments(self) -> list[str]:
        words = ["-p", self.port, "-u", self.path, "-n", self.sockets, "-P", self.publishers, "-d", self.seconds,
                 "-w", self.warm_s, "-s", self.padding_bytes, "--settle", self.settle_s]  # fmt: skip
        for line in self.hello:
            words += ["--init", line]
        optional = {
            "--ready": self.ready_mark, "--pub": self.publish, "-W": self.in_flight, "-r": self.rate_per_s,
            "--hold": self.hold_s, "--keys": self.tokens, "--rooms": self.rooms, "--pong": self.pong,
            "--beside": self.beside_port,
        }  # fmt: skip
        for name, value in optional.items():
            if value:
                words += [name, value]
        if self.tokens is not None:
            words += ["--header", "Authorization: Bearer %K", "--subproto", "chat-studio.v1"]
        words += [flag for flag, is_on in (("--own", self.is_own_room), ("--last", self.latency_of_last)) if is_on]
        return [str(word) for word in words]


@dataclass(frozen=True, slots=True)
class Outcome:
    deliveries: int
    acks: int
    per_s: float
    server_cpu_s: float
    postgres_cpu_s: float
    client_cpu_s: float
    redis_cpu_s: float
    p50_ms: float
    p99_ms: float
    connect_s: float
    lost: int  # sockets

    @property
    def per_cpu_s(self) -> float:
        """Deliveries per second of the server's CPU, of all its workers together."""
        return self.deliveries / self.server_cpu_s if self.server_cpu_s else 0.0


@dataclass(slots=True)
class LoadClient:
    """`postmaster` is the Postgres whose CPU is reported beside the server's."""

    program: Path
    core: int
    log: Path
    postmaster: int
    on_counting: Callable[[], None] | None = field(default=None)

    def run(
        self,
        load: Load,
        server: int,
        *,
        second: int | None = None,
        redis: int | None = None,
        while_open: Callable[[], None] | None = None,
    ) -> Outcome:
        """`second` is the other worker's process. `while_open` is called when all sockets are open, and may take as
        long as they are held.
        """
        clocks = _Clocks([pid for pid in (server, second) if pid is not None], self.postmaster, redis)
        limit_s = (
            CONNECT_TIMEOUT_S + load.sockets / CONNECTS_PER_S + load.settle_s + load.warm_s + load.seconds + load.hold_s
        )
        with running([self.program, *load.arguments(), "--pid", str(server)], core=self.core, log=self.log) as process:
            watchdog = threading.Timer(limit_s, process.kill)
            watchdog.start()
            try:
                answer, spent = self._follow(process, clocks, while_open)
            finally:
                watchdog.cancel()
        lost = load.sockets - min(answer["alive"], answer["ready"])
        if lost > load.may_lose:
            raise BenchError(f"{lost} of {load.sockets} sockets were lost ({load.path}): {tail(self.log)}")
        if load.publish and not answer["deliveries"]:
            raise BenchError(f"nothing was delivered ({load.path}): {tail(self.log)}")
        return Outcome(
            deliveries=answer["deliveries"],
            acks=answer["acks"],
            per_s=answer["per_s"],
            server_cpu_s=spent.server,
            postgres_cpu_s=spent.postgres,
            redis_cpu_s=spent.redis,
            client_cpu_s=answer["client_cpu_s"],
            p50_ms=answer["p50_ms"],
            p99_ms=answer["p99_ms"],
            connect_s=answer["connect_s"],
            lost=lost,
        )

    def _follow(
        self, process: Process, clocks: "_Clocks", while_open: Callable[[], None] | None
    ) -> "tuple[dict[str, Any], _Spent]":
        assert process.stdout is not None
        began = _Spent(0.0, 0.0, 0.0)
        for line in process.stdout:
            said = json.loads(line)
            match said.get("phase"):
                case "open" if while_open is not None:
                    while_open()
                case "counting":
                    began = clocks.read()
                    if self.on_counting is not None:
                        self.on_counting()
                case None:
                    return said, clocks.read() - began
        raise BenchError(f"the load client ended early: {tail(self.log)}")


@dataclass(frozen=True, slots=True)
class _Spent:
    """Seconds of CPU."""

    server: float
    postgres: float
    redis: float

    def __sub__(self, earlier: "_Spent") -> "_Spent":
        return _Spent(self.server - earlier.server, self.postgres - earlier.postgres, self.redis - earlier.redis)


@dataclass(frozen=True, slots=True)
class _Clocks:
    servers: Sequence[int]
    postmaster: int
    redis: int | None

    def read(self) -> _Spent:
        # The server first: walking the processes of Postgres takes a millisecond.
        server = cpu_seconds(self.servers)
        redis = 0.0 if self.redis is None else cpu_seconds([self.redis])
        return _Spent(server, cpu_seconds([self.postmaster, *children_of(self.postmaster)]), redis)


def build(source: Path, into: Path) -> Path:
    """Compile the changed client; raises `BenchError` where its source is not the one we know."""
    text = source.read_text()
    for anchor, replacement in CHANGES:
        if text.count(anchor) != 1:
            raise BenchError(
                f"{source} has changed: {anchor!r} stands there {text.count(anchor)} times instead of once"
            )
        text = text.replace(anchor, replacement)
    code, program = into / "load_client.c", into / "load_client"
    code.write_text(text)
    try:
        made = subprocess.run(["cc", "-O2", "-w", "-o", program, code], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BenchError("a C compiler named cc is needed to build the load client") from None
    if made.returncode != 0:
        raise BenchError(f"the load client does not compile: {made.stderr[:500]}")
    return program

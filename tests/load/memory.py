"""Memory: of a studio that has just started, of a socket that says nothing, and of ten thousand of them."""

import http.client
import statistics
import time

from tests.load.load_client import Load
from tests.load.machine import cpu_seconds, rss_bytes
from tests.load.people import add_room
from tests.load.processes import BenchError, tail
from tests.load.setting import Setting, one_event
from tests.load.studio_process import Server
from tests.load.table import Row

MB = 1_000_000
KB = 1_000
SOCKETS = 10_000
STARTED_TARGET_MB = 90
SOCKET_TARGET_KB = 25
FULL_TARGET_MB = 350
HEALTH_TARGET_MS = 50
HOLD_S = 6  # the heartbeat looks at a twenty-fifth of all sockets each second: six of its steps
QUESTIONS = 100
PAUSE_S = 0.03


def measure(setting: Setting) -> list[Row]:
    sockets = SOCKETS // 5 if setting.is_quick else SOCKETS
    setting.tell("starting a studio")
    with setting.studio.serving(setting.cores.server) as server:
        people = setting.people(sockets)
        _serve_a_page(server)
        one_event(server, people[0], add_room(server.port, people[0]))
        time.sleep(1.0)  # the socket's goodbye
        started = rss_bytes(server.pid)
        answers_ms: list[float] = []
        held: list[int] = []
        spent_s = [cpu_seconds([server.pid])]

        def ask() -> None:
            spent_s.append(cpu_seconds([server.pid]) - spent_s[0])
            setting.tell(f"asking /healthz beside {sockets:,} sockets")
            answers_ms.extend(_answers_ms(server))
            held.append(rss_bytes(server.pid))

        setting.tell(f"opening {sockets:,} sockets")
        load = Load(
            server.port,
            "/ws",
            sockets,
            settle_s=1.0,
            warm_s=0,
            seconds=0.1,
            hold_s=HOLD_S,
            may_lose=sockets // 1000,
            tokens=setting.tokens(people),
        )
        outcome = setting.client.run(load, server.pid, while_open=ask)
    each = (held[0] - started) / sockets
    cpu_ms = 1e3 * spent_s[1] / sockets
    opening = f"{sockets / outcome.connect_s:,.0f} opened a second, {cpu_ms:.2f} ms of server CPU each"
    if outcome.lost:
        opening += f"; {outcome.lost} LOST: {tail(setting.client.log)}"
    return [
        _row("a started server, one page and one socket later: RSS", started / MB, STARTED_TARGET_MB, "MB"),
        _row(f"an idle authenticated socket, of {sockets:,} people", each / KB, SOCKET_TARGET_KB, "KB"),
        _row(f"{sockets:,} idle sockets: RSS", held[0] / MB, FULL_TARGET_MB, "MB", opening),
        _row(
            f"{sockets:,} idle sockets: /healthz, the latest of {QUESTIONS}", max(answers_ms), HEALTH_TARGET_MS, "ms",
            f"median {statistics.median(answers_ms):.1f} ms",
        ),
    ]  # fmt: skip


def _row(figure: str, value: float, target: float, unit: str, notes: str = "") -> Row:
    return Row(figure, f"{value:.1f} {unit}", target=f"<= {target:g} {unit}", is_met=value <= target, notes=notes)


def _serve_a_page(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise BenchError(f"the page answers {answer.status}; `make web` builds it")
    finally:
        connection.close()


def _answers_ms(server: Server) -> list[float]:
    """How long each of many questions takes, every one on a connection of its own."""
    taken = []
    for _ in range(QUESTIONS):
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        try:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        finally:
            connection.close()
        taken.append((time.perf_counter() - began) * 1e3)
        time.sleep(PAUSE_S)
    return taken

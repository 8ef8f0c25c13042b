"""What a running server tells of itself: its page of metrics, and whether it is ready."""

import http.client
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.load.processes import BenchError
from tests.load.studio_process import Server

ANSWER_TIMEOUT_S = 20.0  # in a storm
READY_TIMEOUT_S = 20.0
LAG = "chat_loop_lag_seconds_bucket"


@dataclass(frozen=True, slots=True)
class MetricsPage:
    samples: dict[str, float]  # by name with labels, as on the page

    @classmethod
    def of(cls, server: Server) -> "MetricsPage":
        status, body = _ask(server, "/metrics")
        if status != 200:
            raise BenchError(f"/metrics answers {status}")
        lines = [line.rpartition(" ") for line in body.splitlines() if not line.startswith("#")]
        return cls({name: float(value) for name, _, value in lines})

    def lag(self) -> dict[float, float]:
        """How many looks at the event loop found it at most so many seconds late."""
        return {
            float(name.partition('le="')[2].partition('"')[0]): value
            for name, value in self.samples.items()
            if name.startswith(LAG)
        }


@dataclass(frozen=True, slots=True)
class Lag:
    """What the event loop lagged from one page to another."""

    looks: int
    p99_s: float
    most_s: float  # a bound that no look was beyond

    @classmethod
    def between(cls, pages: Sequence[tuple[MetricsPage, MetricsPage]]) -> "Lag":
        """Between each page and the next of its pair, together."""
        up_to: Counter[float] = Counter()
        for before, after in pages:
            up_to.update(after.lag())
            up_to.subtract(before.lag())
        looks = up_to[float("inf")]
        if not looks:
            raise BenchError("nobody looked at the event loop meanwhile")
        most_s = min(bound for bound, count in up_to.items() if count == looks)
        return cls(int(looks), _quantile(dict(sorted(up_to.items())), 0.99 * looks), most_s)


def _quantile(up_to: dict[float, float], wanted: float) -> float:
    """Inside a bucket as if its looks were spread evenly."""
    below, below_count = 0.0, 0.0
    for bound, count in up_to.items():
        if count >= wanted:
            return (
                bound
                if bound == float("inf")
                else below + (bound - below) * (wanted - below_count) / (count - below_count)
            )
        below, below_count = bound, count
    return below


def wait_until_ready(server: Server) -> None:
    """Its bus included."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    body = ""
    while time.monotonic() < deadline:
        status, body = _ask(server, "/readyz")
        if status == 200:
            return
        time.sleep(0.05)
    raise BenchError(f"the server is not ready: {body}")


def _ask(server: Server, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()

"""The machine under the benchmark: its cores, what a process on it has used, and what to call it. Linux only.

Promises: CPU time is the scheduler's own account in nanoseconds where the kernel keeps one, else its ticks of 10 ms.
"""

import os
import platform
import resource
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

PROC = Path("/proc")
OPEN_FILES = 20_000  # ten thousand sockets, on either side, and room for the rest


@dataclass(frozen=True, slots=True)
class Cores:
    """The measured server has a core to itself; load, Postgres and the benchmark share another."""

    server: int
    others: int

    @property
    def are_apart(self) -> bool:
        return self.server != self.others


def take_cores() -> Cores:
    """Choose two cores, and move this process, with all it will start, to the second."""
    usable = sorted(os.sched_getaffinity(0))
    cores = Cores(usable[0], usable[1] if len(usable) > 1 else usable[0])
    os.sched_setaffinity(0, {cores.others})
    return cores


def raise_open_files() -> int:
    """Allow this process and its children as many open files as the machine grants, up to what is needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


def cpu_seconds(pids: Iterable[int]) -> float:
    return sum(_cpu_of(pid) for pid in pids)


def _cpu_of(pid: int) -> float:
    """Of all living threads of a process; 0 when it is gone."""
    with suppress(OSError):
        tasks = list((PROC / str(pid) / "task").iterdir())
        with suppress(OSError):
            return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def children_of(pid: int) -> list[int]:
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid:
                    found.append(int(entry.name))
    return found


def rss_bytes(pid: int) -> int:
    """The resident memory of a process."""
    pages = int((PROC / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def load_average() -> float:
    return os.getloadavg()[0]


def describe(cores: Cores, postgres_version: str) -> str:
    """One line for the head of the table."""
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    apart = f"server on core {cores.server}, load and Postgres on core {cores.others}"
    return "; ".join(
        [
            f"{_cpu_model()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB",
            apart if cores.are_apart else "ONE core for everything: the figures mean little",
            f"Linux {platform.release()}",
            f"Python {platform.python_version()}",
            f"PostgreSQL {postgres_version}",
            datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        ]
    )


def _cpu_model() -> str:
    with suppress(OSError):
        for line in (PROC / "cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.machine()

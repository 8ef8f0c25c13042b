"""Where the server's CPU goes while a load runs: py-spy samples it, and the functions with the largest shares are
told.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.load.load_client import LoadClient, Outcome
from tests.load.studio_process import Server

SAMPLE_S = 3
RATE_PER_S = 250
SHOWN = 20
EVERYWHERE = 0.95  # what is in nearly every sample is the way from `main` to the event loop


@dataclass
class Profiler:
    """Runs a load once more, beyond the counted ones: a sampled process is slower."""

    client: LoadClient
    folder: Path
    reports: list[str] = field(default_factory=list)

    def __call__(self, name: str, server: Server, load: Callable[[], Outcome]) -> None:
        raw = self.folder / f"{name.replace(' ', '-').replace(',', '')}.folded"
        samplers: list[subprocess.Popen[bytes]] = []
        self.client.on_counting = lambda: samplers.append(_sample(server.pid, raw))
        try:
            load()
        finally:
            self.client.on_counting = None
            for sampler in samplers:
                try:
                    sampler.wait(SAMPLE_S + 10)
                except subprocess.TimeoutExpired:
                    sampler.kill()
        self.reports.append(f"{name}\n{_shares(raw)}" if raw.exists() else f"{name}: py-spy gave nothing")


def no_profile(name: str, server: Server, load: Callable[[], Outcome]) -> None:
    """Unless asked for."""


def _sample(pid: int, raw: Path) -> "subprocess.Popen[bytes]":
    program = str(Path(sys.executable).with_name("py-spy"))
    command = [program, "record", "--pid", str(pid), "--duration", str(SAMPLE_S), "--rate", str(RATE_PER_S)]
    options = ["--format", "raw", "--output", str(raw), "--native", "--function"]
    return subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _shares(raw: Path) -> str:
    """Three views of the samples: C and system calls, functions with the C below them, functions with all they call."""
    native: Counter[str] = Counter()
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    total = 0
    for line in raw.read_text().splitlines():
        stack, _, number = line.rpartition(" ")
        frames, count = stack.split(";"), int(number)
        python = [frame for frame in frames if ".py:" in frame]
        total += count
        native[frames[-1]] += count
        own[python[-1] if python else "outside Python"] += count
        for frame in set(python):
            within[frame] += count
    below_all = Counter({frame: count for frame, count in within.items() if count < EVERYWHERE * total})
    lines = []
    for title, counter in (("itself", native), ("with the C below it", own), ("with all it calls", below_all)):
        lines.append(f"  {title}:")
        lines += [f"    {100 * count / total:5.1f} %  {frame}" for frame, count in counter.most_common(SHOWN)]
    return "\n".join(lines)

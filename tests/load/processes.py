"""Programs that the benchmark starts, and ends again by their pid, whatever happens in between."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

START_TIMEOUT_S = 20.0
END_TIMEOUT_S = 10.0

Process = subprocess.Popen[str]


class BenchError(Exception):
    """A measurement could not be made; the message says which and why."""


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    core: int,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Process]:
    """A program pinned to one core, its standard error in `log`; ended when the block is left."""
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=env,
            cwd=cwd,
        )
    try:
        with suppress(ProcessLookupError):
            os.sched_setaffinity(process.pid, {core})  # its threads are still to come, and will inherit it
        yield process
    finally:
        end(process)


def end(process: Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        process.send_signal(number)
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            continue
    if process.stdout is not None:
        process.stdout.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, process: Process, name: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchError(f"{name} ended at its start: {tail(log)}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise BenchError(f"{name} does not listen: {tail(log)}")


def tail(log: Path, length: int = 300) -> str:
    """The end of what a program said, in one line."""
    return " ".join(log.read_text(errors="replace")[-length:].split()) or "it said nothing"

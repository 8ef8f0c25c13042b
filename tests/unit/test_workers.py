"""The parent of several workers, with processes that are real and serve nothing: whatever happens at the same time, for
each number one of them is there, and after a stop none.
"""

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from server import workers
from server.settings import Settings
from tests.waiting import until

SLOW_S = 0.4
# Reads the database's address, is ready after a while, and ends with its input or by a signal.
LOOKS_LIKE_A_WORKER = f"read dsn; sleep {SLOW_S}; echo ready; exec cat > /dev/null"


class Processes:
    """Stands where processes are made: starts those above, or fails as an exhausted machine does."""

    def __init__(self) -> None:
        self.made: list[asyncio.subprocess.Process] = []
        self.failures: list[OSError] = []  # the next attempts end with these
        self._make = asyncio.create_subprocess_exec

    async def __call__(self, *_: str, pass_fds: list[int], **given: object) -> asyncio.subprocess.Process:
        if self.failures:
            raise self.failures.pop()
        pipe = asyncio.subprocess.PIPE
        process = await self._make(
            "sh",
            "-c",
            LOOKS_LIKE_A_WORKER,
            stdin=pipe,
            stdout=pipe,
            start_new_session=True,
            preexec_fn=_hear_interrupts,
        )
        self.made.append(process)
        return process

    def living(self) -> set[int]:
        return {process.pid for process in self.made if process.returncode is None}

    async def are(self, is_true: Callable[[set[int]], bool]) -> None:
        async def is_so() -> bool:
            return is_true(self.living())

        await until(is_so)


def _hear_interrupts() -> None:
    """A shell without job control starts `make test &` deaf to SIGINT, and all that it starts in turn."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    async def is_up_to_date(_: str) -> None:
        """There is no database here."""

    made = Processes()
    monkeypatch.setattr(asyncio, "create_subprocess_exec", made)
    monkeypatch.setattr(workers, "bring_up_to_date", is_up_to_date)
    monkeypatch.setattr(workers, "FIRST_PAUSE_S", 0.05)
    return made


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as bound:
        yield bound


@pytest.fixture
async def crew(processes: Processes, listener: socket.socket, tmp_path: Path) -> AsyncIterator[workers.Crew]:
    crew = workers.Crew(Settings(workers=2), "postgresql://nowhere", listener, tmp_path)
    await crew.start()
    yield crew
    await crew.stop()
    for process in processes.made:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("dies", [0, 1])
async def test_a_worker_that_dies_while_all_are_replaced_has_one_successor(
    crew: workers.Crew, processes: Processes, dies: int
) -> None:
    before = processes.living()
    os.kill(sorted(before)[dies], signal.SIGKILL)
    await processes.are(lambda _: len(processes.made) == 3)  # its successor starts
    crew.renew()
    assert crew._renewing is not None
    await crew._renewing
    await asyncio.sleep(2 * SLOW_S)  # whoever was about to start has done so
    assert len(processes.living()) == 2
    assert not processes.living() & before
    await crew.stop()
    assert processes.living() == set()


async def test_a_worker_that_could_not_be_forked_is_started_later(crew: workers.Crew, processes: Processes) -> None:
    processes.failures = [OSError(number, os.strerror(number)) for number in (errno.ENOMEM, errno.EAGAIN, errno.EMFILE)]
    os.kill(min(processes.living()), signal.SIGKILL)
    await processes.are(lambda living: not processes.failures and len(living) == 2)


async def test_a_replacement_that_cannot_be_forked_leaves_the_former_ones(
    crew: workers.Crew, processes: Processes
) -> None:
    before = processes.living()
    processes.failures = [OSError(errno.ENOMEM, "Cannot allocate memory")]
    crew.renew()
    assert crew._renewing is not None
    await crew._renewing
    assert processes.living() == before


@pytest.mark.parametrize("way", ["replaced", "dead"])
async def test_a_stop_ends_also_those_that_start(crew: workers.Crew, processes: Processes, way: str) -> None:
    if way == "replaced":
        crew.renew()
    else:
        os.kill(min(processes.living()), signal.SIGKILL)
    await processes.are(lambda _: len(processes.made) == 3)
    await crew.stop()
    assert processes.living() == set()
    crew.renew()
    await asyncio.sleep(2 * SLOW_S)
    assert processes.living() == set()


async def test_a_hangup_means_nothing_but_where_workers_can_be_replaced() -> None:
    code = (
        "import asyncio, os, signal\n"
        "from server.serving import Stop\n"
        "async def main():\n"
        "    stop, heard = Stop(), []\n"
        "    for stop.on_hangup in (None, lambda: heard.append(1)):\n"
        "        os.kill(os.getpid(), signal.SIGHUP)\n"
        "        await asyncio.sleep(0.1)\n"
        "    stop.has_started()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    await asyncio.sleep(0.1)\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    await asyncio.sleep(0.1)\n"
        "    print(len(heard))\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert (process.returncode, said) == (0, b"1\n")

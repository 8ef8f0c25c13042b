"""Postgres dies, stands still, or has no room left while people write: nothing is acknowledged that is not kept,
everybody hears a retryable reason in time, sockets stay open, and repeating the same ids brings everything in once."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.running_studio import Frame, Person, Socket
from tests.studio_process import StudioProcess, copy_data_dir, studio_on

ANSWER_S = 3.0  # promised: by then a send is refused while Postgres is away
SLACK_S = 1.0  # for a busy machine
BACK_TIMEOUT_S = 30.0
REFUSED = ("error", "unavailable", True)
T = TypeVar("T")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of Postgres in /proc")


async def test_a_killed_postgres_costs_no_acknowledged_message(started_studio: StudioProcess) -> None:
    ana, ben = await started_studio.people(["ana", "ben"])
    room = await ana.room(members=[ben.id])
    async with writing(ana, room) as hers, ben.socket("/ws", room) as his:
        asked = []
        for number in range(300):
            asked.append(hers.send(f"m{number}"))
            if number == 150:
                os.kill(started_studio.postmaster_pid(), signal.SIGKILL)
            await asyncio.sleep(0.001)
        answers = await asyncio.gather(*asked)
        assert {kind_of(answer) for answer in answers if answer["type"] != "ack"} == {REFUSED}
        acknowledged = {answer["id"]: answer["seq"] for answer in answers if answer["type"] == "ack"}
        for number in range(300):
            answer = await hers.until_acknowledged(f"m{number}")
            assert acknowledged.setdefault(answer["id"], answer["seq"]) == answer["seq"]
        await his.wait_for(lambda frame: frame["type"] == "event" and frame["seq"] == 300)
        events = his.events(room)
        assert [event["seq"] for event in events] == list(range(1, 301))
        assert {event["data"]["client_id"]: event["seq"] for event in events} == acknowledged
    assert (await started_studio.get("/readyz")).status_code == 200


@on_linux
async def test_a_postgres_that_stands_still_is_said_to_be_away(started_studio: StudioProcess) -> None:
    ana, ben = await started_studio.people(["ana", "ben"])
    room = await ana.room(members=[ben.id])
    names = [f"m{number}" for number in range(12)]
    async with writing(ana, room) as hers, ben.socket("/ws", room) as his:
        await hers.until_acknowledged("before")
        with standing_still(started_studio):
            path, draft = f"/api/conversations/{room}/messages", {"id": "over http", "text": "m"}
            sent, waited_s = await timed(asyncio.create_task(ana.http.post(path, json=draft)))
            assert (sent.status_code, sent.json()["code"]) == (503, "unavailable")
            assert waited_s < ANSWER_S + SLACK_S
            asked = []
            for name in names:  # some come while others wait
                asked.append(asyncio.create_task(timed(hers.send(name))))
                await asyncio.sleep(0.3)
            answers = await asyncio.gather(*asked)
            assert (await started_studio.get("/healthz")).status_code == 200
            ready = await started_studio.get("/readyz")
            assert (ready.status_code, ready.json()["problems"]) == (503, ["database"])
            over_http = await ana.http.get(f"/api/conversations/{room}")
            assert (over_http.status_code, over_http.json()["code"]) == (503, "unavailable")
            assert (await his.ask("ping"))["type"] == "pong"
        assert {kind_of(answer) for answer, _ in answers} == {REFUSED}
        assert max(waited_s for _, waited_s in answers) < ANSWER_S + SLACK_S, [round(s, 2) for _, s in answers]
        await until_ready(started_studio)
        for name in names:
            await hers.until_acknowledged(name)
        # What was committed after all, when nobody waited for it any more, is told with the repeat.
        await his.event("message.created", seq=len(names) + 1)
        assert sorted(event["data"]["text"] for event in his.events(room)) == sorted(["before", *names])


async def test_a_full_disk_refuses_and_loses_nothing(studio_on_a_small_disk: StudioProcess) -> None:
    studio = studio_on_a_small_disk
    (ana,) = await studio.people(["ana"])
    room = await ana.room()
    async with writing(ana, room) as hers, ana.socket("/ws", room) as watching:
        filler = fill(studio.data_dir)
        said = 0
        while (answer := await hers.send(f"m{said}", long_text(said)))["type"] == "ack":
            assert answer["seq"] == said + 1
            said += 1
            assert said < 2000, "the disk never filled"
        assert kind_of(answer) == REFUSED
        assert "no room" in answer["message"]
        filler.unlink()
        await until_ready(studio)
        assert (await hers.until_acknowledged(f"m{said}", long_text(said)))["seq"] == said + 1
        await watching.event("message.created", seq=said + 1)
        texts = [event["data"]["text"] for event in watching.events(room)]
        assert texts == [long_text(number) for number in range(said + 1)]


# -- people -----------------------------------------------------------------------------------------------------------


class Writer:
    """Many messages at once over one socket, which must stay open."""

    def __init__(self, socket: Socket, room: str) -> None:
        self._socket = socket
        self._room = room
        self._waiting: dict[str, asyncio.Future[Frame]] = {}

    def send(self, frame_id: str, text: str = "") -> "asyncio.Task[Frame]":
        """The answer to come."""
        return asyncio.create_task(self._send(frame_id, text or frame_id))

    async def _send(self, frame_id: str, text: str) -> Frame:
        answer = self._waiting[frame_id] = asyncio.get_running_loop().create_future()
        await self._socket.send("send", id=frame_id, conversation=self._room, text=text)
        return await asyncio.wait_for(answer, BACK_TIMEOUT_S)

    async def until_acknowledged(self, frame_id: str, text: str = "") -> Frame:
        """Repeat the same id as long as the answer says that it may help."""
        async with asyncio.timeout(BACK_TIMEOUT_S):
            while (answer := await self.send(frame_id, text))["type"] != "ack":
                assert kind_of(answer) == REFUSED
                await asyncio.sleep(0.1)
        return answer

    async def read(self) -> None:
        try:
            while True:
                frame = await self._socket.receive()
                if frame["type"] in ("ack", "error"):
                    self._waiting.pop(frame["id"]).set_result(frame)
        except Exception as error:
            for answer in self._waiting.values():
                answer.set_exception(error)
            raise


@asynccontextmanager
async def writing(person: Person, room: str) -> AsyncIterator[Writer]:
    async with person.socket() as socket:
        writer = Writer(socket, room)
        reading = asyncio.create_task(writer.read())
        yield writer
        assert not reading.done()
        reading.cancel()


async def timed(answer: "asyncio.Task[T]") -> tuple[T, float]:
    began = asyncio.get_running_loop().time()
    return await answer, asyncio.get_running_loop().time() - began


def kind_of(answer: Frame) -> tuple[str, str, bool]:
    return answer["type"], answer["code"], answer["retryable"]


def long_text(number: int) -> str:
    """Nothing that a database could make small."""
    return f"{number} {os.urandom(0).hex()}".ljust(16) + "".join(
        chr(0x4E00 + (number * 7919 + i * i) % 20_000) for i in range(4_000)
    )


# -- Postgres ---------------------------------------------------------------------------------------------------------


@contextmanager
def standing_still(studio: StudioProcess) -> Iterator[None]:
    """As on a machine whose disk hangs: every process is there, none answers."""
    postmaster = studio.postmaster_pid()
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    pids = [postmaster, *map(int, children)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def until_ready(studio: StudioProcess) -> None:
    async with asyncio.timeout(BACK_TIMEOUT_S):
        while (await studio.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.1)


@pytest.fixture
async def studio_on_a_small_disk(made_studio: Path, tmp_path: Path) -> AsyncIterator[StudioProcess]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not run("mount", "-t", "tmpfs", "-o", "size=128m", "test", disk):
        pytest.skip("NO TEST OF A FULL DISK: may not mount a small disk here")
    try:
        async with studio_on(copy_data_dir(made_studio, disk / "data")) as studio:
            studio.log = tmp_path / "studio.log"
            await studio.start()
            yield studio
    finally:
        assert run("umount", disk)


def run(*command: str | Path) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def fill(folder: Path) -> Path:
    with (folder / "filler").open("wb") as filler:
        filler.write(bytes(shutil.disk_usage(folder).free))
    return folder / "filler"


@on_linux
async def test_what_is_sent_behind_something_that_waits_is_refused_in_time_too(started_studio: StudioProcess) -> None:
    (ana,) = await started_studio.people(["ana"])
    room = await ana.room()
    async with ana.socket("/ws", room) as hers:
        with standing_still(started_studio):
            await hers.send("subscribe", id="waits", conversations={room: None})
            answer, waited_s = await timed(asyncio.create_task(hers.ask("send", conversation=room, text="m")))
            assert kind_of(answer) == REFUSED
            assert waited_s < ANSWER_S + SLACK_S
        await until_ready(started_studio)

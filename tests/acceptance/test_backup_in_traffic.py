"""A backup of a studio in which people are talking, put back elsewhere."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from server.protocol.ids import new_id
from tests.irc_replay import days, lines_of
from tests.running_studio import Frame, Person, Socket
from tests.studio_process import COMMAND, StudioProcess, clean_environment, run, studio_on

ROOMS, TALKERS = 3, 6
IN_FLIGHT = 8  # sends of one talker that have no answer yet
WAITED_FOR_S = 30.0


@dataclass
class Room:
    """What was acknowledged in it: seq → (id, text)."""

    id: str
    acknowledged: dict[int, tuple[str, str]] = field(default_factory=dict)
    epoch: str = ""

    @property
    def head(self) -> int:
        return max(self.acknowledged, default=0)


class Talk:
    """Everybody talks in every room until told to stop."""

    def __init__(self, people: list[Person], rooms: list[Room]) -> None:
        self.people, self.rooms = people, rooms
        self.count = 0
        self._ends = False
        self._lines = [text for _, text in lines_of(days()[0])] if days() else [f"line {n}" for n in range(1000)]

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._talk(person, number)) for number, person in enumerate(self.people)]
        try:
            yield
            self._ends = True
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _talk(self, person: Person, number: int) -> None:
        async with person.socket() as socket:
            for turn in count():
                if self._ends:
                    return
                batch = [
                    (self.rooms[(turn + n) % ROOMS], new_id(), self._line(number + turn + n)) for n in range(IN_FLIGHT)
                ]
                for room, frame_id, text in batch:
                    await socket.send("send", id=frame_id, conversation=room.id, text=text)
                for room, frame_id, text in batch:
                    await self._await_ack(socket, room, frame_id, text)

    async def _await_ack(self, socket: Socket, room: Room, frame_id: str, text: str) -> None:
        answer = await socket.wait_for(lambda frame: frame.get("id") == frame_id)
        assert answer["type"] == "ack", answer
        assert answer["seq"] not in room.acknowledged
        room.acknowledged[answer["seq"]] = (frame_id, text)
        self.count += 1

    def _line(self, number: int) -> str:
        return self._lines[number % len(self._lines)]

    async def until_said(self, wanted: int) -> None:
        async with asyncio.timeout(WAITED_FOR_S):
            while self.count < wanted:
                await asyncio.sleep(0.005)


async def test_a_backup_in_traffic_holds_all_that_was_acknowledged_before_it(
    started_studio: StudioProcess, tmp_path: Path
) -> None:
    people = await started_studio.people([f"talker-{n}" for n in range(TALKERS)])
    rooms = [await shared_room(people, f"room {n}") for n in range(ROOMS)]
    already = {room.id: await log_of(people[0], room.id) for room in rooms}
    talk, archive = Talk(people, rooms), tmp_path / "studio.tar"
    async with talk.going_on():
        await talk.until_said(300)
        before = {room.id: room.head for room in rooms}
        said_before = talk.count
        made = await run(str(COMMAND), "backup", str(archive), "--data-dir", str(started_studio.data_dir))
        assert made.code == 0, made.err
        await talk.until_said(talk.count + 100)
    assert talk.count > said_before + 100
    assert await started_studio.stop() == 0

    async with studio_on(tmp_path / "elsewhere") as restored:
        put_back = await run(str(COMMAND), "restore", str(archive), "--data-dir", str(restored.data_dir))
        assert put_back.code == 0, put_back.err
        await restored.start("--port", str(started_studio.port))
        for room in rooms:
            log = await log_of(people[0], room.id)  # with the token of before
            events = log["events"]
            assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
            assert before[room.id] <= len(events) <= room.head
            for event in events[len(already[room.id]["events"]) :]:
                acknowledged = room.acknowledged[event["seq"]]
                assert (event["data"]["client_id"], event["data"]["text"]) == acknowledged
            room.epoch = already[room.id]["epoch"]
            assert log["head"] == len(events)
        assert sum([(await log_of(people[0], room.id))["head"] < room.head for room in rooms]) > 0, "nobody was talking"
        await check_clients_come_back(people[1], rooms)


async def check_clients_come_back(person: Person, rooms: list[Room]) -> None:
    """Whatever they have seen, they load it anew; what they repeat is stored once."""
    async with person.socket() as socket:
        for seq in (1, max(room.head for room in rooms)):
            answer = await socket.subscribe({room.id: {"seq": seq, "epoch": room.epoch} for room in rooms})
            assert all(answer["conversations"][room.id]["reset"] for room in rooms)
            assert all(answer["conversations"][room.id]["epoch"] != room.epoch for room in rooms)
            await socket.ask("unsubscribe", conversations=[room.id for room in rooms])
        for room in rooms:
            page = await log_of(person, room.id)
            answer = await socket.subscribe({room.id: {"seq": page["head"], "epoch": page["epoch"]}})
            assert not answer["conversations"][room.id]["reset"]
            said = await socket.say(room.id, "and we go on")
            assert said["seq"] == page["head"] + 1


async def test_a_cursor_from_before_a_restore_is_reset_and_one_from_before_a_restart_is_not(
    started_studio: StudioProcess, tmp_path: Path
) -> None:
    [ana] = await started_studio.people(["ana"])
    room = await ana.room()
    async with ana.socket("/ws", room) as socket:
        for n in range(5):
            await socket.say(room, f"line {n}")
    cursor = {"seq": 3, "epoch": (await log_of(ana, room))["epoch"]}
    archive = tmp_path / "studio.tar"
    data_dir = ["--data-dir", str(started_studio.data_dir)]
    made = await run(str(COMMAND), "backup", str(archive), *data_dir)
    assert made.code == 0, made.err

    refused = await run(str(COMMAND), "restore", str(archive), "--force", *data_dir)
    assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
    assert "a studio is running on this database" in refused.err

    await started_studio.stop()
    await started_studio.start()
    async with ana.socket() as socket:
        answer = await socket.subscribe({room: cursor})
        assert not answer["conversations"][room]["reset"]

    await started_studio.stop()
    replaced = await run(str(COMMAND), "restore", str(archive), "--force", *data_dir)
    assert replaced.code == 0, replaced.err
    await started_studio.start()
    async with ana.socket() as socket:
        answer = await socket.subscribe({room: cursor})
        assert answer["conversations"][room]["reset"]
        assert answer["conversations"][room]["head"] == 5


async def test_a_restore_killed_at_any_moment_leaves_the_old_studio_or_the_new_one(
    started_studio: StudioProcess, tmp_path: Path
) -> None:
    [ana] = await started_studio.people(["ana"])
    room = await ana.room()
    archive, data_dir = tmp_path / "studio.tar", started_studio.data_dir
    async with ana.socket("/ws", room) as socket:
        await socket.say(room, "in the backup")
        made = await run(str(COMMAND), "backup", str(archive), "--data-dir", str(data_dir))
        assert made.code == 0, made.err
        await socket.say(room, "after the backup")
    await started_studio.stop()
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    moments = random.Random(seed)
    for limit_s in (0.5, 0.8, 1.1, 1.4, 1.7):
        killed = await asyncio.create_subprocess_exec(
            str(COMMAND), "restore", str(archive), "--force", "--data-dir", str(data_dir), env=clean_environment({}),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        with suppress(TimeoutError):
            await asyncio.wait_for(killed.wait(), limit_s - 0.3 * moments.random())
        with suppress(ProcessLookupError):
            killed.kill()
        await killed.wait()
        await started_studio.start("--port", str(ana.port))
        texts = [event["data"]["text"] for event in (await log_of(ana, room))["events"]]
        assert texts in (["in the backup", "after the backup"], ["in the backup"])
        await started_studio.stop()
        if len(texts) == 1:
            break


async def test_a_backup_that_has_no_room_or_is_killed_leaves_no_file(
    started_studio: StudioProcess, tmp_path: Path
) -> None:
    """A file may grow to 16 KB here, as on a full disk."""
    [ana] = await started_studio.people(["ana"])
    room = await ana.room()
    async with ana.socket("/ws", room) as socket:
        for _ in range(4):
            await socket.say(room, secrets.token_urlsafe(9000))
    folder = tmp_path / "backups"
    folder.mkdir()
    command = f"exec {COMMAND} backup {folder}/studio.tar --data-dir {started_studio.data_dir}"
    full = await run("sh", "-c", f"ulimit -f 32; {command}")  # blocks of 512 bytes
    assert full.code == 2
    assert full.err == "chat-studio: the backup was not made: File too large\n"
    assert names_in(folder) == []
    killed = await asyncio.create_subprocess_exec("sh", "-c", command, env=clean_environment({}))
    async with asyncio.timeout(WAITED_FOR_S):
        while not names_in(folder):
            await asyncio.sleep(0.001)
    killed.kill()
    await killed.wait()
    assert "studio.tar" not in names_in(folder)
    made = await run("sh", "-c", command)
    assert made.code == 0, made.err
    assert names_in(folder) == ["studio.tar"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["backup", "{tmp}/b.tar", "--data-dir", "{tmp}/nowhere"], "there is no studio in"),
        (["backup", "{tmp}/no/such/folder/b.tar", "--data-dir", "{made}"], "No such file or directory"),
        (["backup", "{tmp}", "--data-dir", "{made}"], "is a directory"),
        (["backup", "{tmp}/there.tar", "--data-dir", "{made}"], "--force replaces it"),
        (["restore", "{tmp}/none.tar", "--data-dir", "{tmp}/new"], "there is no file"),
        (["restore", "{tmp}/there.tar", "--data-dir", "{tmp}/new"], "no backup of Chat Studio"),
        (["upgrade-data", "--data-dir", "{tmp}/nowhere"], "there is no studio in"),
    ],
)
async def test_what_cannot_be_done_is_one_line(
    made_studio: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    (tmp_path / "there.tar").write_text("precious")
    places = {"tmp": str(tmp_path), "made": str(made_studio)}
    ended = await run(str(COMMAND), *(argument.format(**places) for argument in arguments))
    assert ended.code == 2
    assert ended.err.startswith("chat-studio: ")
    assert ended.err.count("\n") == 1, ended.err
    assert reason in ended.err
    assert names_in(tmp_path) == ["there.tar"]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def shared_room(people: list[Person], title: str) -> Room:
    return Room(await people[0].room(title, members=[person.id for person in people[1:]]))


async def log_of(person: Person, room: str) -> Frame:
    """The whole log, page by page."""
    whole: Frame = {"events": []}
    while True:
        page: Frame = await person.call(
            "GET", f"/api/conversations/{room}/events?after={len(whole['events'])}&limit=1000", expect=200
        )
        whole = {**page, "events": [*whole["events"], *page["events"]]}
        if not page["events"]:
            return whole

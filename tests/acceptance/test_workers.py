"""Several workers on one port, with a real Redis between them: one studio, and nobody notices how many."""

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from server.client import Entry, Studio
from server.protocol.events import MessageCreated
from tests.redis_server import RedisServer
from tests.running_studio import Person, Socket
from tests.studio_process import StudioProcess, studio_on

WORKERS = 3
PATIENCE_S = 60.0  # for what takes a second or two on an idle machine
CROWD = 9


@pytest.fixture(scope="module")
async def crew(
    redis_is_here: None, shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[StudioProcess]:
    folder = tmp_path_factory.mktemp("workers")
    async with studio_on(folder / "data", REDIS_URL=f"redis://127.0.0.1:{shared_redis.port}/7") as studio:
        await studio.start("--port", str(studio.port), "--workers", str(WORKERS))
        yield studio


def workers_of(studio: StudioProcess) -> set[int]:
    listed = subprocess.run(["pgrep", "-P", str(studio.pid), "-f", "server worker"], capture_output=True, text=True)
    return {int(pid) for pid in listed.stdout.split()}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until_there_are(studio: StudioProcess, but: Iterable[int] = ()) -> set[int]:
    """All workers, and none of `but`, each of which answers."""
    async with asyncio.timeout(PATIENCE_S):
        while (
            len(found := workers_of(studio)) != WORKERS
            or found & set(but)
            or await labels_of(studio) != {"1", "2", "3"}
        ):
            await asyncio.sleep(0.1)
    return found


async def labels_of(studio: StudioProcess) -> set[str]:
    page = (await studio.get("/metrics")).text
    return set(re.findall(r'chat_connections\{worker="(\d)"\}', page))


async def crowd_in(studio: StudioProcess, name: str) -> tuple[str, list[Person]]:
    people = await studio.people([f"{name}-{n}" for n in range(CROWD)])
    return await people[0].room(name, members=[person.id for person in people[1:]]), people


async def test_members_on_different_workers_see_every_message_in_the_same_order(crew: StudioProcess) -> None:
    room, people = await crowd_in(crew, "spread")
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(person.socket("/ws", room)) for person in people]
        page = (await crew.get("/metrics")).text
        busy = [n for n in re.findall(r'chat_connections\{worker="\d"\} (\S+)', page) if float(n) > 0]
        assert len(busy) > 1, "all sockets came to one worker: this run proves nothing"
        first = int((await people[0].call("GET", f"/api/conversations/{room}"))["head"])
        await asyncio.gather(*(say_five(socket, room) for socket in sockets))
        seen = []
        for socket in sockets:
            await socket.event("message.created", seq=first + 5 * CROWD)
            seen.append([(event["seq"], event["data"]["text"]) for event in socket.events(room)])
        assert [seq for seq, _ in seen[0]] == list(range(first + 1, first + 5 * CROWD + 1))
        assert all(one == seen[0] for one in seen)


async def say_five(socket: Socket, room: str) -> None:
    for number in range(5):
        await socket.say(room, f"{number}")


async def test_a_worker_that_dies_is_started_again_and_its_people_come_back(crew: StudioProcess) -> None:
    before = await until_there_are(crew)
    await traffic_during(crew, "kill", lambda: kill_one(crew, before))
    await until_there_are(crew)


async def kill_one(crew: StudioProcess, workers: set[int]) -> None:
    os.kill(min(workers), signal.SIGKILL)
    await asyncio.sleep(1.0)


async def test_workers_are_replaced_in_turn_without_a_break_and_answers_go_on(crew: StudioProcess) -> None:
    before = await until_there_are(crew)
    room, people = await crowd_in(crew, "answers")
    async with people[0].socket("/ws", room) as socket:
        await socket.say(room, "what happens to an answer while its worker is replaced?")
        runs = [await socket.ask("run", conversation=room) for _ in range(3)]
        assert all(run["type"] == "ack" for run in runs)

        async def renew() -> None:
            crew.tell(signal.SIGHUP)
            await until_there_are(crew, but=before)

        await traffic_during(crew, "replacing", renew)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            messages = (await people[0].call("GET", f"/api/conversations/{room}/messages"))["messages"]
            statuses = [message["run"]["status"] for message in messages if message["run"]]
            if len(statuses) == len(runs) and "running" not in statuses:
                break
            await asyncio.sleep(0.1)
    assert statuses == ["finished"] * len(runs)


async def traffic_during(crew: StudioProcess, name: str, act: Callable[[], Awaitable[None]]) -> None:
    """People talk while `act` goes on; afterwards everybody has everything, once and in order."""
    room, people = await crowd_in(crew, name)
    said: list[str] = []
    seen: dict[str, list[tuple[int, str]]] = {person.name: [] for person in people}
    is_over = asyncio.Event()

    async def listen(studio: Studio, person: Person) -> None:
        async for item in (await studio.conversation(room)).events():
            if isinstance(item, Entry) and isinstance(item.data, MessageCreated):
                seen[person.name].append((item.seq, item.data.text))

    async def talk(studio: Studio, person: Person) -> None:
        mine, number = await studio.conversation(room), 0
        while not is_over.is_set():
            text = f"{person.name} {number}"
            await mine.send(text)
            said.append(text)
            number += 1
            await asyncio.sleep(0.02)

    async with AsyncExitStack() as stack:
        studios = [await stack.enter_async_context(Studio(crew.url, token=person.token)) for person in people]
        tasks = [asyncio.create_task(listen(s, p)) for s, p in zip(studios, people, strict=True)]
        await asyncio.sleep(0.5)  # everybody listens
        talking = [asyncio.create_task(talk(s, p)) for s, p in zip(studios, people, strict=True)]
        await asyncio.sleep(0.5)
        await act()
        is_over.set()
        await asyncio.wait_for(asyncio.gather(*talking), PATIENCE_S)
        async with asyncio.timeout(PATIENCE_S):
            while any(len(mine) < len(said) for mine in seen.values()):
                await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    reference = seen[people[0].name]
    assert sorted(text for _, text in reference) == sorted(said), "lost or doubled"
    assert [seq for seq, _ in reference] == sorted({seq for seq, _ in reference})
    for mine in seen.values():
        assert mine == reference


async def test_workers_whose_parent_is_killed_end_by_themselves(redis_server: RedisServer, tmp_path: Path) -> None:
    async with studio_on(tmp_path / "data", REDIS_URL=redis_server.url) as studio:
        await studio.start("--port", str(studio.port), "--workers", "2")
        workers = workers_of(studio)
        assert len(workers) == 2
        await studio.kill()
        async with asyncio.timeout(PATIENCE_S):
            while any(map(is_alive, workers)):
                await asyncio.sleep(0.1)


async def test_a_stop_of_the_parent_ends_everything_in_time(redis_server: RedisServer, tmp_path: Path) -> None:
    async with studio_on(tmp_path / "data", REDIS_URL=redis_server.url) as studio:
        await studio.start("--port", str(studio.port), "--workers", "2")
        workers = workers_of(studio)
        [person] = await studio.people(["ana"])
        room = await person.room()
        async with person.socket("/ws", room) as socket:
            await socket.say(room, "before")
            studio.tell(signal.SIGTERM)
            assert await socket.closed() == 1012
            assert any(frame["type"] == "drain" for frame in socket.seen)
        assert await studio.ended() == 0
        assert not any(map(is_alive, workers))
        assert not studio.runs_postgres()

"""A crowd that talks: people in rooms, each with a device, saying real lines of IRC at a steady rate.

In:   a cluster, and how many people, rooms and messages a second.
Out:  the history of everybody, and what the database holds at the end.
Promises: which act comes next depends on the seed alone. Texts are real lines of #ubuntu where those are at hand. Every
room has an owner who stays; others are shown the door now and then, and let in again.
"""

import asyncio
import random
import secrets
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import httpx2

from server.storage.database import Database
from tests.chaos import snapshot
from tests.chaos.cluster import Cluster
from tests.chaos.device import Device
from tests.chaos.history import Granted, History, Revoked, now
from tests.chaos.recorder import Asked
from tests.irc_replay import days, lines_of
from tests.running_studio import Person
from tests.studio_process import make_people

ROOMS_A_PERSON = 3
HTTP_TIMEOUT_S = 8.0
KICK_EVERY = 40  # acts
AWAY_S = 1.5  # between being shown the door and being let in again
# What people do, in hundredths.
SEND, EDIT, REACT, DELETE = 86, 6, 6, 2
SETTLE_POLL_S = 0.02
DOING_TIMEOUT_S = 60.0

PLAIN_LINES = ["hello there", "does anyone know why sound is gone after the upgrade?", "try alsamixer; ünïcode ✓", "ok"]


@dataclass(frozen=True, slots=True)
class Size:
    people: int
    rooms: int
    rate_per_s: float


FULL = Size(50, 10, 200.0)
SMALL = Size(10, 3, 50.0)


def irc_is_here() -> bool:
    return bool(days())


class Crowd:
    def __init__(self, cluster: Cluster, size: Size, seed: int) -> None:
        self.cluster = cluster
        self.size = size
        self.history = History()
        self.rng = random.Random(seed)
        self.rooms: list[snapshot.Room] = []
        self.devices: list[Device] = []
        self.people: list[Person] = []
        self.is_over = False
        self.through_front = False  # whether people reach their worker by way of its front proxy
        self.may_kick = True
        self._busy: tuple[snapshot.Room, ...] = ()  # the rooms where the crowd talks
        self._by_room: dict[str, list[Device]] = {}
        self._spoken: list[tuple[Device, Asked]] = []
        self._living: list[asyncio.Task[None]] = []
        self._talking: asyncio.Task[None] | None = None
        self._doing: set[asyncio.Task[None]] = set()
        texts = [text for day in days()[:1] for _, text in lines_of(day)] or PLAIN_LINES
        self._lines = cycle(texts)
        self._http: dict[int, httpx2.AsyncClient] = {}

    # Coming together

    async def gather(self) -> None:
        """Make accounts and rooms, and wait until every device stands in its rooms."""
        await self._make_people()
        for number in range(self.size.rooms):
            inside = [p for n, p in enumerate(self.people) if (n - number) % self.size.rooms < ROOMS_A_PERSON]
            await self.make_room(inside, f"room {number}")
        self._busy = tuple(self.rooms)
        for number, person in enumerate(self.people):
            self.add_device(person, number)
        await self.until(self.all_are_here, 30.0)

    async def _make_people(self) -> None:
        database = Database(self.cluster.postgres.dsn)
        await database.open()
        try:
            tag = secrets.token_hex(4)  # unlike the seed: the database outlives this crowd
            names = [f"c{tag}-{number}" for number in range(self.size.people)]
            self.people = await make_people(database, self.cluster.workers[0].port, names)
        finally:
            await database.close()

    async def make_room(self, people: Sequence[Person], title: str) -> snapshot.Room:
        owner, *others = people
        body = {"kind": "room", "title": title, "members": [person.id for person in others]}
        answer = await self._client(self._a_running_worker()).post(
            "/api/conversations", json=body, headers={"authorization": f"Bearer {owner.token}"}
        )
        assert answer.status_code == 201, answer.text
        room = snapshot.Room(answer.json()["id"], frozenset(person.id for person in people))
        self.rooms.append(room)
        return room

    def add_device(self, person: Person, home: int, name: str | None = None) -> Device:
        device = Device(
            name or person.name, person.id, person.token, self.ports, home, self.history,
            random.Random(self.rng.random()),
        )  # fmt: skip
        for room in self.rooms:
            if person.id in room.members:
                self._by_room.setdefault(room.id, []).append(device)
        self.devices.append(device)
        self._living.append(asyncio.create_task(device.live()))
        return device

    def ports(self) -> list[int]:
        return [worker.front.port if self.through_front else worker.port for worker in self.cluster.workers]

    def all_are_here(self) -> bool:
        return all(device.is_here or device.is_out for device in self.devices)

    # Talking

    def begin(self) -> None:
        self._talking = asyncio.create_task(self._talk())

    async def _talk(self) -> None:
        """An open loop: whoever answers slowly does not slow us down. A pause of ours is made up for, to a second."""
        loop = asyncio.get_running_loop()
        due, acts = loop.time(), 0
        while True:
            due = max(due + 1 / self.size.rate_per_s, loop.time() - 1.0)
            await asyncio.sleep(due - loop.time())
            acts += 1
            if acts % KICK_EVERY == 0 and self.may_kick:
                self._do(self._show_the_door_and_let_in())
            self._act()

    def _act(self) -> None:
        room = self.rng.choice(self._busy)
        there = [device for device in self._by_room[room.id] if room.id in device.seen and not device.is_out]
        if not there:
            return
        device = self.rng.choice(there)
        drawn = self.rng.randrange(100)
        about = self._something_said_in(room.id)
        if drawn < SEND or about is None:
            self._spoken.append((device, device.ask("send", room.id, text=next(self._lines))))
            del self._spoken[:-200]
            return
        author, asked = about
        if drawn < SEND + EDIT:
            author.ask("edit", room.id, message=asked.message, text=next(self._lines))
        elif drawn < SEND + EDIT + REACT:
            device.ask("react", room.id, message=asked.message, emoji=self.rng.choice("👍🎉🐧"), on=True)
        else:
            author.ask("delete", room.id, message=asked.message)

    def _something_said_in(self, room: str) -> tuple[Device, Asked] | None:
        known = [(d, a) for d, a in self._spoken[-50:] if a.room == room and a.message and room in d.seen]
        return self.rng.choice(known) if known else None

    async def _show_the_door_and_let_in(self) -> None:
        room = self.rng.choice(self._busy)
        owner, *others = [device for device in self._by_room[room.id] if not device.is_out]
        others = [device for device in others if room.id in device.seen and device.user != owner.user]
        if not others:
            return
        guest = self.rng.choice(others)
        if await self.kick(owner, guest, room.id):
            await asyncio.sleep(AWAY_S)
            self.history.add(Granted(now(), guest.name, room.id))
            while not await self._call(owner, "PUT", f"/api/conversations/{room.id}/members/{guest.user}"):
                await asyncio.sleep(0.3)

    async def kick(self, owner: Device, guest: Device, room: str, worker: int | None = None) -> bool:
        """Whether it was acknowledged."""
        is_done = await self._call(owner, "DELETE", f"/api/conversations/{room}/members/{guest.user}", worker)
        if is_done:
            self.history.add(Revoked(now(), guest.name, room))
        return is_done

    async def log_out(self, device: Device, worker: int | None = None) -> bool:
        is_done = await self._call(device, "POST", "/api/auth/logout", worker)
        if is_done:
            for each in self.devices:
                if each.token == device.token:  # one sign-in, several devices
                    each.is_revoked = True
                    self.history.add(Revoked(now(), each.name))
        return is_done

    async def _call(self, device: Device, method: str, path: str, worker: int | None = None) -> bool:
        if worker is None:
            worker = self._a_running_worker()
        content = b"{}" if method == "PUT" else None
        headers = {"authorization": f"Bearer {device.token}", "content-type": "application/json"}
        try:
            answer = await self._client(worker).request(method, path, content=content, headers=headers)
        except httpx2.HTTPError:
            return False
        return bool(answer.status_code < 300)

    async def metrics_of(self, worker: int) -> str:
        return (await self._client(worker).get("/metrics")).text

    def _client(self, worker: int) -> httpx2.AsyncClient:
        if worker not in self._http:
            address = f"http://127.0.0.1:{self.cluster.workers[worker].port}"
            self._http[worker] = httpx2.AsyncClient(
                base_url=address, timeout=HTTP_TIMEOUT_S, verify=False, trust_env=False
            )
        return self._http[worker]

    def _a_running_worker(self) -> int:
        running = [worker.number for worker in self.cluster.workers if worker.is_running]
        return self.rng.choice(running or [0])

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)

    # Ending

    async def hush(self) -> None:
        """Nothing new is said; who was shown the door is let in first."""
        if self._talking is not None:
            self._talking.cancel()
            await asyncio.gather(self._talking, return_exceptions=True)
        await asyncio.wait_for(asyncio.gather(*self._doing), DOING_TIMEOUT_S)

    async def settle(self, timeout_s: float) -> str:
        """Wait until everything is answered and everybody has seen everything. What is left when the time is up."""
        heads: dict[str, int] = {}
        rooms_of: dict[str, set[str]] = {}

        def lacks(device: Device) -> str:
            if device.is_out:
                return "" if device.is_revoked else f"was thrown out: {device.why_out} "
            due = device.seen.keys() | rooms_of.get(device.user, set())
            behind = {room: device.seen.get(room) for room in due if device.seen.get(room, -1) < heads.get(room, 0)}
            return (
                ("" if device.is_here else "is not there ")
                + (f"waits for {len(device.pending)} answers " if device.pending else "")
                + (f"is behind in {behind} " if behind else "")
            )

        async def wait() -> None:
            async with self.cluster.postgres.connection() as connection:
                while True:
                    rows = await connection.fetch(_STANDING, [room.id for room in self.rooms])
                    rooms_of.clear()
                    for room, head, user in rows:
                        heads[room] = head
                        rooms_of.setdefault(user, set()).add(room)
                    if not any(lacks(device) for device in self.devices if not device.is_out):
                        return  # who is out does not come back
                    await asyncio.sleep(SETTLE_POLL_S)

        with suppress(TimeoutError):
            await asyncio.wait_for(wait(), timeout_s)
        return "; ".join(f"{device.name} {lack}" for device in self.devices if (lack := lacks(device)))

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(SETTLE_POLL_S)

    async def disperse(self) -> None:
        """Write down who was there at the end, and go."""
        for device in self.devices:
            device.end()
        for task in (*self._living, *self._doing):
            task.cancel()
        await asyncio.gather(*self._living, *self._doing, return_exceptions=True)
        for person in self.people:
            await person.http.aclose()
        for client in self._http.values():
            await client.aclose()

    async def snapshot(self) -> snapshot.Snapshot:
        async with self.cluster.postgres.connection() as connection:
            return await snapshot.take(connection, self.rooms)


_STANDING = """
    SELECT h.conversation::text, h.last_seq, m.user_id::text
    FROM heads h JOIN memberships m ON m.conversation = h.conversation WHERE h.conversation = ANY($1)
"""

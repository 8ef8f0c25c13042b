"""A day of a real IRC channel, said again over real sockets: each nickname a person with a socket of their own.

In:   the lines of the day, and people to say them.
Out:  what each of them saw, and what was acknowledged.
Promises: a person sends their lines in order without waiting for answers, reads everything, and after a lost
connection comes back with their cursor and repeats what was not acknowledged, with the same ids: what the interface
asks of a client.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect

from server.protocol.codec import encode
from server.protocol.ids import new_id
from tests.running_studio import Frame, Person

LOGS = Path(__file__).resolve().parents[2] / "shared" / "data" / "chat" / "ubuntu-irc"
SAID = re.compile(r"\[\d\d:\d\d\] <([^>]+)> ?(.*)$")
ACTED = re.compile(r"\[\d\d:\d\d\]\s+\* ?(\S+) ?(.*)$")
RETRY_S = 0.05  # how soon somebody knocks again while the server is away
COME_BACK_TIMEOUT_S = 30.0


def days() -> list[Path]:
    return sorted(LOGS.glob("*.raw.txt"))


def lines_of(day: Path) -> list[tuple[str, str]]:
    """(nickname, text) in the order of the log; what joins, leaves and empty lines said is left out."""
    said = []
    for line in day.read_bytes().decode("utf-8", errors="replace").split("\n"):
        found = SAID.match(line) or ACTED.match(line)
        if found and found[2]:
            said.append((found[1], found[2]))
    return said


@dataclass(slots=True)
class Line:
    """Something to say. `seq` is where it stands, once that was acknowledged."""

    text: str
    id: str = field(default_factory=new_id)
    seq: int | None = None


class Decoder:
    """Reads each frame once for all who get the same bytes; `events` are the bytes of every event that anybody saw."""

    def __init__(self) -> None:
        self.events: dict[str, Frame] = {}

    def read(self, text: str) -> Frame:
        frame = self.events.get(text)
        if frame is None:
            frame = json.loads(text)
            assert isinstance(frame, dict)
            if frame["type"] == "event":
                self.events[text] = frame
        return frame


class Talker:
    """One nickname."""

    def __init__(self, person: Person, room: str, epoch: str, decoder: Decoder, in_flight: asyncio.Semaphore) -> None:
        self.person = person
        self.lines: list[Line] = []
        self.seen: list[str] = []  # the bytes of each event: `seen[n]` has the seq n + 1
        self.drains: list[int] = []
        self.closes: list[int | None] = []
        self.repeated = 0
        self.is_here = False
        self._room = room
        self._epoch = epoch
        self._decoder = decoder
        self._in_flight = in_flight
        self._by_id: dict[str, Line] = {}
        self._has_more = asyncio.Event()
        self._moved = asyncio.Event()

    def say(self, text: str) -> None:
        line = Line(text)
        self.lines.append(line)
        self._by_id[line.id] = line
        self._has_more.set()

    async def live(self) -> None:
        """Until cancelled: connected, and connected again."""
        while True:
            with suppress(OSError, EOFError, websockets.ConnectionClosed, websockets.InvalidHandshake, TimeoutError):
                async with connect(
                    f"ws://127.0.0.1:{self.person.port}/ws/room/{self._room}", compression=None, ping_interval=None,
                    additional_headers={"Authorization": f"Bearer {self.person.token}"}, max_queue=None,
                    open_timeout=COME_BACK_TIMEOUT_S,
                ) as socket:  # fmt: skip
                    await self._talk(socket)
            await asyncio.sleep(self.drains[-1] / 1000 if self.closes and self.closes[-1] == 1012 else RETRY_S)

    async def _talk(self, socket: ClientConnection) -> None:
        cursor = {"seq": len(self.seen), "epoch": self._epoch}
        await socket.send(encode({"type": "subscribe", "id": new_id(), "conversations": {self._room: cursor}}).decode())
        await self._until_subscribed(socket)
        self.is_here = True
        writing = asyncio.create_task(self._write(socket))
        try:
            async for text in socket:
                self._take(self._decoder.read(str(text)), str(text))
            raise websockets.ConnectionClosedOK(None, None)  # `async for` ends quietly on 1000 and 1001
        except websockets.ConnectionClosed:
            self.closes.append(socket.close_code)
            raise
        finally:
            self.is_here = False
            writing.cancel()
            with suppress(asyncio.CancelledError, websockets.ConnectionClosed):
                await writing

    async def _until_subscribed(self, socket: ClientConnection) -> None:
        """A bound socket is live from the head at once; what comes before our cursor's answer comes again after it."""
        while True:
            frame = json.loads(await socket.recv())
            if frame["type"] == "subscribed":
                answer = frame["conversations"][self._room]
                assert answer["reset"] is False, answer
                return

    async def _write(self, socket: ClientConnection) -> None:
        position = 0
        self.repeated += sum(line.seq is None for line in self.lines)
        while True:
            while position < len(self.lines):
                line = self.lines[position]
                position += 1
                if line.seq is None:
                    await socket.send(encode({"type": "send", "id": line.id, "text": line.text}).decode())
            self._has_more.clear()
            await self._has_more.wait()

    def _take(self, frame: Frame, text: str) -> None:
        match frame["type"]:
            case "event":
                assert frame["seq"] == len(self.seen) + 1, (
                    f"{self.person.name} has {len(self.seen)}, then {frame['seq']}"
                )
                self.seen.append(text)
                self._moved.set()
            case "ack":
                line = self._by_id[frame["id"]]
                assert line.seq in (None, frame["seq"]), "two acknowledgements of one message differ"
                if line.seq is None:
                    line.seq = frame["seq"]
                    self._in_flight.release()
                    self._moved.set()
            case "drain":
                self.drains.append(frame["reconnect_in_ms"])
            case "error":
                raise AssertionError(frame)

    async def until_seen(self, head: int) -> None:
        """Everything said is acknowledged, and everything up to `head` is here."""
        while len(self.seen) < head or any(line.seq is None for line in self.lines):
            self._moved.clear()
            await self._moved.wait()


class Replay:
    """A day in a room. `say_some` may be called while the server comes and goes."""

    def __init__(self, lines: list[tuple[str, str]], people: list[Person], max_in_flight: int) -> None:
        self.lines = lines
        self.decoder = Decoder()
        self.talkers: dict[str, Talker] = {}
        self.room = ""
        self.said = 0
        self._people = people
        self._in_flight = asyncio.Semaphore(max_in_flight)
        self._living: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        first, *others = self._people
        draft = {"kind": "room", "title": "#ubuntu", "members": [person.id for person in others]}
        made = await first.call("POST", "/api/conversations", draft, expect=201)
        self.room = made["id"]
        for name, person in zip(names_in(self.lines), self._people, strict=True):
            self.talkers[name] = Talker(person, self.room, made["epoch"], self.decoder, self._in_flight)
        self._living = [asyncio.create_task(talker.live()) for talker in self.talkers.values()]

    async def say_some(self, count: int) -> None:
        """The next lines of the day, as fast as acknowledgements come back."""
        for nickname, text in self.lines[self.said : self.said + count]:
            await self._guarded(self._in_flight.acquire())
            self.talkers[nickname].say(text)
            self.said += 1

    async def until_all_are_here(self) -> None:
        """Who stays away for more than a thousand events is told to begin anew, which is no matter of a replay."""
        async with asyncio.timeout(COME_BACK_TIMEOUT_S):
            while not all(talker.is_here for talker in self.talkers.values()):
                await asyncio.sleep(0.02)

    async def finish(self) -> None:
        """The rest of the day; returns when everybody has seen everything."""
        await self.say_some(len(self.lines) - self.said)
        await self._guarded(asyncio.gather(*(t.until_seen(len(self.lines)) for t in self.talkers.values())))

    async def _guarded(self, waiting: Any) -> None:
        """Wait, but not for what a broken talker will never bring."""
        task = asyncio.ensure_future(waiting)
        await asyncio.wait([task, *self._living], timeout=COME_BACK_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        for living in self._living:
            if living.done():
                task.cancel()
                living.result()
        assert task.done(), self._standing()
        task.result()

    def _standing(self) -> str:
        missing = {n: len(t.seen) for n, t in self.talkers.items() if len(t.seen) < self.said}
        silent = sum(line.seq is None for t in self.talkers.values() for line in t.lines)
        return f"said {self.said} of {len(self.lines)}, {silent} without an answer, behind: {missing}"

    async def close(self) -> None:
        for task in self._living:
            task.cancel()
        await asyncio.gather(*self._living, return_exceptions=True)

    # What must hold at the end

    def check(self) -> None:
        """Every member saw every message once, in the same order, byte for byte; each nickname's own order is kept."""
        reference, *others = self.talkers.values()
        assert len(reference.seen) == len(self.lines) == len(set(reference.seen)) == len(self.decoder.events)
        for talker in others:
            assert talker.seen == reference.seen, (
                f"{talker.person.name} and {reference.person.name} saw different things"
            )
        events = [self.decoder.events[text] for text in reference.seen]
        assert [event["seq"] for event in events] == list(range(1, len(self.lines) + 1))
        told: dict[str, list[tuple[str, str, int]]] = {talker.person.id: [] for talker in self.talkers.values()}
        for event in events:
            assert event["kind"] == "message.created"
            told[event["actor"]["id"]].append((event["data"]["client_id"], event["data"]["text"], event["seq"]))
        for nickname, talker in self.talkers.items():
            sent = [text for name, text in self.lines if name == nickname]
            assert [line.text for line in talker.lines] == sent
            # The order sent, each once, where its acknowledgement said.
            assert told[talker.person.id] == [(line.id, line.text, line.seq) for line in talker.lines]

    async def check_stored(self) -> None:
        """The log and the messages, read over HTTP, are what was seen on the sockets."""
        reference = next(iter(self.talkers.values()))
        seen = [self.decoder.events[text] for text in reference.seen]
        assert [event async for event in _pages(reference.person, self.room, "events")] == seen
        stored = [message async for message in _pages(reference.person, self.room, "messages")]
        assert [(m["id"], m["text"], m["seq"], m["actor"]) for m in stored] == [
            (event["data"]["id"], event["data"]["text"], event["seq"], event["actor"]) for event in seen
        ]


async def _pages(person: Person, room: str, what: str) -> Any:
    after = 0
    while page := (await person.call("GET", f"/api/conversations/{room}/{what}?after={after}&limit=200", expect=200))[
        what
    ]:
        for entry in page:
            yield entry
        after = page[-1]["seq"]


def names_in(lines: list[tuple[str, str]]) -> Iterator[str]:
    """Each nickname once, in the order in which they first speak."""
    return iter(dict.fromkeys(nickname for nickname, _ in lines))


def usernames_for(lines: list[tuple[str, str]]) -> list[str]:
    """Names of accounts: IRC tells `Ann` from `ann`, the studio does not, and some hold what no name here may."""
    return [f"{number}-{re.sub(r'[^A-Za-z0-9._-]', '_', name)}"[:32] for number, name in enumerate(names_in(lines))]

"""A crowd whose sockets are all reset at once, and who come back as sensible clients do. A process of its own.

In:   a file (see `storm.py`) with the port, people with tokens, rooms and the address each comes from, and those who
talk. SIGUSR1 is a storm; SIGUSR2 ends the talk, and the process with it.
Out:  a line of JSON when everybody follows everything, after each storm, and at the end.
Promises: a guest is whole again once it has every event up to the head that its `subscribed` named, which was read
after it had come back. Holes and repeated events are counted, always; at the end nobody may lack anything.
"""

import asyncio
import json
import random
import re
import resource
import secrets
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop

from server.client.link import OPENING_S
from tests.chaos.light_socket import LightSocket, NotLetIn
from tests.load.machine import raise_open_files

JITTER_S = 1.0  # what the interface asks of clients
TURNED_AWAY_S = 1.0  # where the refusal names no time
OPEN_TOGETHER = 50  # handshakes under way while the crowd gathers; the storm has no such limit
MESSAGES_PER_S = 20
TEXT = "what was being talked about when all of a sudden everybody had to leave the room for a moment or two"
STORM_TIMEOUT_S = 60.0
END_TIMEOUT_S = 10.0
EVENT = re.compile(rb'\{"type":"event","conversation":"([0-9a-f-]{36})","seq":(\d+),')


Tally = Counter[str]  # what happened to the crowd since the last line: refused, failed, errors, resets, holes, doubles


class Guest:
    """One person with one socket."""

    __slots__ = ("_cursors", "_epochs", "_is_welcome", "_port", "_source", "_tally", "_targets", "_task", "_token",
                 "rooms", "socket", "whole")  # fmt: skip

    def __init__(self, port: int, person: dict[str, Any], tally: Tally) -> None:
        self.rooms: list[str] = person["rooms"]
        self.socket: LightSocket | None = None
        self.whole = asyncio.Event()
        self._port = port
        self._token: str = person["token"]
        self._source: str | None = person["source"]
        self._tally = tally
        self._cursors: dict[bytes, int] = {}
        self._epochs: dict[str, str] = {}
        self._targets: dict[bytes, int] = {}  # what it lacks, until it is whole
        self._is_welcome = False
        self._task: asyncio.Task[None] | None = None

    async def come(self, jitter_s: float) -> None:
        """Until it is let in."""
        await asyncio.sleep(random.random() * jitter_s)
        while self.socket is None:
            self._is_welcome = False
            try:
                self.socket = await LightSocket.open(
                    self._port, self._token, self._hear, self._closed, source=self._source, timeout_s=OPENING_S
                )
            except NotLetIn as refusal:
                self._tally["refused"] += 1
                await asyncio.sleep((refusal.retry_after_s or TURNED_AWAY_S) + random.random() * JITTER_S)
            except (OSError, TimeoutError) as error:
                self._tally["failed"] += 1
                self._tally[f"failed by {type(error).__name__}"] += 1
                await asyncio.sleep(TURNED_AWAY_S + random.random() * JITTER_S)
        self._subscribe()

    def _subscribe(self) -> None:
        if self.socket is None or not self._is_welcome:
            return
        wanted: dict[str, Any] = dict.fromkeys(self.rooms)
        for room, epoch in self._epochs.items():
            wanted[room] = {"seq": self._cursors[room.encode()], "epoch": epoch}
        self.socket.send(json.dumps({"type": "subscribe", "id": "s", "conversations": wanted}).encode())

    def reset(self) -> None:
        self.whole.clear()
        if self.socket is not None:
            self.socket.reset()

    def _closed(self, code: int | None) -> None:
        if self.socket is not None:  # else `come` is still trying
            self.socket = None
            self.whole.clear()
            self._task = asyncio.create_task(self.come(JITTER_S))

    def _hear(self, text: bytes) -> None:
        if found := EVENT.match(text):
            self._take(found[1], int(found[2]))
        elif text.startswith(b'{"type":"subscribed"'):
            self._subscribed(json.loads(text)["conversations"])
        elif text.startswith(b'{"type":"welcome"'):
            self._is_welcome = True
            self._subscribe()
        elif text.startswith(b'{"type":"error"'):
            self._refused(json.loads(text))

    def _refused(self, error: dict[str, Any]) -> None:
        self._tally["errors"] += 1
        self._tally[f"errors {error['code']}"] += 1
        socket, pause_s = self.socket, error.get("retry_after_s", TURNED_AWAY_S) + random.random() * JITTER_S

        def again() -> None:
            if self.socket is socket:  # a new one has asked by itself
                self._subscribe()

        asyncio.get_running_loop().call_later(pause_s, again)

    def _take(self, room: bytes, seq: int) -> None:
        have = self._cursors.get(room, 0)
        if seq <= have:
            self._tally["doubles"] += 1
            return
        self._tally["holes"] += seq > have + 1
        self._cursors[room] = seq
        if seq >= self._targets.get(room, sys.maxsize):
            del self._targets[room]
            if not self._targets:
                self.whole.set()

    def _subscribed(self, answers: dict[str, dict[str, Any]]) -> None:
        for room, answer in answers.items():
            key, head = room.encode(), answer["head"]
            if answer["reset"] or room not in self._epochs:
                self._tally["resets"] += answer["reset"]
                self._cursors[key] = head
            self._epochs[room] = answer["epoch"]
            if self._cursors[key] < head:
                self._targets[key] = head
            else:
                self._targets.pop(key, None)
        if not self._targets:
            self.whole.set()

    def lacks(self, heads: dict[bytes, int]) -> bool:
        return any(seq < heads[room] for room, seq in self._cursors.items())

    def note(self, heads: dict[bytes, int]) -> None:
        for room, seq in self._cursors.items():
            heads[room] = max(heads.get(room, 0), seq)


class Talkers:
    """Twenty messages a second, by people whom the storm does not touch."""

    def __init__(self, port: int, people: list[dict[str, Any]]) -> None:
        self._port = port
        self._people = people
        self._batch = secrets.token_hex(15)
        self.sent = self.acks = self.refused = 0

    async def open(self) -> list[LightSocket]:
        return [
            await LightSocket.open(self._port, person["token"], self._hear, lambda _: None) for person in self._people
        ]

    async def talk(self) -> None:
        """For ever, in turns; each in the rooms it owns, one after the other."""
        sockets = await self.open()
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            await asyncio.sleep(began + self.sent / MESSAGES_PER_S - loop.time())
            turn, who = divmod(self.sent, len(sockets))
            rooms = self._people[who]["rooms"]
            frame = {
                "type": "send",
                "id": f"{self._batch}-{self.sent}",
                "conversation": rooms[turn % len(rooms)],
                "text": TEXT,
            }
            sockets[who].send(json.dumps(frame).encode())
            self.sent += 1

    def _hear(self, text: bytes) -> None:
        self.acks += text.startswith(b'{"type":"ack"')
        self.refused += text.startswith(b'{"type":"error"')


class Crowd:
    def __init__(self, port: int, people: list[dict[str, Any]], talkers: list[dict[str, Any]]) -> None:
        self._tally = Tally()
        self._guests = [Guest(port, person, self._tally) for person in people]
        self._talkers = Talkers(port, talkers)
        self._is_over = asyncio.Event()
        self._storms: asyncio.Queue[float] = asyncio.Queue()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, lambda: self._storms.put_nowait(loop.time()))
        loop.add_signal_handler(signal.SIGUSR2, self._is_over.set)
        await self._gather()
        talking = asyncio.create_task(self._talkers.talk())
        _say("open", self._take_tally())
        storming = asyncio.create_task(self._storm_when_told())
        over = asyncio.create_task(self._is_over.wait())
        await asyncio.wait([talking, storming, over], return_when=asyncio.FIRST_COMPLETED)
        for task in (talking, storming):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task  # its failure is ours
        await self._settle()

    def _take_tally(self) -> dict[str, Any]:
        taken = dict(self._tally)
        self._tally.clear()
        return taken

    async def _gather(self) -> None:
        together = asyncio.Semaphore(OPEN_TOGETHER)

        async def come(guest: Guest) -> None:
            async with together:
                await guest.come(0.0)
                await guest.whole.wait()

        await asyncio.gather(*map(come, self._guests))

    async def _storm_when_told(self) -> None:
        while True:
            await self._storms.get()
            _say("storm", await self._storm())

    async def _storm(self) -> dict[str, Any]:
        self._tally.clear()
        loop = asyncio.get_running_loop()
        began, cpu_s = loop.time(), _cpu_s()
        for guest in self._guests:
            guest.reset()
        reset_in_s = time.monotonic() - began
        times: list[float] = []

        async def wait(guest: Guest) -> None:
            await guest.whole.wait()
            times.append(loop.time() - began)

        waiting = [asyncio.create_task(wait(guest)) for guest in self._guests]
        await asyncio.wait(waiting, timeout=STORM_TIMEOUT_S)
        for task in waiting:
            task.cancel()
        elapsed_s = loop.time() - began
        return self._take_tally() | {
            "times": sorted(times), "lost": len(self._guests) - len(times), "reset_in_s": reset_in_s,
            "elapsed_s": elapsed_s, "cpu_s": _cpu_s() - cpu_s,
        }  # fmt: skip

    async def _settle(self) -> None:
        """Nobody may lack what somebody else has."""
        loop = asyncio.get_running_loop()
        until = loop.time() + END_TIMEOUT_S
        while True:
            heads: dict[bytes, int] = {}
            for guest in self._guests:
                guest.note(heads)
            lacking = sum(guest.lacks(heads) for guest in self._guests)
            unanswered = self._talkers.sent - self._talkers.acks - self._talkers.refused
            if loop.time() > until or not (lacking or unanswered):
                break
            await asyncio.sleep(0.1)
        said = {"lacking": lacking, "sent": self._talkers.sent, "acks": self._talkers.acks}
        _say("end", self._take_tally() | said)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _say(phase: str, what: dict[str, Any]) -> None:
    print(json.dumps({"phase": phase, **what}), flush=True)


async def _main(given: dict[str, Any]) -> None:
    await Crowd(given["port"], given["people"], given["talkers"]).run()


if __name__ == "__main__":
    raise_open_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(json.loads(Path(sys.argv[1]).read_text())))

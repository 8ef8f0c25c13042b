"""What every part of the benchmark works with, and how our own rooms are put under load."""

import asyncio
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from websockets.sync.client import connect

from server.protocol.ids import new_id
from tests.load.client_changes import MARK, STAMP_LENGTH
from tests.load.load_client import Load, LoadClient, Outcome
from tests.load.machine import Cores
from tests.load.peers import PADDING, TEXT_LENGTH
from tests.load.people import Person, add_people, add_room, write_lines
from tests.load.studio_process import Server, Studio

ANSWER_TIMEOUT_S = 10.0
ID_PREFIX_BYTES = 15  # with the running number an id is about as long as the UUID that a real client makes


@dataclass(frozen=True, slots=True)
class Setting:
    studio: Studio
    client: LoadClient
    cores: Cores
    bench: Path  # the peers' folder
    work_dir: Path
    is_quick: bool
    churn_minutes: float
    tell: Callable[[str], None]
    profile: Callable[[str, Server, Callable[[], Outcome]], None]

    def rounds(self, count: int) -> range:
        return range(1 if self.is_quick else count)

    def people(self, count: int) -> list[Person]:
        return asyncio.run(add_people(self.studio.dsn, count))

    def tokens(self, people: Sequence[Person]) -> Path:
        return write_lines(self.work_dir / f"tokens-{secrets.token_hex(4)}", [person.token for person in people])


@dataclass(frozen=True, slots=True)
class CrowdedRoom:
    """One room and everybody in it, each with a socket of their own."""

    server: Server
    room: str
    tokens: Path
    sockets: int
    payload_bytes: int  # of the event of a message of the length that is measured

    def load(self, *, in_flight: int = 0, rate_per_s: int = 0, seconds: float) -> Load:
        return Load(
            self.server.port, "/ws", self.sockets, hello=[subscribe(self.room)], ready_mark='"subscribed"',
            publish=send(self.room), padding_bytes=PADDING, in_flight=in_flight, rate_per_s=rate_per_s, seconds=seconds,
            tokens=self.tokens, latency_of_last=rate_per_s > 0,
        )  # fmt: skip


def crowd(setting: Setting, server: Server, size: int) -> CrowdedRoom:
    people = setting.people(size)
    room = add_room(server.port, people[0], people)
    payload_bytes = len(one_event(server, people[0], room))
    return CrowdedRoom(server, room, setting.tokens(people), size, payload_bytes)


def subscribe(room: str) -> str:
    """A frame of the load client's language; `room` may be its word for the room of each connection."""
    return f'{{"type":"subscribe","id":"s","conversations":{{"{room}":null}}}}'


def send(room: str) -> str:
    """Every load has ids of its own: a repeated one would get the first answer back and deliver nothing."""
    frame_id = f"{secrets.token_hex(ID_PREFIX_BYTES)}-%S"
    return f'{{"type":"send","id":"{frame_id}","conversation":"{room}","text":"{MARK}%T%P"}}'


def one_event(server: Server, person: Person, room: str) -> bytes:
    """Send one message as the load client does, and return the event's bytes."""
    headers = {"Authorization": f"Bearer {person.token}"}
    frame_id, text = new_id(), MARK + "0" * (STAMP_LENGTH - len(MARK)) + "a" * PADDING
    assert len(text) == TEXT_LENGTH
    with connect(
        f"ws://127.0.0.1:{server.port}/ws", additional_headers=headers, compression=None, ping_interval=None
    ) as socket:
        socket.send(subscribe(room))
        socket.send(json.dumps({"type": "send", "id": frame_id, "conversation": room, "text": text}))
        while True:
            frame = socket.recv(ANSWER_TIMEOUT_S, decode=False)
            if b'"event"' in frame and frame_id.encode() in frame:
                return frame

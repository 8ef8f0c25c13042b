"""Writers who disturb nobody: a hundred rooms with one person each, everybody sending. What remains is the cost of a
durable message.
"""

import asyncio
import statistics
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from tests.load.fan_out import costs
from tests.load.load_client import Load, Outcome
from tests.load.peers import PADDING
from tests.load.people import add_room, write_lines
from tests.load.processes import BenchError
from tests.load.setting import Setting, send, subscribe
from tests.load.studio_process import Server
from tests.load.table import Row, thousands

SENDERS = 100
TARGET = 10_000
IN_FLIGHT = (4, 1)  # a sender: a busy program, and somebody who waits for each answer; the first is held to the target
SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Writers:
    server: Server
    rooms: list[str]
    room_file: Path
    tokens: Path

    def load(self, in_flight: int) -> Load:
        return Load(
            self.server.port, "/ws", SENDERS, hello=[subscribe("%R")], ready_mark='"subscribed"', publish=send("%R"),
            padding_bytes=PADDING, publishers=SENDERS, in_flight=in_flight, seconds=SECONDS, tokens=self.tokens,
            rooms=self.room_file, is_own_room=True,
        )  # fmt: skip


def measure(setting: Setting) -> list[Row]:
    with setting.studio.serving(setting.cores.server) as server:
        people = setting.people(SENDERS)
        rooms = [add_room(server.port, person) for person in people]
        writers = Writers(server, rooms, write_lines(setting.work_dir / "rooms", rooms), setting.tokens(people))
        outcomes: dict[int, list[Outcome]] = {in_flight: [] for in_flight in IN_FLIGHT}
        for number in setting.rounds(3):
            for in_flight, series in outcomes.items():
                setting.tell(f"{SENDERS} rooms, {in_flight} in flight, round {number + 1}")
                series.append(setting.client.run(writers.load(in_flight), server.pid))
        committed = asyncio.run(_committed(setting.studio.dsn, rooms))
        acks = sum(outcome.acks for series in outcomes.values() for outcome in series)
        if acks > committed:
            raise BenchError(f"{acks} messages were acknowledged and only {committed} are in the database")
        setting.profile(
            f"{SENDERS} rooms, 4 in flight", server, lambda: setting.client.run(writers.load(4), server.pid)
        )
    return [_row(in_flight, series) for in_flight, series in outcomes.items()]


def _row(in_flight: int, outcomes: list[Outcome]) -> Row:
    acks_per_cpu_s = statistics.median(outcome.acks / outcome.server_cpu_s for outcome in outcomes)
    has_target = in_flight == IN_FLIGHT[0]
    return Row(
        f"{SENDERS} senders in {SENDERS} rooms, {in_flight} in flight each: messages a server CPU s",
        thousands(acks_per_cpu_s),
        target=f">= {thousands(TARGET)}" if has_target else "",
        is_met=acks_per_cpu_s >= TARGET if has_target else None,
        notes=f"{thousands(statistics.median(o.per_s for o in outcomes))} a second; {costs(outcomes)}",
    )


async def _committed(dsn: str, rooms: list[str]) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        counted: int = await connection.fetchval(
            "SELECT coalesce(sum(message_count), 0)::bigint FROM heads WHERE conversation = ANY($1::uuid[])", rooms
        )
        return counted
    finally:
        await connection.close()

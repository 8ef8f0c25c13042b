"""Writers who disturb nobody: a hundred rooms with one person each, everybody sending. What remains is the cost of a durable message."""

import asyncpg

from tests.load.fan_out import costs
from tests.load.load_client import Load, Outcome
from tests.load.people import Person, add_rooms_of_one, write_lines
from tests.load.peers import PADDING
from tests.load.processes import BenchError
from tests.load.setting import Setting, send, subscribe
from tests.load.studio_process import Server
from tests.load.table import Row, thousands

import asyncio
import statistics

SENDERS = 100
TARGET = 10_000
IN_FLIGHT = (4, 1)  # a sender: a busy program, and a person who waits for each answer
SECONDS = 2.5


def measure(setting: Setting) -> list[Row]:
    with setting.studio.serving(setting.cores.server) as server:
        people = setting.people(SENDERS)
        rooms = add_rooms_of_one(server.port, people)
        outcomes: dict[int, list[Outcome]] = {in_flight: [] for in_flight in IN_FLIGHT}
        loads = {in_flight: _load(setting, server, people, rooms, in_flight) for in_flight in IN_FLIGHT}
        for number in setting.rounds(3):
            for in_flight, load in loads.items():
                setting.tell(f"{SENDERS} rooms, {in_flight} in flight, round {number + 1}")
                outcomes[in_flight].append(setting.client.run(load(), server.pid))
        setting.profile(f"{SENDERS} rooms, 4 in flight", server, lambda: setting.client.run(loads[4](), server.pid))
        asyncio.run(_check_committed(setting, rooms, sum(o.acks for series in outcomes.values() for o in series)))
    return [_row(in_flight, series) for in_flight, series in outcomes.items()]

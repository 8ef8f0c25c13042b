"""One client that comes back: a thousand missed events, fifty in each of twenty conversations, by one `subscribe`.

From the rings, as after a short break: somebody else has followed all the while. And from the log, as after a restart:
a fresh server, which has seen none of these events. The client's own work, about 5 ms, is in the figures.
"""

import asyncio
import json
import secrets
import statistics
import time
from collections import Counter
from typing import Any

from tests.load.line import Line
from tests.load.peers import TEXT_LENGTH
from tests.load.people import Person, add_room
from tests.load.processes import BenchError
from tests.load.setting import Setting
from tests.load.studio_process import Server
from tests.load.table import Row

CONVERSATIONS = 20
MISSED_EACH = 50
MISSED = CONVERSATIONS * MISSED_EACH
RUNS = 20
QUICK_RUNS = 5
PAUSE_S = 0.1  # the goodbye of the socket before
TARGET_MS = 100.0

Cursors = dict[str, Any]  # where the client stood in each conversation, as `subscribe` takes it


def measure(setting: Setting) -> list[Row]:
    runs = QUICK_RUNS if setting.is_quick else RUNS
    with setting.studio.serving(setting.cores.server) as server:
        writer, reader = setting.people(2)
        rooms = [add_room(server.port, writer, [writer, reader]) for _ in range(CONVERSATIONS)]
        setting.tell(f"{runs} resumes from the rings")
        cursors, from_rings = asyncio.run(_write_and_resume(server, writer, reader, rooms, runs))
    with setting.studio.serving(setting.cores.server) as server:
        setting.tell(f"{runs} resumes from the log")
        from_log = asyncio.run(_resume(server, reader, cursors, runs))
    return [_row("the rings", from_rings), _row("the log, of a fresh server", from_log)]


async def _write_and_resume(
    server: Server, writer: Person, reader: Person, rooms: list[str], runs: int
) -> tuple[Cursors, list[float]]:
    """The writer follows too, and stays: the rings fill with what it says."""
    line = await Line.open(server, writer)
    try:
        answers = await line.subscribe(dict.fromkeys(rooms))
        cursors = {room: {"seq": answer["head"], "epoch": answer["epoch"]} for room, answer in answers.items()}
        for number in range(MISSED):
            line.send(f"{secrets.token_hex(15)}-{number}", rooms[number % CONVERSATIONS], "a" * TEXT_LENGTH)
        await line.until_heard(MISSED)
        return cursors, await _resume(server, reader, cursors, runs)
    finally:
        line.close()


async def _resume(server: Server, reader: Person, cursors: Cursors, runs: int) -> list[float]:
    """The milliseconds of each, from `subscribe` to the last event."""
    taken_ms = []
    for _ in range(runs):
        await asyncio.sleep(PAUSE_S)
        line = await Line.open(server, reader)
        try:
            began = time.perf_counter()
            answers = await line.subscribe(cursors)
            if any(answer["reset"] for answer in answers.values()):
                raise BenchError("a resume was answered with `reset`")
            await line.until_heard(MISSED)
            taken_ms.append((time.perf_counter() - began) * 1e3)
            _check(line, cursors)
        finally:
            line.close()
    return taken_ms


def _check(line: Line, cursors: Cursors) -> None:
    """Each event once and in order, from where the client stood."""
    stood: Counter[str] = Counter({room: cursor["seq"] for room, cursor in cursors.items()})
    for event in map(json.loads, line.events):
        stood[event["conversation"]] += 1
        if event["seq"] != stood[event["conversation"]]:
            raise BenchError(f"a resume brought {event['seq']} instead of {stood[event['conversation']]}")


def _row(source: str, taken_ms: list[float]) -> Row:
    worst_ms = max(taken_ms)
    return Row(
        f"resume of {MISSED:,} events of {CONVERSATIONS} conversations from {source}: the worst of {len(taken_ms)}",
        f"{worst_ms:.0f} ms",
        target=f"<= {TARGET_MS:.0f} ms",
        is_met=worst_ms <= TARGET_MS,
        notes=f"median {statistics.median(taken_ms):.0f} ms, the first {taken_ms[0]:.0f} ms",
    )

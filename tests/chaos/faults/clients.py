"""What clients suffer and what they do to others: copies, slow readers, pulled cables, storms, lost rights."""

import asyncio
import random
from collections import Counter
from contextlib import suppress

from server.protocol.ids import new_id
from tests.chaos import measures
from tests.chaos.history import now
from tests.chaos.proxy import Mode
from tests.chaos.snapshot import Snapshot
from tests.chaos.stage import Fault, Stage
from tests.chaos.storm import Storm

COPIES = 20
COPIES_ROUNDS = 5
SLOW_READERS = 2
FLOOD_MESSAGES, FLOOD_CODE_POINTS = 60, 12_000  # three quarters of a megabyte: thrice what a socket may have unsent
OTHERS_WITHIN_S = 2.0
STORM_SOCKETS = 1_000
HALF_OPEN = 6
FOUND_DEAD_S = 40.0
WHOLE_WITHIN_S = 5.0  # P6
ANSWER_TIMEOUT_S = 15.0
REVOKED_WITHIN_S = 1.0  # P10


async def send_copies(stage: Stage) -> None:
    """One message, sent twenty times at once over all workers by twenty devices of one person."""
    crowd = stage.crowd
    person, room = crowd.people[0], crowd.rooms[0]
    devices = [crowd.add_device(person, n, f"{person.name}-copy-{n}") for n in range(COPIES)]
    await crowd.until(crowd.all_are_here, ANSWER_TIMEOUT_S)
    for _ in range(COPIES_ROUNDS):
        frame_id = new_id()
        asked = [device.ask("send", room.id, frame_id=frame_id, text="said once") for device in devices]
        answers = await asyncio.wait_for(asyncio.gather(*(each.settled for each in asked)), ANSWER_TIMEOUT_S)
        told = Counter((a["type"], a.get("seq"), a.get("message"), a.get("at")) for a in answers)
        stage.expect(len(told) == 1, f"{COPIES} copies got {len(told)} different answers: {told}")


async def read_slowly(stage: Stage) -> None:
    """Some read nothing for a while, in a room where much is said."""
    crowd = stage.crowd
    room = crowd.rooms[0]
    there = [device for device in crowd.devices if room.id in device.seen and device.is_here]
    slow, speaker = there[1 : 1 + SLOW_READERS], there[0]
    for device in slow:
        device.pause(True)
    stage.slow = frozenset(device.name for device in slow)
    for number in range(FLOOD_MESSAGES):
        speaker.ask("send", room.id, text=f"{number} " + "x" * FLOOD_CODE_POINTS)
        await asyncio.sleep(stage.seconds / FLOOD_MESSAGES)
    stage.end()
    for device in slow:
        device.pause(False)


def others_are_not_slowed(stage: Stage, stored: Snapshot) -> None:
    late = measures.lateness(stage.records, stored, stage.began)
    slowest = max((s for who, s in late.items() if who not in stage.slow), default=0.0)
    stage.note(f"others: everything within {slowest:.2f} s")
    stage.expect_within(slowest, OTHERS_WITHIN_S, "the others")
    closed = [device for device in stage.crowd.devices if 4008 in device.closes]
    stage.expect(not closed, f"{len(closed)} slow readers were closed")


async def throttle(stage: Stage) -> None:
    """Everybody's network is thin, then it is wide again."""
    await _go_through_the_front(stage)
    for worker in stage.cluster.workers:
        worker.front.set(Mode.THROTTLE, bytes_per_s=4_000)
    await asyncio.sleep(stage.seconds)
    for worker in stage.cluster.workers:
        worker.front.set(Mode.PASS)


async def delay(stage: Stage) -> None:
    await _go_through_the_front(stage)
    for worker in stage.cluster.workers:
        worker.front.set(Mode.DELAY, delay_s=0.3)
    await asyncio.sleep(stage.seconds)
    for worker in stage.cluster.workers:
        worker.front.set(Mode.PASS)


async def _go_through_the_front(stage: Stage) -> None:
    stage.crowd.through_front = True
    for device in stage.crowd.devices:
        device.cut()
    await asyncio.sleep(0.2)
    await stage.crowd.until(stage.crowd.all_are_here, ANSWER_TIMEOUT_S)
    stage.begin()


async def reset_all(stage: Stage) -> None:
    """Every connection of a room full of people at once, several times."""
    await _go_through_the_front(stage)
    for _ in range(3):
        for worker in stage.cluster.workers:
            worker.front.reset_all()
        await asyncio.sleep(stage.seconds / 3)


async def pull_cables(stage: Stage) -> None:
    """Some sockets hear and say nothing any more, and are still open. The server must find out and let go of them."""
    worker = stage.cluster.workers[0]
    storm = Storm(stage.crowd.people[0].token, stage.crowd.rooms[0].id, lambda _: worker.front.port)
    before = await _connections_of(stage, worker.number)
    await storm.open(HALF_OPEN)
    links = tuple(worker.front.links)[-HALF_OPEN:]
    for link in links:
        link.is_dead = True
    stage.begin()
    try:
        async with asyncio.timeout(FOUND_DEAD_S * 2):
            while await _connections_of(stage, worker.number) >= before + HALF_OPEN:
                await asyncio.sleep(0.5)
            while await _connections_of(stage, worker.number) > before:
                await asyncio.sleep(0.5)
    except TimeoutError:
        stage.expect(is_so=False, what="their slots were never released")
    took_s = now() - stage.began
    stage.note(f"all let go after {took_s:.0f} s")
    stage.expect_within(took_s, FOUND_DEAD_S, "to find them dead")
    await storm.close()


async def _connections_of(stage: Stage, worker: int) -> int:
    text = await stage.crowd.metrics_of(worker)
    return next(int(float(line.split()[1])) for line in text.splitlines() if line.startswith("chat_connections "))


async def storm(stage: Stage) -> None:
    """A thousand sockets are reset in one moment, and come back with their cursors."""
    crowd = stage.crowd
    room = await crowd.make_room(crowd.people[:1], "a room in a storm")
    gathered = Storm(crowd.people[0].token, room.id, lambda n: crowd.ports()[n % len(crowd.ports())])
    await gathered.open(STORM_SOCKETS)
    stage.begin()
    gathered.reset()
    asked = crowd.devices[0].ask("send", room.id, text="who is back?")
    await asyncio.wait_for(asked.settled, ANSWER_TIMEOUT_S)
    times = await gathered.until_whole(asked.settled.result()["seq"], 30.0)
    await gathered.close()
    p95 = measures.percentile(times, 0.95)
    stage.note(f"{len(times)} sockets whole again: p95 {p95:.1f} s, last {max(times, default=0):.1f} s")
    stage.note(f"{gathered.refused} handshakes put off")
    stage.expect(len(times) == STORM_SOCKETS, f"{STORM_SOCKETS - len(times)} did not come back")
    stage.expect_within(p95, WHOLE_WITHIN_S, "95 in a hundred of the storm")


async def take_rights(stage: Stage) -> None:
    """Kicks and log-outs, each asked of another worker than the one that has the socket."""
    crowd = stage.crowd
    room = crowd.rooms[0].id
    owner, *others = [device for device in crowd.devices if room in device.seen]
    rng = random.Random(stage.rng.random())
    rng.shuffle(others)
    count = len(stage.cluster.workers)
    kicked, logged_out = others[:2], others[2:4]
    for device in kicked:
        done = await crowd.kick(owner, device, room, (device.node + 1) % count)
        stage.expect(done, "a kick was not acknowledged")
    for device in logged_out:
        done = await crowd.log_out(device, (device.node + 1) % count)
        stage.expect(done, "a log-out was not acknowledged")
    since = now()
    with suppress(TimeoutError):
        await crowd.until(lambda: all(device.is_out for device in logged_out), ANSWER_TIMEOUT_S)
        stage.expect_within(now() - since, REVOKED_WITHIN_S, "cutting the sockets of a log-out")
    left = [device.name for device in logged_out if not device.is_out]
    stage.expect(not left, f"{left} were logged out and are still there")


FAULTS = [
    Fault("copies", f"{COPIES} parallel copies of one send over all workers", send_copies, 5.0, "P2"),
    Fault("slow-readers", "some read nothing while much is said", read_slowly, 5.0, "P9", goes_on=False, seconds=4.0,
          kicks=False, afterwards=others_are_not_slowed),
    Fault("thin-network", "4 KB/s for each socket", throttle, 5.0, "P9", goes_on=False, seconds=4.0, kicks=False),
    Fault("late-network", "300 ms later in both directions", delay, 5.0, "P5", seconds=3.0, kicks=False),
    Fault("reset-all", "every client's connection is reset, three times", reset_all, 5.0, "P5 P6", is_p95=True,
          seconds=3.0),
    Fault("half-open", "sockets whose cable was pulled", pull_cables, 5.0, "P9", goes_on=False),
    Fault("storm", f"{STORM_SOCKETS:,} sockets are reset at once", storm, 5.0, "P6", is_p95=True),
    Fault("revocation", "kicks and log-outs on another worker", take_rights, 5.0, "P10", seconds=2.0),
]  # fmt: skip

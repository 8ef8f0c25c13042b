"""Fan-out: how many members a second of the server's CPU reaches, every message committed first.

With 1 in flight against the bare loop, whose frames are made as long as ours: what durability and framing cost. With
64 in flight against socket.io: what one write for many messages gains.
"""

from contextlib import ExitStack

from tests.load.load_client import Outcome
from tests.load.peers import Peer, bare_loop, padding_to, socket_io
from tests.load.processes import BenchError
from tests.load.setting import CrowdedRoom, Setting, crowd
from tests.load.table import Pairs, Row, thousands

MEMBERS = 500
SINGLE_TARGET = 0.7
MANY = 64
MANY_TARGET = 20.0
SECONDS = 2.0


def measure(setting: Setting) -> list[Row]:
    with ExitStack() as stack:
        server = stack.enter_context(setting.studio.serving(setting.cores.server))
        bare = stack.enter_context(bare_loop(setting.bench, setting.cores.server, setting.work_dir))
        room = crowd(setting, server, MEMBERS)
        rows = _single(setting, room, bare)
        try:
            peer = stack.enter_context(socket_io(setting.bench, setting.cores.server, setting.work_dir))
        except BenchError as error:
            return [*rows, _without_peer(setting, room, str(error))]
        return [*rows, *_many(setting, room, peer, bare)]


def _single(setting: Setting, room: CrowdedRoom, bare: Peer) -> list[Row]:
    ours: list[Outcome] = []
    theirs: list[Outcome] = []
    padding = padding_to(room.payload_bytes)
    for number in setting.rounds(5):
        setting.tell(f"fan-out, 1 in flight, round {number + 1}")
        ours.append(setting.client.run(room.load(in_flight=1, seconds=SECONDS), room.server.pid))
        theirs.append(setting.client.run(bare.load(MEMBERS, in_flight=1, seconds=SECONDS, padding=padding), bare.pid))
    setting.profile(
        "fan-out, 1 in flight",
        room.server,
        lambda: setting.client.run(room.load(in_flight=1, seconds=4), room.server.pid),
    )
    pairs = Pairs.of([o.per_cpu_s for o in ours], [t.per_cpu_s for t in theirs])
    return [
        Row(
            f"{MEMBERS} members, 1 in flight: deliveries a server CPU s",
            thousands(pairs.ours),
            f"bare loop {thousands(pairs.beside)}",
            pairs.text,
            f">= {SINGLE_TARGET}",
            pairs.ratio >= SINGLE_TARGET,
            f"payloads of {room.payload_bytes} bytes on both sides; {costs(ours)}",
        )
    ]


def _many(setting: Setting, room: CrowdedRoom, peer: Peer, bare: Peer) -> list[Row]:
    ours: list[Outcome] = []
    theirs: list[Outcome] = []
    loop: list[Outcome] = []
    padding = padding_to(room.payload_bytes)
    for number in setting.rounds(3):
        setting.tell(f"fan-out, {MANY} in flight, round {number + 1}")
        ours.append(setting.client.run(room.load(in_flight=MANY, seconds=SECONDS), room.server.pid))
        theirs.append(setting.client.run(peer.load(MEMBERS, in_flight=MANY, seconds=SECONDS), peer.pid))
        loop.append(setting.client.run(bare.load(MEMBERS, in_flight=MANY, seconds=SECONDS, padding=padding), bare.pid))
    setting.profile(
        f"fan-out, {MANY} in flight",
        room.server,
        lambda: setting.client.run(room.load(in_flight=MANY, seconds=4), room.server.pid),
    )
    pairs = Pairs.of([o.per_cpu_s for o in ours], [t.per_cpu_s for t in theirs])
    beside_loop = Pairs.of([o.per_cpu_s for o in ours], [t.per_cpu_s for t in loop])
    figure = f"{MEMBERS} members, {MANY} in flight: deliveries a server CPU s"
    return [
        Row(
            figure,
            thousands(pairs.ours),
            f"socket.io {thousands(pairs.beside)}",
            pairs.text,
            f">= {MANY_TARGET:.0f}",
            pairs.ratio >= MANY_TARGET,
            costs(ours),
        ),
        Row(figure, thousands(beside_loop.ours), f"bare loop {thousands(beside_loop.beside)}", beside_loop.text),
    ]


def _without_peer(setting: Setting, room: CrowdedRoom, why: str) -> Row:
    setting.tell(f"socket.io is left out: {why}")
    alone = setting.client.run(room.load(in_flight=MANY, seconds=SECONDS), room.server.pid)
    figure = f"{MEMBERS} members, {MANY} in flight: deliveries a server CPU s"
    return Row(
        figure, thousands(alone.per_cpu_s), f"no socket.io: {why}", target=f">= {MANY_TARGET:.0f}", notes=costs([alone])
    )


def costs(outcomes: list[Outcome]) -> str:
    """What Postgres used while the server used so much."""
    server, postgres = (sum(o.server_cpu_s for o in outcomes), sum(o.postgres_cpu_s for o in outcomes))
    acks = sum(o.acks for o in outcomes)
    each = f", {1e6 * server / acks:.0f} + {1e6 * postgres / acks:.0f} µs a message" if acks else ""
    return f"server {server:.2f} + Postgres {postgres:.2f} CPU s{each}"

"""Lateness under a steady load: from the moment a message is offered to the moment the last of its members has it.

An open loop: a hundred messages a second are offered whether or not earlier ones have arrived. The bare loop, which
stores nothing, is measured in turns with us, by the same clock, and like us up to the last member of each message.
"""

from tests.load.fan_out import MEMBERS, costs
from tests.load.load_client import Outcome
from tests.load.peers import bare_loop, padding_to
from tests.load.setting import Setting, crowd
from tests.load.table import Pairs, Row

RATE_PER_S = 100
TARGET = 2.0
SECONDS = 5.0  # 500 messages a round: p99 is the fifth latest


def measure(setting: Setting) -> list[Row]:
    ours: list[Outcome] = []
    theirs: list[Outcome] = []
    with (
        setting.studio.serving(setting.cores.server) as server,
        bare_loop(setting.bench, setting.cores.server, setting.work_dir) as bare,
    ):
        room = crowd(setting, server, MEMBERS)
        padding = padding_to(room.payload_bytes)
        for number in setting.rounds(3):
            setting.tell(f"latency at {RATE_PER_S} a second, round {number + 1}")
            ours.append(setting.client.run(room.load(rate_per_s=RATE_PER_S, seconds=SECONDS), server.pid))
            theirs.append(
                setting.client.run(
                    bare.load(MEMBERS, rate_per_s=RATE_PER_S, seconds=SECONDS, padding=padding), bare.pid
                )
            )
        setting.profile(
            "latency", server, lambda: setting.client.run(room.load(rate_per_s=RATE_PER_S, seconds=4), server.pid)
        )
    return [
        _row("p50", [o.p50_ms for o in ours], [t.p50_ms for t in theirs], costs(ours)),
        _row("p99", [o.p99_ms for o in ours], [t.p99_ms for t in theirs], ""),
    ]


def _row(quantile: str, ours: list[float], theirs: list[float], notes: str) -> Row:
    pairs = Pairs.of(ours, theirs)
    return Row(
        f"send to last of {MEMBERS} members, {RATE_PER_S} messages a second: {quantile}",
        f"{pairs.ours:.1f} ms",
        f"bare loop {pairs.beside:.1f} ms",
        pairs.text,
        f"<= {TARGET:.0f}",
        pairs.ratio <= TARGET,
        notes,
    )

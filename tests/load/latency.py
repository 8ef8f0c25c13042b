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
KEPT_UP = 0.98
QUEUE_MS = 100.0  # ten messages are under way at once: they wait for one another
SECONDS = 4.0  # 400 messages a round: p99 is the fourth latest


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
    notes = costs(ours) if all(map(_kept_up, ours)) else f"WE DID NOT KEEP UP; {costs(ours)}"
    is_fair = all(map(_kept_up, theirs))
    if not is_fair:
        notes = f"NO VERDICT: the bare loop did not keep up on this busy machine; {notes}"
    return [
        _row("p50", [o.p50_ms for o in ours], [t.p50_ms for t in theirs], is_fair, notes),
        _row("p99", [o.p99_ms for o in ours], [t.p99_ms for t in theirs], is_fair, ""),
    ]


def _kept_up(outcome: Outcome) -> bool:
    """Whether nearly all that was offered arrived in the same time; else a queue grew, and its length was measured."""
    return outcome.deliveries >= KEPT_UP * RATE_PER_S * SECONDS * MEMBERS and outcome.p50_ms < QUEUE_MS


def _row(quantile: str, ours: list[float], theirs: list[float], is_fair: bool, notes: str) -> Row:
    pairs = Pairs.of(ours, theirs)
    return Row(
        f"send to last of {MEMBERS} members, {RATE_PER_S} messages a second: {quantile}",
        f"{pairs.ours:.1f} ms",
        f"bare loop {pairs.beside:.1f} ms",
        pairs.text,
        f"<= {TARGET:.0f}",
        pairs.ratio <= TARGET if is_fair else None,
        notes,
    )

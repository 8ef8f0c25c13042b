"""How late things came, read from a history: the measured side of the table.

In:   records, the log, and the moment from which lateness counts.
Out:  for each device the longest time between an event's commit (or that moment, if it is later) and its sight of it.

The repair time of a fault is the longest of these over all devices: the time until everybody had seen everything that
was committed. Where the service is to go on in spite of the fault, it counts from the fault's begin; where nothing can
be delivered while it lasts, from its end.
"""

import math
from collections.abc import Sequence

from tests.chaos.history import Acked, AnyRecord, Dropped, Opened, Refused, Saw, Sent, Streamed, Subscribed
from tests.chaos.snapshot import Snapshot

Place = tuple[str, int]


def lateness(records: Sequence[AnyRecord], stored: Snapshot, since: float) -> dict[str, float]:
    """By device, in seconds. Whoever is let into a room gets its past from then on; who was merely cut off was due all
    the while.
    """
    committed = _commits(records, stored)
    came: dict[tuple[str, str], float] = {}
    worst: dict[str, float] = {}
    for record in records:
        match record:
            case Subscribed():
                came.setdefault((record.who, record.room), record.t)
            case Dropped():
                came.pop((record.who, record.room), None)
            case Saw() if record.t > since and (record.room, record.seq) in committed:
                due = max(committed[record.room, record.seq], came.get((record.who, record.room), 0.0), since)
                worst[record.who] = max(worst.get(record.who, 0.0), record.t - due)
    return worst


def _commits(records: Sequence[AnyRecord], stored: Snapshot) -> dict[Place, float]:
    """When each event was committed: the log says it, by the clock of a worker, which may be wrong. So never before it
    was sent, nor before the event that stands before it, and never after somebody knew of it.
    """
    users = {record.who: record.user for record in records if isinstance(record, Opened)}
    sent: dict[tuple[str, str, str], float] = {}
    known: dict[Place, float] = {}
    for record in records:
        match record:
            case Sent():
                sent.setdefault((record.room, users[record.who], record.id), record.t)
            case Saw() | Acked():
                known.setdefault((record.room, record.seq), record.t)
    commits: dict[Place, float] = {}
    for entry in stored.log:
        at = min(entry.at, known.get((entry.room, entry.seq), math.inf))
        not_before = max(
            sent.get((entry.room, entry.actor, entry.client_id or ""), 0.0),
            commits.get((entry.room, entry.seq - 1), 0.0),
        )
        commits[entry.room, entry.seq] = max(at, not_before)
    return commits


def streamed_text(records: Sequence[AnyRecord], run: str) -> str:
    """The longest beginning of this answer that can be put together from what watchers saw."""
    text = ""
    pieces = {(r.offset, r.text) for r in records if isinstance(r, Streamed) and r.run == run}
    for offset, piece in sorted(pieces):
        if offset <= len(text) < offset + len(piece):
            text = text[:offset] + piece
    return text


def text_lost_s(records: Sequence[AnyRecord], run: str, kept: str, died_at: float) -> float:
    """How long before `died_at` somebody saw the first piece of this answer that goes beyond what was kept of it."""
    lost = [
        r.t for r in records if isinstance(r, Streamed) and r.run == run and r.offset + len(r.text) > len(kept)
    ]  # fmt: skip
    return max(0.0, died_at - min(lost)) if lost else 0.0


def answer_times(records: Sequence[AnyRecord], since: float, until: float = math.inf) -> list[float]:
    """From asking to the acknowledgement, of what was asked in that time."""
    asked = {(r.who, r.id): r.t for r in records if isinstance(r, Sent) and since <= r.t < until}
    return [r.t - asked[r.who, r.id] for r in records if isinstance(r, Acked) and (r.who, r.id) in asked]


def refusals(records: Sequence[AnyRecord], since: float, until: float = math.inf) -> list[Refused]:
    return [r for r in records if isinstance(r, Refused) and since <= r.t < until]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share does not exceed; 0 of nothing."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * share) - 1)] if ranked else 0.0

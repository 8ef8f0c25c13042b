"""What those who watch may rely on: the part of the checker that judges what devices saw, and where they stand.

In:   the records of all clients in their order, the log, and whose device is whose.
Out:  violations.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.chaos.history import AnyRecord, Dropped, Ended, Granted, Revoked, Saw, Subscribed
from tests.chaos.log_questions import Log
from tests.chaos.verdicts import Check, Violation


@dataclass(slots=True)
class _View:
    """One device and one room."""

    next: int  # what it is to see next
    seen: set[int] = field(default_factory=set)


def of_observers(records: Sequence[AnyRecord], log: Log, users: dict[str, str]) -> Iterator[Violation]:
    views: dict[tuple[str, str], _View] = {}
    ever: dict[tuple[str, str], set[int]] = defaultdict(set)

    def known(subscribed: Subscribed) -> set[int]:
        """What it has seen and does not ask for again."""
        return {seq for seq in ever[subscribed.who, subscribed.room] if seq <= subscribed.after}

    for record in records:
        match record:
            case Subscribed():
                yield from _of_place(record, log, users[record.who])
                views[record.who, record.room] = _View(record.after + 1, known(record))
            case Dropped():
                views.pop((record.who, record.room), None)
            case Saw():
                ever[record.who, record.room].add(record.seq)
                yield from _of_sight(record, views.get((record.who, record.room)), log, users[record.who])
            case Ended() if record.is_alive:
                yield from _of_end(record.who, users[record.who], views, log)


def _of_place(told: Subscribed, log: Log, user: str) -> Iterator[Violation]:
    """What lies between the cursor and the place from which it goes on must be hidden from this person, or gone."""
    is_skipping = told.asked is not None and not told.is_reset and told.after > told.asked
    if is_skipping and not log.may_begin_at(told.room, user, told.first):
        yield Violation(
            Check.HOLED,
            f"{told.who} in {told.room} asked for all above {told.asked}, and was given all from {told.first}",
        )


def _of_sight(saw: Saw, view: _View | None, log: Log, user: str) -> Iterator[Violation]:
    place = f"{saw.who} in {saw.room} at {saw.seq}"
    if not log.is_member(saw.room, user, saw.seq):
        yield Violation(Check.FOREIGN, f"{place} saw {saw.kind} and was no member then")
    entry = log.entries.get((saw.room, saw.seq))
    if entry is None:
        yield Violation(Check.INVENTED, f"{place} saw {saw.kind}, the log has nothing there")
    elif (entry.kind, entry.actor, entry.subject) != (saw.kind, saw.actor, saw.subject):
        yield Violation(
            Check.REORDERED, f"{place} saw {saw.kind} {saw.subject}, the log has {entry.kind} {entry.subject}"
        )
    elif entry.text != saw.text and not (entry.is_redacted or saw.is_redacted):
        yield Violation(Check.WRONG_BYTES, f"{place} saw {saw.text!r}, the log has {entry.text!r}")
    if view is None:
        return  # a last event that crossed the end of the subscription on its way
    if saw.seq in view.seen:
        yield Violation(Check.DOUBLED, f"{place} saw it before")
    elif saw.seq < view.next:
        yield Violation(Check.REORDERED, f"{place} saw it behind {view.next - 1}")
    elif saw.seq > view.next:
        yield Violation(Check.HOLED, f"{place} had seen {view.next - 1} before")
    view.seen.add(saw.seq)
    view.next = max(view.next, saw.seq + 1)


def _of_end(who: str, user: str, views: dict[tuple[str, str], _View], log: Log) -> Iterator[Violation]:
    for (device, room), view in views.items():
        if device == who and view.next - 1 != log.head.get(room, 0):
            yield Violation(
                Check.HOLED, f"{who} in {room} stands at {view.next - 1} of {log.head.get(room)} at the end"
            )
    for room in log.rooms_of[user]:
        if (who, room) not in views:
            check = Check.UNTOLD if log.was_let_in(room, user) else Check.DROPPED
            yield Violation(check, f"{who} does not follow {room} at the end, and {user} is a member")


def of_dropped(records: Sequence[AnyRecord], log: Log, users: dict[str, str]) -> Iterator[Violation]:
    drops = Counter((r.who, r.room) for r in records if isinstance(r, Dropped) and not r.is_wanted)
    for (who, room), count in drops.items():
        if count > (leaves := log.leaves[room, users[who]]):
            yield Violation(Check.DROPPED, f"{who} was dropped from {room} {count} times, and left it {leaves} times")


def of_the_sent_away(records: Sequence[AnyRecord]) -> Iterator[Violation]:
    revoked = {record.who for record in records if isinstance(record, Revoked) and record.room is None}
    for record in records:
        if isinstance(record, Ended) and not record.is_alive and record.who not in revoked:
            yield Violation(Check.THROWN_OUT, f"{record.who} was sent away, its sign-in had not ended: {record.why}")


def after_revocation(records: Sequence[AnyRecord], revocation_s: float) -> Iterator[Violation]:
    revoked: dict[tuple[str, str | None], float] = {}
    for record in records:
        match record:
            case Revoked():
                revoked[record.who, record.room] = record.t
            case Granted():
                revoked.pop((record.who, record.room), None)
            case Saw():
                for room in (record.room, None):
                    since = revoked.get((record.who, room))
                    if since is not None and record.t > since + revocation_s:
                        yield Violation(
                            Check.AFTER_REVOCATION,
                            f"{record.who} saw {record.seq} of {record.room} {record.t - since:.2f} s after",
                        )

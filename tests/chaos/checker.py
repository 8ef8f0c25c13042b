"""The checker: what a run broke, by name.

In:   the records of all clients, and what the database holds at the end.
Out:  violations, each with the name of its check and a line that shows it. None: every promise held.
Promises: pure, without clock or I/O, so that a history kept in a file can be judged again.

A device is held to what it was told: after `subscribed` everything above its cursor is due, in order and once, until it
drops the room; after a reset, from the head that the reset named.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tests.chaos.history import (
    Acked,
    AnyRecord,
    Dropped,
    Ended,
    Granted,
    Opened,
    Refused,
    Revoked,
    Saw,
    Sent,
    Subscribed,
)
from tests.chaos.snapshot import Entry, Snapshot

REVOCATION_S = 1.0  # P10
EXAMPLES = 5  # of one check; a broken run breaks the same thing a thousand times


class Check(StrEnum):
    LOST = "lost"  # acknowledged, and not in the log
    DOUBLED = "doubled"  # one client id twice in the log, or one event twice at one device
    REORDERED = "reordered"  # out of order, or otherwise than the log has it
    HOLED = "holed"  # a gap in the log, or in what a device saw
    INVENTED = "invented"  # seen, and never committed
    FOREIGN = "foreign"  # seen or done by somebody who was no member then
    AFTER_REVOCATION = "after_revocation"  # seen when the right to see had been taken away
    UNFINISHED = "unfinished"  # a run that has neither ended nor a lease
    UNANSWERED = "unanswered"  # asked, and neither acknowledged nor refused
    CONTRADICTED = "contradicted"  # two answers to one id that differ, or one that the log denies
    WRONG_BYTES = "wrong_bytes"  # another text than was sent


@dataclass(frozen=True, slots=True)
class Violation:
    check: Check
    detail: str

    def __str__(self) -> str:
        return f"{self.check}: {self.detail}"


def violations(
    records: Sequence[AnyRecord], stored: Snapshot, *, revocation_s: float = REVOCATION_S
) -> list[Violation]:
    log = _Log(stored)
    users = {record.who: record.user for record in records if isinstance(record, Opened)}
    return [
        *_of_log(stored, log),
        *_of_senders(records, log, users),
        *_of_observers(records, log, users),
        *_after_revocation(records, revocation_s),
        *_of_runs(stored),
    ]


def summary(found: Iterable[Violation]) -> str:
    """Each check with how often it failed and some examples; empty when nothing did."""
    by_check: dict[Check, list[str]] = defaultdict(list)
    for violation in found:
        by_check[violation.check].append(violation.detail)
    lines = []
    for check, details in by_check.items():
        lines.append(f"{check} ({len(details)})")
        lines += [f"    {detail}" for detail in details[:EXAMPLES]]
    return "\n".join(lines)


class _Log:
    """The log, by the questions that are asked of it."""

    def __init__(self, stored: Snapshot) -> None:
        self.rooms = {room.id for room in stored.rooms}
        self.entries: dict[tuple[str, int], Entry] = {(entry.room, entry.seq): entry for entry in stored.log}
        self.by_client_id: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
        self.head: dict[str, int] = dict.fromkeys(self.rooms, 0)
        for entry in stored.log:
            self.head[entry.room] = max(self.head[entry.room], entry.seq)
            if entry.client_id is not None:
                self.by_client_id[entry.room, entry.actor, entry.client_id].append(entry)
        self._stays = _stays(stored)

    def is_member(self, room: str, user: str, seq: int) -> bool:
        """Whether `user` may see what stands at `seq`: their own coming and going included, nothing beyond."""
        return any(first <= seq <= last for first, last in self._stays[room, user])


Stay = tuple[int, float]  # the first and the last seq of one membership


def _stays(stored: Snapshot) -> dict[tuple[str, str], list[Stay]]:
    stays: dict[tuple[str, str], list[Stay]] = defaultdict(list)
    for room in stored.rooms:
        for user in room.members:
            stays[room.id, user].append((1, float("inf")))
    for entry in stored.log:
        key = entry.room, entry.subject
        if entry.kind == "member.joined":
            stays[key].append((entry.seq, float("inf")))
        elif entry.kind == "member.left" and stays[key]:
            stays[key][-1] = stays[key][-1][0], entry.seq
    return stays


# What the log itself must be


def _of_log(stored: Snapshot, log: _Log) -> Iterator[Violation]:
    for room in log.rooms:
        seqs = sorted(entry.seq for entry in stored.log if entry.room == room)
        missing = sorted(set(range(1, log.head[room] + 1)) - set(seqs))
        for seq in missing:
            yield Violation(Check.HOLED, f"the log of {room} has no {seq}, its head is {log.head[room]}")
        if stored.heads.get(room, 0) != log.head[room]:
            yield Violation(
                Check.HOLED, f"the head of {room} says {stored.heads.get(room)}, its log ends at {log.head[room]}"
            )
    for (room, actor, client_id), entries in log.by_client_id.items():
        if len(entries) > 1:
            yield Violation(
                Check.DOUBLED, f"{client_id} of {actor} stands in {room} at {[entry.seq for entry in entries]}"
            )
    for entry in stored.log:
        if entry.actor_kind == "user" and not log.is_member(entry.room, entry.actor, entry.seq):
            yield Violation(Check.FOREIGN, f"{entry.actor} did {entry.kind} at {entry.seq} of {entry.room}, no member")
    yield from _of_messages(stored)
    yield from _of_memberships(stored, log)


def _of_messages(stored: Snapshot) -> Iterator[Violation]:
    """The messages are what the log says they are."""
    by_place = {(message.room, message.seq): message for message in stored.messages}
    edits: dict[tuple[str, str], str] = {}
    deleted: set[tuple[str, str]] = set()
    for entry in stored.log:
        if entry.kind == "message.edited":
            edits[entry.room, entry.subject] = entry.text
        elif entry.kind == "message.deleted":
            deleted.add((entry.room, entry.subject))
    for entry in stored.log:
        if entry.kind != "message.created":
            continue
        message = by_place.get((entry.room, entry.seq))
        key = entry.room, entry.subject
        wanted = "" if key in deleted else edits.get(key, entry.text)
        if message is None:
            yield Violation(Check.LOST, f"{entry.seq} of {entry.room} is in the log and among no messages")
        elif message.text != wanted:
            yield Violation(
                Check.WRONG_BYTES, f"message {entry.seq} of {entry.room} is {message.text!r}, the log says {wanted!r}"
            )


def _of_memberships(stored: Snapshot, log: _Log) -> Iterator[Violation]:
    people = {user for room in stored.rooms for user in room.members}
    people |= {entry.subject for entry in stored.log if entry.kind == "member.joined"}
    for room in stored.rooms:
        for user in people:
            if ((room.id, user) in stored.memberships) != log.is_member(room.id, user, log.head[room.id] + 1):
                yield Violation(
                    Check.CONTRADICTED, f"log and memberships disagree whether {user} is a member of {room.id}"
                )


def _of_runs(stored: Snapshot) -> Iterator[Violation]:
    for run in stored.runs:
        if run.status == "running" and not run.is_leased:
            yield Violation(Check.UNFINISHED, f"run {run.id} in {run.room} has neither an end nor a lease")


# What those who sent may rely on


def _of_senders(records: Sequence[AnyRecord], log: _Log, users: dict[str, str]) -> Iterator[Violation]:
    sent: dict[tuple[str, str], Sent] = {}
    acked: dict[tuple[str, str, str], int] = {}
    answered: set[tuple[str, str]] = set()
    alive: set[str] = set()
    for record in records:
        match record:
            case Sent():
                sent[record.who, record.id] = record
            case Acked():
                answered.add((record.who, record.id))
                key = record.room, users[record.who], record.id
                if acked.setdefault(key, record.seq) != record.seq:
                    yield Violation(
                        Check.CONTRADICTED, f"{record.id} was acknowledged at {acked[key]} and at {record.seq}"
                    )
            case Refused() if not record.is_retryable:
                answered.add((record.who, record.id))
            case Ended() if record.is_alive:
                alive.add(record.who)
    for (room, user, client_id), seq in acked.items():
        entries = log.by_client_id.get((room, user, client_id), [])
        if not entries:
            yield Violation(Check.LOST, f"{client_id} was acknowledged at {seq} of {room} and is not in the log")
        elif seq not in [entry.seq for entry in entries]:
            yield Violation(
                Check.CONTRADICTED, f"{client_id} was acknowledged at {seq} of {room}, it stands at {entries[0].seq}"
            )
    for (who, client_id), record in sent.items():
        if who in alive and (who, client_id) not in answered:
            yield Violation(Check.UNANSWERED, f"{record.kind} {client_id} of {who} in {record.room}")
    yield from _of_texts(sent.values(), log, users)


def _of_texts(sent: Iterable[Sent], log: _Log, users: dict[str, str]) -> Iterator[Violation]:
    for record in sent:
        if record.kind not in ("send", "edit"):
            continue
        for entry in log.by_client_id.get((record.room, users[record.who], record.id), []):
            if entry.text != record.text and not entry.is_redacted:
                yield Violation(
                    Check.WRONG_BYTES, f"{record.id} was sent as {record.text!r}, the log has {entry.text!r}"
                )


# What those who watch may rely on


@dataclass(slots=True)
class _View:
    """One device and one room."""

    next: int  # what it is to see next
    seen: set[int] = field(default_factory=set)


def _of_observers(records: Sequence[AnyRecord], log: _Log, users: dict[str, str]) -> Iterator[Violation]:
    views: dict[tuple[str, str], _View] = {}
    ever: dict[tuple[str, str], set[int]] = defaultdict(set)

    def known(subscribed: Subscribed) -> set[int]:
        """What it has seen and does not ask for again."""
        return {seq for seq in ever[subscribed.who, subscribed.room] if seq <= subscribed.after}

    for record in records:
        match record:
            case Subscribed():
                views[record.who, record.room] = _View(record.after + 1, known(record))
            case Dropped():
                views.pop((record.who, record.room), None)
            case Saw():
                ever[record.who, record.room].add(record.seq)
                yield from _of_sight(record, views.get((record.who, record.room)), log, users[record.who])
            case Ended() if record.is_alive:
                yield from _of_end(record.who, views, log)


def _of_sight(saw: Saw, view: _View | None, log: _Log, user: str) -> Iterator[Violation]:
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


def _of_end(who: str, views: dict[tuple[str, str], _View], log: _Log) -> Iterator[Violation]:
    for (device, room), view in views.items():
        if device == who and view.next <= log.head.get(room, 0):
            yield Violation(Check.HOLED, f"{who} in {room} has seen {view.next - 1} of {log.head[room]} at the end")


def _after_revocation(records: Sequence[AnyRecord], revocation_s: float) -> Iterator[Violation]:
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

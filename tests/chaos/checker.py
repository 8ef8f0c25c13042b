"""The checker: what a run broke, by name.

In:   the records of all clients, and what the database holds at the end.
Out:  violations, each with the name of its check and a line that shows it. None: every promise held.
Promises: pure, without clock or I/O, so that a history kept in a file can be judged again.

A device is held to what it was told: after `subscribed` everything above its cursor is due, in order and once, until it
drops the room; after a reset, from the head that the reset named. What it was told is held to the log: nobody is sent
away, dropped from a room or shown less of it without a reason that stands there. At the end, every device stands at
the head of every room of which its user is a member.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from tests.chaos import watchers
from tests.chaos.history import Acked, AnyRecord, Ended, Opened, Refused, Repeated, Sent
from tests.chaos.log_questions import Log
from tests.chaos.snapshot import Snapshot
from tests.chaos.verdicts import Check, Violation, summary

__all__ = ["REVOCATION_S", "Check", "Violation", "summary", "violations"]

REVOCATION_S = 1.0  # P10


def violations(
    records: Sequence[AnyRecord], stored: Snapshot, *, revocation_s: float = REVOCATION_S
) -> list[Violation]:
    log = Log(stored)
    users = {record.who: record.user for record in records if isinstance(record, Opened)}
    return [
        *_of_log(stored, log),
        *_of_senders(records, log, users),
        *watchers.of_observers(records, log, users),
        *watchers.after_revocation(records, revocation_s),
        *watchers.of_the_sent_away(records),
        *watchers.of_dropped(records, log, users),
        *_of_runs(stored),
    ]


# What the log itself must be


def _of_log(stored: Snapshot, log: Log) -> Iterator[Violation]:
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


def _of_memberships(stored: Snapshot, log: Log) -> Iterator[Violation]:
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


def _of_senders(records: Sequence[AnyRecord], log: Log, users: dict[str, str]) -> Iterator[Violation]:
    sent: dict[tuple[str, str], Sent] = {}
    acked: dict[tuple[str, str, str], int] = {}
    answered: dict[tuple[str, str], Acked | Refused] = {}
    answers: Counter[tuple[str, str]] = Counter()
    repeats: Counter[tuple[str, str]] = Counter()
    alive: set[str] = set()
    for record in records:
        match record:
            case Sent():
                sent[record.who, record.id] = record
            case Repeated():
                repeats[record.who, record.id] += 1
            case Acked():
                answers[record.who, record.id] += 1
                yield from _of_answers(answered.setdefault((record.who, record.id), record), record)
                key = record.room, users[record.who], record.id
                if acked.setdefault(key, record.seq) != record.seq:
                    yield Violation(
                        Check.CONTRADICTED, f"{record.id} was acknowledged at {acked[key]} and at {record.seq}"
                    )
            case Refused():
                answers[record.who, record.id] += 1
                if not record.is_retryable:
                    yield from _of_answers(answered.setdefault((record.who, record.id), record), record)
            case Ended() if record.is_alive:
                alive.add(record.who)
    for (who, client_id), count in answers.items():
        if count > 1 + repeats[who, client_id]:
            yield Violation(
                Check.ANSWERED_TWICE,
                f"{client_id} of {who} went out {1 + repeats[who, client_id]} times and got {count} answers",
            )
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


def _of_answers(first: Acked | Refused, other: Acked | Refused) -> Iterator[Violation]:
    """Two answers for good to one id at one device. Those of a kind differ by seq, which is looked at elsewhere, or by
    code."""
    told = [each.code if isinstance(each, Refused) else f"acknowledged at {each.seq}" for each in (first, other)]
    if told[0] != told[1] and (isinstance(first, Refused) or isinstance(other, Refused)):
        yield Violation(Check.CONTRADICTED, f"{other.id} of {other.who}: {told[0]}, then {told[1]}")


def _of_texts(sent: Iterable[Sent], log: Log, users: dict[str, str]) -> Iterator[Violation]:
    for record in sent:
        if record.kind not in ("send", "edit"):
            continue
        for entry in log.by_client_id.get((record.room, users[record.who], record.id), []):
            if entry.text != record.text and not entry.is_redacted:
                yield Violation(
                    Check.WRONG_BYTES, f"{record.id} was sent as {record.text!r}, the log has {entry.text!r}"
                )

"""The checker on histories made by hand: each check has one that it finds, and a correct history has none."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.chaos.checker import Check, summary, violations
from tests.chaos.history import (
    Acked,
    AnyRecord,
    Dropped,
    Ended,
    Granted,
    History,
    Opened,
    Refused,
    Repeated,
    Revoked,
    Saw,
    Sent,
    Subscribed,
    load,
)
from tests.chaos.snapshot import Entry, Message, Room, Run, Snapshot

ANA, BEN, EVE = "ana", "ben", "eve"
ROOM = Room("room", frozenset({ANA, BEN}))


class Story:
    """Ana says three things, Ben listens; each test then changes one thing."""

    def __init__(self) -> None:
        self.records: list[AnyRecord] = [
            *(Opened(0.0, f"{user}'s", user) for user in (ANA, BEN, EVE)),
            *(Subscribed(0.1, f"{user}'s", ROOM.id, 0) for user in (ANA, BEN)),
        ]
        self.log: list[Entry] = []
        self.runs: list[Run] = []
        for seq in (1, 2, 3):
            client_id, text = f"c{seq}", f"line {seq}"
            self.log.append(
                Entry(ROOM.id, seq, "message.created", "user", ANA, client_id, float(seq), text, subject=f"m{seq}")
            )
            self.records += [
                Sent(seq + 0.0, "ana's", ROOM.id, client_id, "send", text),
                Acked(seq + 0.1, "ana's", ROOM.id, client_id, seq),
                self.sight("ana's", seq),
                self.sight("ben's", seq),
            ]
        self.end: list[AnyRecord] = [Ended(9.0, f"{user}'s", is_alive=True) for user in (ANA, BEN)]
        self.heads = {ROOM.id: 3}
        self.firsts: dict[str, int] = {}
        self.members = frozenset((ROOM.id, user) for user in ROOM.members)

    def sight(self, who: str, seq: int, t: float | None = None) -> Saw:
        entry = self.log[seq - 1]
        return Saw(
            seq + 0.2 if t is None else t, who, ROOM.id, seq, entry.kind, entry.actor, entry.client_id, entry.text,
            entry.subject,
        )  # fmt: skip

    def forget(self, record: AnyRecord) -> None:
        self.records.remove(record)

    def change(self, seq: int, **fields: object) -> None:
        self.log[seq - 1] = replace(self.log[seq - 1], **fields)

    def messages(self) -> list[Message]:
        return [Message(e.room, e.seq, e.subject, e.client_id, e.text) for e in self.log if e.kind == "message.created"]

    def checks(self) -> set[Check]:
        stored = Snapshot([ROOM], self.log, self.messages(), self.heads, self.members, self.runs, self.firsts)
        return {violation.check for violation in violations([*self.records, *self.end], stored)}


def lost(story: Story) -> None:
    story.records += [Sent(4.0, "ana's", ROOM.id, "c4", "send", "x"), Acked(4.1, "ana's", ROOM.id, "c4", 4)]


def doubled_in_the_log(story: Story) -> None:
    story.log.append(replace(story.log[2], seq=4, subject="m4"))
    story.records += [story.sight("ana's", 4), story.sight("ben's", 4)]
    story.heads = {ROOM.id: 4}


def doubled_at_a_device(story: Story) -> None:
    story.records.append(story.sight("ben's", 3, 3.5))


def reordered(story: Story) -> None:
    second = story.sight("ben's", 2)
    story.forget(second)
    story.records.append(replace(second, t=3.5))


def otherwise_than_the_log(story: Story) -> None:
    story.change(2, subject="another")


def hole_in_the_log(story: Story) -> None:
    story.heads = {ROOM.id: 4}


def hole_at_a_device(story: Story) -> None:
    story.forget(story.sight("ben's", 2))


def nothing_at_the_end(story: Story) -> None:
    story.forget(story.sight("ben's", 3))


def invented(story: Story) -> None:
    story.records.append(replace(story.sight("ben's", 3), seq=4, subject="m4"))


def seen_by_a_stranger(story: Story) -> None:
    story.records.append(story.sight("eve's", 2))


def done_by_a_stranger(story: Story) -> None:
    story.change(3, actor=EVE)


def after_revocation(story: Story) -> None:
    story.records.insert(0, Revoked(0.0, "ben's", None))


def unfinished(story: Story) -> None:
    story.runs.append(Run("run", ROOM.id, "running", is_leased=False))


def unanswered(story: Story) -> None:
    story.records.append(Sent(4.0, "ana's", ROOM.id, "c4", "send", "x"))


def two_answers(story: Story) -> None:
    story.records.append(Acked(4.0, "ana's", ROOM.id, "c3", 7))


def wrong_bytes(story: Story) -> None:
    story.change(2, text="line two")


def thrown_out(story: Story) -> None:
    story.end[1] = Ended(9.0, "ben's", is_alive=False, why="SignedOut")


def fallen_after_a_kick(story: Story) -> None:
    """To be shown the door of one room is no reason to be sent away from all."""
    story.records.append(Revoked(8.0, "ben's", ROOM.id))
    thrown_out(story)


def dropped_for_no_reason(story: Story) -> None:
    story.records.append(Dropped(4.0, "ben's", ROOM.id))


def dropped_and_taken_in_again(story: Story) -> None:
    story.records += [Dropped(4.0, "ben's", ROOM.id), Subscribed(5.0, "ben's", ROOM.id, 3, asked=3)]


def never_followed(story: Story) -> None:
    story.records = [record for record in story.records if record.who != "ben's" or isinstance(record, Opened)]


def resumed_too_far_on(story: Story) -> None:
    for seq in (2, 3):
        story.forget(story.sight("ben's", seq))
    story.records.append(Subscribed(4.0, "ben's", ROOM.id, 3, asked=1, first=4))


def placed_beyond_the_head(story: Story) -> None:
    story.records.append(Subscribed(4.0, "ben's", ROOM.id, 9))


def answered_twice(story: Story) -> None:
    story.records.append(Acked(4.0, "ana's", ROOM.id, "c3", 3))


def refused_after_an_ack(story: Story) -> None:
    story.records += [
        Repeated(3.5, "ana's", ROOM.id, "c3"),
        Refused(4.0, "ana's", ROOM.id, "c3", "conflict", False, 0.5),
    ]


def let_in_and_not_told(story: Story) -> None:
    """Eve joins, everybody sees it, and she hears nothing."""
    story.log.append(Entry(ROOM.id, 4, "member.joined", "user", ANA, None, 4.0, subject=EVE))
    story.records += [story.sight("ana's", 4), story.sight("ben's", 4)]
    story.heads = {ROOM.id: 4}
    story.members |= {(ROOM.id, EVE)}
    story.end.append(Ended(9.0, "eve's", is_alive=True))


def members_otherwise(story: Story) -> None:
    story.members = frozenset({(ROOM.id, ANA)})


@pytest.mark.parametrize(
    ("harm", "check"),
    [
        (lost, Check.LOST),
        (doubled_in_the_log, Check.DOUBLED),
        (doubled_at_a_device, Check.DOUBLED),
        (reordered, Check.REORDERED),
        (otherwise_than_the_log, Check.REORDERED),
        (hole_in_the_log, Check.HOLED),
        (hole_at_a_device, Check.HOLED),
        (nothing_at_the_end, Check.HOLED),
        (invented, Check.INVENTED),
        (seen_by_a_stranger, Check.FOREIGN),
        (done_by_a_stranger, Check.FOREIGN),
        (after_revocation, Check.AFTER_REVOCATION),
        (unfinished, Check.UNFINISHED),
        (unanswered, Check.UNANSWERED),
        (two_answers, Check.CONTRADICTED),
        (wrong_bytes, Check.WRONG_BYTES),
        (members_otherwise, Check.CONTRADICTED),
        (thrown_out, Check.THROWN_OUT),
        (fallen_after_a_kick, Check.THROWN_OUT),
        (dropped_for_no_reason, Check.DROPPED),
        (dropped_and_taken_in_again, Check.DROPPED),
        (never_followed, Check.DROPPED),
        (resumed_too_far_on, Check.HOLED),
        (placed_beyond_the_head, Check.HOLED),
        (let_in_and_not_told, Check.UNTOLD),
        (answered_twice, Check.ANSWERED_TWICE),
        (refused_after_an_ack, Check.CONTRADICTED),
    ],
)
def test_each_violation_is_named(harm: Callable[[Story], None], check: Check) -> None:
    story = Story()
    assert story.checks() == set()
    harm(story)
    assert check in story.checks()


def test_every_check_is_tried() -> None:
    tried = test_each_violation_is_named.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {check for _, check in tried} == set(Check)


def test_a_refusal_for_good_is_an_answer_and_one_to_be_retried_is_none() -> None:
    story = Story()
    story.records += [
        Sent(4.0, "ana's", ROOM.id, "c4", "send", "x"),
        Refused(4.1, "ana's", ROOM.id, "c4", "unavailable", True, 0.1),
    ]
    assert story.checks() == {Check.UNANSWERED}
    story.records += [
        Repeated(4.2, "ana's", ROOM.id, "c4"),
        Refused(4.3, "ana's", ROOM.id, "c4", "forbidden", False, 0.1),
    ]
    assert story.checks() == set()


def test_to_be_dropped_and_not_to_be_told_of_a_return_are_told_apart() -> None:
    story = Story()
    story.change(1, kind="member.left", subject=BEN, client_id=None, text="")
    story.change(3, kind="member.joined", subject=BEN, client_id=None, text="")
    story.records = [
        *(Opened(0.0, f"{user}'s", user) for user in (ANA, BEN)),
        Subscribed(0.1, "ben's", ROOM.id, 0),
        story.sight("ben's", 1),
        Dropped(1.3, "ben's", ROOM.id),
    ]
    story.end = [Ended(9.0, "ben's", is_alive=True)]
    assert story.checks() == {Check.UNTOLD}
    story.records += [
        Subscribed(3.1, "ben's", ROOM.id, 2, asked=1, first=3),
        story.sight("ben's", 3),
        Dropped(4.0, "ben's", ROOM.id),
    ]
    assert Check.DROPPED in story.checks()


def test_whoever_was_logged_out_may_be_gone() -> None:
    story = Story()
    thrown_out(story)
    story.records.append(Revoked(8.0, "ben's"))
    assert story.checks() == set()


def test_what_went_out_again_may_be_answered_again_alike() -> None:
    story = Story()
    story.records += [Repeated(3.5, "ana's", ROOM.id, "c3"), Acked(4.0, "ana's", ROOM.id, "c3", 3)]
    assert story.checks() == set()


def test_what_is_kept_no_more_need_not_be_given() -> None:
    story = Story()
    resumed_too_far_on(story)
    story.firsts = {ROOM.id: 4}
    assert story.checks() == set()


def test_a_device_that_asked_to_follow_no_more_was_not_dropped() -> None:
    story = Story()
    story.records += [
        Dropped(4.0, "ben's", ROOM.id, is_wanted=True),
        Subscribed(5.0, "ben's", ROOM.id, 3, asked=3),
    ]
    assert story.checks() == set()


def test_who_comes_back_sees_what_came_since_and_nothing_before() -> None:
    story = Story()
    story.change(1, kind="member.left", subject=BEN, client_id=None, text="")
    story.change(3, kind="member.joined", subject=BEN, client_id=None, text="")
    story.records = [
        *(Opened(0.0, f"{user}'s", user) for user in (ANA, BEN)),
        Subscribed(0.1, "ben's", ROOM.id, 0),
        story.sight("ben's", 1),
        Dropped(1.3, "ben's", ROOM.id),
        Revoked(1.4, "ben's", ROOM.id),
        Granted(3.0, "ben's", ROOM.id),
        Subscribed(3.1, "ben's", ROOM.id, 2, asked=1, first=3),
        story.sight("ben's", 3),
    ]
    story.end = [Ended(9.0, "ben's", is_alive=True)]
    assert story.checks() == set()
    story.records.append(story.sight("ben's", 2, 3.5))
    assert story.checks() == {Check.FOREIGN, Check.REORDERED}


def test_a_message_that_was_deleted_may_be_seen_with_and_without_its_text() -> None:
    story = Story()
    story.change(2, text="", is_redacted=True)
    assert story.checks() == set()


def test_a_summary_counts_and_shows_examples() -> None:
    story = Story()
    for seq in range(20):
        story.records.append(Acked(5.0, "ana's", ROOM.id, f"gone{seq}", seq))
    found = violations(story.records, Snapshot([ROOM], story.log, story.messages(), story.heads, story.members))
    assert summary(found).splitlines()[0] == "lost (20)"
    assert len(summary(found).splitlines()) == 6


def test_a_history_can_be_kept_and_read_again(tmp_path: Path) -> None:
    history = History()
    for record in Story().records:
        history.add(record)
    assert load(history.dump(tmp_path / "history.jsonl")) == history.records


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_a_correct_history_has_no_violation(seed: int, length: int) -> None:
    """Random acts of a room where everything goes right: comings and goings, lost connections, edits, deletions."""
    records, stored = a_correct_history(random.Random(seed), length)
    assert violations(records, stored) == []


def a_correct_history(rng: random.Random, length: int) -> tuple[list[AnyRecord], Snapshot]:
    people = [f"p{number}" for number in range(4)]
    room = Room("room", frozenset(people[:3]))
    inside, cursor = set(room.members), dict.fromkeys(people, 0)
    log: list[Entry] = []
    texts: dict[str, tuple[str, str]] = {}  # message → author and text
    records: list[AnyRecord] = [Opened(0.0, person, person) for person in people]
    records += [Subscribed(0.0, person, room.id, 0) for person in inside]
    here = set(inside)
    t = 0.0

    def append(kind: str, actor: str, client_id: str | None, text: str = "", subject: str = "") -> None:
        log.append(Entry(room.id, len(log) + 1, kind, "user", actor, client_id, t, text, subject))

    def catch_up() -> None:
        for person in sorted(here):
            for entry in log[cursor[person] :]:
                records.append(
                    Saw(
                        t, person, room.id, entry.seq, entry.kind, entry.actor, entry.client_id, entry.text,
                        entry.subject,
                    )
                )  # fmt: skip
            cursor[person] = len(log)

    for step in range(length):
        t += 1.0
        actor = rng.choice(sorted(inside))
        match rng.randrange(6):
            case 0 | 1:
                client_id, text = f"c{step}", f"text {step}"
                records.append(Sent(t, actor, room.id, client_id, "send", text))
                append("message.created", actor, client_id, text, f"m{step}")
                texts[f"m{step}"] = actor, text
                records.append(Acked(t, actor, room.id, client_id, len(log)))
            case 2 if texts:
                message = rng.choice(sorted(texts))
                author, _ = texts[message]
                if author in inside:
                    records.append(Sent(t, author, room.id, f"e{step}", "edit", "new"))
                    append("message.edited", author, f"e{step}", "new", message)
                    texts[message] = author, "new"
                    records.append(Acked(t, author, room.id, f"e{step}", len(log)))
            case 3 if len(inside) > 1:
                guest = rng.choice(sorted(inside - {actor}))
                append("member.left", actor, None, subject=guest)
                catch_up()
                inside.discard(guest)
                here.discard(guest)
                records += [Dropped(t, guest, room.id), Revoked(t, guest, room.id)]
            case 4 if len(inside) < len(people):
                guest = rng.choice(sorted(set(people) - inside))
                records.append(Granted(t, guest, room.id))
                append("member.joined", actor, None, subject=guest)
                inside.add(guest)
                here.add(guest)
                cursor[guest] = len(log) - 1
                records.append(Subscribed(t, guest, room.id, len(log) - 1))
            case _:
                away = rng.choice(sorted(inside))
                if away in here and rng.random() < 0.5:
                    here.discard(away)
                elif away not in here:
                    here.add(away)
                    records.append(Subscribed(t, away, room.id, cursor[away]))
        catch_up()
    for person in sorted(inside - here):
        here.add(person)
        records.append(Subscribed(t, person, room.id, cursor[person]))
    catch_up()
    records += [Ended(t, person, is_alive=True) for person in people]
    messages = [
        Message(room.id, entry.seq, entry.subject, entry.client_id, texts[entry.subject][1])
        for entry in log
        if entry.kind == "message.created"
    ]
    members = frozenset((room.id, person) for person in inside)
    return records, Snapshot([room], log, messages, {room.id: len(log)}, members)

"""What the next event is to one who stands somewhere in a log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from server.client.positions import Answer, Phase, Position, Verdict
from server.protocol.frames import Actor, Cursor, Event, SubscribedTo
from server.protocol.views import EventPage

EPOCH = "e1"


def standing(seq: int | None = 5, phase: Phase = Phase.LIVE, epoch: str | None = EPOCH) -> Position:
    return Position("c", seq, epoch, phase)


def page(*seqs: int, head: int, first: int = 1, epoch: str = EPOCH) -> EventPage:
    actor = Actor("user", "u", "ann")
    events = [
        Event(conversation="c", seq=seq, kind="message.deleted", at="", actor=actor, data=Raw(b"{}")) for seq in seqs
    ]
    return EventPage(events=events, head=head, first=first, epoch=epoch)


@pytest.mark.parametrize(
    ("seq", "verdict"), [(6, Verdict.NEXT), (5, Verdict.REPEAT), (1, Verdict.REPEAT), (7, Verdict.HOLE)]
)
def test_an_event_is_the_next_one_or_not(seq: int, verdict: Verdict) -> None:
    assert standing().judge(seq) is verdict


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.LIVE])
def test_before_the_answer_nothing_is_taken(phase: Phase) -> None:
    assert standing(phase=phase).judge(6) is Verdict.TOO_EARLY


@given(st.lists(st.integers(1, 30), max_size=200))
def test_whatever_comes_is_taken_once_and_in_order(arriving: list[int]) -> None:
    position, taken = standing(0), []
    for seq in arriving:
        if position.judge(seq) is Verdict.NEXT:
            position.seq = seq
            taken.append(seq)
    assert taken == list(range(1, len(taken) + 1))


def test_from_the_head_begins_where_the_answer_says() -> None:
    position = standing(None, Phase.ASKED, None)
    assert position.answered(SubscribedTo(head=9, epoch="e2", first=1, reset=False, read=0)) is Answer.GO_ON
    assert position.cursor == Cursor(seq=9, epoch="e2")


def test_what_one_may_not_see_is_no_hole() -> None:
    position = standing(0, Phase.ASKED, None)
    assert position.answered(SubscribedTo(head=9, epoch=EPOCH, first=4, reset=False, read=0)) is Answer.GO_ON
    assert position.cursor == Cursor(seq=3, epoch=EPOCH)


def test_a_reset_changes_nothing_before_the_log_was_looked_at() -> None:
    position = standing(5, Phase.ASKED)
    assert position.answered(SubscribedTo(head=9, epoch="e2", first=1, reset=True, read=0)) is Answer.READ
    assert position.cursor == Cursor(seq=5, epoch=EPOCH)
    assert position.answered(SubscribedTo(error="not_found")) is Answer.GONE


def test_a_log_goes_on_or_it_does_not() -> None:
    assert standing().continues_in(page(6, 7, head=9))
    assert standing().continues_in(page(head=5))
    assert not standing().continues_in(page(7, head=9, first=7)), "six is not kept any more"
    assert not standing().continues_in(page(7, head=9))
    assert not standing().continues_in(page(6, head=6, epoch="e2"))
    assert not standing().continues_in(page(head=4)), "the log is shorter than what was seen"
    assert not standing().continues_in(page(head=6))


def test_one_who_knows_nothing_begins_where_the_log_begins() -> None:
    position = standing(0, Phase.READING, None)
    assert position.continues_in(page(7, 8, head=9, first=7))
    assert position.cursor == Cursor(seq=6, epoch=EPOCH)

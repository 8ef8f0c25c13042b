"""How late things came, on histories made by hand."""

import pytest

from tests.chaos.history import Acked, AnyRecord, Dropped, Opened, Saw, Sent, Streamed, Subscribed
from tests.chaos.measures import answer_times, lateness, percentile, streamed_text, text_lost_s
from tests.chaos.snapshot import Entry, Room, Snapshot


def story(at: float) -> tuple[list[AnyRecord], Snapshot]:
    """One message, sent at 10.0, seen by Ana at 10.2 and by Ben at 12.0; the log says that it was committed at `at`."""
    records: list[AnyRecord] = [
        Opened(0.0, "ana's", "ana"),
        Opened(0.0, "ben's", "ben"),
        Sent(10.0, "ana's", "room", "c1", "send", "x"),
        Saw(10.2, "ana's", "room", 1, "message.created", "ana", "c1", "x", "m1"),
        Acked(10.3, "ana's", "room", "c1", 1),
        Saw(12.0, "ben's", "room", 1, "message.created", "ana", "c1", "x", "m1"),
    ]
    log = [Entry("room", 1, "message.created", "user", "ana", "c1", at, "x", "m1")]
    return records, Snapshot([Room("room", frozenset({"ana", "ben"}))], log, [], {"room": 1}, frozenset())


def test_lateness_counts_from_the_commit() -> None:
    assert lateness(*story(at=10.1), since=0.0) == pytest.approx({"ana's": 0.1, "ben's": 1.9})


def test_what_was_committed_before_the_moment_counts_from_the_moment() -> None:
    assert lateness(*story(at=10.1), since=11.5) == pytest.approx({"ben's": 0.5})


@pytest.mark.parametrize(("wrong", "ben"), [(3610.0, 1.8), (-3590.0, 2.0)])
def test_a_worker_with_a_wrong_clock_does_not_change_the_measure_much(wrong: float, ben: float) -> None:
    assert lateness(*story(at=wrong), since=0.0)["ben's"] == pytest.approx(ben)


def test_an_answer_is_timed_from_the_asking() -> None:
    records, _ = story(at=10.1)
    assert answer_times(records, since=0.0) == pytest.approx([0.3])
    assert answer_times(records, since=10.5) == []


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([5.0, 1.0, 3.0, 2.0, 4.0], 0.95) == 5.0
    assert percentile([float(n) for n in range(1, 101)], 0.95) == 95.0
    assert percentile([], 0.95) == 0.0


def test_who_is_let_in_late_is_due_from_then_on_and_who_was_cut_off_all_the_while() -> None:
    records, stored = story(at=10.1)
    back = Subscribed(11.9, "ben's", "room", 0)
    assert lateness([*records[:5], back, *records[5:]], stored, since=0.0)["ben's"] == pytest.approx(0.1)
    first = Subscribed(0.0, "ben's", "room", 0)
    assert lateness([first, *records[:5], back, *records[5:]], stored, since=0.0)["ben's"] == pytest.approx(1.9)
    gone = Dropped(5.0, "ben's", "room")
    assert lateness([first, gone, *records[:5], back, *records[5:]], stored, since=0.0)["ben's"] == pytest.approx(0.1)


def an_answer() -> list[AnyRecord]:
    """A word a second, seen by two; Ben comes in the middle and is shown the beginning at once."""
    return [
        Streamed(1.0, "ana's", "room", "run", 0, "one "),
        Streamed(2.0, "ana's", "room", "run", 4, "two "),
        Streamed(2.5, "ben's", "room", "run", 0, "one two "),
        Streamed(3.0, "ana's", "room", "run", 8, "three"),
        Streamed(3.1, "ben's", "room", "run", 8, "three"),
        Streamed(3.2, "ben's", "room", "another run", 0, "something else entirely"),
    ]


def test_what_watchers_saw_of_an_answer_is_put_together() -> None:
    assert streamed_text(an_answer(), "run") == "one two three"
    assert streamed_text(an_answer()[3:], "run") == "", "nothing is made up for a beginning that nobody saw"


@pytest.mark.parametrize(("kept", "lost_s"), [("one two three", 0.0), ("one two ", 1.0), ("one ", 2.0), ("", 3.0)])
def test_text_that_was_not_kept_is_as_old_as_its_first_piece(kept: str, lost_s: float) -> None:
    assert text_lost_s(an_answer(), "run", kept, died_at=4.0) == pytest.approx(lost_s)

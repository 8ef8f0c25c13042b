"""At most one receipt a second, whoever has waited longest first, and never an old one."""

from collections.abc import Callable

from server.hub.receipt_pace import TELL_EVERY_S, ReceiptPace
from server.protocol.frames import Receipt


class Seconds:
    """A clock whose seconds pass when the test says so."""

    def __init__(self) -> None:
        self._planned: list[Callable[[], None]] = []

    def later(self, delay_s: float, call: Callable[[], None]) -> "Seconds":
        assert delay_s == TELL_EVERY_S == 1.0
        self._planned.append(call)
        return self

    def cancel(self) -> None:
        self._planned.clear()

    def passes(self) -> None:
        planned, self._planned = self._planned, []
        for call in planned:
            call()


class Told:
    def __init__(self) -> None:
        self.seconds = Seconds()
        self.receipts: list[tuple[str, int, int]] = []
        self.pace = ReceiptPace("c", self._tell, self.seconds.later)

    def _tell(self, receipt: Receipt) -> None:
        assert receipt.conversation == "c"
        self.receipts.append((receipt.user, receipt.delivered, receipt.read))


def test_the_first_is_told_at_once_and_the_others_second_by_second() -> None:
    told = Told()
    told.pace.take([("ana", 3, 3), ("ben", 3, 1), ("eve", 2, 2)])
    assert told.receipts == [("ana", 3, 3)]
    told.seconds.passes()
    assert told.receipts == [("ana", 3, 3), ("ben", 3, 1)]
    told.pace.take([("ana", 4, 4)])
    assert len(told.receipts) == 2
    told.seconds.passes()
    told.seconds.passes()
    assert told.receipts[2:] == [("eve", 2, 2), ("ana", 4, 4)]


def test_what_has_not_been_told_is_overtaken_by_the_newest() -> None:
    told = Told()
    told.pace.take([("ana", 1, 1)])
    for seq in range(2, 50):
        told.pace.take([("ana", seq, seq - 1), ("ben", seq, 0)])
    told.pace.take([("ana", 7, 7)])  # another worker's, late
    told.seconds.passes()
    told.seconds.passes()
    told.seconds.passes()
    assert told.receipts == [("ana", 1, 1), ("ana", 49, 48), ("ben", 49, 0)]


def test_after_a_quiet_second_the_next_is_told_at_once() -> None:
    told = Told()
    told.pace.take([("ana", 1, 1)])
    told.seconds.passes()
    told.pace.take([("ana", 2, 2)])
    assert told.receipts == [("ana", 1, 1), ("ana", 2, 2)]


def test_nothing_is_told_of_a_feed_that_was_closed() -> None:
    told = Told()
    told.pace.take([("ana", 1, 1), ("ben", 1, 1)])
    told.pace.close()
    told.seconds.passes()
    assert told.receipts == [("ana", 1, 1)]

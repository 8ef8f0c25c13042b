"""Commands are found whole, however the stream is cut, and only those that publish are tampered with."""

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.redis_commands import NOWHERE, Order, PublishFilter, SideChannel, Tampering, encoded, split

WORDS = st.lists(st.binary(max_size=40), min_size=1, max_size=4)
PUBLISH = encoded(b"PUBLISH", b"chat:conversation:1", b"payload\r\n*1")
OTHER = encoded(b"SUBSCRIBE", b"conversation:1")


class Recorded(SideChannel):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    async def send(self, command: bytes) -> None:
        self.sent.append(command)

    async def send_late(self, command: bytes) -> None:
        self.sent.append(command)


@given(st.lists(WORDS, max_size=5), st.binary(max_size=3))
def test_what_is_split_is_what_was_encoded(commands: list[list[bytes]], cut: bytes) -> None:
    whole = b"".join(encoded(*words) for words in commands)
    rest = encoded(b"x" * 50)[: len(cut)]
    found, left = split(whole + rest)
    assert [words for _, words in found] == commands
    assert b"".join(raw for raw, _ in found) + left == whole + rest


@given(st.lists(st.integers(1, 30), max_size=20))
async def test_a_filter_without_an_order_changes_nothing(cuts: list[int]) -> None:
    stream, passed = PUBLISH + OTHER + PUBLISH, b""
    filtering, at = PublishFilter(Order()), 0
    for size in [*cuts, len(stream)]:
        passed += await filtering.through(stream[at : at + size])
        at += size
    assert passed == stream


async def test_one_that_is_dropped_goes_nowhere_and_still_gets_its_answer() -> None:
    order = Order(Tampering.DROP, every=2)
    passed = await PublishFilter(order).through(PUBLISH + OTHER + PUBLISH + PUBLISH)
    assert passed == PUBLISH + OTHER + encoded(b"PUBLISH", NOWHERE, b"") + PUBLISH
    assert order.tampered == 1


async def test_one_that_is_repeated_goes_twice() -> None:
    side = Recorded()
    assert await PublishFilter(Order(Tampering.REPEAT, side=side)).through(PUBLISH) == PUBLISH
    assert side.sent == [PUBLISH]


async def test_one_that_comes_late_goes_once() -> None:
    side = Recorded()
    passed = await PublishFilter(Order(Tampering.REORDER, every=2, side=side)).through(PUBLISH + PUBLISH)
    assert passed == PUBLISH + encoded(b"PUBLISH", NOWHERE, b"")
    assert side.sent == [PUBLISH]

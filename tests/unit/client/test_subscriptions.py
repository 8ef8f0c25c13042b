"""Following through answers, holes, refusals and resets, against a log in memory."""

import asyncio
import gc
from collections.abc import Callable

import pytest
from msgspec import Raw

from server.client import subscriptions as module
from server.client.errors import Closed, SignedOut
from server.client.items import Entry, Removed, Reset
from server.client.subscriptions import Subscriptions
from server.protocol.errors import NotFound
from server.protocol.frames import (
    MAX_FRAME_BYTES,
    Actor,
    ClientFrame,
    ConversationRemoved,
    Cursor,
    ErrorFrame,
    Event,
    Heads,
    Subscribe,
    Subscribed,
    SubscribedTo,
    Unsubscribe,
    UserSummary,
    Welcome,
)
from server.protocol.views import EventPage, MessagePage

EPOCH = "e1"


def event(seq: int, conversation: str = "c") -> Event:
    actor = Actor("user", "u", "ann")
    return Event(
        conversation=conversation, seq=seq, kind="message.deleted", at="", actor=actor, data=Raw(b'{"id":"m"}')
    )


class Log:
    """What HTTP answers. `first` is the oldest entry that is kept."""

    def __init__(self, head: int = 0, first: int = 1, epoch: str = EPOCH) -> None:
        self.head, self.first, self.epoch = head, first, epoch
        self.asked: list[int] = []
        self.is_gone = False
        self.failure: Exception | None = None

    async def messages(self, conversation: str, *, limit: int) -> MessagePage:
        return MessagePage(messages=[], head=self.head, epoch=self.epoch, has_more=False)

    async def events(self, conversation: str, after: int) -> EventPage:
        if self.is_gone:
            raise NotFound
        if self.failure is not None:
            raise self.failure
        self.asked.append(after)
        seqs = range(max(after + 1, self.first), min(self.head, after + 3) + 1)  # three a page
        return EventPage(events=[event(seq) for seq in seqs], head=self.head, first=self.first, epoch=self.epoch)


class Client:
    """Subscriptions, with the server's part played by the test."""

    def __init__(
        self, log: Log | None = None, *, cursors: dict[str, Cursor] | None = None, max_unread: int = 100
    ) -> None:
        self.log = log or Log()
        self.written: list[ClientFrame] = []
        self.subscriptions = Subscriptions(self._write, self.log, lambda: 0.0, cursors=cursors, max_unread=max_unread)
        self.stream = self.subscriptions.stream(None)

    def _write(self, frame: ClientFrame) -> bool:
        self.written.append(frame)
        return True

    def up(self) -> None:
        user = UserSummary(id="u", username="ann", role="member")
        self.subscriptions.up(Welcome(user=user, connection="1", heartbeat_s=25.0, conversations=[]))

    @property
    def asks(self) -> list[Subscribe]:
        return [frame for frame in self.written if isinstance(frame, Subscribe)]

    @property
    def sizes(self) -> list[int]:
        """How many conversations each ask was for."""
        return [len(frame.conversations) for frame in self.asks if isinstance(frame.conversations, dict)]

    def cursor(self, conversation: str = "c") -> Cursor | None:
        asked = self.asks[-1].conversations
        assert isinstance(asked, dict)
        return asked[conversation]

    def answer(self, head: int, *, reset: bool = False, first: int = 1, epoch: str = EPOCH) -> None:
        told = SubscribedTo(head=head, epoch=epoch, first=first, reset=reset, read=0)
        self.subscriptions.subscribed(Subscribed(id=self.asks[-1].id, conversations={"c": told}))

    async def live(self, after: int, head: int) -> None:
        self.up()
        following = self.subscriptions.follow("c", after)
        self.answer(head)
        await following

    def hear(self, *seqs: int) -> None:
        for seq in seqs:
            self.subscriptions.event(event(seq))

    async def seqs(self, count: int) -> list[int]:
        async with asyncio.timeout(10):
            items = [await anext(self.stream) for _ in range(count)]
        return [item.seq for item in items if isinstance(item, Entry)]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.001)


async def test_a_hole_is_asked_for_again_from_the_last_certain_place() -> None:
    client = Client()
    await client.live(0, 0)
    client.hear(1, 2, 5, 6)
    assert client.cursor() == Cursor(seq=2, epoch=EPOCH)
    assert len(client.asks) == 2, "once, however many come after the hole"
    client.hear(3)
    client.answer(6)
    client.hear(3, 4, 5, 6)
    assert await client.seqs(6) == [1, 2, 3, 4, 5, 6]
    assert (client.subscriptions.faults.holes, client.subscriptions.faults.repeats) == (1, 0)


async def test_a_repeat_is_left_out_and_counted() -> None:
    client = Client()
    await client.live(0, 0)
    client.hear(1, 1, 2, 1)
    assert await client.seqs(2) == [1, 2]
    assert client.stream.unread == 0
    assert client.subscriptions.faults.repeats == 2


async def test_each_connection_is_asked_for_everything_in_one_frame() -> None:
    client = Client()
    for number in range(500):
        client.subscriptions.follow(f"c{number}", Cursor(seq=number, epoch=EPOCH))
    client.up()
    assert client.sizes == [500]
    with pytest.raises(ValueError):
        client.subscriptions.follow("one too many")


async def test_what_is_too_long_for_a_frame_goes_in_two() -> None:
    client = Client()
    name = "c" * (MAX_FRAME_BYTES // 300)
    for number in range(400):
        client.subscriptions.follow(f"{name}{number}")
    client.up()
    assert sorted(len(frame.conversations) for frame in client.asks if isinstance(frame.conversations, dict)) == [
        200,
        200,
    ]


async def test_too_much_is_read_over_http_and_then_asked_for_live() -> None:
    client = Client(Log(head=8))
    client.up()
    client.subscriptions.follow("c", 0)
    client.answer(8, reset=True)
    client.hear(9)  # live already; it comes again after the next answer
    assert await client.seqs(8) == list(range(1, 9))
    await until(lambda: len(client.asks) == 2)
    assert client.cursor() == Cursor(seq=8, epoch=EPOCH)
    client.answer(9)
    client.hear(9)
    assert await client.seqs(1) == [9]
    assert client.log.asked == [0, 3, 6]


async def test_a_number_without_an_epoch_is_looked_up_first() -> None:
    client = Client(Log(head=5))
    client.up()
    client.subscriptions.follow("c", 3)
    assert client.asks == []
    assert await client.seqs(2) == [4, 5]
    await until(lambda: len(client.asks) == 1)
    assert client.cursor() == Cursor(seq=5, epoch=EPOCH)


@pytest.mark.parametrize("log", [Log(head=9, epoch="e2"), Log(head=2), Log(head=9, first=7)])
async def test_another_log_a_shorter_one_or_one_without_its_beginning_is_a_reset(log: Log) -> None:
    client = Client(log, cursors={"c": Cursor(seq=5, epoch=EPOCH)})
    client.up()
    client.subscriptions.follow("c")
    client.answer(log.head, reset=True, epoch=log.epoch)
    async with asyncio.timeout(10):
        reset = await anext(client.stream)
    assert isinstance(reset, Reset)
    await until(lambda: len(client.asks) == 2)
    assert client.cursor() == Cursor(seq=log.head, epoch=log.epoch)


async def test_an_unread_reset_is_told_again_after_a_restart() -> None:
    client = Client(Log(head=9, epoch="e2"), cursors={"c": Cursor(seq=5, epoch=EPOCH)})
    client.up()
    client.subscriptions.follow("c")
    client.answer(9, reset=True, epoch="e2")
    await until(lambda: client.stream.unread == 1)
    assert client.subscriptions.cursors["c"].epoch not in (EPOCH, "e2")


async def test_a_head_that_moved_without_its_events_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_WITH_A_HOLE_S", 0.01)
    client = Client()
    await client.live(0, 0)
    client.subscriptions.heads(Heads(conversations={"c": 2}))
    await until(lambda: len(client.asks) == 2)
    assert client.subscriptions.faults.late == 1


async def test_a_subscription_that_is_put_off_is_asked_for_again() -> None:
    client = Client()
    client.up()
    client.subscriptions.follow("c", 0)
    first = client.asks[0].id
    client.subscriptions.refused(ErrorFrame(id=first, code="unavailable", message="", retryable=True))
    await until(lambda: len(client.asks) == 2)
    assert client.asks[1].id != first


async def test_what_may_not_be_followed_says_so() -> None:
    client = Client()
    client.up()
    following = client.subscriptions.follow("c", 0)
    gone = Subscribed(id=client.asks[0].id, conversations={"c": SubscribedTo(error="not_found")})
    client.subscriptions.subscribed(gone)
    with pytest.raises(NotFound):
        await following
    async with asyncio.timeout(10):
        assert await anext(client.stream) == Removed("c", "not_found")
    assert not client.subscriptions.is_followed("c")


async def test_a_farewell_from_before_an_invitation_ends_nothing() -> None:
    client = Client()
    client.up()
    following = client.subscriptions.follow("c", 0)
    client.subscriptions.lost(ConversationRemoved(conversation="c", code="kicked"))
    client.answer(0)
    await following
    client.subscriptions.lost(ConversationRemoved(conversation="c", code="kicked"))
    assert not client.subscriptions.is_followed("c")


async def test_a_conversation_that_is_gone_while_it_is_read_is_removed() -> None:
    client = Client(Log(head=5))
    client.log.is_gone = True
    client.up()
    client.subscriptions.follow("c", 3)
    async with asyncio.timeout(10):
        assert await anext(client.stream) == Removed("c", "not_found")


async def test_a_full_stream_leaves_the_rest_with_the_server() -> None:
    client = Client(max_unread=2)
    await client.live(0, 0)
    client.hear(1, 2, 3)
    assert isinstance(client.written[-1], Unsubscribe)
    assert await client.seqs(1) == [1]
    await until(lambda: len(client.asks) == 2)
    assert client.cursor() == Cursor(seq=2, epoch=EPOCH)


async def test_a_full_stream_that_is_closed_holds_nobody_up() -> None:
    client = Client(max_unread=2)
    await client.live(0, 0)
    other = client.subscriptions.stream("c")
    client.hear(1, 2, 3)
    assert await client.seqs(2) == [1, 2]
    assert len(client.asks) == 1, "the other has read nothing"
    other.close()
    await until(lambda: len(client.asks) == 2)
    client.answer(3)
    client.hear(3)
    assert await client.seqs(1) == [3]


async def test_a_full_stream_that_nobody_holds_any_more_holds_nobody_up() -> None:
    client = Client(max_unread=2)
    await client.live(0, 0)
    other = client.subscriptions.stream("c")
    client.hear(1, 2, 3)
    assert await client.seqs(2) == [1, 2]
    del other
    gc.collect()
    await until(lambda: len(client.asks) == 2)
    assert client.cursor() == Cursor(seq=2, epoch=EPOCH)


async def test_a_new_stream_gets_what_was_left_with_the_server_for_one_that_ended() -> None:
    client = Client(max_unread=2)
    await client.live(0, 0)
    client.hear(1, 2, 3)
    client.stream.end(Closed("read no further"))
    client.stream = client.subscriptions.stream(None)
    await until(lambda: len(client.asks) == 2)
    assert client.cursor() == Cursor(seq=2, epoch=EPOCH)


async def test_an_error_while_the_log_is_read_ends_the_streams_with_it() -> None:
    client = Client(Log(head=5))
    client.log.failure = SignedOut("over")
    client.up()
    following = client.subscriptions.follow("c", 3)
    with pytest.raises(SignedOut):
        await client.seqs(1)
    with pytest.raises(SignedOut):
        await following


async def test_cursors_are_those_of_the_slowest_reader() -> None:
    client = Client()
    await client.live(0, 0)
    other = client.subscriptions.stream("c")
    client.hear(1, 2, 3)
    assert await client.seqs(3) == [1, 2, 3]
    assert client.subscriptions.cursors["c"].seq == 0, "the other has read nothing"
    other.close()
    assert client.subscriptions.cursors["c"].seq == 2, "the third was handed out, and nobody asked for the next one"

"""A feed's promises, with listeners that only write down what they get."""

import asyncio

from server.bus.bus import EventNotice
from server.hub.feed import RING_EVENTS, Effect, Feed


class Reader:
    """Writes down what it gets; `full_after` writes it suspends itself, as a socket does."""

    def __init__(self, feed: Feed | None = None, full_after: int | None = None) -> None:
        self.user_id = "u"
        self.got: list[bytes] = []
        self.feed = feed
        self.full_after = full_after
        self.suspended_at: int | None = None
        self.is_broken = False

    def write(self, frames: bytes) -> None:
        self.got.append(frames)
        if self.feed is not None and len(self.got) == self.full_after:
            self.suspended_at = self.feed.suspend(self)

    def broken(self) -> None:
        self.is_broken = True
        if self.feed is not None:
            self.feed.drop(self)

    def remove(self, conversation: str) -> bool:
        return True

    def lose(self, conversation: str, code: str) -> None:
        self.remove(conversation)


def event(seq: int, kind: str = "message.created") -> EventNotice:
    return EventNotice(seq, kind, f"<{seq}>".encode())


def make(head: int = 0, log: list[EventNotice] | None = None, effects: dict[str, Effect] | None = None) -> Feed:
    async def repair(feed: Feed) -> None:
        feed.push([event for event in log or [] if event.seq > feed.head])

    return Feed("c", "e", head, prepare=lambda payload: payload, repair=repair, effects=effects or {})


async def tick() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_all_events_of_a_tick_are_one_write_and_the_same_bytes() -> None:
    feed, ana, ben = make(), Reader(), Reader()
    feed.go_live(ana, ana.write, 0)
    feed.go_live(ben, ben.write, 0)
    feed.push([event(1), event(2)])
    feed.push([event(3)])
    await tick()
    assert ana.got == [b"<1><2><3>"]
    assert ben.got[0] is ana.got[0]


async def test_an_event_that_comes_too_early_waits_for_the_one_before() -> None:
    feed, ana = make(), Reader()
    feed.go_live(ana, ana.write, 0)
    feed.push([event(2), event(3)])
    await tick()
    assert ana.got == []
    feed.push([event(1)])
    await tick()
    assert b"".join(ana.got) == b"<1><2><3>"
    assert feed.head == 3


async def test_what_is_known_already_is_ignored() -> None:
    feed, ana = make(), Reader()
    feed.go_live(ana, ana.write, 0)
    feed.push([event(1), event(1), event(2)])
    feed.push([event(1), event(2)])
    await tick()
    assert b"".join(ana.got) == b"<1><2>"


async def test_a_hole_is_read_from_the_log_once() -> None:
    reads = 0
    log = [event(n) for n in range(1, 6)]

    async def repair(feed: Feed) -> None:
        nonlocal reads
        reads += 1
        feed.push([entry for entry in log if entry.seq > feed.head])

    feed, ana = Feed("c", "e", 0, prepare=lambda payload: payload, repair=repair, effects={}), Reader()
    feed.go_live(ana, ana.write, 0)
    feed.push([event(4)])
    feed.push([event(5)])
    await asyncio.sleep(0.1)
    assert b"".join(ana.got) == b"<1><2><3><4><5>"
    assert reads == 1


async def test_what_is_announced_without_its_content_is_read_from_the_log() -> None:
    feed, ana = make(log=[event(n) for n in range(1, 4)]), Reader()
    feed.go_live(ana, ana.write, 0)
    feed.announce(3)
    await asyncio.sleep(0.02)
    assert b"".join(ana.got) == b"<1><2><3>"
    assert feed.head == 3


async def test_a_hole_that_is_read_in_pieces_is_read_to_its_end() -> None:
    async def repair(feed: Feed) -> None:
        feed.push([event(feed.head + 1)])

    feed, ana = Feed("c", "e", 0, prepare=lambda payload: payload, repair=repair, effects={}), Reader()
    feed.go_live(ana, ana.write, 0)
    feed.announce(4)
    await asyncio.sleep(0.02)
    assert b"".join(ana.got) == b"<1><2><3><4>"


async def test_a_jump_tells_the_live_and_goes_on_with_what_came_early() -> None:
    feed, ana = make(), Reader()
    feed.go_live(ana, ana.write, 0)
    feed.push([event(1), event(2002)])
    feed.jump(2001, b"[reset]")
    await tick()
    assert b"".join(ana.got) == b"<1>[reset]<2002>"
    assert feed.head == 2002
    assert feed.since(1) is None
    feed.jump(1500, b"[reset]")  # what is known already is no news
    await tick()
    assert b"".join(ana.got) == b"<1>[reset]<2002>"
    feed.close()


async def test_two_workers_publishing_out_of_order_cost_no_read() -> None:
    feed, ana = make(log=[]), Reader()
    feed.go_live(ana, ana.write, 0)
    feed.push([event(2)])
    await asyncio.sleep(0.005)
    feed.push([event(1)])
    await asyncio.sleep(0.05)
    assert b"".join(ana.got) == b"<1><2>"


async def test_going_live_gives_what_the_ring_holds_and_nothing_twice() -> None:
    feed, ana = make(), Reader()
    feed.push([event(n) for n in range(1, 6)])  # still pending: the tick has not ended
    assert feed.go_live(ana, ana.write, 2) == b"<3><4><5>"
    await tick()
    assert ana.got == []
    feed.push([event(6)])
    await tick()
    assert ana.got == [b"<6>"]


async def test_a_ring_that_does_not_reach_back_says_so() -> None:
    feed, ana = make(), Reader()
    feed.push([event(n) for n in range(1, RING_EVENTS + 11)])
    await tick()
    assert feed.go_live(ana, ana.write, 5) is None
    assert ana not in feed.live
    assert feed.go_live(ana, ana.write, 10) is not None


async def test_forgotten_texts_are_not_in_the_ring() -> None:
    feed = make()
    feed.push([event(1), event(2)])
    await tick()
    feed.forget_texts()
    assert feed.since(0) is None
    assert feed.since(2) == b""


async def test_an_effect_comes_after_its_own_event_and_before_the_next() -> None:
    ana, ben = Reader(), Reader()

    def expel(feed: Feed, notice: EventNotice) -> None:
        feed.drop(ben)

    feed = make(effects={"member.left": expel})
    feed.go_live(ana, ana.write, 0)
    feed.go_live(ben, ben.write, 0)
    feed.push([event(1), event(2, "member.left"), event(3)])
    await tick()
    assert b"".join(ben.got) == b"<1><2>"
    assert b"".join(ana.got) == b"<1><2><3>"


async def test_passing_frames_come_behind_the_events_of_their_tick() -> None:
    feed, ana = make(), Reader()
    feed.go_live(ana, ana.write, 0)
    feed.pass_on(b"typing", droppable=True)
    feed.push([event(1)])
    await tick()
    assert ana.got == [b"<1>typing"]


async def test_a_full_listener_is_suspended_with_the_seq_it_has_and_the_others_go_on() -> None:
    feed, ana = make(), Reader()
    slow = Reader(feed, full_after=2)
    feed.go_live(slow, slow.write, 0)
    feed.go_live(ana, ana.write, 0)
    for seq in (1, 2, 3):
        feed.push([event(seq)])
        await tick()
    assert slow.got == [b"<1>", b"<2>"]
    assert slow.suspended_at == 2
    assert ana.got == [b"<1>", b"<2>", b"<3>"]
    assert feed.go_live(slow, slow.write, slow.suspended_at) == b"<3>"


async def test_a_dead_transport_costs_the_others_nothing() -> None:
    feed, ana = make(), Reader()
    dead = Reader(feed)

    def raise_as_a_dead_transport_does(frames: bytes) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed>")

    feed.go_live(dead, raise_as_a_dead_transport_does, 0)
    feed.go_live(ana, ana.write, 0)
    feed.push([event(1)])
    await tick()
    assert dead.is_broken
    assert dead not in feed.live
    assert ana.got == [b"<1>"]


async def test_a_listener_suspended_between_ticks_lacks_what_was_pending() -> None:
    feed, ana = make(), Reader()
    feed.go_live(ana, ana.write, 0)
    feed.push([event(1)])
    await tick()
    feed.push([event(2)])
    assert feed.suspend(ana) == 1
    await tick()
    assert ana.got == [b"<1>"]

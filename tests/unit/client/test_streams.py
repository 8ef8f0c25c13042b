"""Reading what happens, at the reader's own pace."""

import asyncio
import gc
from collections.abc import Callable

import pytest

from server.client.errors import SignedOut
from server.client.items import Removed
from server.client.streams import Stream


def stream(conversation: str | None = None, max_unread: int = 4, has_room: Callable[[], None] = lambda: None) -> Stream:
    return Stream(conversation, closed=lambda _: None, has_room=has_room, max_unread=max_unread)


async def test_items_come_in_the_order_they_were_put() -> None:
    reading = stream()
    waiting = asyncio.ensure_future(anext(reading))
    await asyncio.sleep(0)
    for name in "abc":
        reading.put(Removed(name, ""))
    assert [(await waiting), await anext(reading), await anext(reading)] == [Removed(name, "") for name in "abc"]


async def test_it_is_full_until_half_of_it_was_read() -> None:
    told: list[int] = []
    reading = stream(has_room=lambda: told.append(len(told)))
    for name in "abcd":
        reading.put(Removed(name, ""))
    assert reading.is_full
    await anext(reading)
    assert told == []
    await anext(reading)
    assert told == [0]
    await anext(reading)
    assert told == [0]


async def test_what_was_unread_at_the_end_can_still_be_read() -> None:
    reading = stream()
    reading.put(Removed("a", ""))
    reading.end(SignedOut("over"))
    assert await anext(reading) == Removed("a", "")
    for _ in range(2):
        with pytest.raises(SignedOut):
            await anext(reading)


async def test_closing_ends_the_loop_that_reads() -> None:
    reading = stream()
    reading.put(Removed("a", ""))
    reading.close()
    assert [item async for item in reading] == []
    assert not reading.wants("a")


async def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    reading = stream()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(reading), 0.01)
    reading.put(Removed("a", ""))
    assert await anext(reading) == Removed("a", "")


def test_nothing_holds_a_stream_that_nobody_reads() -> None:
    before = sum(isinstance(one, Stream) for one in gc.get_objects())
    stream()
    assert sum(isinstance(one, Stream) for one in gc.get_objects()) == before

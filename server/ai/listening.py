"""Listening to an answer that streams: pieces of bytes into a format's reader, under deadlines.

In:   the pieces of an open HTTP answer, and the reader of its format.
Out:  the reader's events, and exactly one end: where the stream hangs, breaks or grows without measure, the parts that
are open are ended with what they have, and `Failed` says why.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

import httpx2

from server.ai.adapter import AnswerEvent, Cancelled, ErrorKind, Failed, Finished
from server.ai.failures import failed
from server.ai.stream_reader import StreamReader


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. A model that thinks for long before its first word is slow and not broken; a silence in the middle of an
    answer is."""

    connect_s: float = 10.0
    first_event_s: float = 120.0
    idle_s: float = 60.0
    total_s: float = 1800.0


MAX_ANSWER_BYTES = 64 * 1024 * 1024  # of the stream: a hundred times the longest answer that a model gives


async def listen(
    pieces: AsyncIterator[bytes], reader: StreamReader, deadlines: Deadlines
) -> AsyncGenerator[AnswerEvent, None]:
    """The events of one answer; whoever closes it closes nothing else: `pieces` belong to the caller."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    size, has_begun = 0, False
    end: Failed | None = None
    while end is None:
        wait: tuple[float, ErrorKind] = (
            (loop.time() + deadlines.idle_s, "timeout_idle")
            if has_begun
            else (began + deadlines.first_event_s, "timeout_first_event")
        )
        until, kind = min(wait, (began + deadlines.total_s, "timeout_total"))
        try:
            async with asyncio.timeout_at(until):
                piece = await anext(pieces, b"")
        except TimeoutError:
            end = failed(kind)
            continue
        except httpx2.TransportError:
            end = failed("connection", "it broke off in the middle of the answer")
            continue
        events = reader.feed(piece) if piece else reader.close()
        for event in events:
            has_begun = True
            yield event
            if isinstance(event, Finished | Failed | Cancelled):
                return
        if not piece:
            raise AssertionError(f"{type(reader).__name__} ended without saying so")
        size += len(piece)
        if size > MAX_ANSWER_BYTES:
            end = failed("bad_response", f"it has more than {MAX_ANSWER_BYTES} bytes")
    for event in reader.close():
        if isinstance(event, Finished):
            end = None  # all was said, and only the connection did not end
        if not isinstance(event, Failed | Cancelled):
            yield event
    if end is not None:
        yield end

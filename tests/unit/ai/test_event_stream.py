"""Server-sent events are the same, wherever the bytes are cut."""

import itertools

import pytest

from server.ai import event_stream
from server.ai.event_stream import EventStream, ServerSentEvent

WORDS = (
    "\ufeff: hello\nevent: delta\ndata: \N{SNOWMAN}{\ndata:  }\nid: 7\n\ndata\n\nretry: 5\n\ndata:[DONE]\n\ndata: late"
)
EXPECTED = [
    ServerSentEvent("delta", "\N{SNOWMAN}{\n }".encode()),
    ServerSentEvent("", b""),
    ServerSentEvent("", b"[DONE]"),
    ServerSentEvent("", b"late"),
]


def read(pieces: list[bytes]) -> list[ServerSentEvent]:
    stream = EventStream()
    return [event for piece in pieces for event in stream.feed(piece)] + stream.close()


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_any_cut_gives_the_same_events(line_end: str) -> None:
    whole = WORDS.replace("\n", line_end).encode()
    assert read([whole]) == EXPECTED
    assert read([bytes([byte]) for byte in whole]) == EXPECTED
    for first, second in itertools.combinations(range(len(whole) + 1), 2):
        assert read([whole[:first], whole[first:second], whole[second:]]) == EXPECTED


def test_an_event_is_handed_out_with_its_empty_line() -> None:
    stream = EventStream()
    assert stream.feed(b"data: 1\r") == []
    assert stream.feed(b"\n\r") == [ServerSentEvent("", b"1")]
    assert stream.feed(b"\ndata: 2\n\n") == [ServerSentEvent("", b"2")]


@pytest.mark.parametrize("endless", [b"x" * 100, b"data: xxxxxxxx\n"])
def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch, endless: bytes) -> None:
    monkeypatch.setattr(event_stream, "MAX_EVENT_BYTES", 1000)
    for pieces in ([b"data: whole\n\n", *([endless] * 200)], [b"data: whole\n\n" + endless * 200]):
        stream = EventStream()
        found = [event for piece in pieces for event in stream.feed(piece)]
        assert (found, stream.is_too_large) == ([ServerSentEvent("", b"whole")], True)
        assert stream.feed(b"\n\ndata: later\n\n") + stream.close() == []


def test_no_bytes_are_no_events() -> None:
    assert read([]) == []
    assert read([b"", b": only a comment\n\n"]) == []

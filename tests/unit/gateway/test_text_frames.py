"""The quick way into a socket reads exactly what the parser would, and leaves the rest to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from server.gateway.websocket_protocol import take_text_frame


def framed(payload: bytes, *, opcode: Opcode = Opcode.TEXT, fin: bool = True, mask: bool = True) -> bytes:
    return Frame(opcode, payload, fin).serialize(mask=mask)


@given(st.text(max_size=400), st.binary(max_size=20))
def test_a_whole_text_frame_is_taken_and_what_follows_is_left(text: str, behind: bytes) -> None:
    frame = framed(text.encode())
    assert take_text_frame(frame + behind) == (text, len(frame))


@pytest.mark.parametrize("length", [0, 125, 126, 127, 65_535])
def test_all_short_lengths(length: int) -> None:
    frame = framed(b"x" * length)
    assert take_text_frame(frame) == ("x" * length, len(frame))


NOT_ONE_WHOLE_SHORT_TEXT = [
    framed(b"half")[:-1],
    framed(b"x" * 200)[:3],
    framed(b"")[:5],
    framed(b"no mask", mask=False),
    framed(b"first part", fin=False),
    framed(b"last part", opcode=Opcode.CONT),
    framed(b"binary", opcode=Opcode.BINARY),
    framed(b"", opcode=Opcode.PING),
    framed(b"\x03\xe8", opcode=Opcode.CLOSE),
    framed(b"x" * 65_536),
    framed(b"\xff\xfe"),
    b"\x81\xfe\x00\x05abcdhello",  # a length that had a shorter form
    b"\xc1\x85abcdhello",  # a reserved bit
    b"",
]


@pytest.mark.parametrize(
    "data", NOT_ONE_WHOLE_SHORT_TEXT, ids=[f"case {n}" for n in range(len(NOT_ONE_WHOLE_SHORT_TEXT))]
)  # masks are drawn by chance: named by their content, the cases would have other names in each process
def test_everything_else_is_the_parsers(data: bytes) -> None:
    assert take_text_frame(data) == (None, 0)

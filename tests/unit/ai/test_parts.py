"""Parts are numbered without gaps, add up, and hold arguments or the reason why not."""

import pytest

from server.ai.adapter import PartDelta, PartEnded, PartStarted, ProviderData
from server.ai.parts import PartBook, arguments_of


def test_parts_are_numbered_as_they_come_and_add_up() -> None:
    book = PartBook("some_format")
    assert book.is_empty
    assert book.start("thought", "reasoning") == PartStarted(0, "reasoning")
    assert book.start(7, "tool_call", call="c1", name="look_up") == PartStarted(1, "tool_call", "c1", "look_up")
    assert book.add("thought", "hm") == PartDelta(0, "hm")
    assert book.add(7, '{"a":') == PartDelta(1, '{"a":')
    book.add("thought", "m")
    book.add(7, "1}")
    book.keep("thought", signature="x")
    assert "thought" in book
    assert book.end("thought") == PartEnded(
        0, "reasoning", "hmm", provider_data=ProviderData("some_format", {"signature": "x"})
    )
    assert "thought" not in book
    assert book.start("thought", "text") == PartStarted(2, "text")
    assert list(book.end_all(is_cut=False)) == [
        PartEnded(1, "tool_call", '{"a":1}', "c1", "look_up", {"a": 1}),
        PartEnded(2, "text", ""),
    ]
    assert not book.is_empty


def test_a_call_that_broke_off_before_its_arguments_has_none() -> None:
    book = PartBook("some_format")
    book.start(0, "tool_call", call="c1", name="look_up")
    [part] = book.end_all(is_cut=True)
    assert isinstance(part, PartEnded)
    assert (part.arguments, bool(part.error)) == (None, True)


@pytest.mark.parametrize("text", ["", "  ", "{}"])
def test_no_text_is_a_call_without_arguments(text: str) -> None:
    assert arguments_of(text) == ({}, None)


@pytest.mark.parametrize("text", ["{", "[1]", '"x"', "nonsense", "{} {}", '{"a": NaN}', "[" * 5000, '{"a": "\\ud800"}'])
def test_what_is_no_object_is_an_error_and_no_guess(text: str) -> None:
    arguments, error = arguments_of(text)
    assert arguments is None
    assert error

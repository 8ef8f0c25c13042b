"""Names: which are possible, and which are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.hub.usernames import checked, key_of
from server.protocol.errors import Rejected


@pytest.mark.parametrize(
    "name", ["a", "ada", "Ada.Lovelace", "[afk]-bob_", "^|{\\}|^", "李白", "Ödön", "हिन्दी", "สมชาย", "٣", "x" * 32]
)
def test_letters_and_digits_of_any_script_are_a_name(name: str) -> None:
    assert checked(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 33,
        "two words",
        "a@b",
        "a/b",
        "new\nline",
        "a\u200bb",
        "a\u202eb",
        "😀",
        "\u0301a",
        "a\u00a0b",
        "ﷺ",
        "⑴",
        "'",
    ],
)
def test_anything_else_is_none(name: str) -> None:
    with pytest.raises(Rejected):
        checked(name)


@pytest.mark.parametrize("name", ["demo", "Demo", "ＤＥＭＯ", "system", "everyone", "here", "all", "channel"])
def test_names_that_mean_no_person_are_reserved(name: str) -> None:
    with pytest.raises(Rejected, match="reserved"):
        checked(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Ada", "ada"), ("STRASSE", "straße"), ("\u00e9", "e\u0301"), ("ｆｕｌｌ", "full"), ("ﬁn", "fin"), ("ΣΑΣ", "σας")],
)
def test_spellings_of_one_name_are_the_same(one: str, other: str) -> None:
    assert key_of(one) == key_of(other)


def test_a_name_is_kept_as_it_was_typed() -> None:
    assert checked("AdA") == "AdA"
    assert checked("e\u0301va") == "\u00e9va"


@given(st.text(max_size=40))
def test_every_text_has_a_key_that_is_its_own_key(name: str) -> None:
    assert key_of(key_of(name)) == key_of(name)

"""What is read out of a raw IRC log."""

import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from server.hub.irc_log import client_id_of, day_of, lines_of, said, usernames_of
from server.hub.usernames import MAX_LENGTH, checked, key_of
from server.protocol.ids import CLIENT_ID_PATTERN

DAY = date(2005, 5, 19)


@pytest.mark.parametrize(
    ("line", "nick", "text"),
    [
        ("[08:36] <mole_> I'm having difficulty.  Two blanks", "mole_", "I'm having difficulty.  Two blanks"),
        ("[08:36] <a>  blanks around ", "a", " blanks around "),
        ("[08:36] <a>no blank", "a", "no blank"),
        ("[08:36] <a>", "a", ""),
        ("[08:36] <[BTF] x> hi", "[BTF] x", "hi"),
        ("[08:36] <a> <b> nested", "a", "<b> nested"),
        ("[08:36]  * nick waves", "nick", "/me waves"),
        ("[08:36] * nick", "nick", "/me "),
        ("[08:36] <a> * b waves", "a", "* b waves"),
        ("[08:36] <a> re\rturn and nul\0", "a", "re\rturn and nul"),
        ("[08:36] <名前> こんにちは 🎉", "名前", "こんにちは 🎉"),
    ],
)
def test_a_message(line: str, nick: str, text: str) -> None:
    found = said(line, DAY)
    assert found is not None
    assert (found.at, found.nick, found.text) == (datetime(2005, 5, 19, 8, 36, tzinfo=UTC), nick, text)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "=== aisipos [~anton@example.org]  has joined #ubuntu",
        "[08:36] (soundray/#ubuntu) thomas: hi",
        "[08:36] -gfx:#ubuntu- notice",
        "[8:36] <a> hi",
        "[24:00] <a> hi",
        "[08:60] <a> hi",
        "[08:36]<a> hi",
        " [08:36] <a> hi",
        "[08:36] <> hi",
        "[08:36] a> hi",
    ],
)
def test_no_message(line: str) -> None:
    assert said(line, DAY) is None


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("2005-05-19.train-a.raw.txt", DAY),
        ("ubuntu-2005-05-19.log", DAY),
        ("2005-13-19.txt", None),
        ("ubuntu.log", None),
    ],
)
def test_the_day_stands_in_the_name_of_the_file(name: str, day: date | None) -> None:
    assert day_of(Path("2001-01-01") / name) == day


def test_lines_keep_their_bytes_and_say_how_far_they_reach(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"one\r\n\n\xe2\x80\nlast \xff")
    lines = list(lines_of(file))
    assert [line.text for line in lines] == ["one\r", "", "\N{REPLACEMENT CHARACTER}", "last \N{REPLACEMENT CHARACTER}"]
    assert [line.number for line in lines] == [1, 2, 3, 4]
    assert [line.end for line in lines] == [5, 6, 9, 15]


def test_a_file_without_line_ends_is_read_in_pieces(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"x" * 3_000_000)
    assert [len(line.text) for line in lines_of(file)] == [1024 * 1024, 1024 * 1024, 3_000_000 - 2 * 1024 * 1024]


def test_the_id_of_a_line_is_made_of_all_that_makes_it_itself() -> None:
    line = "[08:36] <a> hi"
    ids = [
        client_id_of(DAY, 7, line),
        client_id_of(DAY, 8, line),
        client_id_of(date(2005, 5, 20), 7, line),
        client_id_of(DAY, 7, line + "!"),
    ]
    assert len(set(ids)) == 4
    assert ids[0] == client_id_of(DAY, 7, line)
    assert all(re.match(CLIENT_ID_PATTERN, one) for one in ids)


def test_a_possible_nickname_stays_as_it_is() -> None:
    for nick in ("mole_", "[BTF]", "a|b", "{x}^", "back\\slash", "名前"):
        assert usernames_of(nick)[0] == nick


@pytest.mark.parametrize(
    "nick",
    [
        "lux`",
        "bur[n] er",
        "demo",
        "Everyone",
        "x" * 33,
        "x" * 500,
        "",
        "`",
        " ",
        "🎉",
        "\u0301",
        "@op",
        "a<b",
        "\ufdfa",
    ],
)
def test_an_impossible_nickname_gets_a_possible_name(nick: str) -> None:
    names = usernames_of(nick)
    assert len(names) == 1
    assert checked(names[0]) == names[0]
    assert names == usernames_of(nick)
    assert len(names[0]) <= MAX_LENGTH


def test_different_nicknames_get_different_names() -> None:
    nicks = ["lux`", "lux``", "lux_", "lux'", "`lux", "`" * 3, "'" * 3]
    assert len({key_of(usernames_of(nick)[-1]) for nick in nicks}) == len(nicks)


def test_the_case_of_a_nickname_makes_nobody_else() -> None:
    assert key_of(usernames_of("LUX`")[-1]) == key_of(usernames_of("lux`")[-1])
    assert key_of(usernames_of("Ada")[-1]) == key_of(usernames_of("ada")[-1])

"""Passwords, with the real argon2."""

import asyncio
import threading
import time
import tracemalloc

import pytest
from argon2 import PasswordHasher, extract_parameters

from server.hub import passwords
from server.hub.passwords import COMMON_COUNT, MAX_LENGTH, Passwords, common_passwords
from server.protocol.errors import Overloaded, Rejected

GOOD = "correct horse battery"


async def test_the_password_itself_is_verified_and_no_other() -> None:
    hasher = Passwords()
    hashed = await hasher.hash(GOOD)
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert GOOD not in hashed
    assert await hasher.verify(hashed, GOOD)
    assert not await hasher.verify(hashed, GOOD + " ")
    assert not await hasher.verify(hashed, "")


async def test_the_same_password_has_another_hash_each_time() -> None:
    hasher = Passwords()
    assert await hasher.hash(GOOD) != await hasher.hash(GOOD)


@pytest.mark.parametrize("password", ["", "a", "ninechars", "密码密码密码密码密"])
async def test_under_ten_characters_are_too_short(password: str) -> None:
    with pytest.raises(Rejected, match="too short"):
        await Passwords().hash(password)


@pytest.mark.parametrize("password", ["1234567890", "qwertyuiop", "PassWord123", "LEAVEMEALONE"])
async def test_the_commonest_are_refused_in_any_case_of_letters(password: str) -> None:
    with pytest.raises(Rejected, match="guess"):
        await Passwords().hash(password)


async def test_the_longest_is_1024_characters() -> None:
    hasher = Passwords()
    assert await hasher.verify(await hasher.hash("ä" * MAX_LENGTH), "ä" * MAX_LENGTH)
    with pytest.raises(Rejected, match="too long"):
        await hasher.hash("ä" * (MAX_LENGTH + 1))
    assert not await hasher.verify(None, "ä" * 1_000_000)


async def test_two_spellings_of_one_character_are_the_same_password() -> None:
    hasher = Passwords()
    assert await hasher.verify(await hasher.hash("caf\u00e9 au lait"), "cafe\u0301 au lait")


def test_the_list_is_cut_at_the_3000_commonest() -> None:
    import importlib

    full: list[str] = importlib.import_module("zxcvbn.frequency_lists").FREQUENCY_LISTS["passwords"]
    known = common_passwords()
    assert known == {word for word in full[:COMMON_COUNT] if len(word) >= 10}
    assert len(known) > 40
    assert any(len(word) >= 10 and word not in known for word in full)


def test_of_the_list_little_stays_in_memory() -> None:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    known = common_passwords()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert known
    assert grown < 100_000


async def test_without_a_hash_the_answer_is_no_after_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is the hash's own: what is verified in place of a missing one costs what a real one costs."""
    hasher = Passwords()
    verified: list[str] = []

    def verify(text: str, password: str) -> bool:
        verified.append(text)
        return really(text, password)

    really = hasher._verify
    monkeypatch.setattr(hasher, "_verify", verify)
    hashed = await hasher.hash(GOOD)
    assert await hasher.verify(hashed, GOOD)
    assert not await hasher.verify(None, GOOD)
    real, invented = (extract_parameters(text) for text in verified)
    assert invented == real


async def test_something_that_is_no_hash_verifies_nothing() -> None:
    assert not await Passwords().verify("no hash", GOOD)


async def test_a_hash_of_other_parameters_is_outdated() -> None:
    hasher = Passwords()
    assert not hasher.is_outdated(await hasher.hash(GOOD))
    old = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(GOOD)
    assert hasher.is_outdated(old)
    assert await hasher.verify(old, GOOD)


async def test_a_password_of_old_may_break_the_rules_of_today() -> None:
    hasher = Passwords()
    assert await hasher.verify(await hasher.hash_anew("short"), "short")


async def test_two_are_hashed_at_once_and_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    hasher, running, most, lock = Passwords(), 0, 0, threading.Lock()

    def work(password_hash: str, password: str) -> bool:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return False

    monkeypatch.setattr(hasher, "_verify", work)
    turns = 0
    waiting = asyncio.gather(*(hasher.verify(None, GOOD) for _ in range(10)))
    while not waiting.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert most == 2
    assert turns > 20


async def test_a_crowd_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MAX_WAITING", 4)
    hasher = Passwords()
    answers = await asyncio.gather(*(hasher.verify(None, GOOD) for _ in range(6)), return_exceptions=True)
    assert len([answer for answer in answers if isinstance(answer, Overloaded)]) == 2
    assert await hasher.verify(None, GOOD) is False

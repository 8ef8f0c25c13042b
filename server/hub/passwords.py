"""Passwords: which are good enough, and their hashes.

Argon2id takes tens of milliseconds and megabytes on purpose. So it runs in threads, two at once, with a bounded queue:
a crowd at the sign-in form waits in line and the loop goes on delivering messages.
"""

import asyncio
import base64
import importlib.util
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from server.protocol.errors import Overloaded, Rejected

T = TypeVar("T")

MIN_LENGTH = 10
MAX_LENGTH = 1024  # a long passphrase; beyond it only work for us
COMMON_COUNT = 3000  # those that guessing programs try first

# OWASP's second recommended setting for argon2id. The first, 46 MiB with one pass, is as strong but would double what a
# small server needs while two people sign in.
MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1
SALT_BYTES = 16
HASH_BYTES = 32

AT_ONCE = 2  # 38 MiB, and a core stays free for messages on a machine with more than two
MAX_WAITING = 100  # about two seconds of work; later comers are told to come back


class Passwords:
    def __init__(self) -> None:
        self._hasher = PasswordHasher(PASSES, MEMORY_KIB, LANES, HASH_BYTES, SALT_BYTES)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._common: frozenset[str] | None = None

    async def hash(self, password: str) -> str:
        """The hash of a password that is good enough; `Rejected` with the reason when it is not."""
        return await self._in_turn(lambda: self._check_and_hash(password))

    async def hash_anew(self, password: str) -> str:
        """The hash of a password that somebody has already: the rules may have become stricter since."""
        return await self._in_turn(lambda: self._hasher.hash(_normalised(password)))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether it is the password. Without a hash the answer is no, after the same work: time tells nothing."""
        if len(password) > MAX_LENGTH:
            return False
        text = password_hash or self._hash_of_nothing()
        return await self._in_turn(lambda: self._verify(text, password))

    def is_outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(password_hash)

    def _check_and_hash(self, password: str) -> str:
        self._check(password)
        return self._hasher.hash(_normalised(password))

    def _check(self, password: str) -> None:
        text = _normalised(password)
        if len(text) < MIN_LENGTH:
            raise Rejected(f"the password is too short: at least {MIN_LENGTH} characters, please")
        if len(text) > MAX_LENGTH:
            raise Rejected(f"the password is too long: at most {MAX_LENGTH} characters, please")
        if self._common is None:
            self._common = common_passwords()
        if text.casefold() in self._common:
            raise Rejected("this password is among the first that anybody would guess: please choose another")

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, _normalised(password))
        except (VerificationError, InvalidHashError):
            return False

    def _hash_of_nothing(self) -> str:
        """Shaped like a hash of today's cost, but drawn: no password leads to it, and nothing had to be computed."""
        salt, digest = _base64(os.urandom(SALT_BYTES)), _base64(os.urandom(HASH_BYTES))
        return f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${digest}"

    async def _in_turn(self, work: Callable[[], T]) -> T:
        if self._waiting >= MAX_WAITING:
            raise Overloaded("too many people are signing in at this moment", retry_after_s=2.0)
        self._waiting += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1


def common_passwords() -> frozenset[str]:
    """Those of the commonest 3,000 that are long enough to pass the rule of length: a few dozen.

    The list is a module of the zxcvbn package, with five others of no use here: it is run apart from the package, and
    all but these words is gone again.
    """
    package = importlib.util.find_spec("zxcvbn")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = Path(package.submodule_search_locations[0]) / "frequency_lists.py"
    spec = importlib.util.spec_from_file_location("frequency_lists", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    commonest: list[str] = module.FREQUENCY_LISTS["passwords"][:COMMON_COUNT]
    return frozenset(password for password in commonest if len(password) >= MIN_LENGTH)


def _normalised(password: str) -> str:
    """One spelling for what one person types on two keyboards (RFC 8265, section 4.2: OpaqueString)."""
    return unicodedata.normalize("NFC", password)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).rstrip(b"=").decode()

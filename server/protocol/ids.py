"""Identifiers: UUIDv7 strings (RFC 9562, section 5.7), so that sorting by id is sorting by time of birth."""

import os
import re
import time
from typing import NewType

ConversationId = NewType("ConversationId", str)
MessageId = NewType("MessageId", str)
UserId = NewType("UserId", str)
RunId = NewType("RunId", str)
GrantId = NewType("GrantId", str)
ClientId = NewType("ClientId", str)  # made by the client, 1 to 64 characters of [A-Za-z0-9._:-]

CLIENT_ID_PATTERN = r"^[A-Za-z0-9._:-]{1,64}$(?!\n)"  # `$` alone would let a trailing newline pass

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def new_id() -> str:
    return uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def uuid7(unix_ms: int, random: bytes) -> str:
    """48 bits of time in milliseconds, then version, variant and 74 bits of the 10 random bytes handed in."""
    value = (unix_ms & (1 << 48) - 1) << 80 | int.from_bytes(random, "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def is_id(value: str) -> bool:
    """Whether `value` is spelt as ids are handed out: a stranger's text never reaches a uuid column."""
    return _UUID.fullmatch(value) is not None

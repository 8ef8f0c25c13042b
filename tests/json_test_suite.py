"""The cases of JSONTestSuite (318 texts that parsers disagree on), where the machine has them, and what we answer."""

from pathlib import Path

import pytest

from server.protocol.frames import MAX_FRAME_BYTES

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "json-test-suite" / "test_parsing"
ARE_HERE = FOLDER.is_dir()
NAMES = sorted(path.name for path in FOLDER.glob("*.json"))
# Sound by the letter of RFC 8259, and refused here: two readers would take them for two different things.
TRAPS = {
    "y_object_duplicated_key.json",
    "y_object_duplicated_key_and_value.json",
    "y_object_escaped_null_in_key.json",
    "y_string_null_escape.json",
}

needs_suite = pytest.mark.skipif(not ARE_HERE, reason=f"JSONTestSuite is not at {FOLDER}: its 318 cases were NOT run")


def content(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def is_text_frame(name: str) -> bool:
    """Whether it can be a text frame at all: UTF-8, and not too large."""
    raw = content(name)
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return len(raw) <= MAX_FRAME_BYTES


def expected_codes(name: str) -> set[str]:
    """What a socket may answer to the case as a frame: none of them is one."""
    if name.startswith("n_") or name in TRAPS:
        return {"bad_json"}
    return {"bad_frame"} if name.startswith("y_") else {"bad_json", "bad_frame"}

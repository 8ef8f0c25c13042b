"""Names of people: which are possible, and when two are the same."""

import unicodedata

from server.protocol.errors import Rejected

MAX_LENGTH = 32
PUNCTUATION = frozenset("._-[]{}^|\\")  # what names on IRC may hold
RESERVED = frozenset({"demo", "system", "everyone", "here", "all", "channel"})  # `@` before them means no person


def key_of(username: str) -> str:
    """The same for all spellings that a reader would take for one name."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())


def checked(username: str) -> str:
    """The name as it is kept; `Rejected` with the reason when it is none."""
    name = unicodedata.normalize("NFC", username)
    if not 1 <= len(name) <= MAX_LENGTH:
        raise Rejected(f"a name has 1 to {MAX_LENGTH} characters")
    # Some single letters hold spaces and brackets once they are spelt out; those are looked at too.
    if not _is_possible(name) or not _is_possible(unicodedata.normalize("NFKC", name)):
        raise Rejected("a name has letters and digits of any script, and . _ - [ ] { } ^ | \\")
    if key_of(name) in RESERVED:
        raise Rejected(f"the name {name} is reserved")
    return name


def _is_possible(name: str) -> bool:
    categories = [unicodedata.category(character) for character in name]
    # Marks (M) are vowels and tones of many scripts; a first one would have nothing to stand on.
    return not categories[0].startswith("M") and all(
        character in PUNCTUATION or category[0] in "LM" or category == "Nd"
        for character, category in zip(name, categories, strict=True)
    )

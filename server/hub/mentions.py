"""`@name` in a text: whom it means and where it stands."""

import re

from server.hub.usernames import MAX_LENGTH, PUNCTUATION, key_of
from server.protocol.events import Mention

# A name follows an `@` that does not stand inside a word (an address such as a@b is no mention).
_MENTION = re.compile(r"(?<![\w@.])@([\w" + re.escape("".join(sorted(PUNCTUATION))) + r"]{1," + str(MAX_LENGTH) + r"})")
MAX_MENTIONS = 50  # of one message; a longer list is a wall of names, not a call


def candidates(text: str) -> list[tuple[int, str]]:
    """(start, longest possible name) of each `@`; the name may end earlier, since `.` and `-` also end sentences."""
    return [(match.start(), match.group(1)) for match in _MENTION.finditer(text)][:MAX_MENTIONS]


def possible_keys(found: list[tuple[int, str]]) -> set[str]:
    return {key_of(name) for _, longest in found for name in _shortened(longest)}


def resolve(found: list[tuple[int, str]], users: dict[str, str], models: frozenset[str]) -> list[Mention]:
    """`users` maps keys of names to user ids."""
    mentions = []
    for start, longest in found:
        for name in _shortened(longest):
            key = key_of(name)
            if key in models or key in users:
                kind, target = ("model", key) if key in models else ("user", users[key])
                mentions.append(Mention(kind, target, start, start + 1 + len(name)))
                break
    return mentions


def _shortened(longest: str) -> list[str]:
    """`bob.` may be bob at the end of a sentence: the name itself, then without what punctuation it ends in."""
    names = [longest]
    while names[-1] and names[-1][-1] in PUNCTUATION:
        names.append(names[-1][:-1])
    return [name for name in names if name]

"""Who is present in which conversation, by the nodes that say so.

In:   comings and goings as each node reports them, in any order and as often as it likes.
Out:  who is present on any node; and of whom the last word that was passed on is not true any more.
Promises: somebody with devices on two nodes is present once, and gone when both say so. Who goes and comes back between
two looks has not moved. Two that hold the same of a node have the same digest of it, and others hardly ever. No I/O, no
clock.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from hashlib import blake2b


class Whereabouts:
    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, set[str]]] = {}  # node → conversation → users
        self._digests: dict[str, int] = {}  # node → of all its pairs, in whichever order they came
        self._places: dict[str, int] = {}  # user → in how many conversations they are present
        self._present: dict[str, dict[str, int]] = {}  # conversation → user → how many nodes say so
        self._moved: dict[str, dict[str, bool]] = {}  # conversation → user → whether they were here at the last word

    def come(self, node: str, conversation: str, user: str) -> None:
        conversation, user = sys.intern(conversation), sys.intern(user)  # every node's word brings new copies
        users = self._nodes.setdefault(node, {}).setdefault(conversation, set())
        if user in users:
            return
        users.add(user)
        self._digests[node] = self.digest(node) ^ _digest(conversation, user)
        present = self._present.setdefault(conversation, {})
        present[user] = present.get(user, 0) + 1
        if present[user] == 1:
            self._places[user] = self._places.get(user, 0) + 1
            self._moved.setdefault(conversation, {}).setdefault(user, False)

    def go(self, node: str, conversation: str, user: str) -> None:
        conversations = self._nodes.get(node, {})
        users = conversations.get(conversation)
        if users is None or user not in users:
            return
        users.remove(user)
        self._digests[node] ^= _digest(conversation, user)
        if not users:
            del conversations[conversation]
        present = self._present[conversation]
        present[user] -= 1
        if not present[user]:
            del present[user]
            self._places[user] -= 1
            if not self._places[user]:
                del self._places[user]
            self._moved.setdefault(conversation, {}).setdefault(user, True)
            if not present:
                del self._present[conversation]

    def forget(self, node: str) -> None:
        """Nobody is present there any more."""
        for conversation, users in tuple(self._nodes.get(node, {}).items()):
            for user in tuple(users):
                self.go(node, conversation, user)
        self._nodes.pop(node, None)
        self._digests.pop(node, None)

    def of(self, node: str) -> Mapping[str, Set[str]]:
        return self._nodes.get(node, {})

    def digest(self, node: str) -> int:
        return self._digests.get(node, 0)

    def here(self, conversation: str) -> Set[str]:
        return self._present.get(conversation, {}).keys()

    def is_anywhere(self, user: str) -> bool:
        return user in self._places

    # What has not been passed on

    def moved(self) -> Sequence[str]:
        """The conversations with somebody of whom the last word is not true any more, or may not be."""
        return tuple(self._moved)

    def take(self, conversation: str, at_most: int) -> Iterator[tuple[str, bool]]:
        """Whether they are here, of so many; from now on this is the last word."""
        users = self._moved.get(conversation, {})
        here = self.here(conversation)
        while users and at_most:
            user, was_here = users.popitem()
            if (user in here) != was_here:
                at_most -= 1
                yield user, not was_here
        if not users:
            self._moved.pop(conversation, None)

    def skip(self, conversation: str) -> None:
        """There is nobody to be told."""
        self._moved.pop(conversation, None)


def _digest(conversation: str, user: str) -> int:
    """The same in every process, which `hash` is not."""
    return int.from_bytes(blake2b(f"{conversation} {user}".encode(), digest_size=8).digest(), "big")

"""What should be in a room, kept in a few dictionaries: to hold a studio against.

It knows nothing of sockets, cursors, retries or the client's reducer.
"""

from dataclasses import dataclass, field

NAMES = ("alice", "bob", "carol")
OWNER, GUESTS = NAMES[0], NAMES[1:]

Happening = tuple[str, ...]  # kind, who did it, and about what
Shown = tuple[str, frozenset[tuple[str, str]]]  # a message: its text, and who reacted with what


@dataclass
class Said:
    """A message; `client_id` and `first_text` are what it was sent with."""

    id: str
    seq: int
    author: str
    client_id: str
    first_text: str
    text: str
    reactions: set[tuple[str, str]] = field(default_factory=set)


@dataclass
class Room:
    """`log[n]` is what happened at seq n + 1. `hidden` are the seqs that somebody may not see: those at which they were
    not there and, where a new member sees only what follows, all from before they last came."""

    history: str
    log: list[Happening] = field(default_factory=list)
    members: set[str] = field(default_factory=lambda: set(NAMES))
    visible_from: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 1))
    hidden: dict[str, set[int]] = field(default_factory=lambda: {name: set() for name in NAMES})
    said: list[Said] = field(default_factory=list)

    @property
    def head(self) -> int:
        return len(self.log)

    def happens(self, *what: str) -> int:
        self.log.append(what)
        for name in set(NAMES) - self.members:
            self.hidden[name].add(self.head)
        return self.head

    def says(self, author: str, message: str, client_id: str, text: str) -> None:
        seq = self.happens("message.created", author, client_id, text)
        self.said.append(Said(message, seq, author, client_id, text, text))

    def edits(self, author: str, message: Said, text: str) -> None:
        self.happens("message.edited", author, message.id, text)
        message.text = text

    def reacts(self, name: str, message: Said, emoji: str, *, on: bool) -> None:
        self.happens("reaction.added" if on else "reaction.removed", name, message.id, emoji)
        (message.reactions.add if on else message.reactions.discard)((emoji, name))

    def joins(self, name: str) -> None:
        self.members.add(name)
        seq = self.happens("member.joined", OWNER, name)
        self.visible_from[name] = 1 if self.history == "all" else seq
        self.hidden[name] = set(range(1, self.visible_from[name]))

    def loses(self, name: str, by: str) -> None:
        self.happens("member.left", by, name)
        self.members.remove(name)

    def next_for(self, name: str, seq: int) -> int:
        """The seq that somebody who has everything up to `seq` hears next."""
        return next(later for later in range(seq + 1, self.head + 2) if later not in self.hidden[name])

    def last_for(self, name: str) -> int:
        return max((seq for seq in range(1, self.head + 1) if seq not in self.hidden[name]), default=0)

    def shown_since(self, seq: int) -> dict[str, Shown]:
        return {one.id: (one.text, frozenset(one.reactions)) for one in self.said if one.seq >= seq}

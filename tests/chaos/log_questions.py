"""The log that the database holds, by the questions that the checker asks of it."""

from collections import Counter, defaultdict

from tests.chaos.snapshot import Entry, Snapshot


class Log:
    """The log, by the questions that are asked of it."""

    def __init__(self, stored: Snapshot) -> None:
        self.rooms = {room.id for room in stored.rooms}
        self.entries: dict[tuple[str, int], Entry] = {(entry.room, entry.seq): entry for entry in stored.log}
        self.by_client_id: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
        self.head: dict[str, int] = dict.fromkeys(self.rooms, 0)
        for entry in stored.log:
            self.head[entry.room] = max(self.head[entry.room], entry.seq)
            if entry.client_id is not None:
                self.by_client_id[entry.room, entry.actor, entry.client_id].append(entry)
        self._stays = _stays(stored)
        self._firsts = stored.firsts
        self.rooms_of: dict[str, set[str]] = defaultdict(set)
        for room, user in stored.memberships:
            self.rooms_of[user].add(room)
        self.leaves = Counter((entry.room, entry.subject) for entry in stored.log if entry.kind == "member.left")

    def is_member(self, room: str, user: str, seq: int) -> bool:
        """Whether `user` may see what stands at `seq`: their own coming and going included, nothing beyond."""
        return any(first <= seq <= last for first, last in self._stays[room, user])

    def was_let_in(self, room: str, user: str) -> bool:
        """Whether they are a member by the log, and not from the beginning."""
        return bool(self._stays[room, user]) and self._stays[room, user][-1][0] > 1

    def may_begin_at(self, room: str, user: str, first: int) -> bool:
        """Whether what `user` may see began there at some time: where they were let in, or where the log begins."""
        return first <= self._firsts.get(room, 1) or any(first == begin for begin, _ in self._stays[room, user])


Stay = tuple[int, float]  # the first and the last seq of one membership


def _stays(stored: Snapshot) -> dict[tuple[str, str], list[Stay]]:
    stays: dict[tuple[str, str], list[Stay]] = defaultdict(list)
    for room in stored.rooms:
        for user in room.members:
            stays[room.id, user].append((1, float("inf")))
    for entry in stored.log:
        key = entry.room, entry.subject
        if entry.kind == "member.joined":
            stays[key].append((entry.seq, float("inf")))
        elif entry.kind == "member.left" and stays[key]:
            stays[key][-1] = stays[key][-1][0], entry.seq
    return stays

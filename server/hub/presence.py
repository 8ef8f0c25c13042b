"""Presence: who is here, on whichever node, told to who is here.

In:   sockets of this node that begin and cease to follow a conversation; what the other nodes say of theirs.
Out:  `presence` frames to the sockets of this node, at most once a second for each conversation; one notice a second to
the other nodes, if anything has changed; the list of who is here.
Promises: a lease, not a record: a user is present while a socket of theirs follows the conversation anywhere, and 15
seconds longer, so that a reload is no goodbye. A node renews its own lease every five seconds: what a node said that
has died ends after 15 seconds of silence. Each node tells only its own sockets, so nobody hears anything twice. Where
more than 200 are present, the number is told instead of single comings and goings. All of it is put off while this node
has too much else to do; what comes and goes meanwhile is told in sum. Nothing is written to the database.

Every node knows all of it, since a list of members may be asked for at any. A node that starts, may have missed
something, or hears of one that it does not know asks, and is told everything from the beginning. So does one that has
heard only a part: with what it says each node tells a digest of all that it has said.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress

from loguru import logger

from server.bus.bus import (
    PRESENCE_TOPIC,
    Bus,
    Notice,
    PresenceChanged,
    PresenceHere,
    PresenceWanted,
    node_topic,
)
from server.hub.hub import Hub
from server.hub.whereabouts import Whereabouts
from server.protocol.codec import encode
from server.protocol.frames import Presence as PresenceFrame
from server.protocol.ids import new_id
from server.telemetry import metrics

GRACE_S = 15.0
TELL_EVERY_S = 1.0
RENEW_EVERY_S = 5.0
LEASE_S = 15.0
MAX_TOLD = 200  # present; also single frames in one tick of a conversation
SINGLY_AGAIN = (
    180  # below `MAX_TOLD`, so that one who comes and goes at the border does not change the manner each time
)
MAX_LAG_S = 0.25
MANY_BEHIND = 8  # sockets that read too slowly, if they are also a quarter of all: the way out is what is scarce
PAIRS_A_NOTICE = 300  # of conversation and user, about 12 KB


class Presence:
    def __init__(self, hub: Hub, bus: Bus, *, is_on: bool = True) -> None:
        self._hub = hub
        self._bus = bus
        self._is_on = is_on
        self._loop = asyncio.get_running_loop()
        self._node = new_id()
        self._whereabouts = Whereabouts()
        self._sockets: dict[str, Counter[str]] = {}  # conversation → user → sockets of this node that follow it
        self._leaving: dict[tuple[str, str], float] = {}  # (conversation, user) → when the grace is over
        self._goodbyes: deque[tuple[float, tuple[str, str]]] = deque()  # the same in order of time, some outdated
        self._unsaid: dict[tuple[str, str], bool] = {}  # whether the other nodes think that they are here
        self._counted: dict[str, int] = {}  # conversation → the number that was told last
        self._silent_s: dict[str, float] = {}  # other node → since when it has said nothing
        self._unknown: set[str] = set()  # nodes whose whereabouts are to be asked for
        self._askers: set[str] = set()
        self._renewed_s = 0.0  # how long ago
        self._task: asyncio.Task[None] | None = None
        hub.is_online = self.is_online
        metrics.presence_shed.set(not is_on)

    async def open(self) -> None:
        if not self._is_on:
            return
        await self._bus.listen([PRESENCE_TOPIC, node_topic(self._node)], self._on_notice)
        self._hub.on_gap.append(self._ask_all)
        self._ask_all()
        self._task = self._loop.create_task(self._tick_forever())

    async def close(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._renew()  # whoever was here has the whole grace to appear at another node

    def arrived(self, conversation: str, user: str) -> None:
        if not self._is_on:
            return
        sockets = self._sockets.setdefault(conversation, Counter())
        sockets[user] += 1
        if sockets[user] == 1 and self._leaving.pop((conversation, user), None) is None:
            self._unsaid.setdefault((conversation, user), False)
            self._whereabouts.come(self._node, conversation, user)

    def departed(self, conversation: str, user: str) -> None:
        sockets = self._sockets.get(conversation)
        if sockets is None:
            return
        sockets[user] -= 1
        if sockets[user] > 0:
            return
        del sockets[user]
        if not sockets:
            del self._sockets[conversation]
        until = self._loop.time() + GRACE_S
        self._leaving[conversation, user] = until
        self._goodbyes.append((until, (conversation, user)))

    def here(self, conversation: str) -> Set[str]:
        return self._whereabouts.here(conversation)

    def is_online(self, user: str) -> bool:
        """Present in some conversation, whichever: who has not opened a new chat yet is no stranger in it."""
        return self._whereabouts.is_anywhere(user)

    # Once a second

    async def _tick_forever(self) -> None:
        while True:
            began = self._loop.time()
            await asyncio.sleep(TELL_EVERY_S)
            lag_s = max(0.0, self._loop.time() - began - TELL_EVERY_S)
            try:
                self._tick(lag_s)
            except Exception:  # noqa: BLE001 - the edge of a task: reported, and the next second may do better
                logger.exception("presence could not be told")

    def _tick(self, lag_s: float) -> None:
        self._end_graces(self._loop.time())
        self._renewed_s += TELL_EVERY_S + lag_s
        if self._renewed_s >= RENEW_EVERY_S:
            self._renew()
        if self._bus.is_healthy():  # else nobody can be heard
            self._end_leases()
        is_shed = lag_s > MAX_LAG_S or self._is_way_out_blocked()
        metrics.presence_shed.set(is_shed)
        if not is_shed:
            self._say()
            self._ask_unknown()
            self._answer()
            self._tell()

    def _is_way_out_blocked(self) -> bool:
        connections = self._hub.connections()
        behind = sum(connection.is_full for connection in connections)
        return behind >= MANY_BEHIND and behind * 4 >= len(connections)

    def _end_graces(self, now: float) -> None:
        while self._goodbyes and self._goodbyes[0][0] <= now:
            until, (conversation, user) = self._goodbyes.popleft()
            if self._leaving.get((conversation, user)) == until:  # not back, and not gone a second time
                del self._leaving[conversation, user]
                self._unsaid.setdefault((conversation, user), True)
                self._whereabouts.go(self._node, conversation, user)

    # To this node's sockets

    def _tell(self) -> None:
        for conversation in self._whereabouts.moved():
            feed = self._hub.feed(conversation) if conversation in self._sockets else None
            if feed is None:  # nobody to be told; whoever comes asks for the list
                self._whereabouts.skip(conversation)
                self._counted.pop(conversation, None)
                continue
            for frame in self._frames(conversation):
                feed.pass_on(encode(frame), droppable=True)

    def _frames(self, conversation: str) -> Iterator[PresenceFrame]:
        count = len(self.here(conversation))
        counted = self._counted.get(conversation)
        if count > (MAX_TOLD if counted is None else SINGLY_AGAIN):
            if count != counted:
                self._counted[conversation] = count
                yield PresenceFrame(conversation=conversation, count=count)
            return  # who has moved is told should they become fewer
        self._counted.pop(conversation, None)
        for user, is_here in self._whereabouts.take(conversation, MAX_TOLD):
            yield PresenceFrame(conversation=conversation, user=user, state="online" if is_here else "offline")

    # To the other nodes

    def _renew(self) -> None:
        self._renewed_s = 0.0
        self._bus.publish(PRESENCE_TOPIC, PresenceChanged(self._node, digest=self._digest_if_said()))

    def _say(self) -> None:
        unsaid, self._unsaid = self._unsaid, {}
        here = self._whereabouts.of(self._node)
        moved = [pair for pair, was_here in unsaid.items() if (pair[1] in here.get(pair[0], ())) != was_here]
        digest = self._whereabouts.digest(self._node)
        for start in range(0, len(moved), PAIRS_A_NOTICE):
            came: dict[str, list[str]] = {}
            went: dict[str, list[str]] = {}
            for conversation, user in moved[start : start + PAIRS_A_NOTICE]:
                (went if unsaid[conversation, user] else came).setdefault(conversation, []).append(user)
            is_last = start + PAIRS_A_NOTICE >= len(moved)
            self._bus.publish(
                PRESENCE_TOPIC, PresenceChanged(self._node, came, went, digest=digest if is_last else None)
            )

    def _digest_if_said(self) -> int | None:
        return None if self._unsaid else self._whereabouts.digest(self._node)

    def _answer(self) -> None:
        if not self._askers:
            return
        askers, self._askers = self._askers, set()
        # Many ask at once when Redis comes back: then it is said to all, once.
        topic = node_topic(askers.pop()) if len(askers) == 1 else PRESENCE_TOPIC
        for number, part in enumerate(_parts(self._whereabouts.of(self._node))):
            self._bus.publish(topic, PresenceHere(self._node, number == 0, part))

    def _ask_all(self) -> None:
        self._bus.publish(PRESENCE_TOPIC, PresenceWanted(self._node, []))

    def _ask_unknown(self) -> None:
        if self._unknown:
            self._bus.publish(PRESENCE_TOPIC, PresenceWanted(self._node, sorted(self._unknown)))
            self._unknown.clear()

    # From the other nodes

    def _on_notice(self, notice: Notice) -> None:
        match notice:
            case PresenceChanged(node) if node != self._node:
                self._hear(node)
                for conversation, users in notice.came.items():
                    for user in users:
                        self._whereabouts.come(node, conversation, user)
                for conversation, users in notice.went.items():
                    for user in users:
                        self._whereabouts.go(node, conversation, user)
                if notice.digest is not None and notice.digest != self._whereabouts.digest(node):
                    self._unknown.add(node)
            case PresenceWanted(node, of) if node != self._node and (not of or self._node in of):
                self._askers.add(node)
            case PresenceHere(node, is_first, here) if node != self._node:
                self._hear(node)
                self._unknown.discard(node)
                if is_first:
                    self._whereabouts.forget(node)  # who is named again has not moved
                for conversation, users in here.items():
                    for user in users:
                        self._whereabouts.come(node, conversation, user)

    def _hear(self, node: str) -> None:
        if node not in self._silent_s:
            self._unknown.add(node)
        self._silent_s[node] = 0.0
        metrics.presence_nodes.set(len(self._silent_s))

    def _end_leases(self) -> None:
        """Time is counted in ticks: when it is this process that was stopped, the others have not been silent."""
        for node in tuple(self._silent_s):
            self._silent_s[node] += TELL_EVERY_S
            if self._silent_s[node] >= LEASE_S:
                del self._silent_s[node]
                self._unknown.discard(node)
                self._whereabouts.forget(node)
                metrics.presence_nodes.set(len(self._silent_s))


def _parts(here: Mapping[str, Set[str]]) -> Iterator[dict[str, list[str]]]:
    """At least one, be it empty."""
    part: dict[str, list[str]] = {}
    size = 0
    for conversation, users in here.items():
        part[conversation] = list(users)
        size += len(users)
        if size >= PAIRS_A_NOTICE:
            yield part
            part, size = {}, 0
    yield part

"""Presence: who is here, told to who is here.

A lease, not a record: a user is present in a conversation while one of their sockets follows it, and 15 seconds
longer, so that a reload is no goodbye. Changes are gathered and told once a second for each conversation, in a lane
of frames that is shed first; where more than 200 are present nobody is told of single comings and goings. Nothing is
written to the database.
"""

import asyncio
from collections import Counter

from server.hub.hub import Hub
from server.protocol.frames import Presence as PresenceFrame

GRACE_S = 15.0
TELL_EVERY_S = 1.0
MAX_TOLD = 200


class Presence:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._here: dict[str, Counter[str]] = {}  # conversation → user → sockets that follow it
        self._leaving: dict[str, dict[str, float]] = {}  # conversation → user → when the grace is over
        self._changes: dict[str, dict[str, bool]] = {}  # conversation → user → what has not been told yet
        self._timer: asyncio.TimerHandle | None = None

    def arrived(self, conversation: str, user: str) -> None:
        here = self._here.setdefault(conversation, Counter())
        here[user] += 1
        if here[user] == 1 and self._leaving.get(conversation, {}).pop(user, None) is None:
            self._change(conversation, user, True)

    def departed(self, conversation: str, user: str) -> None:
        here = self._here.get(conversation)
        if here is None:
            return
        here[user] -= 1
        if here[user] > 0:
            return
        del here[user]
        if not here:
            # Nobody is left to be told, and whoever comes next asks for the list.
            del self._here[conversation]
            self._changes.pop(conversation, None)
            self._leaving.pop(conversation, None)
            return
        self._leaving.setdefault(conversation, {})[user] = self._loop.time() + GRACE_S
        self._plan()

    def here(self, conversation: str) -> set[str]:
        return set(self._here.get(conversation, ()))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _change(self, conversation: str, user: str, is_here: bool) -> None:
        self._changes.setdefault(conversation, {})[user] = is_here
        self._plan()

    def _plan(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(TELL_EVERY_S, self._tell)

    def _tell(self) -> None:
        self._timer = None
        now = self._loop.time()
        for conversation, leaving in tuple(self._leaving.items()):
            for user in [user for user, until in leaving.items() if until <= now]:
                del leaving[user]
                self._changes.setdefault(conversation, {})[user] = False
            if not leaving:
                del self._leaving[conversation]
        changes, self._changes = self._changes, {}
        for conversation, states in changes.items():
            if len(self._here.get(conversation, ())) <= MAX_TOLD:
                for user, is_here in states.items():
                    frame = PresenceFrame(
                        conversation=conversation, user=user, state="online" if is_here else "offline"
                    )
                    self._hub.pass_on(conversation, frame, droppable=True)
        if self._leaving:
            self._plan()

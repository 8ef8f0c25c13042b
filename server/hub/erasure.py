"""The eraser: takes everything that is left of an account out of the conversations, after its owner has gone.

In:   accounts whose erasure was asked for; they cannot come in any more and have no name.
Out:  events that say what happened, so that every log, feed and client stays true: the member has left, somebody else
      is owner, messages are deleted, reactions are gone. At the end the account itself is gone.
Promises: it goes on after a crash, on whichever node looks first; what is done already is not done again. Senders are
not kept waiting: a few events to a transaction, on a connection beside theirs. Private chats stay for the other side, a
room gets a new owner, and what nobody could read any more is deleted: with all that is in it, where texts are to go.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from loguru import logger

from server.hub.message_queue import MessageQueue
from server.protocol import clock
from server.protocol.errors import ChatError, NotFound
from server.protocol.events import (
    ConversationDeleted,
    EventData,
    MemberJoined,
    MemberLeft,
    MemberRole,
    MessageDeleted,
    ReactionRemoved,
)
from server.protocol.frames import Actor
from server.storage.advisory import if_alone
from server.storage.database import Database
from server.storage.erasures import NOBODY, Erasure, Erasures, Trace
from server.storage.message_log import Draft
from server.storage.purge import Purge
from server.storage.users import Users

LOOK_EVERY_S = 30.0  # for what a node that died has left behind
CHUNK = 25  # events in one transaction: some fifty milliseconds under the lock of a head
PAUSE_S = 0.02  # between them: whoever waited for the head gets it
MAX_ROUNDS = 5  # what was under way while the account was closed comes to light in the second
SYSTEM = Actor("system", "chat-studio", "Chat Studio")


class Eraser:
    def __init__(
        self, database: Database, queue: MessageQueue, users: Users, *, clock: Callable[[], datetime] = clock.now
    ) -> None:
        self._database = database
        self._erasures = Erasures(database)
        self._purge = Purge(database)
        self._queue = queue
        self._users = users
        self._now = clock
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """Somebody has asked for an erasure."""
        self._wake.set()

    async def run_once(self) -> None:
        """Erase all that is asked for; where another node is at it, leave it to that one."""
        for erasure in await self._erasures.pending():
            async with if_alone(self._database, f"erasure {erasure.user}") as is_ours:
                if is_ours:
                    await self._erase(erasure)

    async def _erase(self, erasure: Erasure) -> None:
        for _ in range(MAX_ROUNDS):
            # First what no event says, so that the events which follow empty the rings of it.
            while await self._erasures.forget_name(erasure.user):
                pass
            while erasure.with_messages and await self._erasures.forget_steers(erasure.user):
                pass
            for trace in await self._erasures.traces(erasure):
                await self._erase_in(trace, erasure)
            if not await self._erasures.traces(erasure) and await self._erasures.finish(erasure.user, self._now()):
                logger.info("account {} is erased, {} its messages", erasure.user, _with(erasure))
                return
        logger.warning("account {} is not quite erased yet; going on later", erasure.user)

    async def _erase_in(self, trace: Trace, erasure: Erasure) -> None:
        if trace.is_deleted:
            await self._erasures.take_from_deleted(trace.conversation, erasure)
            if erasure.with_messages and trace.other_members == 0:
                await self._purge.take_all(trace.conversation)  # answers and titles too: it was this account's alone
            return
        try:
            if trace.role is not None:
                await self._leave(trace, erasure.user)
            await self._take_reactions(trace.conversation, erasure.user)
            if erasure.with_messages:
                await self._take_messages(trace.conversation, erasure.user)
        except NotFound:
            pass  # deleted in this moment, or its messages are: the next round sees which

    # One conversation

    async def _leave(self, trace: Trace, user: str) -> None:
        events: list[EventData] = []
        if trace.role == "owner" and not trace.has_other_owner:
            events += await self._succession(trace, user)
        events.append(MemberLeft(user=user, by=user))
        if trace.other_members == 0 and trace.visibility == "private":
            events.append(ConversationDeleted())
        await self._append(trace.conversation, events)

    async def _succession(self, trace: Trace, user: str) -> list[EventData]:
        """Somebody who is there already; in an empty public room, an admin."""
        heir = await self._erasures.successor(trace.conversation, user)
        if heir is not None:
            return [MemberRole(user=heir, role="owner")]
        admin = await self._users.first_admin() if trace.visibility == "public" else None
        return [MemberJoined(user=admin.id, username=admin.username, role="owner")] if admin else []

    async def _take_reactions(self, conversation: str, user: str) -> None:
        former = Actor("user", user, NOBODY)
        while chunk := await self._erasures.reactions(conversation, user, CHUNK):
            events = [ReactionRemoved(id=message, emoji=emoji) for message, emoji in chunk]
            await self._append(conversation, events, actor=former)

    async def _take_messages(self, conversation: str, user: str) -> None:
        while chunk := await self._erasures.messages(conversation, user, CHUNK):
            await self._append(conversation, [MessageDeleted(id=message) for message in chunk])

    async def _append(self, conversation: str, events: Sequence[EventData], actor: Actor = SYSTEM) -> None:
        """In one transaction, so that what belongs together happens together."""
        drafts = [
            Draft(conversation, actor, data, target=data.id if isinstance(data, MessageDeleted) else None)
            for data in events
        ]
        await self._queue.append_all(drafts)
        await asyncio.sleep(PAUSE_S)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self.run_once()
            except ChatError as error:
                logger.warning("an erasure waits: {}; going on later", error.code)
            except Exception:  # noqa: BLE001 - the eraser must not end
                logger.exception("an erasure broke off; going on later")
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                pass


def _with(erasure: Erasure) -> str:
    return "with" if erasure.with_messages else "without"

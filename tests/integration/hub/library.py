"""A library of things said: people, rooms and messages that went through the real log, for tests that look at them."""

import asyncio
from datetime import datetime
from typing import Any

from server.app import judge
from server.hub.identity import Identity
from server.hub.permissions import ROLES_ALLOWED, Permission
from server.hub.search import Search
from server.protocol import clock
from server.protocol.events import EventData, MessageCreated, RunEnded, RunStarted
from server.protocol.frames import Actor
from server.protocol.ids import new_id
from server.protocol.search import SearchAnswer
from server.storage.conversations import Conversations
from server.storage.database import Database
from server.storage.message_log import Draft, MessageLog, Stored
from server.storage.messages import Messages
from server.storage.new_conversations import NewConversation
from server.storage.search import SearchIndex
from server.storage.users import NewUser, Users


class Library:
    """People, rooms, and what was said in them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.log = MessageLog(database, judge, sending_roles=sorted(ROLES_ALLOWED[Permission.SEND]))
        self.conversations = Conversations(database)
        self.index = SearchIndex(database)
        self.search = Search(self.index, Messages(database), self.conversations)

    async def person(self, name: str, role: str = "member") -> Identity:
        async with self.database.transaction() as connection:
            user = await Users(self.database).add(connection, NewUser(name, name.lower(), role), clock.now())
        return Identity(user.id, user.username, user.role, new_id())

    async def room(
        self, owner: Identity, *members: Identity, title: str | None = "A room", visibility: str = "private",
        history: str = "joined", kind: str = "room",
    ) -> str:  # fmt: skip
        people = [(owner.user_id, "owner"), *((member.user_id, "member") for member in members)]
        new = NewConversation(kind, title, visibility, history, None, None, owner.user_id, people)
        [made] = await self.conversations.create([new], clock.now())
        return made.conversation

    async def say(self, who: Identity, conversation: str, *texts: str, at: datetime | None = None) -> list[str]:
        """The ids of the messages."""
        said = [MessageCreated(id=new_id(), client_id=new_id(), text=text) for text in texts]
        drafts = [Draft(conversation, who.actor, one, one.client_id, b"", "send") for one in said]
        await self._append(drafts)
        if at is not None:  # as if it had been said then
            ids = [one.id for one in said]
            await self.database.execute("UPDATE messages SET at = $2 WHERE id = ANY($1::uuid[])", ids, at)
        return [one.id for one in said]

    async def do(self, who: Identity, conversation: str, data: EventData) -> None:
        await self._append([Draft(conversation, who.actor, data)])

    async def answer(self, who: Identity, conversation: str, model: str, text: str) -> str:
        run, message = new_id(), new_id()
        await self.do(who, conversation, RunStarted(run=run, message=message, model=model, reply_to=None))
        await self.index.catch_up(None, 1)  # it has read the message while it was empty
        ended = RunEnded(run=run, message=message, status="finished", text=text, parts=[], usage=None, cost=None)
        await self._append([Draft(conversation, Actor("model", model, model), ended)])
        return message

    async def _append(self, drafts: list[Draft]) -> None:
        for outcome in await self.log.append(drafts, wait=True):
            assert isinstance(outcome, Stored), outcome

    async def find(self, who: Identity, query: str, limit: int = 100, /, **filters: Any) -> SearchAnswer:
        """The answer once it is complete: a busy machine may need more than one try."""
        async with asyncio.timeout(30):
            while not (answer := await self.search.search(who, query, limit=limit, **filters)).complete:
                pass
        return answer

    async def texts(self, who: Identity, query: str, **filters: Any) -> list[str]:
        return [result.message.text for result in (await self.find(who, query, **filters)).results]

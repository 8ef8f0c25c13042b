"""The private chats manager: conversations of two, and who wants to hear nothing from whom.

In:   somebody who wants to talk to somebody, or to hear nothing more from them.
Out:  the one chat of the two; every device of whoever blocks hears of it, and the blocked learns it from a refusal.
Promises: two people have one private chat, whoever opens it and however often. It stands in the list of whoever opened
it, and in that of the other side from the first thing said. While one side blocks the other nothing new passes between
them there, in either direction: what is said is refused in the log's transaction, typing, presence and receipts end at
the feed. The past stays readable for both, and rooms that they share know nothing of it.
"""

from collections.abc import Sequence

from server.hub.hub import Hub
from server.hub.identity import Identity
from server.hub.message_queue import MessageQueue
from server.hub.permissions import Permission, studio_refusal
from server.protocol import clock
from server.protocol.errors import BadFrame, NotFound
from server.protocol.frames import UserSummary
from server.protocol.ids import is_id
from server.storage.blocks import Blocks
from server.storage.conversations import Conversations
from server.storage.message_log import Draft, Stored
from server.storage.new_conversations import NewConversation
from server.storage.standings import Standings


class PrivateChats:
    def __init__(
        self, conversations: Conversations, blocks: Blocks, queue: MessageQueue, hub: Hub, standings: Standings
    ) -> None:
        self._conversations = conversations
        self._blocks = blocks
        self._hub = hub
        self._standings = standings
        hub.on_block = self._on_block
        queue.observers.append(self._on_committed)

    async def with_person(self, identity: Identity, user: str) -> str:
        """The chat with `user`, opened if new; guests open none."""
        if not is_id(user) or user == identity.user_id:
            raise NotFound("there is no such person")
        existing = await self._conversations.private_chat(identity.user_id, user)
        if existing is not None:
            return existing
        refused = studio_refusal(Permission.STUDIO_MEMBER, identity.account_role)
        if refused is not None:
            raise refused
        [made] = await self._conversations.create([plan_private_chat(identity, [user])], clock.now())
        for entered in made.entered:
            self._hub.added(entered, made.conversation)
        return made.conversation

    # Blocks

    async def block(self, identity: Identity, user: str) -> None:
        """Blocking somebody twice changes nothing."""
        if not is_id(user):
            raise NotFound("there is no such person")
        if user == identity.user_id:
            raise BadFrame("nobody blocks themselves")
        await self._tell(identity, user, await self._blocks.put(identity.user_id, user, clock.now()))

    async def unblock(self, identity: Identity, user: str) -> None:
        """Whoever is not blocked stays so."""
        if not is_id(user):
            raise NotFound("there is no such person")
        await self._tell(identity, user, await self._blocks.drop(identity.user_id, user))

    async def blocked(self, identity: Identity) -> Sequence[UserSummary]:
        return await self._blocks.of(identity.user_id)

    async def _tell(self, identity: Identity, user: str, chat: str | None) -> None:
        """The devices of whoever blocks see it in the chat's summary; the other side's sockets only fall silent."""
        if chat is not None:
            await self._on_block(identity.user_id, chat)  # here it holds when the caller gets an answer
            self._hub.blocks_changed([identity.user_id, user], chat)
            self._hub.added(identity.user_id, chat)

    async def _on_block(self, user: str, chat: str) -> None:
        """On every node with a socket of one of the two: look what is true now."""
        feed = self._hub.feed(chat)
        if feed is None:
            return
        feed.note_rights_changed()  # whoever is about to subscribe looks again, too
        generation = feed.rights_changed
        standing = await self._standings.of(user, "member", chat)
        if standing is not None and generation == feed.rights_changed:
            feed.is_hushed = standing.is_blocked

    # What the log says

    def _on_committed(self, stored: Stored, draft: Draft) -> None:
        """The first event of a chat puts it into the other side's list. A repeat may come from somebody whose first
        worker died before it could do so."""
        if stored.seq == 1 and stored.conversation_kind == "private":
            self._hub.spawn(self._enter_lists(stored.conversation))

    async def _enter_lists(self, chat: str) -> None:
        for user in await self._conversations.open_for_everybody(chat):
            self._hub.added(user, chat)


def plan_private_chat(identity: Identity, others: Sequence[str], visibility: str | None = None) -> NewConversation:
    """Check what needs no database."""
    if len(others) != 1:
        raise BadFrame("a private chat has exactly one other member")
    if visibility == "public":
        raise BadFrame("a private chat is never public")
    sides = [(identity.user_id, "member"), (others[0], "member")]
    return NewConversation("private", None, "private", "all", None, None, identity.user_id, sides)

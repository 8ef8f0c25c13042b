"""The rooms manager: conversations of every kind and who is in them.

In:   what people want made, changed, joined, left or deleted.
Out:  conversations, and events in their logs; every socket of whoever comes or goes hears of it.
"""

import contextlib
from collections.abc import Sequence

from msgspec import UNSET
from msgspec.structs import replace

from server.hub.hub import Hub
from server.hub.identity import Identity
from server.hub.message_queue import MessageQueue
from server.hub.model_catalog import ModelCatalog
from server.hub.permissions import Permission, refusal
from server.hub.private_chats import plan_private_chat
from server.protocol import clock
from server.protocol.errors import BadFrame, ChatError, Conflict, NotFound
from server.protocol.events import (
    ConversationDeleted,
    EventData,
    MemberJoined,
    MemberLeft,
    MemberRole,
    SettingsDraft,
)
from server.protocol.frames import ConversationAdded, ConversationSummary
from server.protocol.ids import is_id
from server.protocol.views import Conversation, Member
from server.storage.conversations import Conversations
from server.storage.message_log import Draft, Stored
from server.storage.new_conversations import NewConversation
from server.storage.standings import Standings
from server.storage.users import Users


class Rooms:
    def __init__(
        self,
        conversations: Conversations,
        queue: MessageQueue,
        hub: Hub,
        users: Users,
        standings: Standings,
        models: ModelCatalog,
    ) -> None:
        self._conversations = conversations
        self._queue = queue
        self._hub = hub
        self._users = users
        self._standings = standings
        self._models = models
        hub.summary_of = self._added_frame
        queue.observers.append(self._on_committed)

    # Making and finding

    def plan(
        self, identity: Identity, *, kind: str, title: str | None, visibility: str | None, history: str,
        members: Sequence[str], model: str | None, system_prompt: str | None,
    ) -> NewConversation:  # fmt: skip
        """Check what needs no database."""
        others = list(dict.fromkeys(member for member in members if member != identity.user_id))
        if any(not is_id(member) for member in others):
            raise NotFound("one of these members does not exist")
        if model is not None and model not in self._models.names:
            raise NotFound(f"there is no model named {model[:64]!r}")
        if kind == "private":
            return plan_private_chat(identity, others, visibility)
        if kind == "room" and not (title and title.strip()):
            raise BadFrame("a room has a title")
        return NewConversation(
            kind, title.strip() if title and title.strip() else None, visibility or "private", history, model,
            system_prompt, identity.user_id, [(identity.user_id, "owner"), *((other, "member") for other in others)],
        )  # fmt: skip

    async def create_all(self, identity: Identity, plans: list[NewConversation]) -> list[tuple[Conversation, bool]]:
        """All or none; each with whether it is new (a private chat with the same person may be there already)."""
        made = await self._conversations.create(plans, clock.now())
        for one in made:
            for user in one.entered:
                self._hub.added(user, one.conversation)
        wanted = [one.conversation for one in made]
        views = {view.id: view for view in await self._conversations.several(identity.user_id, wanted)}
        return [(views[one.conversation], one.is_new) for one in made]

    async def create_for_system(self, plan: NewConversation) -> str:
        """Make a conversation that nobody asked for over the wire."""
        made = await self._conversations.create([plan], clock.now())
        return made[0].conversation

    async def get(self, identity: Identity, conversation: str) -> Conversation:
        return await self._conversations.one(identity.user_id, conversation)

    async def mine(self, identity: Identity) -> list[ConversationSummary]:
        return await self._conversations.summaries(identity.user_id)

    async def page(
        self, identity: Identity, *, kind: str | None, page: int, page_size: int, sort_by: str, descending: bool
    ) -> tuple[int, list[Conversation]]:
        return await self._conversations.page(
            identity.user_id, kind=kind, page=page, page_size=page_size, sort_by=sort_by, descending=descending
        )

    async def public(self, identity: Identity, query: str, limit: int) -> list[Conversation]:
        return await self._conversations.public(identity.user_id, query, limit)

    async def members(self, identity: Identity, conversation: str) -> list[Member]:
        """With both cursors of each: what receipts told, for whoever was away. Behind a block nobody is online."""
        return [
            replace(
                state.member,
                presence="online" if not state.is_hidden and self._hub.is_online(state.member.user.id) else "offline",
            )
            for state in await self._conversations.members(conversation, identity.user_id)
        ]

    # Changing

    async def update(self, identity: Identity, conversation: str, change: SettingsDraft) -> Conversation:
        if isinstance(change.model, str) and change.model not in self._models.names:
            raise NotFound(f"there is no model named {change.model[:64]!r}")
        if change.retention_days is UNSET:
            await self._append(identity, conversation, change, Permission.CHANGE_SETTINGS)
        else:
            if replace(change, retention_days=UNSET) != SettingsDraft():
                await self._check_may(identity, conversation, Permission.CHANGE_SETTINGS)
            await self._append(identity, conversation, change, Permission.SET_RETENTION)
        return await self.get(identity, conversation)

    async def delete(self, identity: Identity, conversation: str) -> None:
        await self._append(identity, conversation, ConversationDeleted(), Permission.DELETE_CONVERSATION)

    async def delete_all(self, identity: Identity, conversations: list[str]) -> list[str]:
        """All or none, in one transaction."""
        wanted = list(dict.fromkeys(conversations))
        drafts = [
            self._draft(identity, conversation, ConversationDeleted(), Permission.DELETE_CONVERSATION)
            for conversation in wanted
        ]
        await self._queue.append_all(drafts)
        return wanted

    async def join(self, identity: Identity, conversation: str) -> Conversation:
        """Joining where one is already changes nothing."""
        data = MemberJoined(user=identity.user_id, username=identity.username, role="member")
        with contextlib.suppress(Conflict):
            await self._append(identity, conversation, data, Permission.JOIN)
        return await self.get(identity, conversation)

    async def leave(self, identity: Identity, conversation: str) -> None:
        data = MemberLeft(user=identity.user_id, by=identity.user_id)
        await self._append(identity, conversation, data, Permission.LEAVE)

    async def put_member(self, identity: Identity, conversation: str, user: str, role: str) -> tuple[Member, bool]:
        """Invite somebody, or give a member another role; the member and whether they are new."""
        if not is_id(user):
            raise NotFound("there is no such person")
        states = await self._conversations.members(conversation, identity.user_id)
        present = {state.member.user.id: state.member for state in states}
        is_new = user not in present
        if is_new:
            invited = await self._users.summary(user)
            if invited is None:
                raise NotFound("there is no such person")
            if role != "member":
                await self._check_may(identity, conversation, Permission.SET_ROLE)
            data: EventData = MemberJoined(user=user, username=invited.username, role=role)
            await self._append(identity, conversation, data, Permission.INVITE)
        elif present[user].role != role:
            await self._append(identity, conversation, MemberRole(user=user, role=role), Permission.SET_ROLE)
        members = {member.user.id: member for member in await self.members(identity, conversation)}
        if user not in members:
            raise NotFound("this person has just left")
        return members[user], is_new

    async def remove_member(self, identity: Identity, conversation: str, user: str) -> None:
        permission = Permission.LEAVE if user == identity.user_id else Permission.KICK
        await self._append(identity, conversation, MemberLeft(user=user, by=identity.user_id), permission)

    async def _check_may(self, identity: Identity, conversation: str, permission: Permission) -> None:
        standing = await self._standings.of(identity.user_id, identity.account_role, conversation)
        error: ChatError | None = (
            refusal(permission, standing) if standing else NotFound("there is no such conversation")
        )
        if error is not None:
            raise error

    async def _append(self, identity: Identity, conversation: str, data: EventData, permission: Permission) -> Stored:
        return await self._queue.append(self._draft(identity, conversation, data, permission))

    def _draft(self, identity: Identity, conversation: str, data: EventData, permission: Permission) -> Draft:
        return Draft(conversation, identity.actor, data, None, None, permission, account_role=identity.account_role)

    # What the log says

    def _on_committed(self, stored: Stored, draft: Draft) -> None:
        if stored.repeat:
            return
        match draft.data:
            case MemberJoined():
                self._hub.added(draft.data.user, stored.conversation)
            case MemberLeft():
                left_alone = draft.data.user == draft.data.by
                self._hub.removed(draft.data.user, stored.conversation, "left" if left_alone else "kicked")
            case ConversationDeleted():
                self._hub.spawn(self._tell_deleted(stored.conversation))

    async def _tell_deleted(self, conversation: str) -> None:
        for user in await self._conversations.member_ids(conversation):
            self._hub.removed(user, conversation, "deleted")

    async def _added_frame(self, user: str, account_role: str, conversation: str) -> ConversationAdded | None:
        summaries = await self._conversations.summaries(user, only=[conversation])
        return ConversationAdded(conversation=summaries[0]) if summaries else None

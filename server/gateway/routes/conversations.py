"""Conversations: list, make, change, join, leave, and who is in them."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from server.gateway.routing import Answer, Call, Query, Routes
from server.hub.permissions import Permission
from server.protocol.errors import BadFrame
from server.protocol.events import SettingsDraft
from server.protocol.views import Conversation, ConversationKind, Member, MemberRole, View, Visibility
from server.storage.new_conversations import NewConversation

routes = Routes()

Title = Annotated[str, Meta(min_length=1, max_length=200)]
SystemPrompt = Annotated[str, Meta(max_length=16_000)]
RetentionDays = Annotated[int, Meta(ge=1, le=3650)]
MAX_MEMBERS = 500  # invited at creation; more can join or be invited later
MAX_BATCH = 100


class Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of what a request carries."""


class ConversationDraft(Body, frozen=True, kw_only=True):
    kind: ConversationKind
    title: Title | None = None
    visibility: Visibility | None = None
    history: Literal["joined", "all"] = "joined"
    members: Annotated[list[str], Meta(max_length=MAX_MEMBERS)] = []
    model: str | None = None
    system_prompt: SystemPrompt | None = None


class ConversationDrafts(Body, frozen=True, kw_only=True):
    conversations: Annotated[list[ConversationDraft], Meta(min_length=1, max_length=MAX_BATCH)]


class ConversationIds(Body, frozen=True, kw_only=True):
    ids: Annotated[list[str], Meta(min_length=1, max_length=MAX_BATCH)]


class ConversationChange(Body, frozen=True, kw_only=True):
    title: Title | None | UnsetType = UNSET
    visibility: Visibility | UnsetType = UNSET
    model: str | None | UnsetType = UNSET
    system_prompt: SystemPrompt | None | UnsetType = UNSET
    retention_days: RetentionDays | None | UnsetType = UNSET


class MemberChange(Body, frozen=True, kw_only=True):
    role: MemberRole = "member"


class ListQuery(Query, frozen=True, kw_only=True):
    kind: ConversationKind | None = None
    page: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=100)] = 20
    sort_by: Literal["created_at", "updated_at", "title"] = "updated_at"
    sort_order: Literal["asc", "desc"] = "desc"


class PublicQuery(Query, frozen=True, kw_only=True):
    query: Annotated[str, Meta(max_length=200)] = ""
    limit: Annotated[int, Meta(ge=1, le=100)] = 50


class ConversationPage(View, frozen=True, kw_only=True):
    page: int
    page_size: int
    total: int
    total_pages: int
    conversations: list[Conversation]


class ConversationList(View, frozen=True, kw_only=True):
    conversations: list[Conversation]


class DeletedIds(View, frozen=True, kw_only=True):
    deleted: list[str]


class MemberAnswer(View, frozen=True, kw_only=True):
    member: Member


class MemberList(View, frozen=True, kw_only=True):
    members: list[Member]


@routes.get("/api/conversations", permission=Permission.SIGNED_IN)
async def mine(call: Call, query: ListQuery) -> ConversationPage:
    """My conversations, newest activity first unless asked otherwise."""
    total, conversations = await call.studio.rooms.page(
        call.identity, kind=query.kind, page=query.page, page_size=query.page_size, sort_by=query.sort_by,
        descending=query.sort_order == "desc",
    )  # fmt: skip
    return ConversationPage(
        page=query.page, page_size=query.page_size, total=total, total_pages=-(-total // query.page_size),
        conversations=conversations,
    )  # fmt: skip


@routes.post("/api/conversations", permission=Permission.STUDIO_MEMBER, status=201)
async def create(call: Call, body: ConversationDraft) -> Answer[Conversation]:
    """Make one. A private chat that is there already is answered with 200."""
    made = await call.studio.rooms.create_all(call.identity, [_plan(call, body)])
    conversation, is_new = made[0]
    return Answer(conversation, status=201 if is_new else 200)


@routes.get("/api/conversations/public", permission=Permission.STUDIO_MEMBER)
async def public(call: Call, query: PublicQuery) -> ConversationList:
    """Public rooms that I have not joined."""
    return ConversationList(conversations=await call.studio.rooms.public(call.identity, query.query, query.limit))


@routes.post("/api/conversations/batch", permission=Permission.STUDIO_MEMBER, status=201)
async def create_batch(call: Call, body: ConversationDrafts) -> ConversationList:
    """Make several, all or none."""
    made = await call.studio.rooms.create_all(call.identity, [_plan(call, draft) for draft in body.conversations])
    return ConversationList(conversations=[conversation for conversation, _ in made])


@routes.delete("/api/conversations/batch", permission=Permission.SIGNED_IN)
async def delete_batch(call: Call, body: ConversationIds) -> DeletedIds:
    """Delete several, all or none; each needs the right to."""
    return DeletedIds(deleted=await call.studio.rooms.delete_all(call.identity, body.ids))


@routes.get("/api/conversations/{conversation}", permission=Permission.READ)
async def get(call: Call) -> Conversation:
    """One conversation, as I see it."""
    return await call.studio.rooms.get(call.identity, call.path("conversation"))


@routes.patch("/api/conversations/{conversation}", permission=Permission.READ)
async def change(call: Call, body: ConversationChange) -> Conversation:
    """Change what is named; a null clears. It takes a moderator; for `retention_days`, after which messages go, an
    owner or an admin of the studio."""
    update = SettingsDraft(
        title=body.title, visibility=body.visibility, model=body.model, system_prompt=body.system_prompt,
        retention_days=body.retention_days,
    )  # fmt: skip
    if update == SettingsDraft():
        raise BadFrame("nothing to change")
    return await call.studio.rooms.update(call.identity, call.path("conversation"), update)


@routes.delete("/api/conversations/{conversation}", permission=Permission.DELETE_CONVERSATION)
async def delete(call: Call) -> None:
    """Delete it, for everybody."""
    await call.studio.rooms.delete(call.identity, call.path("conversation"))


@routes.post("/api/conversations/{conversation}/join", permission=Permission.JOIN)
async def join(call: Call) -> Conversation:
    """Become a member of a public room. Being one already changes nothing."""
    return await call.studio.rooms.join(call.identity, call.path("conversation"))


@routes.post("/api/conversations/{conversation}/leave", permission=Permission.LEAVE)
async def leave(call: Call) -> None:
    """Leave it. The last owner makes somebody else owner first."""
    await call.studio.rooms.leave(call.identity, call.path("conversation"))


@routes.get("/api/conversations/{conversation}/members", permission=Permission.READ)
async def members(call: Call) -> MemberList:
    """Who is in it."""
    return MemberList(members=await call.studio.rooms.members(call.identity, call.path("conversation")))


@routes.put("/api/conversations/{conversation}/members/{user}", permission=Permission.INVITE)
async def put_member(call: Call, body: MemberChange) -> Answer[MemberAnswer]:
    """Invite somebody (201), or give a member another role (200; owners only)."""
    member, is_new = await call.studio.rooms.put_member(
        call.identity, call.path("conversation"), call.path("user"), body.role
    )
    return Answer(MemberAnswer(member=member), status=201 if is_new else 200)


@routes.delete("/api/conversations/{conversation}/members/{user}", permission=Permission.READ)
async def remove_member(call: Call) -> None:
    """Show somebody the door, or leave: which of the two permissions it takes depends on whom it is about."""
    await call.studio.rooms.remove_member(call.identity, call.path("conversation"), call.path("user"))


def _plan(call: Call, draft: ConversationDraft) -> NewConversation:
    return call.studio.rooms.plan(
        call.identity, kind=draft.kind, title=draft.title, visibility=draft.visibility, history=draft.history,
        members=draft.members, model=draft.model, system_prompt=draft.system_prompt,
    )  # fmt: skip

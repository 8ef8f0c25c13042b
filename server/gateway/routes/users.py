"""The directory: people whom the caller may see, and those of whom the caller wants to hear nothing in private."""

from typing import Annotated

from msgspec import Meta

from server.gateway.routing import Call, Query, Routes
from server.hub.permissions import Permission
from server.protocol.accounts import UsersAnswer
from server.protocol.frames import UserSummary

routes = Routes()


class DirectoryQuery(Query, frozen=True, kw_only=True):
    query: Annotated[str, Meta(max_length=200)] = ""
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


@routes.get("/api/users", permission=Permission.SIGNED_IN)
async def directory(call: Call, query: DirectoryQuery) -> UsersAnswer:
    users = await call.studio.accounts.directory(call.identity, query.query, query.limit)
    return UsersAnswer(users=[UserSummary(id=user.id, username=user.username, role=user.role) for user in users])


@routes.get("/api/users/blocked", permission=Permission.SIGNED_IN)
async def blocked(call: Call) -> UsersAnswer:
    """Whom I have blocked, by name."""
    return UsersAnswer(users=list(await call.studio.private_chats.blocked(call.identity)))


@routes.put("/api/users/{user}/block", permission=Permission.SIGNED_IN)
async def block(call: Call) -> None:
    """In our private chat nothing new passes between us, in either direction, and they invite me nowhere."""
    await call.studio.private_chats.block(call.identity, call.path("user"))


@routes.delete("/api/users/{user}/block", permission=Permission.SIGNED_IN)
async def unblock(call: Call) -> None:
    """As before. Unless they block me, too."""
    await call.studio.private_chats.unblock(call.identity, call.path("user"))

"""The directory: people whom the caller may see."""

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

"""Full text over titles and messages."""

from typing import Annotated

from msgspec import Meta

from server.gateway.routing import Call, Query, Routes
from server.hub.permissions import Permission
from server.protocol.search import SearchAnswer

routes = Routes()


class SearchQuery(Query, frozen=True, kw_only=True):
    query: str
    conversation: str | None = None
    model: Annotated[str, Meta(max_length=200)] | None = None
    date_from: str | None = None
    date_to: str | None = None
    before: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


@routes.get("/api/search", permission=Permission.SIGNED_IN)
async def search(call: Call, query: SearchQuery) -> SearchAnswer:
    """All words must be there, "quotes" hold a phrase together; newest first."""
    call.limits.check_search(call.identity.user_id)
    return await call.studio.search.search(
        call.identity, query.query, conversation=query.conversation, model=query.model, date_from=query.date_from,
        date_to=query.date_to, before=query.before, limit=query.limit,
    )  # fmt: skip

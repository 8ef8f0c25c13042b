"""Dead letters: side effects of events, such as webhooks, that could not be done in all their tries."""

from typing import Annotated

from msgspec import Meta

from server.gateway.routing import Call, Query, Routes
from server.hub.permissions import Permission
from server.protocol.webhooks import Counted, DeadLetterPage, DeadLettersOf, DeadLetterView

routes = Routes()


class DeadLettersQuery(Query, frozen=True, kw_only=True):
    reader: Annotated[str, Meta(max_length=64)] | None = None
    target: str | None = None
    conversation: str | None = None
    page: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=100)] = 50


@routes.get("/api/admin/dead-letters", permission=Permission.ADMIN)
async def dead_letters(call: Call, query: DeadLettersQuery) -> DeadLetterPage:
    """The latest first."""
    return await call.studio.dead_letters.page(
        reader=query.reader, target=query.target, conversation=query.conversation, page=query.page,
        page_size=query.page_size,
    )  # fmt: skip


@routes.post("/api/admin/dead-letters/retry", permission=Permission.ADMIN)
async def retry_all(call: Call, body: DeadLettersOf) -> Counted:
    """Try all of a reader again, except those of disabled targets."""
    return Counted(count=await call.studio.dead_letters.retry_all(body.reader))


@routes.post("/api/admin/dead-letters/delete", permission=Permission.ADMIN)
async def delete_all(call: Call, body: DeadLettersOf) -> Counted:
    """Delete all of a reader."""
    return Counted(count=await call.studio.dead_letters.delete_all(body.reader))


@routes.post("/api/admin/dead-letters/{letter}/retry", permission=Permission.ADMIN)
async def retry(call: Call) -> DeadLetterView:
    """Try one again, soon; delivered, it is gone from the list."""
    return await call.studio.dead_letters.retry(call.path("letter"))


@routes.delete("/api/admin/dead-letters/{letter}", permission=Permission.ADMIN)
async def delete(call: Call) -> None:
    """Delete one."""
    await call.studio.dead_letters.delete(call.path("letter"))

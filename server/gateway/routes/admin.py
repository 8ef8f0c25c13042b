"""Administration of accounts: roles, disabling, reset links and invitations."""

from typing import Annotated, Literal

from msgspec import Meta

from server.gateway.routing import Answer, Call, Query, Routes
from server.hub.accounts import Link
from server.hub.permissions import Permission
from server.protocol.accounts import (
    Account,
    AccountAnswer,
    AccountByAdmin,
    AccountsAnswer,
    AccountUpdate,
    LinkAnswer,
    NewInvitation,
)
from server.protocol.clock import rfc3339
from server.storage.users import User

NO_STORE = {"Cache-Control": "no-store"}

routes = Routes()


class AccountsQuery(Query, frozen=True, kw_only=True):
    query: Annotated[str, Meta(max_length=200)] = ""
    page: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=100)] = 50


class ErasureQuery(Query, frozen=True, kw_only=True):
    messages: Literal["keep", "erase"] = "keep"


@routes.get("/api/admin/users", permission=Permission.ADMIN)
async def accounts(call: Call, query: AccountsQuery) -> AccountsAnswer:
    offset = (query.page - 1) * query.page_size
    users, total = await call.studio.accounts.people(query.query, offset, query.page_size)
    return AccountsAnswer(
        page=query.page,
        page_size=query.page_size,
        total=total,
        total_pages=-(-total // query.page_size),
        users=[_account(user) for user in users],
    )


@routes.post("/api/admin/users", permission=Permission.ADMIN, status=201)
async def create_user(call: Call, body: AccountByAdmin) -> AccountAnswer:
    user = await call.studio.accounts.create_user(body.username, body.password, body.role)
    return AccountAnswer(user=_account(user))


@routes.patch("/api/admin/users/{user}", permission=Permission.ADMIN)
async def update_user(call: Call, body: AccountUpdate) -> AccountAnswer:
    user = await call.studio.accounts.update_user(call.path("user"), body.role, body.disabled)
    return AccountAnswer(user=_account(user))


@routes.delete("/api/admin/users/{user}", permission=Permission.ADMIN)
async def erase_user(call: Call, query: ErasureQuery) -> None:
    """Erase an account, for ever: with what it said, or keeping that as of a former member."""
    await call.studio.accounts.erase(call.path("user"), with_messages=query.messages == "erase")


@routes.post("/api/admin/users/{user}/reset-link", permission=Permission.ADMIN, status=201)
async def reset_link(call: Call) -> Answer[LinkAnswer]:
    return _link(call, "reset", await call.studio.accounts.reset_link(call.path("user")))


@routes.post("/api/admin/invitations", permission=Permission.ADMIN, status=201)
async def invite(call: Call, body: NewInvitation) -> Answer[LinkAnswer]:
    return _link(call, "invitation", await call.studio.accounts.invitation(body.role))


def _link(call: Call, purpose: str, link: Link) -> Answer[LinkAnswer]:
    """The token stands in the fragment, which a browser never sends: no log of a server or proxy holds it."""
    text = f"{call.origin}/#{purpose}={link.token}"
    return Answer(LinkAnswer(link=text, expires_at=rfc3339(link.expires_at)), headers=NO_STORE)


def _account(user: User) -> Account:
    return Account(
        id=user.id,
        username=user.username,
        role=user.role,
        email=user.email,
        has_password=user.has_password,
        origin=user.origin,
        disabled=user.disabled_at is not None,
        created_at=rfc3339(user.created_at),
    )

"""Coming in and going out: registration, sign-in, sessions, tokens for programs and tickets for sockets."""

from server.gateway.identity import SESSION_COOKIE, bearer_token
from server.gateway.routing import Answer, Call, Routes
from server.hub.access import ProgramTokens
from server.hub.accounts import SignedIn
from server.hub.permissions import Permission
from server.hub.usernames import key_of
from server.protocol.accounts import (
    Credentials,
    ErasureWish,
    LinkUse,
    Me,
    MeAnswer,
    NewAccount,
    PasswordChange,
    PolicyAnswer,
    Session,
    SessionsAnswer,
    TicketAnswer,
    TokenAnswer,
    TokenRequest,
    UserAnswer,
)
from server.protocol.clock import rfc3339
from server.protocol.frames import UserSummary
from server.storage.grants import Grant
from server.storage.users import User

NO_STORE = {"Cache-Control": "no-store"}  # RFC 6749, section 5.1

routes = Routes()


@routes.get("/api/auth/policy", permission=Permission.ANYONE)
async def policy(call: Call) -> PolicyAnswer:
    accounts = call.studio.accounts
    return PolicyAnswer(registration=accounts.policy(call.client), needs_set_up=await accounts.needs_set_up())


@routes.post("/api/auth/register", permission=Permission.ANYONE, status=201)
async def register(call: Call, body: NewAccount) -> Answer[UserAnswer]:
    call.limits.check_registration(call.client.address)
    return _signed_in(
        await call.studio.accounts.register(body.username, body.password, body.email, body.invitation, call.client)
    )


@routes.post("/api/auth/login", permission=Permission.ANYONE)
async def login(call: Call, body: Credentials) -> Answer[UserAnswer]:
    call.limits.check_login(key_of(body.username), call.client.address)
    return _signed_in(await call.studio.accounts.login(body.username, body.password, call.client))


@routes.post("/api/auth/link", permission=Permission.ANYONE)
async def follow_link(call: Call, body: LinkUse) -> Answer[UserAnswer]:
    return _signed_in(await call.studio.accounts.redeem_link(body.token, body.new_password, call.client))


@routes.post("/api/auth/logout", permission=Permission.SIGNED_IN)
async def logout(call: Call) -> Answer[None]:
    await call.studio.accounts.access.logout(call.identity)
    return Answer(None, status=204, session="")


@routes.get("/api/auth/me", permission=Permission.SIGNED_IN)
async def me(call: Call) -> Answer[MeAnswer]:
    """A page asks this when it opens: the moment at which the cookie lives on as the session does."""
    user = await call.studio.accounts.me(call.identity)
    is_browser = bearer_token(call.request) is None
    return Answer(MeAnswer(user=_me(user)), session=call.request.cookies[SESSION_COOKIE] if is_browser else None)


@routes.post("/api/auth/password", permission=Permission.SIGNED_IN)
async def change_password(call: Call, body: PasswordChange) -> None:
    call.limits.check_login(call.identity.user_id, call.client.address)
    await call.studio.accounts.change_password(call.identity, body.current_password, body.new_password)


@routes.delete("/api/auth/me", permission=Permission.SIGNED_IN)
async def erase_me(call: Call, body: ErasureWish) -> Answer[None]:
    """Erase my account, for ever. It is closed at once; what it left in conversations follows."""
    call.limits.check_login(call.identity.user_id, call.client.address)
    erases = body.messages == "erase"
    await call.studio.accounts.erase_me(call.identity, body.current_password, with_messages=erases)
    return Answer(None, status=204, session="")


@routes.get("/api/auth/sessions", permission=Permission.SIGNED_IN)
async def sessions(call: Call) -> SessionsAnswer:
    current = call.identity.grant_id
    grants = await call.studio.accounts.access.sessions(call.identity)
    return SessionsAnswer(sessions=[_session(grant, current) for grant in grants])


@routes.delete("/api/auth/sessions", permission=Permission.SIGNED_IN)
async def end_other_sessions(call: Call) -> None:
    await call.studio.accounts.access.end_other_sessions(call.identity)


@routes.delete("/api/auth/sessions/{session}", permission=Permission.SIGNED_IN)
async def end_session(call: Call) -> None:
    await call.studio.accounts.access.end_session(call.identity, call.path("session"))


@routes.post("/api/auth/token", permission=Permission.ANYONE, form=True)
async def token(call: Call, body: TokenRequest) -> Answer[TokenAnswer]:
    accounts = call.studio.accounts
    if body.grant_type == "refresh_token":
        return _tokens(await accounts.access.refresh(body.refresh_token))
    call.limits.check_login(key_of(body.username), call.client.address)
    return _tokens(await accounts.token_by_password(body.username, body.password, call.client))


@routes.post("/api/auth/ticket", permission=Permission.SIGNED_IN)
async def ticket(call: Call) -> Answer[TicketAnswer]:
    made = await call.studio.accounts.access.ticket(call.identity)
    return Answer(TicketAnswer(ticket=made.text, expires_in=made.expires_in_s), headers=NO_STORE)


def _signed_in(signed_in: SignedIn) -> Answer[UserAnswer]:
    user = signed_in.user
    summary = UserSummary(id=user.id, username=user.username, role=user.role)
    return Answer(UserAnswer(user=summary), session=signed_in.session)


def _tokens(tokens: ProgramTokens) -> Answer[TokenAnswer]:
    answer = TokenAnswer(
        access_token=tokens.access_token, refresh_token=tokens.refresh_token, expires_in=tokens.expires_in_s
    )
    return Answer(answer, headers=NO_STORE)


def _me(user: User) -> Me:
    return Me(
        id=user.id,
        username=user.username,
        role=user.role,
        email=user.email,
        has_password=user.has_password,
        created_at=rfc3339(user.created_at),
    )


def _session(grant: Grant, current: str) -> Session:
    return Session(
        id=grant.id,
        kind=grant.kind,
        created_at=rfc3339(grant.created_at),
        last_used_at=rfc3339(grant.last_used_at),
        address=grant.address,
        user_agent=grant.user_agent,
        current=grant.id == current,
    )

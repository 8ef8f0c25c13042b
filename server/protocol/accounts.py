"""Bodies and answers of the routes about accounts."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from server.protocol.frames import UserSummary

Role = Literal["admin", "member", "guest"]
TypedName = Annotated[str, Meta(max_length=200)]  # what somebody typed as a name; the rules say what is one
Secret = Annotated[str, Meta(min_length=1, max_length=200)]  # a token of ours


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a caller sends."""


class NewAccount(Body, frozen=True, kw_only=True):
    username: TypedName
    password: str
    email: str | None = None
    invitation: Secret | None = None


class Credentials(Body, frozen=True, kw_only=True):
    username: TypedName
    password: str


class PasswordChange(Body, frozen=True, kw_only=True):
    new_password: str
    current_password: str | None = None


class ErasureWish(Body, frozen=True, kw_only=True):
    """`keep`: what was said stays, as of a former member. `erase`: it goes, too."""

    messages: Literal["keep", "erase"]
    current_password: str | None = None


class LinkUse(Body, frozen=True, kw_only=True):
    token: Secret
    new_password: str | None = None


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The form of RFC 6749, sections 4.3 and 6. Its clients send more fields (scope, client_id); they mean nothing
    here."""

    grant_type: Literal["password", "refresh_token"]
    username: TypedName = ""
    password: str = ""
    refresh_token: Annotated[str, Meta(max_length=200)] = ""


class AccountByAdmin(Body, frozen=True, kw_only=True):
    username: TypedName
    password: str
    role: Role = "member"


class AccountUpdate(Body, frozen=True, kw_only=True):
    role: Role | None = None
    disabled: bool | None = None


class NewInvitation(Body, frozen=True, kw_only=True):
    role: Role = "member"


class UserAnswer(msgspec.Struct, frozen=True, kw_only=True):
    user: UserSummary


class Me(UserSummary, frozen=True, kw_only=True):
    email: str | None
    has_password: bool
    created_at: str


class MeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    user: Me


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One sign-in; `current` is the one that asks."""

    id: str
    kind: str
    created_at: str
    last_used_at: str
    address: str | None
    user_agent: str | None
    current: bool


class SessionsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    sessions: list[Session]


class TokenAnswer(msgspec.Struct, frozen=True, kw_only=True):
    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str = "bearer"  # noqa: S105


class TicketAnswer(msgspec.Struct, frozen=True, kw_only=True):
    ticket: str
    expires_in: int


class PolicyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How one gets in here: `registration` is open, invitation or closed for this caller."""

    registration: str
    needs_set_up: bool


class UsersAnswer(msgspec.Struct, frozen=True, kw_only=True):
    users: list[UserSummary]


class Account(UserSummary, frozen=True, kw_only=True):
    """A user as an admin sees it."""

    email: str | None
    has_password: bool
    origin: str
    disabled: bool
    created_at: str


class AccountAnswer(msgspec.Struct, frozen=True, kw_only=True):
    user: Account


class AccountsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    page: int
    page_size: int
    total: int
    total_pages: int
    users: list[Account]


class LinkAnswer(msgspec.Struct, frozen=True, kw_only=True):
    link: str
    expires_at: str

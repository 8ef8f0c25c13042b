"""Accounts: people come, sign in, choose passwords, are invited and administered.

Promises: an answer about signing in is the same, in words and in time, whoever was asked for. A link works once. A new
password, a reset and the disabling of an account end the grants that came before. There is always an admin.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from loguru import logger

from server.hub import usernames
from server.hub.access import Access, ClientInfo, GrantsChanged, ProgramTokens
from server.hub.identity import Identity
from server.hub.passwords import Passwords
from server.protocol import clock
from server.protocol.errors import Conflict, Forbidden, NotFound, Rejected, Unauthenticated
from server.storage.database import Connection, Database
from server.storage.erasures import Erasure, Erasures
from server.storage.grants import Grants
from server.storage.users import Login, NewUser, User, Users

FIRST_ADMIN = "admin"
LINK_LIFETIME = timedelta(hours=24)  # sign-in, set-up and reset: somebody waits for it, or starts the server again
INVITATION_LIFETIME = timedelta(days=7)
LINKS = ("sign-in", "set-up", "reset")  # one-time tokens that let an existing account in
MAX_EMAIL_LENGTH = 254  # RFC 5321, section 4.5.3.1.3, less the angle brackets


@dataclass(frozen=True, slots=True)
class SignedIn:
    user: User
    session: str  # the token for the cookie


@dataclass(frozen=True, slots=True)
class Link:
    """What an admin hands on; `token` becomes the fragment of an address."""

    token: str
    expires_at: datetime


class Accounts:
    """`registration` is open, invitation, closed, or loopback: open to callers on this machine, to others by
    invitation."""

    def __init__(
        self,
        database: Database,
        *,
        registration: str,
        on_grants_ended: GrantsChanged,
        on_rights_changed: GrantsChanged | None = None,
        on_accounts_removed: GrantsChanged | None = None,
        on_erasure: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database = database
        self._users = Users(database)
        self._grants = Grants(database)
        self._passwords = Passwords()
        self._registration = registration
        self._erasures = Erasures(database)
        self._on_rights_changed = on_rights_changed or on_grants_ended
        self._on_accounts_removed = on_accounts_removed or on_grants_ended
        self._on_erasure = on_erasure
        self._now = clock
        self.access = Access(database, self._grants, on_grants_ended=on_grants_ended, clock=clock)

    # -- the first start ----------------------------------------------------------------------------------------------

    async def ensure_admin(self) -> bool:
        """Make the admin, without a password, where there is none yet. Whether one was made."""
        return await self._users.add_first_admin(FIRST_ADMIN, usernames.key_of(FIRST_ADMIN), self._now())

    async def first_admin(self) -> User | None:
        """The admin that has been there longest; None when every admin is disabled."""
        return await self._users.first_admin()

    async def needs_set_up(self) -> bool:
        """Whether no admin has a password yet."""
        return not await self._users.an_admin_has_a_password()

    async def sign_in_link_token(self) -> str | None:
        """Signs the first admin in, once, from this machine. An earlier one ends. None when every admin is disabled."""
        return await self._first_admin_token("sign-in")

    async def set_up_token(self) -> str | None:
        """Gives the first admin a password, once, from anywhere. An earlier one ends."""
        return await self._first_admin_token("set-up")

    async def _first_admin_token(self, purpose: str) -> str | None:
        admin = await self._users.first_admin()
        return None if admin is None else (await self._link(admin.id, purpose)).token

    # -- coming in ----------------------------------------------------------------------------------------------------

    def policy(self, client: ClientInfo) -> str:
        """open, invitation or closed, for somebody who comes from there."""
        if self._registration == "loopback":
            return "open" if client.is_loopback else "invitation"
        return self._registration

    async def register(
        self, username: str, password: str, email: str | None, invitation: str | None, client: ClientInfo
    ) -> SignedIn:
        role = await self._role_for_newcomer(invitation, client)
        new = await self._checked(username, password, role, email)
        now = self._now()
        async with self._database.transaction() as connection:
            if invitation and await self._grants.redeem(connection, invitation, ["invitation"], now) is None:
                raise _invalid_invitation()
            user = await self._users.add(connection, new, now)
            session = await self.access.let_browser_in(connection, user, client)
        logger.info("account {} registered", user.id)
        return SignedIn(user, session)

    async def _role_for_newcomer(self, invitation: str | None, client: ClientInfo) -> str:
        policy = self.policy(client)
        if policy == "closed":
            raise Forbidden("this studio takes no registrations")
        if invitation:
            found = await self._grants.look_up(invitation, ["invitation"], self._now())
            if found is None or found.role is None:
                raise _invalid_invitation()
            return found.role
        if policy == "invitation":
            raise Forbidden("this studio is joined by invitation")
        return "member"

    async def login(self, username: str, password: str, client: ClientInfo) -> SignedIn:
        login = await self._verified(username, password)
        async with self._database.transaction() as connection:
            user = await self._locked(connection, login)
            return SignedIn(user, await self.access.let_browser_in(connection, user, client))

    async def token_by_password(self, username: str, password: str, client: ClientInfo) -> ProgramTokens:
        login = await self._verified(username, password)
        async with self._database.transaction() as connection:
            user = await self._locked(connection, login)
            return await self.access.let_program_in(connection, user, client)

    async def _verified(self, username: str, password: str) -> Login:
        login = await self._users.login_of(usernames.key_of(username))
        stored = None if login is None else login.password_hash
        if not await self._passwords.verify(stored, password) or login is None or stored is None:
            raise _wrong_login()
        if not self._passwords.is_outdated(stored):
            return login
        password_hash = await self._passwords.hash_anew(password)
        async with self._database.transaction() as connection:
            if not await self._users.change_password(connection, login, password_hash):
                raise _wrong_login()
        return Login(login.user_id, password_hash)

    async def _locked(self, connection: Connection, login: Login) -> User:
        """Checking took a while; the account may have been disabled, or have another password, since."""
        user = await self._users.lock_login(connection, login)
        if user is None:
            raise _wrong_login()
        return user

    async def redeem_link(self, token: str, new_password: str | None, client: ClientInfo) -> SignedIn:
        """Follow a sign-in, set-up or reset link. It is used up only when all else is right, too."""
        found = await self._grants.look_up(token, LINKS, self._now())
        if found is None:
            raise _invalid_link()
        if found.purpose == "sign-in":
            if not client.is_loopback:
                raise Forbidden("this link works only on the machine that the studio runs on")
            password_hash = None
        elif new_password is None:
            raise Rejected("please choose a password")
        else:
            password_hash = await self._passwords.hash(new_password)
        async with self._database.transaction() as connection:
            used = await self._grants.redeem(connection, token, LINKS, self._now())
            user = used and used.user_id and await self._users.lock(connection, used.user_id)
            if not user or user.disabled_at or (found.purpose == "set-up" and user.has_password):
                raise _invalid_link()
            ended: Sequence[str] = ()
            if password_hash is not None:
                await self._users.set_password(connection, user.id, password_hash)
                ended = await self._end_everything(connection, user.id)
            session = await self.access.let_browser_in(connection, user, client)
        logger.info("account {} came in by a {} link", user.id, found.purpose)
        await self.access.announce_end(ended)
        return SignedIn(user, session)

    # -- one's own account --------------------------------------------------------------------------------------------

    async def me(self, identity: Identity) -> User:
        user = await self._users.get(identity.user_id)
        if user is None:
            raise Unauthenticated()
        return user

    async def change_password(self, identity: Identity, current: str | None, new: str) -> None:
        """Ends all other grants of this person. Whoever has no password yet needs none."""
        login = await self._proved(identity, current)
        password_hash = await self._passwords.hash(new)
        async with self._database.transaction() as connection:
            if not await self._users.change_password(connection, login, password_hash):
                raise Conflict("the password was changed by somebody else at the same moment")
            ended = await self._end_everything(connection, identity.user_id, but=identity.grant_id)
        logger.info("account {} has a new password", identity.user_id)
        await self.access.announce_end(ended)

    async def erase_me(self, identity: Identity, current: str | None, *, with_messages: bool) -> None:
        """Whoever has a password proves it: what follows cannot be undone."""
        await self._proved(identity, current)
        await self.erase(identity.user_id, with_messages=with_messages)

    async def _proved(self, identity: Identity, current: str | None) -> Login:
        login = await self._users.login_by_id(identity.user_id)
        if login is None:
            raise Unauthenticated()
        if login.password_hash is not None and not await self._passwords.verify(login.password_hash, current or ""):
            raise Rejected("the current password is wrong")
        return login

    async def _end_everything(self, connection: Connection, user_id: str, but: str | None = None) -> Sequence[str]:
        await self._grants.drop_one_time(connection, user_id, LINKS)
        return await self._grants.end_all(connection, user_id, but)

    async def directory(self, identity: Identity, query: str, limit: int) -> Sequence[User]:
        """People whom the caller may see."""
        key = usernames.key_of(query)
        if identity.account_role == "guest":
            return await self._users.directory_of_guest(identity.user_id, key, limit)
        return await self._users.directory(key, limit)

    # -- administration: the caller has been found to be an admin -----------------------------------------------------

    async def people(self, query: str, offset: int, limit: int) -> tuple[Sequence[User], int]:
        """Everybody by name, disabled and imported ones too, and how many there are."""
        return await self._users.page(usernames.key_of(query), offset, limit)

    async def create_user(self, username: str, password: str, role: str) -> User:
        """Also what the command line calls."""
        new = await self._checked(username, password, role, None)
        async with self._database.transaction() as connection:
            user = await self._users.add(connection, new, self._now())
        logger.info("account {} created", user.id)
        return user

    async def update_user(self, user_id: str, role: str | None, disabled: bool | None) -> User:
        ended: Sequence[str] = ()
        async with self._database.transaction() as connection:
            admins = await self._users.lock_admins(connection)
            before = await self._users.lock(connection, user_id)
            if before is None:
                raise NotFound("there is no such account")
            after_role = role or before.role
            is_disabled = before.disabled_at is not None if disabled is None else disabled
            if admins == {user_id} and (after_role != "admin" or is_disabled):
                raise Conflict("this is the only admin: make another one first")
            disabled_at = (before.disabled_at or self._now()) if is_disabled else None
            await self._users.update(connection, user_id, after_role, disabled_at)
            if is_disabled:
                ended = await self._end_everything(connection, user_id)
        logger.info("account {} is {}, {}", user_id, after_role, "disabled" if is_disabled else "enabled")
        await self.access.announce_end(ended)
        if after_role != before.role and (grants := await self._grants.ids_of_user(user_id)):
            await self._on_rights_changed(grants)
        after = await self._users.get(user_id)
        assert after is not None
        return after

    async def erase(self, user_id: str, *, with_messages: bool) -> None:
        """The account cannot come in from here on, and its name is free; what it left behind is taken away by the
        eraser, in its own time.
        """
        async with self._database.transaction() as connection:
            admins = await self._users.lock_admins(connection)
            if await self._users.lock(connection, user_id) is None:
                raise NotFound("there is no such account")
            if admins == {user_id}:
                raise Conflict("this is the only admin: make another one first")
            await self._erasures.request(connection, Erasure(user_id, with_messages), self._now())
            ended = await self._end_everything(connection, user_id)
        logger.info("account {} is to be erased", user_id)
        await self._on_accounts_removed(ended)  # also where nobody is signed in: every node forgets the name
        self._on_erasure()

    async def reset_link(self, user_id: str) -> Link:
        """Lets somebody choose a new password; an earlier link of that kind ends."""
        user = await self._users.get(user_id)
        if user is None:
            raise NotFound("there is no such account")
        if user.origin == "import" or user.disabled_at is not None:
            raise Conflict("this account cannot sign in")
        logger.info("reset link made for account {}", user_id)
        return await self._link(user_id, "reset")

    async def invitation(self, role: str) -> Link:
        expires_at = self._now() + INVITATION_LIFETIME
        async with self._database.transaction() as connection:
            token = await self._grants.issue(connection, "invitation", expires_at, role=role)
        return Link(token, expires_at)

    async def _link(self, user_id: str, purpose: str) -> Link:
        expires_at = self._now() + LINK_LIFETIME
        async with self._database.transaction() as connection:
            await self._grants.drop_one_time(connection, user_id, [purpose])
            token = await self._grants.issue(connection, purpose, expires_at, user_id=user_id)
        return Link(token, expires_at)

    async def _checked(self, username: str, password: str, role: str, email: str | None) -> NewUser:
        name = usernames.checked(username)
        address = _checked_email(email)
        return NewUser(name, usernames.key_of(name), role, await self._passwords.hash(password), address)


def _checked_email(email: str | None) -> str | None:
    """Nothing is sent there yet, so a look at the shape is enough."""
    address = (email or "").strip()
    if not address:
        return None
    name, at, domain = address.rpartition("@")
    if not (name and at and domain) or len(address) > MAX_EMAIL_LENGTH or not address.isprintable() or " " in address:
        raise Rejected("this is no e-mail address")
    return address


def _wrong_login() -> Unauthenticated:
    return Unauthenticated("the name or the password is wrong")


def _invalid_link() -> Unauthenticated:
    return Unauthenticated("this link has been used or is no longer valid")


def _invalid_invitation() -> Forbidden:
    return Forbidden("this invitation has been used or is no longer valid")

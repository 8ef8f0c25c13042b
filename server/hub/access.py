"""Who is let in, by which token, and for how long.

Browsers hold a session (a cookie), programs an access token and a refresh token, sockets may come with a ticket. All
hang on a grant: one sign-in of one device. When a grant ends, `on_grants_ended` cuts the sockets that came in by it.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from loguru import logger

from server.hub.identity import Identity
from server.protocol import clock
from server.protocol.errors import NotFound, Unauthenticated
from server.storage.database import Connection, Database
from server.storage.grants import LAST_USED_EVERY, Grant, Grants, Holder
from server.storage.users import User

SESSION_LIFETIME = timedelta(days=30)  # from the last use
ACCESS_LIFETIME = timedelta(hours=1)  # a stolen one is of little use, and a program refreshes without effort
REFRESH_LIFETIME = timedelta(days=30)
TICKET_LIFETIME = timedelta(seconds=30)  # a socket is opened right after asking for it
REFRESH_GRACE = timedelta(seconds=10)  # an answer got lost and the client, after its time-out, asks again

GrantsChanged = Callable[[Sequence[str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """Where a request comes from."""

    address: str
    user_agent: str
    is_loopback: bool


@dataclass(frozen=True, slots=True)
class ProgramTokens:
    access_token: str
    refresh_token: str
    expires_in_s: int


@dataclass(frozen=True, slots=True)
class Ticket:
    text: str
    expires_in_s: int


class Access:
    def __init__(
        self,
        database: Database,
        grants: Grants,
        *,
        on_grants_ended: GrantsChanged,
        clock: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database = database
        self._grants = grants
        self._on_grants_ended = on_grants_ended
        self._now = clock

    # -- asked for every request --------------------------------------------------------------------------------------

    async def identify(self, token: str, purpose: str) -> Identity | None:
        """Whom a `session` or `access` token stands for. One query; one more, a minute at most, to note the use."""
        now = self._now()
        holder = await self._grants.holder(token, purpose, now)
        if holder is None:
            return None
        if now - holder.last_used_at >= LAST_USED_EVERY:
            await self._grants.touch(token, holder.grant_id, now, now + SESSION_LIFETIME)
        return _identity(holder)

    async def is_current(self, identity: Identity) -> bool:
        """Whether it still is as it was identified. To be asked once a socket can be cut: what ended while it was being
        opened cut nothing."""
        return await self._grants.is_current(identity.grant_id, identity.account_role)

    async def roles_of(self, grant_ids: Sequence[str]) -> dict[str, str]:
        """The account's role for each of these grants that still stands."""
        return await self._grants.roles_of(grant_ids, self._now())

    async def ticket(self, identity: Identity) -> Ticket:
        """Lets one socket in, once, under the same grant."""
        expires_at = self._now() + TICKET_LIFETIME
        async with self._database.transaction() as connection:
            text = await self._grants.issue(connection, "ticket", expires_at, grant_id=identity.grant_id)
        return Ticket(text, int(TICKET_LIFETIME.total_seconds()))

    async def redeem_ticket(self, ticket: str) -> Identity:
        holder = await self._grants.redeem_ticket(ticket, self._now())
        if holder is None:
            raise Unauthenticated("this ticket is unknown, used or expired")
        return _identity(holder)

    # -- letting in: parts of a caller's transaction ------------------------------------------------------------------

    async def let_browser_in(self, connection: Connection, user: User, client: ClientInfo) -> str:
        """A new session; its token goes into the cookie."""
        now = self._now()
        grant_id = await self._grants.add(connection, user.id, "browser", client.address, client.user_agent, now)
        return await self._grants.issue(connection, "session", now + SESSION_LIFETIME, grant_id=grant_id)

    async def let_program_in(self, connection: Connection, user: User, client: ClientInfo) -> ProgramTokens:
        grant_id = await self._grants.add(
            connection, user.id, "program", client.address, client.user_agent, self._now()
        )
        return await self._program_tokens(connection, grant_id)

    async def refresh(self, refresh_token: str) -> ProgramTokens:
        """New tokens for a used-up refresh token. One that comes back later ends the grant: somebody has stolen it."""
        now = self._now()
        async with self._database.transaction() as connection:
            rotation = await self._grants.rotate(connection, refresh_token, now, REFRESH_GRACE)
            if not rotation.ended:
                return await self._program_tokens(connection, rotation.grant_id)
        logger.warning("a refresh token came back after its use; its grant {} has ended", rotation.grant_id)
        await self.announce_end([rotation.grant_id])
        raise Unauthenticated("this refresh token was used before; for safety its sign-in has ended")

    async def _program_tokens(self, connection: Connection, grant_id: str) -> ProgramTokens:
        now = self._now()
        return ProgramTokens(
            await self._grants.issue(connection, "access", now + ACCESS_LIFETIME, grant_id=grant_id),
            await self._grants.issue(connection, "refresh", now + REFRESH_LIFETIME, grant_id=grant_id),
            int(ACCESS_LIFETIME.total_seconds()),
        )

    # -- ending -------------------------------------------------------------------------------------------------------

    async def sessions(self, identity: Identity) -> Sequence[Grant]:
        return await self._grants.of_user(identity.user_id, self._now())

    async def end_session(self, identity: Identity, grant_id: str) -> None:
        if not await self._grants.end(identity.user_id, grant_id):
            raise NotFound("you have no such session")
        await self.announce_end([grant_id])

    async def end_other_sessions(self, identity: Identity) -> None:
        async with self._database.transaction() as connection:
            ended = await self._grants.end_all(connection, identity.user_id, but=identity.grant_id)
        await self.announce_end(ended)

    async def logout(self, identity: Identity) -> None:
        if await self._grants.end(identity.user_id, identity.grant_id):
            await self.announce_end([identity.grant_id])

    async def announce_end(self, grant_ids: Sequence[str]) -> None:
        """After the commit, and awaited: when the caller gets an answer, the sockets are cut."""
        if grant_ids:
            await self._on_grants_ended(grant_ids)

    async def prune(self) -> None:
        """Forget what has expired. Grants whose last token expired have ended, too."""
        await self.announce_end(await self._grants.prune(self._now()))


def _identity(holder: Holder) -> Identity:
    return Identity(holder.user_id, holder.username, holder.role, holder.grant_id)

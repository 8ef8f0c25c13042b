"""Who somebody is, once a credential has been accepted."""

from dataclasses import dataclass

from server.protocol.frames import Actor, UserSummary


@dataclass(frozen=True, slots=True)
class Identity:
    """A person by way of a grant: one sign-in of one device or program. Ending the grant ends everything under it."""

    user_id: str
    username: str
    account_role: str  # admin, member or guest
    grant_id: str

    @property
    def actor(self) -> Actor:
        return Actor("user", self.user_id, self.username)

    @property
    def summary(self) -> UserSummary:
        return UserSummary(id=self.user_id, username=self.username, role=self.account_role)

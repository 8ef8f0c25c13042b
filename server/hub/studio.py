"""The studio: every part of the hub in one place, as the gateway sees it."""

from dataclasses import dataclass, field, replace

from server.hub.accounts import Accounts
from server.hub.assistant import Assistant
from server.hub.dead_letters import DeadLetterDesk
from server.hub.hub import Hub
from server.hub.identity import Identity
from server.hub.messenger import Messenger
from server.hub.permissions import Permission, refusal
from server.hub.presence import Presence
from server.hub.private_chats import PrivateChats
from server.hub.receipts import Receipts
from server.hub.rooms import Rooms
from server.hub.search import Search
from server.hub.webhooks import WebhookDesk
from server.protocol.errors import NotFound
from server.storage.log_reader import LogReader
from server.storage.standings import Standing, Standings


@dataclass
class Studio:
    accounts: Accounts
    standings: Standings
    hub: Hub
    rooms: Rooms
    private_chats: PrivateChats
    messenger: Messenger
    assistant: Assistant
    presence: Presence
    receipts: Receipts
    reader: LogReader
    search: Search
    webhooks: WebhookDesk
    dead_letters: DeadLetterDesk
    is_draining: bool = field(default=False)

    async def check(self, identity: Identity, permission: Permission, conversation: str) -> Standing:
        """The caller's standing in a conversation, or the reason why `permission` is not theirs.

        Whose message an act points at is not known here: that the log judges, with the row at hand.
        """
        standing = await self.standings.of(identity.user_id, identity.account_role, conversation)
        if standing is None:
            raise NotFound("there is no such conversation")
        error = refusal(permission, replace(standing, is_own=True))
        if error is not None:
            raise error
        return standing

    async def check_run(self, identity: Identity, permission: Permission, run: str) -> None:
        """The same about an answer; one of a foreign conversation looks like one that is missing."""
        conversation = await self.assistant.conversation_of(run)
        try:
            await self.check(identity, permission, conversation)
        except NotFound:
            raise NotFound("there is no such run") from None

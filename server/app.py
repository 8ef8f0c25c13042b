"""The composition root: every part is made here and handed what it needs, and put away in the opposite order.

`Parts` is a studio without a server (the command line and tests use it too); `make_app` is the ASGI application
around it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from loguru import logger
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from server.ai.adapter import Model
from server.ai.scripted import ScriptedModel
from server.bus.bus import Bus
from server.bus.memory_bus import MemoryBus
from server.gateway.endpoint import SocketEndpoint
from server.gateway.health import Health
from server.gateway.heartbeat import Heartbeat
from server.gateway.http_gateway import HttpGateway
from server.gateway.identity import Identifier, is_loopback_host
from server.gateway.middleware import App, Receive, RequestContext, Scope, Send
from server.gateway.pages import page_routes
from server.gateway.pages import refusal as refusal_of_starlette
from server.gateway.rate_limits import RateLimits
from server.gateway.routes import (
    admin,
    auth,
    conversations,
    dead_letters,
    docs,
    messages,
    runs,
    search,
    users,
    webhooks,
)
from server.gateway.websocket_protocol import prepare_frame
from server.hub.accounts import Accounts
from server.hub.assistant import Assistant
from server.hub.dead_letters import DeadLetterDesk
from server.hub.erasure import Eraser
from server.hub.grant_watch import GrantWatch
from server.hub.hub import Hub
from server.hub.log_readers import LogReaders
from server.hub.message_queue import MessageQueue
from server.hub.messenger import Messenger
from server.hub.model_catalog import FixedCatalog
from server.hub.permissions import ROLES_ALLOWED, Permission, refusal
from server.hub.presence import Presence
from server.hub.private_chats import PrivateChats
from server.hub.receipts import Receipts
from server.hub.retention import Retention
from server.hub.rooms import Rooms
from server.hub.search import Search
from server.hub.studio import Studio
from server.hub.webhook_receiver import WebhookCalls
from server.hub.webhooks import WebhookDesk
from server.outbound.outbound import Outbound
from server.protocol.errors import ChatError
from server.settings import Settings
from server.storage.blocks import Blocks
from server.storage.conversations import Conversations
from server.storage.database import Database
from server.storage.dead_letters import DeadLetters
from server.storage.delivery_notes import DeliveryNotes
from server.storage.log_cursors import LogCursors
from server.storage.log_reader import LogReader
from server.storage.message_log import MessageLog
from server.storage.messages import Messages
from server.storage.reading_cursors import ReadingCursors
from server.storage.runs import Runs
from server.storage.search import SearchIndex
from server.storage.standings import Standing, Standings
from server.storage.users import Users
from server.storage.webhooks import READER as WEBHOOKS
from server.storage.webhooks import Webhooks

WEB_DIST = Path(__file__).resolve().parents[1] / "web" / "dist"
PRUNE_EVERY_S = 3600.0


class Parts:
    """A studio on an open database."""

    def __init__(self, settings: Settings, database: Database, models: Sequence[Model] | None = None) -> None:
        self.settings = settings
        self.database = database
        self.bus = make_bus(settings.redis_url)
        self.outbound = Outbound(settings.outbound_allow)
        self.reader = LogReader(database)
        self.hub = Hub(self.bus, self.reader, prepare_frame)
        self.queue = MessageQueue(
            MessageLog(database, judge, sending_roles=sorted(ROLES_ALLOWED[Permission.SEND])), self.hub
        )
        self.conversations = Conversations(database)
        table = Messages(database)
        people = Users(database)
        standings = Standings(database)
        self.models = FixedCatalog(models or [ScriptedModel()])
        self.assistant = Assistant(self.models, self.queue, self.hub, Runs(database), table, self.conversations)
        cursors, letters = LogCursors(database), DeadLetters(database)
        notes = DeliveryNotes(database)
        self.webhooks = Webhooks(database, cursors)
        calls = WebhookCalls(self.webhooks, self.outbound)
        self.log_readers = LogReaders(cursors, notes, letters, self.reader)
        self.log_readers.add(WEBHOOKS, calls.receiver)
        self.queue.observers.append(self.log_readers.note)
        self.eraser = Eraser(database, self.queue, people)
        self.studio = Studio(
            accounts=Accounts(
                database,
                registration=settings.registration,
                on_grants_ended=self.hub.end_grants,
                on_rights_changed=self.hub.renew_rights,
                on_accounts_removed=self.hub.remove_accounts,
                on_erasure=self.eraser.wake,
            ),
            standings=standings,
            hub=self.hub,
            rooms=Rooms(self.conversations, self.queue, self.hub, people, standings, self.models),
            private_chats=PrivateChats(self.conversations, Blocks(database), self.queue, self.hub, standings),
            messenger=Messenger(self.queue, table, self.reader, people, self.models, self.hub.feed),
            assistant=self.assistant,
            presence=Presence(self.hub, self.bus, is_on=settings.presence),
            receipts=Receipts(self.hub, ReadingCursors(database)),
            reader=self.reader,
            search=Search(SearchIndex(database), table, self.conversations),
            webhooks=WebhookDesk(self.webhooks, notes, self.log_readers, self.outbound, calls),
            dead_letters=DeadLetterDesk(letters, self.log_readers),
        )
        self.heartbeat = Heartbeat(self.hub, self.conversations, self.bus.is_healthy)
        self.retention = Retention(database, settings.retention_days)
        self.grant_watch = GrantWatch(self.hub, self.studio.accounts.access)
        self.hub.check_rights_by(self.grant_watch.check)
        self._pruning: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.bus.open()
        await self.hub.open()
        await self.studio.presence.open()
        await self.queue.open()
        await self.assistant.open()
        await self.studio.search.open()
        await self.log_readers.open()
        self.heartbeat.start()
        await self.retention.open()
        await self.eraser.open()
        self.grant_watch.start()
        self._pruning = asyncio.get_running_loop().create_task(self._prune())

    async def close(self) -> None:
        """Everything accepted is settled first; then the parts go, the database last, by whoever opened it."""
        await self.heartbeat.stop()
        await self.retention.close()
        await self.eraser.close()
        await self.grant_watch.stop()
        await self.log_readers.close()
        await self.assistant.close()
        await self.studio.receipts.close()
        await self.studio.presence.close()
        await self.studio.search.close()
        await self.queue.close()
        if self._pruning is not None:
            self._pruning.cancel()
        await self.hub.close()
        await self.outbound.close()
        await self.bus.close()

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(PRUNE_EVERY_S)
            try:
                await self.studio.accounts.access.prune()
                await self.webhooks.prune()
            except ChatError:
                logger.warning("what has expired could not be pruned; next try in an hour")


def make_bus(redis_url: str | None) -> Bus:
    """In memory for one process, over Redis where there may be several; ValueError for a URL that is none."""
    if redis_url is None:
        return MemoryBus()
    from server.bus.redis_bus import RedisBus  # most studios are one process and need not carry the library

    return RedisBus(redis_url)


def judge(permission: str, standing: Standing) -> ChatError | None:
    """The log's judge: the permission table."""
    return refusal(Permission(permission), standing)


def make_app(parts: Parts, of_all_workers: Callable[[], Awaitable[bytes]] | None = None) -> App:
    """Sockets go to their endpoint directly: each layer in between would be kept for as long as a socket lives."""
    settings, studio = parts.settings, parts.studio
    identifier = Identifier(
        studio.accounts.access,
        bind_is_loopback=is_loopback_host(settings.host),
        public_url=settings.public_url,
        allowed_origins=settings.allowed_origins,
    )
    limits = RateLimits(settings.rate_limits)
    endpoint = SocketEndpoint(studio, identifier, limits)
    health = Health(studio, parts.database.ping, parts.bus.is_healthy, lambda: parts.queue.depth, of_all_workers)
    collections = [
        auth.routes,
        users.routes,
        admin.routes,
        conversations.routes,
        messages.routes,
        runs.routes,
        search.routes,
        webhooks.routes,
        dead_letters.routes,
    ]
    pages = Starlette(
        routes=[
            *health.routes(),
            *HttpGateway(studio, identifier, limits).routes([*collections, docs.document_routes(collections)]),
            *page_routes(WEB_DIST),
        ],
        middleware=[Middleware(RequestContext)],
        exception_handlers={HTTPException: refusal_of_starlette},
    )

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await (endpoint if scope["type"] == "websocket" else pages)(scope, receive, send)

    return application

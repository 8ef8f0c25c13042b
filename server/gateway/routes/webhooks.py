"""Webhooks of a conversation: its events, told to a program elsewhere by signed requests."""

from typing import Annotated

from msgspec import Meta

from server.gateway.routing import Answer, Call, Query, Routes
from server.hub.permissions import Permission
from server.protocol.webhooks import (
    NewWebhook,
    ToldPrograms,
    Webhook,
    WebhookChange,
    WebhookDeliveries,
    WebhookList,
    WebhookTest,
    WebhookWithSecret,
)

NO_STORE = {"Cache-Control": "no-store"}

routes = Routes()


class DeliveriesQuery(Query, frozen=True, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=100)] = 50


@routes.get("/api/conversations/{conversation}/webhooks", permission=Permission.MANAGE_WEBHOOKS)
async def webhooks(call: Call) -> WebhookList:
    """Those of the conversation, the oldest first."""
    return WebhookList(webhooks=await call.studio.webhooks.of(call.path("conversation")))


@routes.get("/api/conversations/{conversation}/webhook-hosts", permission=Permission.READ)
async def hosts(call: Call) -> ToldPrograms:
    """Which programs elsewhere are told of the conversation, for everybody who may read it."""
    return ToldPrograms(webhooks=await call.studio.webhooks.told(call.path("conversation")))


@routes.post("/api/conversations/{conversation}/webhooks", permission=Permission.MANAGE_WEBHOOKS, status=201)
async def create(call: Call, body: NewWebhook) -> Answer[WebhookWithSecret]:
    """Make one, for what happens from now on. Its secret is shown here and never again."""
    made = await call.studio.webhooks.create(call.identity, call.path("conversation"), body)
    return Answer(made, headers=NO_STORE)


@routes.get("/api/conversations/{conversation}/webhooks/{webhook}", permission=Permission.MANAGE_WEBHOOKS)
async def webhook(call: Call) -> Webhook:
    """One of them: how far it has got, and why it is disabled if it is."""
    return await call.studio.webhooks.one(call.path("conversation"), call.path("webhook"))


@routes.patch("/api/conversations/{conversation}/webhooks/{webhook}", permission=Permission.MANAGE_WEBHOOKS)
async def change(call: Call, body: WebhookChange) -> Webhook:
    """Change what is named. Enabled again it goes on where it stopped, unless it is to skip what it missed, and is kept
    by whoever enabled it."""
    return await call.studio.webhooks.change(call.identity, call.path("conversation"), call.path("webhook"), body)


@routes.delete("/api/conversations/{conversation}/webhooks/{webhook}", permission=Permission.MANAGE_WEBHOOKS)
async def delete(call: Call) -> None:
    """Delete it, with its dead letters."""
    await call.studio.webhooks.delete(call.path("conversation"), call.path("webhook"))


@routes.post("/api/conversations/{conversation}/webhooks/{webhook}/test", permission=Permission.MANAGE_WEBHOOKS)
async def test(call: Call) -> WebhookTest:
    """Send a ping at once, and tell what came of it."""
    call.limits.check_webhook_test(call.identity.user_id)
    return await call.studio.webhooks.test(call.identity, call.path("conversation"), call.path("webhook"))


@routes.post(
    "/api/conversations/{conversation}/webhooks/{webhook}/secret", permission=Permission.MANAGE_WEBHOOKS, status=201
)
async def renew_secret(call: Call) -> Answer[WebhookWithSecret]:
    """Make a new secret. For a day the one before signs too, so that no delivery is refused meanwhile."""
    made = await call.studio.webhooks.renew_secret(call.path("conversation"), call.path("webhook"))
    return Answer(made, headers=NO_STORE)


@routes.get("/api/conversations/{conversation}/webhooks/{webhook}/deliveries", permission=Permission.MANAGE_WEBHOOKS)
async def deliveries(call: Call, query: DeliveriesQuery) -> WebhookDeliveries:
    """The latest attempts, with what the receiver answered."""
    found = await call.studio.webhooks.deliveries(call.path("conversation"), call.path("webhook"), query.limit)
    return WebhookDeliveries(deliveries=found)

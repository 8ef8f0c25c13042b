"""Webhooks: what happens in a conversation, told to a program elsewhere by signed requests.

In:   wishes of the conversation's owners and moderators.
Out:  webhooks, their state and what came of their latest attempts. The secret is shown when it is made, never again.
Promises: an address is only stored if the studio may call it, and one that only the operator's exception opens if an
admin of the studio wants it. A webhook has a keeper, who made it or enabled it last: when they lose the right to it, it
is paused until somebody else enables it. It goes when the conversation goes.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from msgspec import UnsetType

from server.hub.identity import Identity
from server.hub.log_readers import LogReaders
from server.hub.webhook_receiver import ADMINS_ONLY, WebhookCalls
from server.hub.webhook_signature import new_secret, shown
from server.outbound.outbound import Outbound
from server.protocol import clock
from server.protocol.clock import rfc3339
from server.protocol.errors import BadFrame, NotFound, Rejected
from server.protocol.events import event_types
from server.protocol.webhooks import (
    NewWebhook,
    ToldProgram,
    Webhook,
    WebhookChange,
    WebhookDelivery,
    WebhookTest,
    WebhookWithSecret,
)
from server.storage.delivery_notes import DeliveryNotes
from server.storage.webhooks import KEEPER_GONE, WebhookRow, Webhooks, WebhookUpdate

MAX_WEBHOOKS = 10  # a conversation: each event is sent so many times
PREVIOUS_SECRET_FOR = timedelta(hours=24)  # time to give the new one to every receiver


class WebhookDesk:
    """What the people of a conversation do with its webhooks; who may is the caller's question."""

    def __init__(
        self,
        webhooks: Webhooks,
        notes: DeliveryNotes,
        readers: LogReaders,
        outbound: Outbound,
        calls: WebhookCalls,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._webhooks = webhooks
        self._notes = notes
        self._readers = readers
        self._outbound = outbound
        self._calls = calls
        self._now = now

    async def create(self, identity: Identity, conversation: str, wanted: NewWebhook) -> WebhookWithSecret:
        self._check(identity, wanted.url)
        kinds = _checked(wanted.kinds)
        secret = new_secret()
        row = await self._webhooks.add(
            conversation, wanted.url, kinds, wanted.description, secret, identity.user_id, self._now(),
            most=MAX_WEBHOOKS,
        )  # fmt: skip
        self._readers.look_at(conversation)
        return _with_secret(row, secret)

    async def of(self, conversation: str) -> list[Webhook]:
        return [_view(row) for row in await self._webhooks.of(conversation)]

    async def one(self, conversation: str, webhook: str) -> Webhook:
        return _view(await self._webhooks.one(conversation, webhook))

    async def told(self, conversation: str) -> list[ToldProgram]:
        """For everybody who may read: that somebody else is told of this, and where."""
        return [
            ToldProgram(
                description=row.description, host=urlsplit(row.url).hostname or "", enabled=_reason(row) is None
            )
            for row in await self._webhooks.of(conversation)
        ]

    async def change(self, identity: Identity, conversation: str, webhook: str, change: WebhookChange) -> Webhook:
        if change in (WebhookChange(), WebhookChange(skip_missed=True)):
            raise BadFrame("nothing to change")
        if change.skip_missed and change.enabled is not True:
            raise BadFrame("`skip_missed` goes with `enabled: true`")
        if isinstance(change.url, str):
            self._check(identity, change.url)
        elif change.enabled is True:  # and keeps it from then on
            self._check(identity, (await self._webhooks.one(conversation, webhook)).url)
        kinds = change.kinds if isinstance(change.kinds, UnsetType) else _checked(change.kinds)
        update = WebhookUpdate(
            identity.user_id, change.url, kinds, change.description, change.enabled, change.skip_missed
        )
        row = await self._webhooks.update(conversation, webhook, update, self._now())
        self._readers.look_at(conversation)
        return _view(row)

    async def renew_secret(self, conversation: str, webhook: str) -> WebhookWithSecret:
        secret, now = new_secret(), self._now()
        row = await self._webhooks.set_secret(conversation, webhook, secret, now + PREVIOUS_SECRET_FOR, now)
        return _with_secret(row, secret)

    async def delete(self, conversation: str, webhook: str) -> None:
        await self._webhooks.delete(webhook, conversation)

    async def test(self, identity: Identity, conversation: str, webhook: str) -> WebhookTest:
        """Send a ping now, also to one that is disabled, and wait for the answer."""
        await self._webhooks.one(conversation, webhook)  # of this conversation, and of no other
        target = await self._webhooks.target(webhook)
        if target is None:
            raise NotFound("there is no such webhook")
        if self._calls.refusal(target) is not None:  # on whose word is it sent?
            self._check(identity, target.url)
        return await self._calls.ping(target)

    async def deliveries(self, conversation: str, webhook: str, limit: int) -> list[WebhookDelivery]:
        row = await self._webhooks.one(conversation, webhook)
        return [
            WebhookDelivery(
                seq=past.attempt.seq, kind=past.attempt.kind, attempt=past.attempt.attempt,
                outcome=past.attempt.outcome, status=past.attempt.status, detail=past.attempt.reason,
                took_ms=past.attempt.took_ms, at=rfc3339(past.at),
            )
            for past in await self._notes.attempts(row.key, limit)
        ]  # fmt: skip

    def _check(self, identity: Identity, url: str) -> None:
        self._outbound.check(url)
        if identity.account_role != "admin" and self._outbound.is_exception(url):
            raise Rejected(ADMINS_ONLY)


def _checked(kinds: list[str] | None) -> list[str] | None:
    unknown = sorted(set(kinds or ()) - event_types.keys())
    if unknown:
        raise BadFrame(f"there is no kind of event named {unknown[0][:64]!r}")
    return None if kinds is None else sorted(set(kinds))


def _view(row: WebhookRow) -> Webhook:
    return Webhook(**_fields(row))


def _with_secret(row: WebhookRow, secret: bytes) -> WebhookWithSecret:
    return WebhookWithSecret(**_fields(row), secret=shown(secret))


def _fields(row: WebhookRow) -> dict[str, Any]:
    reason = _reason(row)
    is_waiting = row.failing_since is not None and reason is None
    return {
        "id": row.id,
        "conversation": row.conversation,
        "url": row.url,
        "kinds": row.kinds,
        "description": row.description,
        "enabled": reason is None,
        "disabled_reason": reason,
        "disabled_at": _time(row.disabled_at),
        "failing_since": _time(row.failing_since),
        "next_try_at": _time(row.next_at) if is_waiting else None,
        "seq": row.seq,
        "waiting": max(0, row.head - row.seq),
        "dead_letters": row.dead_letters,
        "previous_secret_until": _time(row.previous_until),
        "kept_by": row.kept_by,
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
    }


def _reason(row: WebhookRow) -> str | None:
    """Why nothing is sent; that its keeper is gone shows before the next delivery has found out."""
    if row.disabled_at is not None:
        return row.disabled_reason or ""
    return None if row.keeper_may else KEEPER_GONE


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)

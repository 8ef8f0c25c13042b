"""Calling a webhook: one signed request for one event, and what the answer means.

Promises: nothing of the answer's body is kept or shown, since it may come from a place that only the studio can see. No
reason names more of an address than its host: the path of many webhooks is a password. Nothing is delivered on the word
of somebody who could not give it today: such a webhook is paused.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic
from urllib.parse import urlsplit

from server.hub.deliveries import Delivered, Delivery, Failed, Gone, Outcome
from server.hub.webhook_signature import signed_headers
from server.outbound.outbound import Answer, Outbound, OutboundFailed, OutboundRefused
from server.protocol import clock
from server.protocol.clock import rfc3339
from server.protocol.codec import encode
from server.protocol.events import ConversationDeleted
from server.protocol.ids import new_id
from server.protocol.webhooks import WebhookPayload, WebhookTest
from server.storage.webhooks import KEEPER_GONE, Webhooks, WebhookTarget

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 4096  # an "ok" is read to its end, which keeps the connection; a page is not
ADMINS_ONLY = "this address is open by the operator's exception: only an admin of the studio keeps a webhook there"
GONE = 410
ASKS_FOR_PATIENCE = (429, 503)


class WebhookCalls:
    """The effect behind the reader `webhooks`, and pings."""

    def __init__(self, webhooks: Webhooks, outbound: Outbound, now: Callable[[], datetime] = clock.now) -> None:
        self._webhooks = webhooks
        self._outbound = outbound
        self._now = now

    async def receiver(self, webhook: str) -> "WebhookReceiver | None":
        target = await self._webhooks.target(webhook)
        if target is None:
            return None
        reason = None if target.is_ending else self.refusal(target)
        if reason is not None:
            await self._webhooks.pause(target, reason)
            return None
        return WebhookReceiver(target, self)

    def refusal(self, target: WebhookTarget) -> str | None:
        """Why its keeper could not make it today."""
        if target.keeper_role is None:
            return KEEPER_GONE
        if target.keeper_role != "admin" and self._outbound.is_exception(target.url):
            return ADMINS_ONLY
        return None

    async def ping(self, target: WebhookTarget) -> WebhookTest:
        started = monotonic()
        payload = WebhookPayload(
            id=f"{target.id}-ping-{new_id()}", type="ping", timestamp=rfc3339(self._now()), webhook=target.id,
            conversation=target.conversation, event=None,
        )  # fmt: skip
        outcome = await self.call(target, payload)
        return WebhookTest(
            delivered=isinstance(outcome, Delivered),
            status=outcome.status,
            detail=None if isinstance(outcome, Delivered) else outcome.reason,
            took_ms=round((monotonic() - started) * 1000),
        )

    async def call(self, target: WebhookTarget, payload: WebhookPayload) -> Outcome:
        body = encode(payload)
        headers = signed_headers(target.secrets, payload.id, int(self._now().timestamp()), body)
        try:
            answer = await self._outbound.post(target.url, body, headers, TIMEOUT_S, MAX_ANSWER_BYTES)
        except OutboundFailed as error:
            return Failed(_without_path(error.detail, target.url), counts=error.kind != "busy")
        except OutboundRefused as error:
            return Failed(_without_path(error.detail, target.url))
        return self._outcome(answer)

    async def forget(self, webhook: str) -> None:
        await self._webhooks.delete(webhook)

    def _outcome(self, answer: Answer) -> Outcome:
        if 200 <= answer.status < 300:
            return Delivered(answer.status)
        reason = f"the receiver answered {answer.status}"
        if answer.status == GONE:
            return Gone(f"{reason} Gone: it wants no more", answer.status)
        asked = answer.headers.get("retry-after") if answer.status in ASKS_FOR_PATIENCE else None
        return Failed(reason, answer.status, retry_after_s=0.0 if asked is None else seconds_of(asked, self._now()))


class WebhookReceiver:
    def __init__(self, target: WebhookTarget, calls: WebhookCalls) -> None:
        self._target = target
        self._calls = calls

    @property
    def is_ending(self) -> bool:
        return self._target.is_ending

    @property
    def kinds(self) -> list[str] | None:
        """Of a conversation that has been deleted nothing goes out any more but the word of it."""
        if not self._target.is_ending:
            return self._target.kinds
        return [
            kind for kind in (ConversationDeleted.kind,) if self._target.kinds is None or kind in self._target.kinds
        ]

    async def deliver(self, delivery: Delivery) -> Outcome:
        event = delivery.event
        payload = WebhookPayload(
            id=delivery.id, type=event.kind, timestamp=event.at, webhook=delivery.target,
            conversation=delivery.conversation, event=event,
        )  # fmt: skip
        return await self._calls.call(self._target, payload)

    async def end(self) -> None:
        await self._calls.forget(self._target.id)


def seconds_of(retry_after: str, now: datetime) -> float:
    """Of the header, which is a number of seconds or a date (RFC 9110, section 10.2.3); 0 when it is neither."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        moment = parsedate_to_datetime(text)
        return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())
    except (ValueError, OverflowError):
        return 0.0


def _without_path(detail: str, url: str) -> str:
    path = urlsplit(url).path
    return detail if path in ("", "/") else detail.replace(path, "")

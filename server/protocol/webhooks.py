"""Shapes of webhooks and dead letters: what people ask for, what they are shown, and what receivers get."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from server.protocol.accounts import Body
from server.protocol.events import event_types
from server.protocol.frames import Event
from server.protocol.views import View

Url = Annotated[str, Meta(min_length=1, max_length=2048)]
Description = Annotated[str, Meta(max_length=200)]
Kinds = Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(min_length=1, max_length=len(event_types))]


class NewWebhook(Body, frozen=True, kw_only=True):
    """`kinds` are kinds of events; left out: all, also those that later versions bring."""

    url: Url
    kinds: Kinds | None = None
    description: Description = ""


class WebhookChange(Body, frozen=True, kw_only=True):
    """`enabled: true` goes on where it stopped; with `skip_missed` from the head of the conversation."""

    url: Url | UnsetType = UNSET
    kinds: Kinds | None | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    skip_missed: bool = False


class Webhook(View, frozen=True, kw_only=True):
    """`seq`: how far it has got in the conversation's log; `waiting`: how many events stand behind that. `kept_by`: who
    made it, or enabled it last."""

    id: str
    conversation: str
    url: str
    kinds: list[str] | None
    description: str
    enabled: bool
    disabled_reason: str | None
    disabled_at: str | None
    failing_since: str | None
    next_try_at: str | None
    seq: int
    waiting: int
    dead_letters: int
    previous_secret_until: str | None
    kept_by: str | None
    created_at: str
    updated_at: str


class WebhookWithSecret(Webhook, frozen=True, kw_only=True):
    """The only time that the secret is shown."""

    secret: str


class WebhookList(View, frozen=True, kw_only=True):
    webhooks: list[Webhook]


class ToldProgram(View, frozen=True, kw_only=True):
    """What everybody in a conversation may know of a webhook."""

    description: str
    host: str
    enabled: bool


class ToldPrograms(View, frozen=True, kw_only=True):
    webhooks: list[ToldProgram]


class WebhookTest(View, frozen=True, kw_only=True):
    """What came of a ping. `status` is the receiver's, null where it gave no answer; `detail` says what went wrong."""

    delivered: bool
    status: int | None
    detail: str | None
    took_ms: int


class WebhookDelivery(View, frozen=True, kw_only=True):
    """One attempt. outcome: delivered, retried (it is tried again), dead (it is a dead letter) or gone (disabled)."""

    seq: int
    kind: str
    attempt: int
    outcome: Literal["delivered", "retried", "dead", "gone"]
    status: int | None
    detail: str | None
    took_ms: int
    at: str


class WebhookDeliveries(View, frozen=True, kw_only=True):
    """The latest first."""

    deliveries: list[WebhookDelivery]


class WebhookPayload(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a delivery: `type` is the event's kind, or `ping` for a test, which has no event."""

    id: str
    type: str
    timestamp: str
    webhook: str
    conversation: str
    event: Event | None


class DeadLetterView(View, frozen=True, kw_only=True):
    """An event that could not be delivered; the event itself stands in the conversation's log under `seq`."""

    id: str
    reader: str
    target: str
    conversation: str
    seq: int
    kind: str | None
    reason: str
    attempts: int
    last_status: int | None
    first_attempt_at: str | None
    last_attempt_at: str | None
    dead_at: str
    retrying: bool


class DeadLetterPage(View, frozen=True, kw_only=True):
    page: int
    page_size: int
    total: int
    total_pages: int
    dead_letters: list[DeadLetterView]


class DeadLettersOf(Body, frozen=True, kw_only=True):
    """Whose letters: all of one reader, such as `webhooks`."""

    reader: Annotated[str, Meta(min_length=1, max_length=64)]


class Counted(View, frozen=True, kw_only=True):
    count: int

"""An example of every shape, made from its type: none can be missing, and none can be stale.

A field's value comes from a table, by `Shape.field` first and by `field` alone second; what stands in neither gets
the simplest value of its type. Optional fields are left out unless the table names them. The tests decode every
example with our own codec.
"""

from functools import cache
from typing import Any, get_args

from msgspec import UNSET, inspect

from server.protocol.errors import ChatError
from server.protocol.frames import FrameId

FRAME_ID_PATTERN = get_args(FrameId)[1].pattern
PERSON = "01930a1b-5c00-7000-8000-00000000a001"
CONVERSATION = "01930a1b-5c00-7000-8000-00000000c001"
MESSAGE = "01930a1b-5c00-7000-8000-00000000e001"
ANSWER = "01930a1b-5c00-7000-8000-00000000e002"
RUN = "01930a1b-5c00-7000-8000-00000000f001"
WEBHOOK = "01930a1b-5c00-7000-8000-00000000d001"
EPOCH = "5b1f0c7a"
TEXT = "Good morning, everybody"
AT = "2026-03-01T09:30:00.000Z"

BY_NAME: dict[str, object] = {
    "access_token": "an-access-token",
    "actor": {"kind": "user", "id": PERSON, "name": "ada"},
    "address": "127.0.0.1",
    "call": "call-1",
    "client_id": "draft-1",
    "code": "not_found",
    "connection": "01930a1b-5c00-7000-8000-00000000b001",
    "conversation": CONVERSATION,
    "delivered": 42,
    "detail": "there is no such conversation",
    "emoji": "👍",
    "epoch": EPOCH,
    "expires_in": 3600,
    "first": 1,
    "head": 42,
    "heartbeat_s": 25.0,
    "history": "joined",
    "ids": [CONVERSATION],
    "kind": "room",
    "link": "http://127.0.0.1:8000/#reset=a-one-time-token",
    "member_count": 2,
    "message": MESSAGE,
    "model": "demo",
    "name": "ada",
    "new_password": "correct horse battery",
    "on": True,
    "password": "correct horse battery",
    "peer": None,
    "read": 40,
    "reconnect_in_ms": 1500,
    "refresh_token": "a-refresh-token",
    "registration": "open",
    "reply_to": None,
    "role": "member",
    "run": RUN,
    "seq": 42,
    "state": "online",
    "status": "finished",
    "text": TEXT,
    "ticket": "a-ticket-for-one-socket",
    "title": "Coffee break",
    "token": "a-one-time-token",
    "unread": 2,
    "user": PERSON,
    "user_agent": "Mozilla/5.0",
    "username": "ada",
    "users": [PERSON],
    "visibility": "public",
}

_WEBHOOK: dict[str, object] = {
    "id": WEBHOOK,
    "url": "https://hooks.example.org/chat",
    "kinds": ["message.created"],
    "description": "the build robot",
    "enabled": True,
    "disabled_reason": None,
    "failing_since": None,
    "waiting": 0,
    "dead_letters": 0,
    "kept_by": PERSON,
    "secret": "whsec_b25seS1hbi1leGFtcGxlLWFuZC1uby1zZWNyZXQtISE=",
}
_OF_WEBHOOKS: dict[str, object] = {
    **{f"{shape}.{name}": value for name, value in _WEBHOOK.items() for shape in ("Webhook", "WebhookWithSecret")},
    **{f"NewWebhook.{name}": _WEBHOOK[name] for name in ("url", "kinds", "description")},
    "ToldProgram.description": _WEBHOOK["description"],
    "ToldProgram.host": "hooks.example.org",
    "ToldProgram.enabled": True,
    "WebhookChange.enabled": True,
    "WebhookChange.skip_missed": True,
    "WebhookTest.delivered": False,
    "WebhookTest.status": 404,
    "WebhookTest.detail": "the receiver answered 404",
    "WebhookTest.took_ms": 35,
    "WebhookDelivery.kind": "message.created",
    "WebhookDelivery.outcome": "retried",
    "WebhookDelivery.status": 503,
    "WebhookDelivery.detail": "the receiver answered 503",
    "WebhookDelivery.took_ms": 35,
    "DeadLettersOf.reader": "webhooks",
    "DeadLetterView.reader": "webhooks",
    "DeadLetterView.target": WEBHOOK,
    "DeadLetterView.kind": "message.created",
    "DeadLetterView.reason": "the receiver answered 503",
    "DeadLetterView.attempts": 12,
    "DeadLetterView.last_status": 503,
    "DeadLetterView.first_attempt_at": AT,
    "DeadLetterView.last_attempt_at": AT,
    "DeadLetterView.dead_at": AT,
    "DeadLetterView.retrying": False,
}

BY_PLACE: dict[str, object] = {
    "Account.id": PERSON,
    "Account.origin": "registered",
    "Ack.run": UNSET,
    "Attachment.media_type": "image/png",
    "Attachment.name": "plan.png",
    "Conversation.created_by": PERSON,
    "Conversation.id": CONVERSATION,
    "Conversation.model": None,
    "Conversation.has_system_prompt": False,
    "Conversation.retention_days": None,
    "Conversation.system_prompt": None,
    "ConversationDraft.model": UNSET,
    "ConversationRemoved.code": "kicked",
    "ConversationSummary.id": CONVERSATION,
    "ConversationChange.retention_days": 90,
    "ConversationUpdated.model": UNSET,
    "ConversationUpdated.visibility": UNSET,
    "DeltaFrame.kind": "text",
    "DeltaFrame.offset": 0,
    "DeltaFrame.part": 0,
    "DeltaFrame.text": "Good morning",
    "ErrorFrame.message": "there is no such conversation",
    "Event.kind": "message.created",
    "Event.data": {"id": MESSAGE, "client_id": "draft-1", "text": TEXT},
    "MemberLeft.by": PERSON,
    "Me.id": PERSON,
    "Mention.id": PERSON,
    "Mention.kind": "user",
    "Mention.start": 0,
    "Mention.end": 4,
    "MessageCreated.client_id": "draft-1",
    "NewAccount.invitation": UNSET,
    "Problem.type": "/docs#not_found",
    "Problem.title": "There is no such thing here",
    "Problem.status": 404,
    "RunEnded.message": ANSWER,
    "RunEnded.parts": [{"kind": "text", "text": TEXT}],
    "RunEnded.usage": {"input_tokens": 12, "output_tokens": 4, "estimated": True},
    "RunStarted.message": ANSWER,
    "RunStarted.reply_to": MESSAGE,
    "RunSteered.text": "Shorter, please",
    "RunState.id": RUN,
    "RunState.error": None,
    "Session.id": "01930a1b-5c00-7000-8000-00000000b002",
    "Session.kind": "browser",
    "StartRun.message": UNSET,
    "Steer.text": "Shorter, please",
    "Subscribe.conversations": {CONVERSATION: {"seq": 40, "epoch": EPOCH}},
    "SubscribedTo.error": UNSET,
    "TokenAnswer.token_type": "bearer",
    "TokenRequest.grant_type": "password",
    "TokenRequest.refresh_token": UNSET,
    "UserSummary.id": PERSON,
    **_OF_WEBHOOKS,
}


@cache
def example_of(shape: type) -> Any:
    """JSON, as Python values, that decodes as `shape`."""
    return _value(inspect.type_info(shape))


def problem_example(error: type[ChatError]) -> dict[str, object]:
    return {
        "type": f"/docs#{error.code}",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.title,
        "retryable": error.retryable,
        "request_id": "01930a1b-5c00-7000-8000-000000000d01",
        **({"retry_after_s": 1.5} if error.code == "rate_limited" else {}),
    }


def _value(info: inspect.Type) -> Any:
    match info:
        case inspect.Metadata(type=inner):
            return _value(inner)
        case inspect.StructType():
            return _struct(info)
        case inspect.UnionType(types=types):
            return _value(next((kind for kind in types if not isinstance(kind, inspect.NoneType)), inspect.NoneType()))
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.ListType(item_type=item):
            return [_value(item)]
        case inspect.DictType(value_type=value):
            return {CONVERSATION: _value(value)}
        case inspect.StrType(pattern=pattern):
            return "draft-1" if pattern == FRAME_ID_PATTERN else MESSAGE
        case inspect.BoolType():
            return True
        case inspect.IntType(ge=least):
            return least or 1
        case inspect.FloatType():
            return 1.5
        case inspect.NoneType():
            return None
        case _:
            return {}


def _struct(info: inspect.StructType) -> dict[str, Any]:
    made: dict[str, Any] = {info.tag_field: info.tag} if info.tag_field else {}
    for field in info.fields:
        place = f"{info.cls.__name__}.{field.name}"
        is_named = place in BY_PLACE or (field.name in BY_NAME and _is_plain(field.type))
        if not field.required and not is_named:
            continue
        value = BY_PLACE.get(place, BY_NAME.get(field.name)) if is_named else _value_of(field)
        if value is not UNSET and not (value is None and not field.required):
            made[field.encode_name] = value
    return made


def _value_of(field: inspect.Field) -> Any:
    is_time = field.name.endswith("_at") or field.name == "at"
    if not is_time:
        return _value(field.type)
    is_past_only = field.name in ("created_at", "updated_at", "joined_at", "last_used_at", "expires_at", "at")
    return AT if is_past_only or not _takes_none(field.type) else None


def _is_plain(info: inspect.Type) -> bool:
    """A name means the same in every shape only where the value is no shape of its own."""
    match info:
        case inspect.Metadata(type=inner):
            return _is_plain(inner)
        case inspect.UnionType(types=types):
            return all(_is_plain(kind) for kind in types)
        case inspect.ListType(item_type=item):
            return _is_plain(item)
        case inspect.StructType() | inspect.DictType():
            return False
        case _:
            return True


def _takes_none(info: inspect.Type) -> bool:
    return isinstance(info, inspect.NoneType) or (isinstance(info, inspect.UnionType) and info.includes_none)

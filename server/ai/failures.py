"""What can go wrong with a model: one table of kinds, with advice, and how a provider's answer is told to be one.

In:   the status, the body and the headers of an answer; or the error object inside a stream.
Out:  a `Failed` whose message is fit for the room: the provider's own words, cut short, without anything that looks
like a key.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from server.ai.adapter import ErrorKind, Failed
from server.protocol.codec import foreign_decoder
from server.protocol.errors import BadJson

MAX_MESSAGE = 300

_any_json = foreign_decoder(object)


@dataclass(frozen=True, slots=True)
class Advice:
    """`retry`: the same model may answer when asked again. `fallback`: another model may answer instead. Both hold only
    before the first content."""

    retry: bool
    fallback: bool
    title: str


ADVICE: dict[ErrorKind, Advice] = {
    "auth": Advice(False, True, "the provider refuses the key"),
    "quota": Advice(False, True, "the account at the provider has nothing left"),
    "rate_limited": Advice(True, True, "the provider takes no more requests just now"),
    "overloaded": Advice(True, True, "the provider is overloaded"),
    "unavailable": Advice(True, True, "the provider is out of order"),
    "connection": Advice(True, True, "the provider cannot be reached"),
    "timeout_connect": Advice(True, True, "the provider could not be reached in time"),
    "timeout_first_event": Advice(True, True, "the model did not begin in time"),
    "timeout_idle": Advice(False, True, "the model fell silent"),
    "timeout_total": Advice(False, False, "the answer took too long"),
    "truncated": Advice(True, True, "the answer broke off"),
    "invalid_request": Advice(False, False, "the provider does not take this request"),
    "context_window": Advice(False, True, "the conversation is too long for the model"),
    "model_not_found": Advice(False, True, "the provider does not know the model"),
    "content_filter": Advice(False, False, "the provider's rules forbid this"),
    "bad_response": Advice(False, True, "the provider's answer cannot be read"),
}

# What providers call it, wherever they say it: `error.type`, `error.code`, `error.status`. The first that fits counts.
_WORDS: tuple[tuple[ErrorKind, frozenset[str]], ...] = (
    ("context_window", frozenset({"context_length_exceeded", "request_too_large"})),
    ("quota", frozenset({"insufficient_quota", "billing_error", "billing_hard_limit_reached", "payment_required"})),
    (
        "rate_limited",
        frozenset({"rate_limit_error", "rate_limit_exceeded", "requests", "tokens", "resource_exhausted"}),
    ),
    ("overloaded", frozenset({"overloaded_error", "overloaded", "server_overloaded", "engine_overloaded"})),
    ("model_not_found", frozenset({"model_not_found", "model_decommissioned"})),
    ("content_filter", frozenset({"content_filter", "content_policy_violation", "responsibleaipolicyviolation"})),
    (
        "auth",
        frozenset(
            {"authentication_error", "permission_error", "invalid_api_key", "unauthenticated", "permission_denied"}
        ),
    ),
    ("unavailable", frozenset({"api_error", "server_error", "internal_server_error", "internal", "unavailable"})),
    ("timeout_total", frozenset({"timeout_error", "deadline_exceeded"})),
    ("invalid_request", frozenset({"invalid_request_error", "invalid_argument", "bad_request"})),
)
_TOO_LONG = re.compile(r"(?i)context (length|window)|prompt is too long|maximum context|too many tokens|input token")
_NO_MODEL = re.compile(r"(?is)\bmodel\b.{0,80}(not found|does not exist|not exist|unknown|decommissioned)")
_SECRET = re.compile(r"(?i)\b(?:sk|pk|rk|key|gsk|xai|AIza)[-_A-Za-z0-9]{8,}|Bearer\s+\S+|\b[A-Za-z0-9_-]{40,}\b")
_BY_STATUS: dict[int, ErrorKind] = {
    400: "invalid_request", 401: "auth", 402: "quota", 403: "auth", 404: "model_not_found", 408: "timeout_total",
    409: "unavailable", 413: "context_window", 422: "invalid_request", 429: "rate_limited", 503: "overloaded",
    529: "overloaded",
}  # fmt: skip


def failed(
    kind: ErrorKind, detail: str = "", *, status: int | None = None, retry_after_s: float | None = None
) -> Failed:
    """The table's words, and the provider's behind them."""
    title = ADVICE[kind].title
    said = without_secrets(detail)
    return Failed(kind, f"{title}: {said}" if said else title, retry_after_s, status)


def failure_of_answer(status: int, body: bytes, headers: Mapping[str, str]) -> Failed:
    """Of an HTTP answer that is no stream; header names in small letters. HTML and other bodies that are no JSON are
    not quoted."""
    try:
        found = _any_json(body)
    except BadJson:
        found = None
    if isinstance(found, list) and found:
        found = found[0]  # Gemini
    error = found.get("error", found) if isinstance(found, dict) else None
    retry_after_s = retry_after(headers)
    if error is None:
        kind: ErrorKind = "bad_response" if status < 400 else _of_status(status)
        return failed(kind, status=status, retry_after_s=retry_after_s)
    return failure_of_error(error, status=status, retry_after_s=retry_after_s)


def failure_of_error(error: object, *, status: int | None = None, retry_after_s: float | None = None) -> Failed:
    """Of the error object of any of the formats, which may be a bare text."""
    fields: Mapping[str, Any] = error if isinstance(error, dict) else {"message": error}
    message = fields.get("message")
    text = message if isinstance(message, str) else ""
    words = {str(fields[name]).lower() for name in ("code", "type", "status") if fields.get(name) is not None}
    if status is None:
        status = next((code for code in (fields.get("code"), fields.get("status")) if isinstance(code, int)), None)
    kind = next((kind for kind, known in _WORDS if words & known), None)
    if kind in (None, "invalid_request") and _TOO_LONG.search(text):
        kind = "context_window"
    elif kind in (None, "invalid_request") and _NO_MODEL.search(text):
        kind = "model_not_found"
    elif kind is None:
        kind = _of_status(status) if status is not None else "unavailable"
    return failed(kind, text, status=status, retry_after_s=retry_after_s)


def _of_status(status: int) -> ErrorKind:
    if status >= 500:
        return _BY_STATUS.get(status, "unavailable")
    return _BY_STATUS.get(status, "invalid_request" if status >= 400 else "bad_response")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from `retry-after-ms` or `retry-after` as a number or a date (RFC 9110, section 10.2.3)."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            found = float(value) * scale
        except ValueError:
            continue
        return found if 0 <= found < 86_400 else None
    try:
        at = parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, TypeError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(0.0, (at - datetime.now(UTC)).total_seconds()), 86_400.0)


def without_secrets(text: str) -> str:
    """One line, cut short; what looks like a key is left out, since some providers quote it."""
    line = " ".join(_SECRET.sub("…", text).split())
    return line if len(line) <= MAX_MESSAGE else line[:MAX_MESSAGE].rstrip() + " …"

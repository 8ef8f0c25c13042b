"""Everything that can go wrong for a reader of the interface: a closed list of stable codes.

Each class is one code, the same on the socket (`error` frame) and over HTTP (RFC 9457 problem details).
`detail` is meant for the person who made the call: it quotes what that person sent and nothing of anybody else.
"""

from typing import ClassVar


class ChatError(Exception):
    """The root of the list; `code` is on the wire and never changes."""

    code: ClassVar[str]
    status: ClassVar[int]
    title: ClassVar[str]
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.retry_after_s = retry_after_s


class BadJson(ChatError):
    """The bytes are no JSON that this interface takes (DESIGN: strict decoding)."""

    code, status, title = "bad_json", 400, "This is not acceptable JSON"


class BadFrame(ChatError):
    """The JSON is sound, but no frame or body of this interface has that shape."""

    code, status, title = "bad_frame", 422, "This has the wrong shape"


class Unauthenticated(ChatError):
    code, status, title = "unauthenticated", 401, "Please sign in"


class Forbidden(ChatError):
    """The object is known to the caller, whose role does not allow this."""

    code, status, title = "forbidden", 403, "Your role does not allow this"


class NotFound(ChatError):
    """Missing, or somebody else's: the answer is the same, so that nobody learns what exists."""

    code, status, title = "not_found", 404, "There is no such thing here"


class MethodNotAllowed(NotFound):
    code, status, title = "not_found", 405, "This address does not take that method"


class Conflict(ChatError):
    code, status, title = "conflict", 409, "This contradicts what is already there"


class TooLarge(ChatError):
    code, status, title = "too_large", 413, "This is too large"


class Rejected(ChatError):
    """A rule said no; the detail is its reason."""

    code, status, title = "rejected", 422, "A rule of this studio says no"


class RateLimited(ChatError):
    code, status, title = "rate_limited", 429, "Too many at once, please slow down"
    retryable = True


class Overloaded(ChatError):
    code, status, title = "overloaded", 503, "The studio is very busy, please try again"
    retryable = True


class Draining(ChatError):
    code, status, title = "draining", 503, "This server is about to stop, please come back"
    retryable = True


class Unavailable(ChatError):
    """Postgres is away: nothing was acknowledged, and the same id may be sent again."""

    code, status, title = "unavailable", 503, "The database cannot be reached, please try again"
    retryable = True


class Internal(ChatError):
    """A broken promise of ours; what happened stands in the log under the request's id, never in the answer."""

    code, status, title = "internal", 500, "Something broke on our side"
    retryable = True

"""What a program that uses the client may have to catch.

What the server refuses comes as the classes of `server.protocol.errors` (`Forbidden`, `NotFound`, `Conflict` …), each
by its code on the wire; the errors below are the client's own.
"""

from server.protocol.errors import ChatError


class ClientError(Exception):
    """The root of the client's own errors."""


class StudioAway(ClientError):
    """Nobody answered in time. The text names the last reason."""


class SignedOut(ClientError):
    """The server will not have this client back: the sign-in has ended, or is not wanted (close codes from 4500)."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code


class WrongPassword(SignedOut):
    """There is no such account, or its password is another one."""


class Unconfirmed(ClientError):
    """No answer within the deadline. Whether it happened is not known; the same `frame_id` may be sent again."""

    def __init__(self, frame_id: str, within_s: float) -> None:
        super().__init__(f"{frame_id} was neither acknowledged nor refused within {within_s:g} s")
        self.frame_id = frame_id


class Closed(ClientError):
    """The `Studio` was closed while somebody waited for it."""


class Refused(ChatError):
    """A refusal whose code this client does not know; the text begins with it."""

    code, status, title = "refused", 0, "The server refused this"


_by_code = {shape.code: shape for shape in ChatError.__subclasses__() if shape is not Refused}


def refusal(code: str, detail: str, *, retryable: bool = False, retry_after_s: float | None = None) -> ChatError:
    """The error that stands for this code, as it came over the wire."""
    shape = _by_code.get(code)
    if shape is not None:
        return shape(detail, retry_after_s=retry_after_s)
    error = Refused(f"{code}: {detail}", retry_after_s=retry_after_s)
    error.retryable = retryable  # type: ignore[misc]  # a class's word elsewhere; here only the wire knows
    return error

"""Times on the wire: RFC 3339, UTC, milliseconds, a `Z` at the end."""

from datetime import UTC, datetime
from functools import lru_cache


def now() -> datetime:
    """The present, cut to the milliseconds that the wire shows, so that what is stored equals what was sent."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@lru_cache(maxsize=64)  # all messages of one commit have the same time, and each is shown at least twice
def rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"

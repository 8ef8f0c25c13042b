"""After a lost connection: whether to come back, where to and when. Pure: chance is handed in."""

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

Addresses = str | Sequence[str] | Callable[[int], str]
Chance = Callable[[], float]  # from 0 up to 1, without 1

FIRST_PAUSE_S = 0.4  # a worker that was replaced is back within that more often than not
MAX_PAUSE_S = 30.0  # a studio that was away all night is found within half a minute of its return
MAX_DOUBLINGS = 7  # 0.4 s doubled seven times passes the maximum
BUSY_PAUSE_S = 5.0  # told to slow down (1013, 4013): not sooner than that
STEADY_S = 3.0  # a connection that lived so long was a success: the next pause is a first one again

REASONS = {
    4500: "the sign-in has ended",
    4501: "the server did not understand this client",
    4502: "the server did not learn who this is",
    4503: "this account no longer exists",
    4504: "this account has too many connections open",
    4507: "this conversation may not be read",
}


def final_reason(code: int) -> str | None:
    """Why one who was closed with this code stays away; None: come back and resume."""
    return REASONS.get(code, "the server has closed this connection for good") if 4500 <= code <= 4999 else None


def least_pause_s(code: int) -> float:
    return BUSY_PAUSE_S if code in (1013, 4013) else 0.0


def pause_s(attempt: int, chance: Chance) -> float:
    """Full jitter: anything up to a bound that doubles with each attempt, so that a thousand clients spread out."""
    return chance() * float(min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** min(attempt, MAX_DOUBLINGS)))


def in_turn(addresses: Addresses) -> Callable[[int], str]:
    """From the number of an attempt to the address to try: always the one, one after the other, or as told."""
    if callable(addresses):
        return addresses
    urls = [addresses] if isinstance(addresses, str) else list(addresses)
    if not urls:
        raise ValueError("no address to connect to")
    for url in urls:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"an address begins with http:// or https://, not {url!r}")
    return lambda attempt: urls[attempt % len(urls)]


def socket_address(url: str) -> str:
    """`http://host/base` → `ws://host/base/ws`."""
    return f"ws{url.removeprefix('http').rstrip('/')}/ws"

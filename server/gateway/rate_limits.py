"""How much one caller may ask for: one bucket for everything, on sockets and over HTTP alike.

slowapi counts HTTP requests only; frames on a socket need a limit too, so both share this one. Each worker counts for
itself. The time is handed in.
Promises: memory is bounded, since a bucket that is full again is forgotten; a refusal says when to come back.
"""

import ipaddress
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Final

from server.hub.identity import Identity
from server.protocol.errors import RateLimited

MAX_BUCKETS = 100_000  # 20 MB at worst, when a hundred thousand addresses ask within one burst
MAX_SOCKETS = 20  # a user: some devices with some tabs each
BAD_FRAMES = 20
BAD_FRAMES_WINDOW_S = 60.0
IPV6_PREFIX = 64  # what one household or host gets: its addresses are one caller


class TokenBucket:
    """`burst` at once, then `rate_per_s`, for each key of its own.

    Per key it keeps one number, the time at which the bucket will be full again, and no count: the same limit, told
    backwards (the generic cell rate algorithm, ITU-T I.371).
    """

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._interval_s: Final = 1 / rate_per_s
        self._burst_s: Final = burst / rate_per_s
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str, now: float) -> float:
        """Take one; 0.0 when there was one, else the seconds until there is. A refused call takes nothing."""
        self._forget(now)
        full_at = max(self._full_at.get(key, now), now) + self._interval_s
        wait_s = full_at - now - self._burst_s
        if wait_s > 1e-9:  # sums of floats
            return wait_s
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        return 0.0

    def __len__(self) -> int:
        return len(self._full_at)

    def _forget(self, now: float) -> None:
        """Two at most a call: as many as come in, and one more."""
        for _ in range(2):
            oldest = next(iter(self._full_at), None)
            if oldest is None or (self._full_at[oldest] > now and len(self._full_at) < MAX_BUCKETS):
                return
            del self._full_at[oldest]


class RateLimits:
    """Every limit of the studio. Each check takes one from its bucket, or raises `RateLimited`."""

    def __init__(self, enabled: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._enabled = enabled
        self._clock = clock
        self._sends = TokenBucket(10, 40)
        self._logins = TokenBucket(5 / 60, 5)
        self._logins_of_address = TokenBucket(30 / 60, 30)  # an office behind one address, and still no guessing
        self._registrations = TokenBucket(30 / 60, 30)
        self._searches = TokenBucket(60 / 60, 20)
        self._requests = TokenBucket(50, 200)  # a page that opens asks for some dozens at once
        self._requests_of_strangers = TokenBucket(20, 100)
        self._sockets: Counter[str] = Counter()

    def check_send(self, user_id: str) -> None:
        self._take(self._sends, user_id)

    def check_login(self, account: str, address: str) -> None:
        """`account` is what was typed, whether or not there is such an account."""
        network = _network(address)
        self._take(self._logins_of_address, network)
        self._take(self._logins, f"{network} {account[:64]}")

    def check_registration(self, address: str) -> None:
        self._take(self._registrations, _network(address))

    def check_search(self, user_id: str) -> None:
        self._take(self._searches, user_id)

    def check_request(self, identity: Identity | None, address: str) -> None:
        if identity is not None:
            self._take(self._requests, identity.user_id)
        else:
            self._take(self._requests_of_strangers, _network(address))

    def acquire_socket(self, user_id: str) -> None:
        """Before a socket is let in; `release_socket` when it is gone."""
        if self._enabled and self._sockets[user_id] >= MAX_SOCKETS:
            raise RateLimited(f"you have {MAX_SOCKETS} connections open, more are not possible")
        self._sockets[user_id] += 1

    def release_socket(self, user_id: str) -> None:
        self._sockets[user_id] -= 1
        if self._sockets[user_id] <= 0:
            del self._sockets[user_id]

    def _take(self, bucket: TokenBucket, key: str) -> None:
        if not self._enabled:
            return
        wait_s = bucket.take(key, self._clock())
        if wait_s:
            raise RateLimited(retry_after_s=math.ceil(wait_s * 10) / 10)


class BadFrameMeter:
    """Bad frames of one socket within a minute."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=BAD_FRAMES)

    def is_full_after(self, now: float) -> bool:
        """Note one more; whether that makes 20 within a minute."""
        self._times.append(now)
        return len(self._times) == BAD_FRAMES and now - self._times[0] < BAD_FRAMES_WINDOW_S


def _network(address: str) -> str:
    """What is counted together: an IPv4 address, or the network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, IPV6_PREFIX), strict=False))

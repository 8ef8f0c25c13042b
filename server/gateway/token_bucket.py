"""Two ways to say "not so fast", with the time handed in: a bucket for each key, and one queue of turns for all.

Both keep times and no counts: the generic cell rate algorithm (ITU-T I.371), which is a token bucket told backwards.
"""

from collections import OrderedDict
from typing import Final

MAX_BUCKETS = 100_000  # 20 MB at worst, when a hundred thousand addresses ask within one burst


class TokenBucket:
    """`burst` at once, then `rate_per_s`, for each key of its own.

    Per key it keeps one number, the time at which the bucket will be full again. Memory is bounded, since a bucket that
    is full again is forgotten.
    """

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._interval_s: Final = 1 / rate_per_s
        self._burst_s: Final = burst / rate_per_s
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str, now: float) -> float:
        """Take one; 0.0 when there was one, else the seconds until there is. A refused call takes nothing."""
        self._forget(now)
        wait_s = self.wait_s(key, now)
        if wait_s:
            return wait_s
        self._full_at[key] = max(self._full_at.get(key, now), now) + self._interval_s
        self._full_at.move_to_end(key)
        return 0.0

    def wait_s(self, key: str, now: float) -> float:
        """What `take` would answer."""
        wait_s = max(self._full_at.get(key, now), now) + self._interval_s - now - self._burst_s
        return wait_s if wait_s > 1e-9 else 0.0  # sums of floats

    def __len__(self) -> int:
        return len(self._full_at)

    def _forget(self, now: float) -> None:
        """Two at most a call: as many as come in, and one more."""
        for _ in range(2):
            oldest = next(iter(self._full_at), None)
            if oldest is None or (self._full_at[oldest] > now and len(self._full_at) < MAX_BUCKETS):
                return
            del self._full_at[oldest]


class Turns:
    """`burst` at once, then one every so often, each at a time of its own: who asks is told how long to wait.

    For one queue of all callers, where a bucket that only says no would send everybody back at the same moment.
    """

    def __init__(self, rate_per_s: float, burst: int, longest_s: float) -> None:
        self._interval_s: Final = 1 / rate_per_s
        self._burst_s: Final = burst / rate_per_s
        self._longest_s: Final = longest_s
        self._last = 0.0  # the turn given last, as if there were no burst

    def take(self, now: float) -> float | None:
        """The seconds until one's turn, 0.0 for now; None when the queue is too long to stand in."""
        turn = max(self._last, now) + self._interval_s
        wait_s = max(0.0, turn - now - self._burst_s)
        if wait_s > self._longest_s + 1e-9:  # sums of floats
            return None
        self._last = turn
        return wait_s

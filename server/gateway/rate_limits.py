"""How much one caller may ask for: one bucket for everything, on sockets and over HTTP alike.

slowapi counts HTTP requests only; frames on a socket need a limit too, so both share this one. Each worker counts for
itself. The time is handed in.
Promises: memory is bounded, since a bucket that is full again is forgotten; a refusal says when to come back.
"""

import ipaddress
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import lru_cache

from server.gateway.token_bucket import TokenBucket, Turns
from server.hub.identity import Identity
from server.protocol.errors import Overloaded, RateLimited

MAX_SOCKETS = 20  # a user: some devices with some tabs each
MAX_SOCKETS_OF_ADDRESS = 2_000  # a large office behind one address
MAX_STRANGERS = 1_000  # sockets that have not said who they are; each holds a place for ten seconds
MAX_STRANGERS_OF_ADDRESS = 50
TRY_AGAIN_S = 30.0  # whoever has too many sockets open closes one first; nothing tells when
ACCEPTS_PER_S = 500.0  # a worker greets twice as many a second at most; the rest of its time is for those who are in
SLOTS_PER_S = 450.0  # handed out to those sent away: a little fewer, so that who comes in its slot finds the door open
MAX_WAITING = 3_000  # to be greeted: some seconds' worth
ACCEPTS_AT_ONCE = 1_000  # everybody of a small studio comes back at once without being sent away
RESUMES_PER_S = 500.0
RESUMES_AT_ONCE = 500
ACCEPTS_OF_ADDRESS_PER_S = 250.0  # whoever knocks more often from one place leaves the door to the others
ACCEPTS_OF_ADDRESS_AT_ONCE = 2 * MAX_SOCKETS_OF_ADDRESS  # all come back at once, and soon once more
SPREAD_OF_ADDRESS_S = 10.0
BAD_CREDENTIALS_PER_S = 10.0  # of one address: each costs a query, and nobody honest has many
BAD_CREDENTIALS_AT_ONCE = 100
LONGEST_SLOT_S = 30.0
LONGEST_TURN_S = 10.0  # to wait for one's turn with an open socket; longer, and the client should ask again
FRAMES_PER_S = 50.0  # of one connection, of all kinds: ten sends, and what a page tells while somebody scrolls
FRAMES_AT_ONCE = 1_000  # a browser that resumes 500 conversations tells in one tick what was delivered in each
BAD_FRAMES = 20
BAD_FRAMES_WINDOW_S = 60.0
GOLDEN = 0.6180339887  # its multiples, without their whole part, lie as far apart as can be, however many there are
IPV6_PREFIX = 64  # what one household or host gets: its addresses are one caller


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
        self._webhook_tests = TokenBucket(5 / 60, 5)  # each calls somebody, and may wait ten seconds for an answer
        self._requests = TokenBucket(50, 200)  # a page that opens asks for some dozens at once
        self._requests_of_strangers = TokenBucket(20, 100)
        self._accepts = TokenBucket(ACCEPTS_PER_S, ACCEPTS_AT_ONCE)
        self._accepts_of_address = TokenBucket(ACCEPTS_OF_ADDRESS_PER_S, ACCEPTS_OF_ADDRESS_AT_ONCE)
        self._bad_credentials = TokenBucket(BAD_CREDENTIALS_PER_S, BAD_CREDENTIALS_AT_ONCE)
        self._sent_away = 0
        self._slots = Turns(SLOTS_PER_S, 1, LONGEST_SLOT_S)
        self._resumes = Turns(RESUMES_PER_S, RESUMES_AT_ONCE, LONGEST_TURN_S)
        self._sockets: Counter[str] = Counter()
        self._sockets_of_address: Counter[str] = Counter()
        self._strangers: Counter[str] = Counter()  # sockets without an identity, by address

    def check_accept(self, address: str, waiting: int = 0) -> None:
        """Before anything is asked about a socket. In a storm of reconnects each is told a time of its own to come back
        at, since all would come at the same moment if they were told the same.

        One address that asks for too much is sent away first, and takes neither a place nor a slot of the others.
        """
        if not self._enabled:
            return
        self.check_credentials(address)
        if self._accepts_of_address.take(_network(address), self._clock()):
            self._sent_away += 1
            raise Overloaded(
                "too many connections from your address at once",
                retry_after_s=round(1.0 + SPREAD_OF_ADDRESS_S * (self._sent_away * GOLDEN % 1.0), 3),
            )
        if waiting >= MAX_WAITING or self._accepts.take("", self._clock()):
            slot_s = self._slots.take(self._clock())
            raise Overloaded(retry_after_s=round(LONGEST_SLOT_S if slot_s is None else slot_s + 1.0, 3))

    def check_credentials(self, address: str) -> None:
        """Before a credential is looked up."""
        wait_s = self._bad_credentials.wait_s(_network(address), self._clock()) if self._enabled else 0.0
        if wait_s:
            raise RateLimited("too many wrong credentials came from your address", retry_after_s=max(1.0, wait_s))

    def note_bad_credential(self, address: str) -> None:
        self._bad_credentials.take(_network(address), self._clock())

    def resume_turn_s(self) -> float:
        """How long to wait before a resume may begin."""
        if not self._enabled:
            return 0.0
        wait_s = self._resumes.take(self._clock())
        if wait_s is None:
            raise Overloaded(retry_after_s=LONGEST_TURN_S)
        return wait_s

    def frame_meter(self) -> "FrameMeter | None":
        """One for each connection; None where nothing is limited."""
        return FrameMeter() if self._enabled else None

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

    def check_webhook_test(self, user_id: str) -> None:
        self._take(self._webhook_tests, user_id)

    def check_request(self, identity: Identity | None, address: str) -> None:
        if identity is not None:
            self._take(self._requests, identity.user_id)
        else:
            self._take(self._requests_of_strangers, _network(address))

    def acquire_socket(self, user_id: str, address: str) -> None:
        """Before a socket is let in; `release_socket` when it is gone."""
        network = _network(address)
        if self._enabled and self._sockets[user_id] >= MAX_SOCKETS:
            raise RateLimited(
                f"you have {MAX_SOCKETS} connections open, more are not possible", retry_after_s=TRY_AGAIN_S
            )
        if self._enabled and self._sockets_of_address[network] >= MAX_SOCKETS_OF_ADDRESS:
            raise RateLimited("there are too many connections from your address", retry_after_s=TRY_AGAIN_S)
        self._sockets[user_id] += 1
        self._sockets_of_address[network] += 1

    def release_socket(self, user_id: str, address: str) -> None:
        _less(self._sockets, user_id)
        _less(self._sockets_of_address, _network(address))

    def acquire_stranger(self, address: str) -> None:
        """Before a socket without a credential is let in to say `hello`; `release_stranger` when it has, or is gone."""
        network = _network(address)
        too_many = self._strangers[network] >= MAX_STRANGERS_OF_ADDRESS or self._strangers.total() >= MAX_STRANGERS
        if self._enabled and too_many:
            raise RateLimited("too many connections wait for their `hello`", retry_after_s=TRY_AGAIN_S)
        self._strangers[network] += 1

    def release_stranger(self, address: str) -> None:
        _less(self._strangers, _network(address))

    def _take(self, bucket: TokenBucket, key: str) -> None:
        if not self._enabled:
            return
        wait_s = bucket.take(key, self._clock())
        if wait_s:
            raise RateLimited(retry_after_s=math.ceil(wait_s * 10) / 10)


class FrameMeter:
    """Frames of one connection, of all kinds."""

    __slots__ = ("_bucket",)

    def __init__(self) -> None:
        self._bucket = Turns(FRAMES_PER_S, FRAMES_AT_ONCE, 0.0)

    def check(self, now: float) -> None:
        if self._bucket.take(now) is None:
            raise RateLimited(retry_after_s=1.0)


class BadFrameMeter:
    """Bad frames of one socket within a minute."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=BAD_FRAMES)

    def is_full_after(self, now: float) -> bool:
        """Note one more; whether that makes 20 within a minute."""
        self._times.append(now)
        return len(self._times) == BAD_FRAMES and now - self._times[0] < BAD_FRAMES_WINDOW_S


def _less(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]


@lru_cache(maxsize=10_000)  # parsing one costs as much as letting a socket in
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

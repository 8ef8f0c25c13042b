"""Limits with the time handed in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.gateway import rate_limits, send_budget, token_bucket
from server.gateway.rate_limits import BadFrameMeter, FrameMeter, RateLimits
from server.gateway.token_bucket import TokenBucket, Turns
from server.gateway.websocket_protocol import HIGH_WATER_BYTES
from server.hub.identity import Identity
from server.protocol.errors import Overloaded, RateLimited
from server.protocol.frames import MAX_SUBSCRIPTIONS


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> RateLimits:
    return RateLimits(enabled=True, clock=clock)


def test_a_burst_passes_and_then_the_rate() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=40)
    assert [bucket.take("ada", 0.0) for _ in range(40)] == [0.0] * 40
    assert bucket.take("ada", 0.0) == pytest.approx(0.1)
    assert bucket.take("ada", 0.1) == 0.0
    assert bucket.take("ada", 0.1) == pytest.approx(0.1)
    assert [bucket.take("ada", 10.0) == 0.0 for _ in range(41)] == [True] * 40 + [False]


def test_quiet_time_saves_up_no_more_than_a_burst() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=40)
    for _ in range(40):
        bucket.take("busy", 0.0)  # stands before the other and is not forgotten yet
    bucket.take("quiet", 0.1)
    assert [bucket.take("quiet", 3.9) for _ in range(41)].count(0.0) == 40


def test_a_refused_call_costs_nothing() -> None:
    bucket = TokenBucket(rate_per_s=1, burst=1)
    assert bucket.take("ada", 0.0) == 0.0
    for _ in range(100):
        assert bucket.take("ada", 0.5) == pytest.approx(0.5)
    assert bucket.take("ada", 1.0) == 0.0


def test_each_key_has_its_own() -> None:
    bucket = TokenBucket(rate_per_s=1, burst=1)
    assert bucket.take("ada", 0.0) == 0.0
    assert bucket.take("bob", 0.0) == 0.0


@given(
    rate=st.floats(0.05, 100),
    burst=st.integers(1, 100),
    gaps=st.lists(st.floats(0, 5), min_size=1, max_size=200),
)
def test_no_window_lets_more_through_than_burst_and_rate(rate: float, burst: int, gaps: list[float]) -> None:
    bucket, now, taken = TokenBucket(rate, burst), 0.0, []
    for gap in gaps:
        now += gap
        if bucket.take("ada", now) == 0.0:
            taken.append(now)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + rate * (taken[last] - start) + 1e-6


@given(rate=st.floats(0.05, 100), burst=st.integers(1, 50), taken=st.integers(1, 60))
def test_who_waits_as_told_is_let_through(rate: float, burst: int, taken: int) -> None:
    bucket = TokenBucket(rate, burst)
    waits = [bucket.take("ada", 0.0) for _ in range(taken)]
    assert bucket.take("ada", waits[-1]) == 0.0 or waits[-1] == 0.0


def test_full_buckets_are_forgotten() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=40)
    for number in range(1000):
        bucket.take(f"early {number}", 0.0)
    for number in range(1000):
        bucket.take(f"late {number}", 4.1)  # an early one is full again after a tenth of a second
    assert len(bucket) <= 1000


def test_a_flood_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_bucket, "MAX_BUCKETS", 100)
    bucket = TokenBucket(rate_per_s=0.001, burst=5)
    for number in range(1000):
        bucket.take(f"stranger {number}", 0.0)
    assert len(bucket) <= 100


def test_sends_are_10_a_second_with_a_burst_of_40(limits: RateLimits, clock: Clock) -> None:
    assert passes(lambda: limits.check_send("ada"), 100) == 40
    clock.now += 1
    assert passes(lambda: limits.check_send("ada"), 100) == 10
    assert passes(lambda: limits.check_send("bob"), 100) == 40


def test_logins_are_5_a_minute_for_an_account_and_address(limits: RateLimits, clock: Clock) -> None:
    assert passes(lambda: limits.check_login("ada", "192.0.2.1"), 10) == 5
    assert passes(lambda: limits.check_login("ada", "192.0.2.2"), 10) == 5
    clock.now += 60
    assert passes(lambda: limits.check_login("ada", "192.0.2.1"), 10) == 5


def test_an_address_that_tries_many_accounts_is_stopped_too(limits: RateLimits) -> None:
    tried = iter(range(1000))
    assert passes(lambda: limits.check_login(f"user {next(tried)}", "192.0.2.1"), 100) == 30


def test_a_refusal_says_when_to_come_back(limits: RateLimits) -> None:
    passes(lambda: limits.check_login("ada", "192.0.2.1"), 5)
    with pytest.raises(RateLimited) as refused:
        limits.check_login("ada", "192.0.2.1")
    assert refused.value.retry_after_s == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8:1:2::3", "2001:db8:1:2:ffff::4", True),
        ("2001:db8:1:2::3", "2001:db8:1:3::3", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("unknown", "unknown", True),
    ],
)
def test_an_ipv6_network_is_one_caller(limits: RateLimits, one: str, other: str, is_same: bool) -> None:
    passes(lambda: limits.check_registration(one), 1000)
    assert (passes(lambda: limits.check_registration(other), 1) == 0) == is_same


def test_searches_are_60_a_minute(limits: RateLimits, clock: Clock) -> None:
    passes(lambda: limits.check_search("ada"), 1000)
    clock.now += 10
    assert passes(lambda: limits.check_search("ada"), 100) == 10


def test_strangers_have_less_than_people_who_are_known(limits: RateLimits) -> None:
    ada = Identity("ada", "ada", "member", "a grant")
    assert passes(lambda: limits.check_request(ada, "192.0.2.1"), 1000) == 200
    assert passes(lambda: limits.check_request(None, "192.0.2.1"), 1000) == 100


def test_a_user_has_20_sockets(limits: RateLimits) -> None:
    assert passes(lambda: limits.acquire_socket("ada", "203.0.113.1"), 30) == 20
    limits.release_socket("ada", "203.0.113.1")
    assert passes(lambda: limits.acquire_socket("ada", "203.0.113.1"), 30) == 1
    assert passes(lambda: limits.acquire_socket("bob", "203.0.113.1"), 30) == 20


def test_turns_come_one_after_the_other_behind_a_burst() -> None:
    turns = Turns(rate_per_s=10, burst=3, longest_s=1.0)
    waits = [turns.take(100.0) for _ in range(13)]
    assert waits[:3] == [0.0, 0.0, 0.0]
    assert waits[3:] == pytest.approx([n / 10 for n in range(1, 11)])
    assert turns.take(100.0) is None
    assert turns.take(105.0) == 0.0


def test_in_a_storm_each_is_told_a_time_of_its_own(limits: RateLimits) -> None:
    addresses = (f"203.0.113.{number % 250}" for number in range(10_000))
    assert passes(lambda: limits.check_accept(next(addresses)), 5000) == rate_limits.ACCEPTS_AT_ONCE
    told: list[float] = []
    for _ in range(100):
        with pytest.raises(Overloaded) as refused:
            limits.check_accept(next(addresses))
        told.append(refused.value.retry_after_s or 0.0)
    assert told == sorted(told)
    assert len(set(told)) > 50


def test_one_address_does_not_shut_the_door_for_the_others(limits: RateLimits, clock: Clock) -> None:
    passes(lambda: limits.check_accept("192.0.2.66"), 10_000)
    honest = 0
    for number in range(250):
        clock.now += 0.01
        passes(lambda: limits.check_accept("192.0.2.66"), 20)
        honest += passes(lambda: limits.check_accept(f"203.0.113.{number}"), 1)  # noqa: B023 - called at once
    assert honest >= 240


def test_an_office_comes_back_at_once_and_who_is_too_much_at_times_of_their_own(
    limits: RateLimits, clock: Clock
) -> None:
    for _ in range(2):
        assert passes(lambda: limits.check_accept("192.0.2.1"), 900) == 900
        clock.now += 2
    told = []
    for _ in range(6_000):
        try:
            limits.check_accept("192.0.2.1")
        except Overloaded as refused:
            told.append(refused.retry_after_s or 0.0)
    first = told[-500:]
    assert all(1.0 <= wait_s <= 1.0 + rate_limits.SPREAD_OF_ADDRESS_S for wait_s in first)
    assert max(sum(second <= wait_s < second + 1 for wait_s in first) for second in range(32)) < 75


def test_who_brings_wrong_credentials_again_and_again_is_not_looked_up(limits: RateLimits, clock: Clock) -> None:
    def knock() -> None:
        limits.check_credentials("192.0.2.66")
        limits.note_bad_credential("192.0.2.66")

    assert passes(knock, 1_000) == rate_limits.BAD_CREDENTIALS_AT_ONCE
    assert passes(lambda: limits.check_accept("192.0.2.66"), 10) == 0
    assert passes(lambda: limits.check_credentials("192.0.2.67"), 10) == 10
    clock.now += 1
    assert passes(knock, 1_000) == rate_limits.BAD_CREDENTIALS_PER_S


def test_a_browser_may_tell_in_one_tick_what_came_in_all_its_conversations() -> None:
    meter = FrameMeter()
    assert passes(lambda: meter.check(50.0), 2 * MAX_SUBSCRIPTIONS) == 2 * MAX_SUBSCRIPTIONS


def test_resumes_wait_their_turn_and_are_not_refused_at_once(limits: RateLimits) -> None:
    waits = [limits.resume_turn_s() for _ in range(rate_limits.RESUMES_AT_ONCE + 100)]
    assert waits[0] == 0.0
    assert 0 < waits[-1] < 1
    with pytest.raises(Overloaded):
        for _ in range(100_000):
            limits.resume_turn_s()


def test_strangers_take_no_more_than_their_places(limits: RateLimits) -> None:
    allowed = rate_limits.MAX_STRANGERS_OF_ADDRESS
    assert passes(lambda: limits.acquire_stranger("203.0.113.1"), allowed + 10) == allowed
    limits.release_stranger("203.0.113.1")
    assert passes(lambda: limits.acquire_stranger("203.0.113.1"), 10) == 1
    assert passes(lambda: limits.acquire_stranger("203.0.113.2"), 1) == 1


def test_an_address_has_its_number_of_sockets_whoever_signs_in(limits: RateLimits) -> None:
    names = iter(range(10_000))
    most = rate_limits.MAX_SOCKETS_OF_ADDRESS
    assert passes(lambda: limits.acquire_socket(f"user {next(names)}", "203.0.113.1"), most + 5) == most
    assert passes(lambda: limits.acquire_socket("ada", "203.0.113.2"), 1) == 1


def test_a_connection_has_its_number_of_frames() -> None:
    meter = FrameMeter()
    assert passes(lambda: meter.check(50.0), 1000) == rate_limits.FRAMES_AT_ONCE
    assert passes(lambda: meter.check(51.0), 1000) == rate_limits.FRAMES_PER_S


@pytest.mark.parametrize("connections", [1, 10, 1_000, 5_000, 16_000])
def test_all_sockets_together_stay_within_the_budget(connections: int) -> None:
    share = send_budget.share_bytes(connections)
    assert send_budget.LEAST_BYTES <= share <= HIGH_WATER_BYTES
    assert connections * share <= send_budget.BUDGET_BYTES


def test_nothing_is_limited_when_limits_are_off(clock: Clock) -> None:
    limits = RateLimits(enabled=False, clock=clock)
    assert passes(lambda: limits.check_send("ada"), 500) == 500
    assert passes(lambda: limits.check_login("ada", "192.0.2.1"), 500) == 500
    assert passes(lambda: limits.check_request(None, "192.0.2.1"), 500) == 500
    assert passes(lambda: limits.acquire_socket("ada", "203.0.113.1"), 500) == 500


def test_twenty_bad_frames_in_a_minute_are_too_many() -> None:
    meter = BadFrameMeter()
    assert [meter.is_full_after(float(second)) for second in range(21)] == [False] * 19 + [True] * 2
    slow = BadFrameMeter()
    assert not any(slow.is_full_after(3.2 * number) for number in range(200))


def passes(check: object, tries: int) -> int:
    """How many of so many tries go through."""
    assert callable(check)
    passed = 0
    for _ in range(tries):
        try:
            check()
        except (RateLimited, Overloaded):
            continue
        passed += 1
    return passed


def test_tests_of_webhooks_are_5_a_minute(limits: RateLimits, clock: Clock) -> None:
    assert passes(lambda: limits.check_webhook_test("ada"), 1000) == 5
    clock.now += 24
    assert passes(lambda: limits.check_webhook_test("ada"), 100) == 2
    assert passes(lambda: limits.check_webhook_test("ben"), 1) == 1

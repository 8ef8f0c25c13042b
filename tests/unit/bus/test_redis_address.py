"""URLs of the bus, good and bad."""

import pytest

from server.bus.redis_address import Credentials, RedisAddress, parse_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost", RedisAddress(hosts=(("localhost", 6379),))),
        ("redis://cache:6380/2", RedisAddress(hosts=(("cache", 6380),), db=2)),
        ("redis://cache?db=3", RedisAddress(hosts=(("cache", 6379),), db=3)),
        ("redis://[::1]:6380", RedisAddress(hosts=(("::1", 6380),))),
        ("redis://[::1]", RedisAddress(hosts=(("::1", 6379),))),
        (
            "redis://:p%40ss%2Fw%3Ard@cache",
            RedisAddress(hosts=(("cache", 6379),), credentials=Credentials(None, "p@ss/w:rd")),
        ),
        (
            "rediss://studio:secret@cache:6380/0?ssl_ca_certs=/etc/ca.pem&ssl_check_hostname=false",
            RedisAddress(
                hosts=(("cache", 6380),), credentials=Credentials("studio", "secret"), has_tls=True,
                tls={"ssl_ca_certs": "/etc/ca.pem", "ssl_check_hostname": False},
            ),
        ),
        ("unix:///run/redis.sock", RedisAddress(path="/run/redis.sock")),
        (
            "unix://:secret@/run/redis.sock?db=1",
            RedisAddress(path="/run/redis.sock", db=1, credentials=Credentials(None, "secret")),
        ),
        (
            "redis+sentinel://one,two:26380/studio",
            RedisAddress(hosts=(("one", 26379), ("two", 26380)), master="studio"),
        ),
        (
            "rediss+sentinel://u:p@[::1]:1,two/studio/4?sentinel_user=watch&sentinel_password=man",
            RedisAddress(
                hosts=(("::1", 1), ("two", 26379)), master="studio", db=4, credentials=Credentials("u", "p"),
                sentinel_credentials=Credentials("watch", "man"), has_tls=True,
            ),
        ),
    ],
)  # fmt: skip
def test_an_address_is_read_from_its_url(url: str, address: RedisAddress) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "begins with one of"),
        ("hush", "begins with one of"),
        ("http://:hush@cache", "begins with one of"),
        ("redis://", "the host is missing"),
        ("redis://:hush@", "the host is missing"),
        ("redis://:hush@cache:hush", "a port is a number"),
        ("redis://:hush@cache:0", "a port is a number"),
        ("redis://:hush@cache:65536", "a port is a number"),
        ("redis://:hush/hush@cache", "in a password, / is written %2F"),
        ("redis://:hush@hush@[::1", "this is no URL"),
        ("redis://:hush#hush@cache", "a # has no place"),
        ("redis://:hush@cache/hush", "is a number"),
        ("redis://:hush@cache/-1", "is a number"),
        ("redis://:hush@cache/1/2", "at most the number"),
        ("redis://:hush@cache?hush", "name=value"),
        ("redis://:hush@cache?hush=hush", "unknown"),
        ("redis://:hush@cache?ssl_ca_certs=hush", "unknown"),
        ("redis://:hush@cache/1?db=2", "unknown"),
        ("rediss://:hush@cache?ssl_cert_reqs=hush", "ssl_cert_reqs is"),
        ("rediss://:hush@cache?ssl_check_hostname=hush", "ssl_check_hostname is"),
        ("unix://hush/run/redis.sock", "the whole path"),
        ("unix://", "the whole path"),
        ("redis+sentinel://:hush@one", "the master's name"),
        ("redis+sentinel://:hush@one/studio/0/hush", "the master's name"),
        ("redis+sentinel://:hush@one,/studio", "the host is missing"),
    ],
)
def test_a_bad_url_is_refused_in_one_line_that_quotes_nothing_of_it(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        parse_address(url)
    assert "\n" not in str(refused.value)
    assert "hush" not in str(refused.value)


def test_what_is_logged_of_an_address_holds_no_credentials() -> None:
    for url in (
        "redis://me:hush@cache/1", "unix://me:hush@/run/redis.sock",
        "redis+sentinel://me:hush@one,two/studio?sentinel_user=me&sentinel_password=hush",
    ):  # fmt: skip
        address = parse_address(url)
        assert "hush" not in f"{address} {address!r}"
    assert str(parse_address("redis+sentinel://one,two/studio")) == "one:26379,two:26379 (master studio)"
    assert str(parse_address("redis://[::1]")) == "[::1]:6379"

"""Which addresses are called, told from their text alone."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.outbound.addresses import OutboundRefused, is_public, refusal_of_host, target_of
from server.outbound.outbound import Outbound

PUBLIC = [
    ("https://example.org", "https://example.org:443"),
    ("HTTPS://Example.ORG/Path?q=1", "https://example.org:443"),
    ("http://example.org:8080/a/b", "http://example.org:8080"),
    ("https://bücher.example/söße?ä=ö", "https://xn--bcher-kva.example:443"),
    ("https://8.8.8.8", "https://8.8.8.8:443"),
    ("https://[2606:4700:4700::1111]:8443/", "https://[2606:4700:4700::1111]:8443"),
    ("https://[2606:4700:4700:0:0:0:0:1111]/", "https://[2606:4700:4700::1111]:443"),
    ("https://under_score.example", "https://under_score.example:443"),
    ("https://1.2.3.example", "https://1.2.3.example:443"),
    ("https://0x7f.example", "https://0x7f.example:443"),
]
NOT_CALLED = [
    "http://localhost",
    "http://LOCALHOST:11434",
    "http://a.localhost",
    "http://127.0.0.1",
    "http://127.255.255.254",
    "http://10.0.0.1",
    "http://172.16.0.1",
    "http://172.31.255.255",
    "http://192.168.1.1",
    "http://169.254.169.254/latest/meta-data",
    "http://100.64.0.1",
    "http://100.127.255.255",
    "http://0.0.0.0",
    "http://0.1.2.3",
    "http://192.0.0.1",
    "http://192.0.2.1",
    "http://192.88.99.1",
    "http://198.18.0.1",
    "http://198.19.255.255",
    "http://198.51.100.1",
    "http://203.0.113.1",
    "http://224.0.0.1",
    "http://239.1.1.1",
    "http://240.0.0.1",
    "http://255.255.255.255",
    "http://[::]",
    "http://[::1]",
    "http://[0:0:0:0:0:0:0:1]",
    "http://[::ffff:127.0.0.1]",
    "http://[::ffff:7f00:1]",
    "http://[::ffff:8.8.8.8]",
    "http://[::127.0.0.1]",
    "http://[::8.8.8.8]",
    "http://[64:ff9b::10.0.0.1]",
    "http://[64:ff9b::8.8.8.8]",
    "http://[64:ff9b:1::1]",
    "http://[100::1]",
    "http://[2001::1]",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "http://[2001:2::1]",
    "http://[2001:db8::1]",
    "http://[2002:7f00:1::]",
    "http://[2002:808:808::]",
    "http://[3fff::1]",
    "http://[fc00::1]",
    "http://[fd12:3456::1]",
    "http://[fe80::1]",
    "http://[fec0::1]",
    "http://[ff02::1]",
]
NOT_READ = [
    "",
    "example.org",
    "//example.org",
    "http:example.org",
    "http:/example.org",
    "http://",
    "http:///path",
    "http://:80",
    "ftp://example.org",
    "file:///etc/passwd",
    "gopher://example.org",
    "javascript://example.org",
    "http://ana@example.org",
    "http://ana:secret@example.org",
    "http://example.org@127.0.0.1",
    "http://127.0.0.1@example.org",
    "http://@example.org",
    "http://0x7f.1",
    "http://0x7f000001",
    "http://0X7F.0.0.1",
    "http://0x7f.0x0.0x0.0x1",
    "http://0177.0.0.1",
    "http://017700000001",
    "http://2130706433",
    "http://127.1",
    "http://127.0.1",
    "http://127.0.0.1.",
    "http://127.0.0.01",
    "http://127.0.0.256",
    "http://1.2.3.4.5",
    "http://8.8.8.8.",
    "http://0x",
    "http://１２７.０.０.１",
    "http://127。0。0。1",
    "http://①②⑦.0.0.1",
    "http://localhost．",
    "http://ｌｏｃａｌｈｏｓｔ",
    "http://%6cocalhost",
    "http://127.0.0.%31",
    "http://[fe80::1%25eth0]",
    "http://[2606:4700::1%eth0]",
    "http://[127.0.0.1]",
    "http://[::1",
    "http://::1",
    "http://[v1.a]",
    "http://example.org.",
    "http://.example.org",
    "http://exa..mple.org",
    "http://-example.org",
    "http://exam ple.org",
    "http://example.org\\@127.0.0.1",
    "http://example.org\\.127.0.0.1",
    "http://127.0.0.1\\.example.org",
    "http://example.org#@127.0.0.1",
    "http://example.org/#fragment",
    "http://exam\tple.org",
    "http://example.org\r\nHost: 127.0.0.1",
    "http://example.org/\r\nX: y",
    " http://example.org",
    "http://example.org ",
    "http://example.org\x00",
    "http://example.org:",
    "http://example.org:0",
    "http://example.org:65536",
    "http://example.org:8x",
    "http://example.org:80:80",
    "http://example.org:８０",
    "http://" + "a" * 64 + ".example",
    "http://" + "a." * 130 + "example",
    "http://example.org/" + "a" * 2048,
]


@pytest.mark.parametrize(("url", "origin"), PUBLIC)
def test_public_addresses_pass_in_one_plain_spelling(url: str, origin: str) -> None:
    target = target_of(url)
    assert (target.origin, refusal_of_host(target.host)) == (origin, None)


@pytest.mark.parametrize("url", NOT_CALLED)
def test_addresses_that_lead_home_are_refused(url: str) -> None:
    with pytest.raises(OutboundRefused, match="is not called"):
        Outbound().check(url)


@pytest.mark.parametrize("url", NOT_READ)
def test_what_may_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(OutboundRefused):
        target_of(url)


@pytest.mark.parametrize("url", ["http://ana:secret@example.org/?token=s3cret", "http://10.0.0.1/path?token=s3cret"])
def test_a_refusal_tells_neither_userinfo_nor_query(url: str) -> None:
    with pytest.raises(OutboundRefused) as refused:
        Outbound().check(url)
    assert "secret" not in refused.value.detail
    assert "s3cret" not in refused.value.detail


def test_an_exception_counts_for_its_scheme_host_and_port_alone() -> None:
    outbound = Outbound(["http://127.0.0.1:11434", "https://ollama.internal", "http://[::1]:8080"])
    for url in ("http://127.0.0.1:11434/api/tags", "https://Ollama.Internal:443/x", "http://[0::1]:8080/"):
        outbound.check(url)
    for url in ("https://127.0.0.1:11434", "http://127.0.0.1:11435", "http://127.0.0.2:11434", "http://0x7f.1:11434"):
        with pytest.raises(OutboundRefused):
            outbound.check(url)


def test_an_exception_that_is_no_address_is_refused_at_once() -> None:
    with pytest.raises(OutboundRefused):
        Outbound(["127.0.0.1:11434"])


four_bytes = st.integers(0, 2**32 - 1)


@given(four_bytes)
def test_a_number_has_one_spelling(number: int) -> None:
    a, b, c, d = number.to_bytes(4, "big")
    plain = f"{a}.{b}.{c}.{d}"
    assert target_of(f"http://{plain}").host == plain
    for other in (
        f"{number}",
        f"0x{number:x}",
        f"0{number:o}",
        f"{a}.{(b << 16) + (c << 8) + d}",
        f"{a}.{b}.{(c << 8) + d}",
        f"0x{a:x}.{b}.{c}.{d}",
        f"{a}.{b}.{c}.0x{d:x}",
        f"0{a:o}.{b}.{c}.{d}",
        f"{a}.{b}.{c}.0{d}",
        plain.translate({ord(digit): ord(digit) + 0xFEE0 for digit in "0123456789"}),
    ):
        with pytest.raises(OutboundRefused):
            target_of(f"http://{other}")


@given(four_bytes, st.integers(0, 2**16 - 1))
def test_no_ipv4_address_gets_through_inside_an_ipv6_one(number: int, other: int) -> None:
    for address in (
        (0xFFFF << 32) | number,  # mapped
        number,  # compatible
        (0xFFFF << 48) | number,  # translated, RFC 2765
        (0x64FF9B << 96) | number,
        (0x64FF9B0001 << 80) | number,
        (0x2002 << 112) | (number << 80) | other,  # 6to4
        (0x20010000 << 96) | (other << 64) | (number ^ 0xFFFFFFFF),  # Teredo
    ):
        assert not is_public(IPv6Address(address))


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_whatever_passes_is_global_unicast(address: IPv4Address | IPv6Address) -> None:
    if is_public(address):
        faults = ("is_multicast", "is_private", "is_loopback", "is_link_local", "is_reserved", "is_unspecified")
        assert address.is_global
        assert not [fault for fault in faults if getattr(address, fault)]


NOTABLE = "abzAZ019.:/@[]%#?\\ \t\r\n-_~１。é\u00adx"


@given(st.text(st.one_of(st.sampled_from(NOTABLE), st.characters(codec="utf-8")), max_size=30))
def test_the_http_client_reads_the_same_host_and_port(rest: str) -> None:
    """Or else the one that was checked would not be the one that is called."""
    try:
        target = target_of(f"http://{rest}")
    except OutboundRefused:
        return
    url = httpx2.URL(f"http://{rest}")
    host = url.raw_host.decode("ascii")
    try:
        host = str(ip_address(host))
    except ValueError:
        host = host.lower()
    assert (host, url.port or 80, url.userinfo) == (target.host, target.port, b"")

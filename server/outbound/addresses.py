"""Which addresses the studio may call: what can be told from the text of a URL, and from a resolved address.

In:   a URL as somebody wrote it; an IP address as a lookup gave it.
Out:  its parts in one plain spelling, or `OutboundRefused`; whether the whole internet may be reached there.
Promises: no network. Denied by default: an address must lie in the global unicast space of its family and in none of
the ranges that lead home again, among them those that carry an IPv4 address inside an IPv6 one. Of the many spellings
of an IPv4 address (0x7f.1, 017700000001, 2130706433, 127.1) only four plain decimal numbers pass, so that no two
readers of a URL can see two different addresses in it.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from server.protocol.errors import Rejected

MAX_URL_LENGTH = 2048  # what is longer is refused by many servers
DEFAULT_PORTS = {"http": 80, "https": 443}


class OutboundRefused(Rejected):
    """This address is not called, now or later. The detail shows the caller's own URL, less userinfo and query."""


@dataclass(frozen=True, slots=True)
class Target:
    """`host` is a name in small ASCII letters or an IP address without brackets; `shown` may be logged and told."""

    scheme: str
    host: str
    port: int
    shown: str

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def target_of(url: str) -> Target:
    """The parts of a URL that is written plainly; `OutboundRefused` for every other."""
    if len(url) > MAX_URL_LENGTH:
        raise OutboundRefused(f"this address is longer than {MAX_URL_LENGTH} characters")
    match = _URL.fullmatch(url)
    if match is None:
        raise OutboundRefused("this is no address such as https://example.org/path")
    scheme, authority, path = match["scheme"].lower(), match["authority"], match["path"]
    if scheme not in DEFAULT_PORTS:
        raise OutboundRefused("only http and https addresses are called")
    if "@" in authority:
        raise OutboundRefused("an address holds no user name or password")
    host_and_port = _AUTHORITY.fullmatch(authority)
    if host_and_port is None:
        raise OutboundRefused("this address names no host")
    port = int(host_and_port["port"] or DEFAULT_PORTS[scheme])
    if not 1 <= port <= 65535:
        raise OutboundRefused("a port is a number from 1 to 65535")
    return Target(scheme, _plain_host(host_and_port["host"]), port, f"{scheme}://{authority}{path}")


def refusal_of_host(host: str) -> str | None:
    """Why this host, as `target_of` gives it, can be refused without a lookup."""
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return "it is this machine"
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return None if is_public(address) else "it is no public address"


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether this is globally routable unicast, and leads to nobody else by what is embedded in it."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None or address not in _GLOBAL_UNICAST:
            return False
        return address.is_global and not any(address in network for network in _NOT_PUBLIC_6)
    return (
        address.is_global
        and not (address.is_multicast or address.is_reserved)
        and not any(address in network for network in _NOT_PUBLIC_4)
    )


def _plain_host(host: str) -> str:
    if host.startswith("["):
        try:
            address = IPv6Address(host[1:-1])
        except AddressValueError:
            raise OutboundRefused("this is no IPv6 address") from None
        if address.scope_id is not None:
            raise OutboundRefused("an address names no network interface")
        return str(address)
    name = host.lower() if host.isascii() else _ascii(host)
    if _ENDS_IN_A_NUMBER.search(name):
        try:
            return str(IPv4Address(host))  # as it was written: other scripts have digits and full stops of their own
        except AddressValueError:
            raise OutboundRefused("an IPv4 address is written as four decimal numbers") from None
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise OutboundRefused("this is no host name")
    return name


def _ascii(name: str) -> str:
    """The same name as it stands in the DNS. Characters that are only another form of ASCII ones are refused."""
    import idna  # tables of a megabyte, needed by few

    try:
        return idna.encode(name.lower()).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        raise OutboundRefused("this is no host name") from None


# Printable characters, without those that some readers of URLs take for separators or leave out.
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#\\\s\x00-\x20\x7f]+)"
    r"(?P<path>(?:/[\x21-\x22\x24-\x3e\x40-\x5b\x5d-\x7e\u00a1-\ud7ff\uf900-\ufffd\U00010000-\U000dffff]*)?)"
    r"(?:\?[\x21-\x22\x24-\x7e\u00a1-\ud7ff\uf900-\ufffd\U00010000-\U000dffff]*)?"
)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\[\]@%]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
# How the URL standard of browsers tells an IPv4 address from a name: by its last label.
_ENDS_IN_A_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)\.?$")

# RFC 6890 and IANA's registries. Many of these are not "global" for `ipaddress` either; which ones has changed between
# releases of Python.
_NOT_PUBLIC_4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, among it the clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
]
# All that is not in it is denied: mapped, compatible and translated IPv4 addresses, unique local, link-local,
# site-local, multicast.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, among them Teredo, benchmarking and ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: holds an IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # given back
        "3fff::/20",  # documentation
    )
]

"""Where the Redis of the bus is, read from its URL.

In:   `redis://`, `rediss://` (TLS), `unix://` or, for a master that Sentinel names, `redis+sentinel://` (or
`rediss+sentinel://`):

    redis://[user:password@]host[:6379][/0]
    unix://[user:password@]/run/redis.sock[?db=0]
    redis+sentinel://[user:password@]host1[:26379],host2[:26379]/master_name[/0][?sentinel_password=…]

Before the `@` stands what Redis itself asks for; what the Sentinels ask for stands in `sentinel_user` and
`sentinel_password`. With TLS, `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs` (required or none) and
`ssl_check_hostname` (true or false) may follow the question mark. Characters that have a meaning in a URL are written
with a percent sign (`p%40ss` for `p@ss`).
Out:  an address, or ValueError with one line that quotes nothing of the URL: a password may stand in any part of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
REDIS_PORT = 6379
SENTINEL_PORT = 26379
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
HINT = "in a password, / is written %2F, @ %40 and : %3A"
TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True)
class Credentials:
    user: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """`hosts` are the Sentinels when there is a `master`, else the one server; `path` is a socket's in their place."""

    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    master: str = ""
    db: int = 0
    credentials: Credentials = Credentials()
    sentinel_credentials: Credentials = Credentials()
    has_tls: bool = False
    tls: Mapping[str, str | bool] = field(default_factory=dict)

    def __str__(self) -> str:
        """For a log: no credentials."""
        hosts = self.path or ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts
        )
        return f"{hosts} (master {self.master})" if self.master else hosts


def parse_address(url: str) -> RedisAddress:
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        raise ValueError("this is no URL") from None
    if parts.scheme not in SCHEMES:
        raise ValueError(f"a Redis URL begins with one of {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    if parts.fragment:
        raise ValueError("a # has no place here; inside a password it is written %23")
    before, _, hosts = parts.netloc.rpartition("@")
    user, _, password = before.partition(":")
    credentials = Credentials(unquote(user) or None, unquote(password) or None)
    options = _options(parts.query)
    has_tls = parts.scheme.startswith("rediss")
    tls = _tls(options, has_tls)
    path = [unquote(part) for part in parts.path.split("/") if part]
    if parts.scheme == "unix":
        address = RedisAddress(
            path=_socket_path(hosts, unquote(parts.path)), db=_db(options.pop("db", "0")), credentials=credentials
        )
    elif parts.scheme.endswith("+sentinel"):
        if not 1 <= len(path) <= 2:
            raise ValueError("after the Sentinels stands the master's name: redis+sentinel://host:26379/master_name")
        address = RedisAddress(
            hosts=tuple(_host(host, SENTINEL_PORT) for host in hosts.split(",")),
            master=path[0], db=_db(path[1] if len(path) == 2 else "0"), credentials=credentials,
            sentinel_credentials=Credentials(
                options.pop("sentinel_user", None), options.pop("sentinel_password", None)
            ),
            has_tls=has_tls, tls=tls,
        )  # fmt: skip
    else:
        if len(path) > 1:
            raise ValueError("after the host stands at most the number of a database")
        address = RedisAddress(
            hosts=(_host(hosts, REDIS_PORT),), db=_db(path[0] if path else options.pop("db", "0")),
            credentials=credentials, has_tls=has_tls, tls=tls,
        )  # fmt: skip
    if options:
        raise ValueError("an option after the question mark is unknown, or has no meaning with this kind of address")
    return address


def _options(query: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise ValueError("after the question mark stand options such as name=value") from None


def _tls(options: dict[str, str], has_tls: bool) -> dict[str, str | bool]:
    """Takes what it knows out of `options`."""
    if not has_tls:
        return {}
    given: dict[str, str | bool] = {name: options.pop(name) for name in TLS_OPTIONS if name in options}
    if given.get("ssl_cert_reqs", "required") not in ("required", "none"):
        raise ValueError("ssl_cert_reqs is required or none")
    if "ssl_check_hostname" in given:
        truth = TRUTHS.get(str(given["ssl_check_hostname"]).lower())
        if truth is None:
            raise ValueError("ssl_check_hostname is true or false")
        given["ssl_check_hostname"] = truth
    return given


def _socket_path(host: str, path: str) -> str:
    if host or not path:
        raise ValueError("unix:// is followed by the whole path of a socket: unix:///run/redis.sock")
    return path


def _host(text: str, default_port: int) -> tuple[str, int]:
    """`host`, `host:port`, `[::1]` or `[::1]:port`."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("a bracketed address lacks its end")
    else:
        host, _, port = text.partition(":")
    if not host:
        raise ValueError(f"the host is missing; {HINT}")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"a port is a number up to 65535; {HINT}")
    return unquote(host), int(port or default_port)


def _db(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("the database behind the slash is a number")
    return int(text)

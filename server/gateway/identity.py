"""Who is calling, and from where: credentials of requests and of sockets before the upgrade.

A credential is a bearer token (programs) or the session cookie (browsers). What came as a bearer token counts alone:
when it is wrong the call fails, and no cookie is tried. An `Authorization` of another scheme is not ours: a proxy in
front may ask for it.

A browser sends its cookie for other sites' pages too, so the cookie alone proves nothing about who wrote the request:
- a socket with the cookie must name an `Origin` that is this studio's own, exactly;
- an unsafe request with the cookie must come from the same origin by `Sec-Fetch-Site`, which pages cannot forge;
  browsers that do not send it (old ones, and all over plain http beyond loopback) send `Origin` with every such
  request; and a request with neither was not made by a browser on behalf of a page.

The peer and the scheme are taken from the scope, where the server has already put what a trusted proxy said.
"""

import ipaddress
from collections.abc import Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from server.hub.access import SESSION_LIFETIME, Access, ClientInfo
from server.hub.identity import Identity
from server.protocol.errors import Forbidden, Unauthenticated

SESSION_COOKIE = "chat_studio_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
DEFAULT_PORTS = {"http": 80, "https": 443}
HTTP_SCHEMES = {"ws": "http", "wss": "https"}
MAX_USER_AGENT_LENGTH = 200
FORWARDING_HEADERS = frozenset({"forwarded", "x-real-ip", "via"})  # and everything that begins with x-forwarded-

Scope = MutableMapping[str, Any]
Origin = tuple[str, str, int]  # scheme, host, port


class Identifier:
    """`public_url` is the address people use where a proxy stands before the studio: then nobody counts as loopback,
    since all come from the proxy, and not every proxy says so. It and `allowed_origins` count as this studio's own
    origins. `ValueError` when one is no origin."""

    def __init__(
        self,
        access: Access,
        *,
        bind_is_loopback: bool,
        public_url: str | None = None,
        allowed_origins: Iterable[str] = (),
    ) -> None:
        self._access = access
        self._public = _configured_origin(public_url) if public_url else None
        self._allowed = {_configured_origin(text) for text in allowed_origins}
        self._may_be_loopback = bind_is_loopback and (self._public is None or is_loopback_host(self._public[1]))

    async def of_request(self, request: Request) -> Identity | None:
        """None for a stranger, and for a cookie that is worth nothing: its page must still be able to sign in."""
        token = bearer_token(request)
        if token is not None:
            return await self._by_bearer(token)
        session = request.cookies.get(SESSION_COOKIE)
        return await self._access.identify(session, "session") if session else None

    async def of_socket(self, scope: Scope) -> Identity | None:
        """Before the upgrade. None when no credential came at all: then a ticket must follow."""
        connection = HTTPConnection(scope)
        token = bearer_token(connection)
        if token is not None:
            return await self._by_bearer(token)
        session = connection.cookies.get(SESSION_COOKIE)
        if not session:
            return None
        if not self._is_own_origin(connection):
            raise Forbidden("a socket with a cookie needs the Origin of this studio")
        identity = await self._access.identify(session, "session")
        if identity is None:
            raise Unauthenticated("this session has ended")
        return identity

    async def _by_bearer(self, token: str) -> Identity:
        identity = await self._access.identify(token, "access")
        if identity is None:
            raise Unauthenticated("this access token is unknown or expired")
        return identity

    def check_not_forged(self, request: Request) -> None:
        """Refuse an unsafe request that another site's page made a browser send along with the cookie."""
        if request.method in SAFE_METHODS or SESSION_COOKIE not in request.cookies or bearer_token(request) is not None:
            return
        site = request.headers.get("sec-fetch-site")
        if site is not None:
            is_own = site in ("same-origin", "none")
        else:
            is_own = "origin" not in request.headers or self._is_own_origin(request)
        if not is_own:
            raise Forbidden("this request was made by another site")

    def client(self, scope: Scope) -> ClientInfo:
        agent = HTTPConnection(scope).headers.get("user-agent", "")
        return ClientInfo(
            client_address(scope),
            "".join(character for character in agent if character.isprintable())[:MAX_USER_AGENT_LENGTH],
            is_loopback(scope, self._may_be_loopback),
        )

    def origin(self, connection: HTTPConnection) -> str:
        """Where links lead: the public address, or the one under which the caller reached us."""
        if self._public is None:
            return reached_origin(connection)
        scheme, host, port = self._public
        shown = f"[{host}]" if ":" in host else host
        return f"{scheme}://{shown}" if port == DEFAULT_PORTS[scheme] else f"{scheme}://{shown}:{port}"

    def _is_own_origin(self, connection: HTTPConnection) -> bool:
        origin = _origin(connection.headers.get("origin", ""))
        if origin is None or len(connection.headers.getlist("origin")) > 1:
            return False
        return origin in (_origin(reached_origin(connection)), self._public) or origin in self._allowed


def _configured_origin(text: str) -> Origin:
    origin = _origin(text.strip().rstrip("/"))
    if origin is None:
        raise ValueError(f"{text!r} is no origin, such as https://chat.example.org")
    return origin


def bearer_token(connection: HTTPConnection) -> str | None:
    """The text after `Bearer`, maybe empty; None where none was offered."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def reached_origin(connection: HTTPConnection) -> str:
    """Under which address the caller reached us, as far as we can see."""
    scheme = connection.scope.get("scheme", "http")
    return f"{HTTP_SCHEMES.get(scheme, scheme)}://{connection.headers.get('host', '')}"


def set_session_cookie(request: Request, response: Response, session: str) -> None:
    response.set_cookie(
        SESSION_COOKIE,
        session,
        max_age=int(SESSION_LIFETIME.total_seconds()),
        path="/",
        secure=reached_origin(request).startswith("https:"),
        httponly=True,
        samesite="lax",
    )


def clear_session_cookie(response: Response) -> None:
    response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="lax")


def client_address(scope: Scope) -> str:
    """The peer, or what a trusted proxy said of it; `unknown` on a Unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def is_loopback(scope: Scope, bind_is_loopback: bool) -> bool:
    """Whether the caller sits at this machine: bind, peer and Host are loopback and nothing says that it was forwarded.

    The Host keeps out a page whose name was made to resolve to 127.0.0.1; the headers a proxy on this machine.
    """
    headers = HTTPConnection(scope).headers
    hosts = headers.getlist("host")
    return (
        bind_is_loopback
        and is_loopback_host(client_address(scope))
        and len(hosts) == 1
        and is_loopback_host(_host_name(hosts[0]))
        and not any(name in FORWARDING_HEADERS or name.startswith("x-forwarded-") for name in headers)
    )


def is_loopback_host(host: str) -> bool:
    """Also for the bind address: `localhost`, 127.0.0.0/8 and ::1."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _host_name(host: str) -> str:
    """The Host header without its port; empty when it is none."""
    origin = _origin(f"http://{host}")
    return origin[1] if origin else ""


def _origin(text: str) -> Origin | None:
    """As a triple, since the default port may be left out. None for `null` and for what is no origin at all."""
    try:
        parts = urlsplit(text)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    has_more = parts.username is not None or text != f"{parts.scheme}://{parts.netloc}"
    if port is None or not parts.hostname or has_more:
        return None
    return parts.scheme, parts.hostname, port

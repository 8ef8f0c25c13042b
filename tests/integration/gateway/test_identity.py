"""Who is calling, and from where: real tokens, and scopes as the server makes them."""

from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import Request

from server.gateway.identity import Identifier, is_loopback
from server.hub.access import ClientInfo
from server.hub.accounts import Accounts
from server.hub.identity import Identity
from server.protocol.errors import Forbidden, Unauthenticated
from server.storage.database import Database

HERE = ClientInfo("127.0.0.1", "", is_loopback=True)
PASSWORD = "correct horse battery"
SITE = "http://127.0.0.1:8000"


def scope(kind: str = "http", method: str = "GET", **given: str) -> dict[str, Any]:
    """`sec_fetch_site="none"` adds the header `sec-fetch-site: none`; an empty text leaves a header out."""
    headers = {"host": "127.0.0.1:8000"} | {name.replace("_", "-"): value for name, value in given.items()}
    return {
        "type": kind,
        "method": method,
        "path": "/",
        "scheme": "ws" if kind == "websocket" else "http",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items() if value],
        "client": ("127.0.0.1", 50000),
    }


def socket(**given: str) -> dict[str, Any]:
    return scope("websocket", **given)


class People:
    """Ada, signed in by a browser and by a program."""

    def __init__(self, accounts: Accounts, session: str, access: str, ada: Identity) -> None:
        self.accounts = accounts
        self.cookie = f"chat_studio_session={session}"
        self.session = session
        self.bearer = f"Bearer {access}"
        self.ada = ada
        self.identifier = Identifier(
            accounts.access, bind_is_loopback=True, allowed_origins=["https://chat.example.org/"]
        )


@pytest.fixture(scope="module")
async def people(module_database: Database) -> People:
    async def ignore(grants: Sequence[str]) -> None:
        del grants

    accounts = Accounts(module_database, registration="open", on_grants_ended=ignore)
    signed_in = await accounts.register("ada", PASSWORD, None, None, HERE)
    tokens = await accounts.token_by_password("ada", PASSWORD, HERE)
    ada = await accounts.access.identify(signed_in.session, "session")
    assert ada is not None
    return People(accounts, signed_in.session, tokens.access_token, ada)


# -- requests ---------------------------------------------------------------------------------------------------------


async def test_a_request_is_known_by_its_cookie_or_its_bearer_token(people: People) -> None:
    by_cookie = await people.identifier.of_request(Request(scope(cookie=people.cookie)))
    by_token = await people.identifier.of_request(Request(scope(authorization=people.bearer)))
    assert by_cookie == people.ada
    assert by_token is not None
    assert by_token.user_id == people.ada.user_id
    assert by_token.grant_id != people.ada.grant_id
    assert await people.identifier.of_request(Request(scope())) is None


@pytest.mark.parametrize("token", ["", "wrong", "x" * 5000, "\xe9"])
async def test_a_wrong_bearer_token_fails_at_once_though_a_good_cookie_came(people: People, token: str) -> None:
    request = Request(scope(authorization=f"Bearer {token}", cookie=people.cookie))
    with pytest.raises(Unauthenticated):
        await people.identifier.of_request(request)


async def test_a_session_is_no_bearer_token_and_an_access_token_no_cookie(people: People) -> None:
    with pytest.raises(Unauthenticated):
        await people.identifier.of_request(Request(scope(authorization=f"Bearer {people.session}")))
    access = people.bearer.removeprefix("Bearer ")
    assert await people.identifier.of_request(Request(scope(cookie=f"chat_studio_session={access}"))) is None


async def test_a_cookie_that_is_worth_nothing_makes_a_stranger(people: People) -> None:
    assert await people.identifier.of_request(Request(scope(cookie="chat_studio_session=old"))) is None


async def test_what_a_proxy_asks_for_is_not_ours(people: People) -> None:
    request = Request(scope(authorization="Basic YWRhOmFkYQ==", cookie=people.cookie))
    assert await people.identifier.of_request(request) == people.ada


# -- forged requests --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "none"}, True),
        ({"sec_fetch_site": "same-site"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "cross-site", "origin": SITE}, False),
        ({"origin": SITE}, True),
        ({"origin": "https://chat.example.org"}, True),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({}, True),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_an_unsafe_request_with_the_cookie_must_be_our_own(
    people: People, method: str, headers: dict[str, str], is_own: bool
) -> None:
    request = Request(scope(method=method, cookie=people.cookie, **headers))
    if is_own:
        people.identifier.check_not_forged(request)
    else:
        with pytest.raises(Forbidden):
            people.identifier.check_not_forged(request)


async def test_what_needs_no_cookie_cannot_be_forged(people: People) -> None:
    for request in (
        scope(method="GET", cookie=people.cookie, sec_fetch_site="cross-site"),
        scope(method="POST", authorization=people.bearer, cookie=people.cookie, sec_fetch_site="cross-site"),
        scope(method="POST", sec_fetch_site="cross-site"),
    ):
        people.identifier.check_not_forged(Request(request))


# -- sockets ----------------------------------------------------------------------------------------------------------


async def test_a_socket_without_any_credential_must_send_a_ticket(people: People) -> None:
    assert await people.identifier.of_socket(socket()) is None
    assert await people.identifier.of_socket(socket(origin="http://evil.example")) is None


async def test_a_program_needs_no_origin(people: People) -> None:
    identity = await people.identifier.of_socket(socket(authorization=people.bearer))
    assert identity is not None
    assert identity.user_id == people.ada.user_id


@pytest.mark.parametrize("origin", [SITE, "https://chat.example.org", "https://chat.example.org:443"])
async def test_a_cookie_counts_with_the_origin_of_this_studio(people: People, origin: str) -> None:
    assert await people.identifier.of_socket(socket(cookie=people.cookie, origin=origin)) == people.ada


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "http://evil.example",
        "http://127.0.0.1",
        "http://127.0.0.1:8001",
        "https://127.0.0.1:8000",
        "ws://127.0.0.1:8000",
        "http://localhost:8000",
        "http://127.0.0.1:8000.evil.example",
        "http://127.0.0.1:8000@evil.example",
        "http://evil.example@127.0.0.1:8000",
        "http://127.0.0.1:8000/",
        "http://127.0.0.1:8000/page",
        "http://127.0.0.1:99999999",
        "http://chat.example.org",
        "http://[::1",
        "127.0.0.1:8000",
    ],
)
async def test_a_cookie_with_another_origin_is_forbidden(people: People, origin: str) -> None:
    with pytest.raises(Forbidden):
        await people.identifier.of_socket(socket(cookie=people.cookie, origin=origin))


async def test_a_host_with_the_default_port_left_out_matches(people: People) -> None:
    secure = socket(cookie=people.cookie, origin="https://studio.example", host="studio.example") | {"scheme": "wss"}
    assert await people.identifier.of_socket(secure) == people.ada
    plain = socket(cookie=people.cookie, origin="https://studio.example", host="studio.example")
    with pytest.raises(Forbidden):
        await people.identifier.of_socket(plain)


async def test_two_origins_are_none(people: People) -> None:
    twice = socket(cookie=people.cookie, origin=SITE)
    twice["headers"].append((b"origin", SITE.encode()))
    with pytest.raises(Forbidden):
        await people.identifier.of_socket(twice)


@pytest.mark.parametrize(
    "headers",
    [
        {"cookie": "chat_studio_session=old", "origin": SITE},
        {"authorization": "Bearer old"},
        {"authorization": "Bearer"},
        {"authorization": "bearer "},
    ],
)
async def test_a_wrong_credential_is_refused_before_the_upgrade(people: People, headers: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated):
        await people.identifier.of_socket(socket(**headers))


async def test_a_wrong_bearer_token_is_not_saved_by_the_cookie(people: People) -> None:
    with pytest.raises(Unauthenticated):
        await people.identifier.of_socket(socket(authorization="Bearer old", cookie=people.cookie, origin=SITE))


# -- from where -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "127.1.2.3", "[::1]"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_bind_peer_and_host(host: str, peer: str) -> None:
    local = scope(host=host) | {"client": (peer, 50000)}
    assert is_loopback(local, bind_is_loopback=True)
    assert not is_loopback(local, bind_is_loopback=False)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.0.2.1",
        "a@127.0.0.1",
    ],
)
def test_another_host_is_not_loopback(host: str) -> None:
    assert not is_loopback(scope(host=host), bind_is_loopback=True)


def test_two_hosts_are_not_loopback() -> None:
    twice = scope()
    twice["headers"].append((b"host", b"127.0.0.1:8000"))
    assert not is_loopback(twice, bind_is_loopback=True)


@pytest.mark.parametrize("client", [None, ("192.0.2.1", 1), ("2001:db8::1", 1), ("testclient", 1)])
def test_another_peer_is_not_loopback(client: tuple[str, int] | None) -> None:
    assert not is_loopback(scope() | {"client": client}, bind_is_loopback=True)


@pytest.mark.parametrize(
    "header", ["forwarded", "x_forwarded_for", "x_forwarded_proto", "x_forwarded_host", "x_real_ip", "via"]
)
def test_what_was_forwarded_is_not_loopback(header: str) -> None:
    assert not is_loopback(scope(**{header: "127.0.0.1"}), bind_is_loopback=True)


async def test_behind_a_public_address_nobody_is_loopback(people: People) -> None:
    access = people.accounts.access
    proxied = Identifier(access, bind_is_loopback=True, public_url="https://chat.example.org")
    assert not proxied.client(scope()).is_loopback
    assert people.identifier.client(scope()).is_loopback
    assert Identifier(access, bind_is_loopback=True, public_url="http://localhost:8000").client(scope()).is_loopback


async def test_a_public_address_is_our_own_and_where_links_lead(people: People) -> None:
    proxied = Identifier(people.accounts.access, bind_is_loopback=True, public_url="https://chat.example.org/")
    came = socket(cookie=people.cookie, origin="https://chat.example.org", host="127.0.0.1:8000")
    assert await proxied.of_socket(came) == people.ada
    assert proxied.origin(Request(scope())) == "https://chat.example.org"
    assert people.identifier.origin(Request(scope())) == SITE


@pytest.mark.parametrize("url", ["chat.example.org", "https://", "ftp://a", "https://a/path", "https://u@a"])
async def test_a_setting_that_is_no_origin_is_named(people: People, url: str) -> None:
    with pytest.raises(ValueError, match="no origin"):
        Identifier(people.accounts.access, bind_is_loopback=True, allowed_origins=[url])
    with pytest.raises(ValueError, match="no origin"):
        Identifier(people.accounts.access, bind_is_loopback=True, public_url=url)


async def test_a_client_is_described_in_a_few_printable_words(people: People) -> None:
    client = people.identifier.client(scope(user_agent="Mozilla\t/5.0\x00" + "x" * 500))
    assert client.address == "127.0.0.1"
    assert client.user_agent == "Mozilla/5.0" + "x" * 189

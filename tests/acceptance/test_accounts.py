"""Accounts over real HTTP and real sockets, as browsers and programs use them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import websockets
from loguru import logger
from websockets.asyncio.client import connect

from server.protocol.codec import encode
from server.storage.database import Database
from tests.running_studio import PASSWORD, RunningStudio, Socket, run_studio

OTHER_PASSWORD = "staple of the horse"


class Browser:
    """Keeps cookies and says where its pages come from."""

    def __init__(self, http: httpx2.AsyncClient, port: int) -> None:
        self.http = http
        self.port = port

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> httpx2.Response:
        sent = {"sec-fetch-site": "same-origin"} | {name.replace("_", "-"): value for name, value in headers.items()}
        content = None
        if body is not None:
            sent.setdefault("content-type", "application/json")
            content = body if isinstance(body, bytes) else encode(body)
        return await self.http.request(method, path, content=content, headers=sent)

    async def get(self, path: str, status: int = 200) -> Any:
        return await self._expect(status, "GET", path)

    async def post(self, path: str, body: object = None, status: int = 200) -> Any:
        return await self._expect(status, "POST", path, body)

    async def patch(self, path: str, body: object, status: int = 200) -> Any:
        return await self._expect(status, "PATCH", path, body)

    async def delete(self, path: str, status: int = 204) -> Any:
        return await self._expect(status, "DELETE", path)

    async def _expect(self, status: int, method: str, path: str, body: object = None) -> Any:
        answer = await self.ask(method, path, body)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    async def register(self, name: str, password: str = PASSWORD) -> Any:
        return await self.post("/api/auth/register", {"username": name, "password": password}, 201)

    async def login(self, name: str, password: str = PASSWORD, status: int = 200) -> Any:
        return await self.post("/api/auth/login", {"username": name, "password": password}, status)

    @property
    def session(self) -> str:
        return str(self.http.cookies["chat_studio_session"])

    @asynccontextmanager
    async def socket(self, **headers: str) -> AsyncIterator[Socket]:
        sent = {"origin": f"http://127.0.0.1:{self.port}", "cookie": f"chat_studio_session={self.session}"} | headers
        async with open_socket(self.port, sent) as opened:
            opened.welcome = await opened.wait_for(lambda frame: frame["type"] == "welcome")
            yield opened


@asynccontextmanager
async def open_socket(port: int, headers: dict[str, str]) -> AsyncIterator[Socket]:
    sent = {name: value for name, value in headers.items() if value}
    async with connect(f"ws://127.0.0.1:{port}/ws", additional_headers=sent, compression=None) as connection:
        yield Socket(connection)


class Browsers:
    """Any number of them, on one studio."""

    def __init__(self, studio: RunningStudio) -> None:
        self.studio = studio
        self.accounts = studio.parts.studio.accounts

    async def new(self) -> Browser:
        http = httpx2.AsyncClient(base_url=self.studio.url, timeout=10)
        return Browser(await self.studio.stack.enter_async_context(http), self.studio.port)

    async def admin(self) -> Browser:
        await self.accounts.ensure_admin()
        browser = await self.new()
        await browser.post("/api/auth/link", {"token": await self.accounts.sign_in_link_token()})
        return browser


@pytest.fixture
def browsers(studio: RunningStudio) -> Browsers:
    return Browsers(studio)


@pytest.fixture
async def browser(browsers: Browsers) -> Browser:
    return await browsers.new()


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """Everything that is logged, at every level."""
    lines: list[str] = []
    sink = logger.add(lines.append, level=0, format="{message} {extra} {exception}")
    yield lines
    logger.remove(sink)


def fragment(link: str, purpose: str) -> str:
    address, _, token = link.partition(f"/#{purpose}=")
    assert address.startswith("http://127.0.0.1:")
    assert len(token) == 43
    return token


# -- coming and going -------------------------------------------------------------------------------------------------


async def test_who_registers_is_signed_in_by_a_cookie_no_script_can_read(browser: Browser) -> None:
    answer = await browser.ask("POST", "/api/auth/register", {"username": "Ada", "password": PASSWORD})
    assert answer.status_code == 201
    user = answer.json()["user"]
    assert (user["username"], user["role"], set(user)) == ("Ada", "member", {"id", "username", "role"})
    name, *flags = answer.headers["set-cookie"].split("; ")
    assert name.startswith("chat_studio_session=")
    assert {flag.lower() for flag in flags} == {"httponly", "max-age=2592000", "path=/", "samesite=lax"}
    me = (await browser.get("/api/auth/me"))["user"]
    assert {key: me[key] for key in user} == user
    assert (me["email"], me["has_password"]) == (None, True)
    assert me["created_at"].endswith("Z")


async def test_logging_out_takes_the_cookie_and_its_worth(browser: Browser) -> None:
    await browser.register("ada")
    session = browser.session
    await browser.post("/api/auth/logout", status=204)
    assert "chat_studio_session" not in browser.http.cookies
    browser.http.cookies.set("chat_studio_session", session)
    assert (await browser.get("/api/auth/me", 401))["code"] == "unauthenticated"
    await browser.login("ADA")
    await browser.get("/api/auth/me")


async def test_the_cookie_lives_on_with_every_visit(browser: Browser) -> None:
    await browser.register("ada")
    answer = await browser.ask("GET", "/api/auth/me")
    assert "Max-Age=2592000" in answer.headers["set-cookie"]


async def test_a_failed_login_looks_the_same_for_everybody(browsers: Browsers, browser: Browser) -> None:
    await browsers.accounts.ensure_admin()
    await browser.register("ada")
    answers = []
    for name in ("ada", "nobody", "admin", "", "x" * 200, "no name!"):
        answer = await browser.ask("POST", "/api/auth/login", {"username": name, "password": "wrong password"})
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == "Bearer"
        del problem["request_id"]
        answers.append((answer.status_code, problem))
    assert [answer for answer in answers if answer != answers[0]] == []
    assert answers[0][0] == 401


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"username": "ada", "password": "short"}, "rejected"),
        ({"username": "ada", "password": "1234567890"}, "rejected"),
        ({"username": "ada", "password": "x" * 1025}, "rejected"),
        ({"username": "two words", "password": PASSWORD}, "rejected"),
        ({"username": "demo", "password": PASSWORD}, "rejected"),
        ({"username": "ada", "password": PASSWORD, "email": "nowhere"}, "rejected"),
        ({"username": "ada"}, "bad_frame"),
        ({"username": "ada", "password": PASSWORD, "role": "admin"}, "bad_frame"),
        ({"username": "ada", "password": 1234567890123}, "bad_frame"),
        (b'{"username": "ada", "username": "eve", "password": "correct horse battery"}', "bad_json"),
        (b'{"username": "a\\u0000b", "password": "correct horse battery"}', "bad_json"),
        (b"\xff", "bad_json"),
    ],
)
async def test_what_cannot_be_an_account_gets_a_reason(browser: Browser, body: object, code: str) -> None:
    answer = await browser.ask("POST", "/api/auth/register", body)
    assert answer.json()["code"] == code
    assert answer.json()["detail"]
    assert "set-cookie" not in answer.headers


async def test_a_taken_name_is_a_conflict(browser: Browser) -> None:
    await browser.register("ada")
    problem = await browser.post("/api/auth/register", {"username": "ADA", "password": PASSWORD}, 409)
    assert problem["code"] == "conflict"


@pytest.mark.parametrize("registration", ["invitation", "closed"])
async def test_registration_may_need_an_invitation_or_be_closed(database: Database, registration: str) -> None:
    async with run_studio(database, registration=registration) as studio:
        await studio.parts.studio.accounts.ensure_admin()
        browser = await Browsers(studio).new()
        policy = await browser.get("/api/auth/policy")
        assert policy == {"registration": registration, "needs_set_up": True}
        problem = await browser.post("/api/auth/register", {"username": "ada", "password": PASSWORD}, 403)
        assert problem["code"] == "forbidden"


async def test_on_loopback_registration_is_open_unless_something_forwards(browser: Browser) -> None:
    assert (await browser.get("/api/auth/policy"))["registration"] == "open"
    forwarded = await browser.ask("GET", "/api/auth/policy", x_forwarded_for="192.0.2.1")
    assert forwarded.json()["registration"] == "invitation"
    foreign = await browser.ask("GET", "/api/auth/policy", host="studio.example")
    assert foreign.json()["registration"] == "invitation"


# -- the admin's first minute -----------------------------------------------------------------------------------------


async def test_the_first_link_signs_in_and_a_password_can_be_set(browsers: Browsers) -> None:
    admin = await browsers.admin()
    me = (await admin.get("/api/auth/me"))["user"]
    assert (me["username"], me["role"], me["has_password"]) == ("admin", "admin", False)
    await admin.post("/api/auth/password", {"new_password": PASSWORD}, 204)
    assert (await admin.get("/api/auth/me"))["user"]["has_password"]
    assert not (await admin.get("/api/auth/policy"))["needs_set_up"]
    await (await browsers.new()).login("admin")


async def test_the_first_link_works_once_and_not_from_elsewhere(browsers: Browsers, browser: Browser) -> None:
    await browsers.accounts.ensure_admin()
    link = {"token": await browsers.accounts.sign_in_link_token()}
    assert (await browser.ask("POST", "/api/auth/link", link, x_forwarded_for="192.0.2.1")).status_code == 403
    assert (await browser.ask("POST", "/api/auth/link", link, host="evil.example")).status_code == 403
    await browser.post("/api/auth/link", link)
    assert (await browser.post("/api/auth/link", link, 401))["code"] == "unauthenticated"


# -- passwords and sessions -------------------------------------------------------------------------------------------


async def test_a_new_password_ends_the_other_sign_ins_on_open_sockets_too(browsers: Browsers, browser: Browser) -> None:
    await browser.register("ada")
    other = await browsers.new()
    await other.login("ada")
    async with browser.socket() as mine, other.socket() as theirs:
        change = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
        await browser.post("/api/auth/password", change, 204)
        assert await theirs.closed(timeout_s=1.0) == 4500
        await mine.settle()
    await other.get("/api/auth/me", 401)
    await browser.get("/api/auth/me")
    await other.login("ada", PASSWORD, 401)
    await other.login("ada", OTHER_PASSWORD)


async def test_a_wrong_current_password_changes_nothing(browser: Browser) -> None:
    await browser.register("ada")
    for change in ({"new_password": OTHER_PASSWORD}, {"current_password": "wrong", "new_password": OTHER_PASSWORD}):
        assert (await browser.post("/api/auth/password", change, 422))["code"] == "rejected"
    await browser.login("ada")


async def test_sessions_are_seen_and_ended(browsers: Browsers, browser: Browser, studio: RunningStudio) -> None:
    ada = await studio.person("ada")
    await browser.login("ada")
    other = await browsers.new()
    await other.login("ada")
    sessions = (await browser.get("/api/auth/sessions"))["sessions"]
    assert sorted(session["kind"] for session in sessions) == ["browser", "browser", "program"]
    assert [session["current"] for session in sessions].count(True) == 1
    assert {session["address"] for session in sessions} == {"127.0.0.1"}
    assert all("python" in session["user_agent"] for session in sessions)

    async with ada.socket() as socket:
        program = next(session["id"] for session in sessions if session["kind"] == "program")
        await browser.delete(f"/api/auth/sessions/{program}")
        assert await socket.closed(timeout_s=1.0) == 4500
    await ada.call("GET", "/api/auth/me", expect=401)
    await browser.delete(f"/api/auth/sessions/{program}", 404)
    await browser.delete("/api/auth/sessions")
    await other.get("/api/auth/me", 401)
    assert len((await browser.get("/api/auth/sessions"))["sessions"]) == 1


async def test_logging_out_cuts_the_open_socket(browser: Browser) -> None:
    await browser.register("ada")
    async with browser.socket() as socket:
        await browser.post("/api/auth/logout", status=204)
        assert await socket.closed(timeout_s=1.0) == 4500


# -- programs ---------------------------------------------------------------------------------------------------------


async def token(browser: Browser, form: dict[str, str], status: int = 200) -> Any:
    answer = await browser.http.post("/api/auth/token", data=form)
    assert answer.status_code == status, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def refresh(refresh_token: str) -> dict[str, str]:
    return {"grant_type": "refresh_token", "refresh_token": refresh_token}


async def test_a_program_gets_tokens_and_refreshes_them(browsers: Browsers, browser: Browser) -> None:
    await (await browsers.new()).register("ada")
    login = {"grant_type": "password", "username": "ada", "password": PASSWORD}
    first = await token(browser, {**login, "scope": "everything", "client_id": "a client"})
    assert (first["token_type"], first["expires_in"], set(first)) == (
        "bearer",
        3600,
        {"access_token", "refresh_token", "token_type", "expires_in"},
    )
    second = await token(browser, refresh(first["refresh_token"]))
    for tokens in (first, second):
        me = await browser.ask("GET", "/api/auth/me", authorization=f"Bearer {tokens['access_token']}")
        assert me.status_code == 200
        assert "set-cookie" not in me.headers
    assert (await token(browser, refresh("wrong"), 401))["code"] == "unauthenticated"
    await token(browser, {**login, "password": "wrong"}, 401)
    for form in ({"grant_type": "client_credentials"}, {"username": "ada"}, dict[str, str]()):
        assert (await token(browser, form, 422))["code"] == "bad_frame"
    assert (await browser.post("/api/auth/token", login, 422))["code"] == "bad_frame"


async def test_a_wrong_token_is_refused_though_the_cookie_is_good(browser: Browser) -> None:
    await browser.register("ada")
    assert (await browser.ask("GET", "/api/auth/me", authorization="Bearer wrong")).status_code == 401


async def test_a_ticket_opens_one_socket(browser: Browser) -> None:
    await browser.register("ada")
    made = await browser.post("/api/auth/ticket")
    assert made["expires_in"] == 30
    hello = {"type": "hello", "ticket": made["ticket"]}
    async with open_socket(browser.port, {}) as socket:
        await socket.send_raw(encode(hello).decode())
        welcome = await socket.wait_for(lambda frame: frame["type"] == "welcome")
        assert welcome["user"]["username"] == "ada"
    async with open_socket(browser.port, {}) as again:
        await again.send_raw(encode(hello).decode())
        assert await again.closed() == 4502


# -- other sites ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "origin": "http://evil.example"},
    ],
)
async def test_another_site_cannot_act_with_the_cookie(browser: Browser, headers: dict[str, str]) -> None:
    await browser.register("ada")
    answer = await browser.ask("POST", "/api/auth/logout", **headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    await browser.get("/api/auth/me")


async def test_a_form_of_another_site_signs_nobody_in(browser: Browser) -> None:
    await browser.register("ada")
    await browser.post("/api/auth/logout", status=204)
    body = encode({"username": "ada", "password": PASSWORD})
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = await browser.ask("POST", "/api/auth/login", body, content_type=content_type)
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_frame")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"cookie": "chat_studio_session=wrong", "origin": "ours"}, 401),
        ({"cookie": "ours", "origin": ""}, 403),
        ({"cookie": "ours", "origin": "http://evil.example"}, 403),
        ({"cookie": "ours", "origin": "null"}, 403),
    ],
)
async def test_a_bad_credential_is_refused_before_the_upgrade(
    browser: Browser, headers: dict[str, str], status: int
) -> None:
    await browser.register("ada")
    ours = {"cookie": f"chat_studio_session={browser.session}", "origin": f"http://127.0.0.1:{browser.port}"}
    sent = {name: ours[name] if value == "ours" else value for name, value in headers.items()}
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with open_socket(browser.port, sent):
            pass
    assert refused.value.response.status_code == status


# -- administration ---------------------------------------------------------------------------------------------------


async def test_administration_is_for_admins(browsers: Browsers, studio: RunningStudio) -> None:
    stranger = await browsers.new()
    member, guest = await studio.person("ada"), await studio.person("bob", "guest")
    for method, path, body in (
        ("GET", "/api/admin/users", None),
        ("POST", "/api/admin/users", {"username": "eve", "password": PASSWORD, "role": "admin"}),
        ("PATCH", f"/api/admin/users/{member.id}", {"role": "admin"}),
        ("POST", f"/api/admin/users/{member.id}/reset-link", {}),
        ("POST", "/api/admin/invitations", {}),
    ):
        assert (await stranger.ask(method, path, body)).status_code == 401
        for person in (member, guest):
            await person.call(method, path, body, expect=403)


async def test_an_admin_makes_accounts_and_gives_roles(browsers: Browsers) -> None:
    admin = await browsers.admin()
    made = await admin.post("/api/admin/users", {"username": "ada", "password": PASSWORD, "role": "guest"}, 201)
    ada = made["user"]
    assert (ada["username"], ada["role"], ada["disabled"], ada["origin"]) == ("ada", "guest", False, "here")
    changed = await admin.patch(f"/api/admin/users/{ada['id']}", {"role": "member"})
    assert changed["user"]["role"] == "member"
    page = await admin.get("/api/admin/users?page_size=1&page=1")
    assert [user["username"] for user in page["users"]] == ["ada"]
    assert (page["page"], page["page_size"], page["total"], page["total_pages"]) == (1, 1, 2, 2)
    for bad in ({"role": "owner"}, {"username": "eve"}, {"disabled": "yes"}):
        assert (await admin.patch(f"/api/admin/users/{ada['id']}", bad, 422))["code"] == "bad_frame"


async def test_who_is_disabled_is_cut_and_stays_out(browsers: Browsers, studio: RunningStudio) -> None:
    admin, ada = await browsers.admin(), await studio.person("ada")
    async with ada.socket() as socket:
        await admin.patch(f"/api/admin/users/{ada.id}", {"disabled": True})
        assert await socket.closed(timeout_s=1.0) == 4500
    await ada.call("GET", "/api/auth/me", expect=401)
    await (await browsers.new()).login("ada", status=401)
    await admin.patch(f"/api/admin/users/{ada.id}", {"disabled": False})
    await (await browsers.new()).login("ada")


async def test_the_last_admin_stays(browsers: Browsers) -> None:
    admin = await browsers.admin()
    me = (await admin.get("/api/auth/me"))["user"]["id"]
    for change in ({"role": "member"}, {"disabled": True}):
        assert (await admin.patch(f"/api/admin/users/{me}", change, 409))["code"] == "conflict"


async def test_a_reset_link_leads_to_a_new_password(browsers: Browsers, browser: Browser) -> None:
    admin = await browsers.admin()
    ada = (await browser.register("ada"))["user"]
    made = await admin.post(f"/api/admin/users/{ada['id']}/reset-link", status=201)
    reset = fragment(made["link"], "reset")
    assert made["expires_at"].endswith("Z")
    other = await browsers.new()
    assert (await other.post("/api/auth/link", {"token": reset, "new_password": "short"}, 422))["code"] == "rejected"
    assert (await other.post("/api/auth/link", {"token": reset}, 422))["code"] == "rejected"
    await other.post("/api/auth/link", {"token": reset, "new_password": OTHER_PASSWORD})
    assert (await other.get("/api/auth/me"))["user"]["username"] == "ada"
    await browser.get("/api/auth/me", 401)
    await browser.login("ada", OTHER_PASSWORD)
    await other.post("/api/auth/link", {"token": reset, "new_password": PASSWORD}, 401)


async def test_an_invitation_makes_one_account_of_its_role(database: Database) -> None:
    async with run_studio(database, registration="invitation") as studio:
        browsers = Browsers(studio)
        admin, guest = await browsers.admin(), await browsers.new()
        made = await admin.post("/api/admin/invitations", {"role": "guest"}, 201)
        invited = {"username": "gus", "password": PASSWORD, "invitation": fragment(made["link"], "invitation")}
        joined = await guest.post("/api/auth/register", invited, 201)
        assert joined["user"]["role"] == "guest"
        await (await browsers.new()).post("/api/auth/register", {**invited, "username": "eve"}, 403)


async def test_the_directory_finds_people(browser: Browser, browsers: Browsers, studio: RunningStudio) -> None:
    await (await browsers.new()).get("/api/users", 401)
    guest, carol = await studio.person("Gus", "guest"), await studio.person("carol")
    await browser.register("ada")
    found = (await browser.get("/api/users?query=CAR"))["users"]
    assert found == [{"id": carol.id, "username": "carol", "role": "member"}]
    assert len((await browser.get("/api/users?limit=2"))["users"]) == 2
    for bad in ("limit=0", "limit=101", "limit=ten", "unknown=1"):
        assert (await browser.get(f"/api/users?{bad}", 422))["code"] == "bad_frame"
    seen = await guest.call("GET", "/api/users", expect=200)
    assert [user["username"] for user in seen["users"]] == ["Gus"]
    await carol.room(members=[guest.id])
    seen = await guest.call("GET", "/api/users", expect=200)
    assert [user["username"] for user in seen["users"]] == ["carol", "Gus"]


# -- limits and logs --------------------------------------------------------------------------------------------------


async def test_the_sixth_login_of_a_minute_is_told_when_to_come_back(database: Database) -> None:
    async with run_studio(database, rate_limits=True) as studio:
        browsers = Browsers(studio)
        browser = await browsers.new()
        await browser.register("ada")
        for _ in range(5):
            await browser.login("ada", "wrong password", 401)
        answer = await browser.ask("POST", "/api/auth/login", {"username": "ADA", "password": PASSWORD})
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["retryable"]) == (429, "rate_limited", True)
        assert 11 < problem["retry_after_s"] <= 12
        assert int(answer.headers["retry-after"]) == 12
        form = {"grant_type": "password", "username": "ada", "password": PASSWORD}
        assert (await browser.http.post("/api/auth/token", data=form)).status_code == 429
        await browser.login("bob", "wrong password", 401)


async def test_nothing_secret_is_logged(browsers: Browsers, browser: Browser, log_lines: list[str]) -> None:
    admin = await browsers.admin()
    ada = (await browser.register("ada"))["user"]
    secrets = [PASSWORD, OTHER_PASSWORD, browser.session, admin.session]
    tokens = await token(browser, {"grant_type": "password", "username": "ada", "password": PASSWORD})
    secrets += [tokens["access_token"], tokens["refresh_token"], (await browser.post("/api/auth/ticket"))["ticket"]]
    await token(browser, refresh(tokens["refresh_token"]))
    await browser.login("ada", OTHER_PASSWORD, 401)
    made = await admin.post(f"/api/admin/users/{ada['id']}/reset-link", status=201)
    secrets.append(fragment(made["link"], "reset"))
    await browser.post("/api/auth/link", {"token": secrets[-1], "new_password": OTHER_PASSWORD})
    assert log_lines
    assert [line for line in log_lines if any(secret in line for secret in secrets)] == []

"""Accounts on a real Postgres, with the time handed in."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from argon2 import PasswordHasher

from server.hub.access import ClientInfo
from server.hub.accounts import Accounts, SignedIn
from server.hub.identity import Identity
from server.protocol.errors import ChatError, Conflict, Forbidden, NotFound, Rejected, Unauthenticated
from server.protocol.ids import new_id
from server.storage.database import Database

HERE = ClientInfo("127.0.0.1", "a browser", is_loopback=True)
ELSEWHERE = ClientInfo("192.0.2.7", "another browser", is_loopback=False)
PASSWORD, OTHER_PASSWORD = "correct horse battery", "staple of the horse"


class Studio:
    """Accounts, a clock that a test turns, and what was told about grants."""

    def __init__(self, database: Database, registration: str = "open") -> None:
        self.now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
        self.ended: list[str] = []
        self.changed: list[str] = []
        self.accounts = Accounts(
            database,
            registration=registration,
            on_grants_ended=self._end,
            on_rights_changed=self._change,
            clock=lambda: self.now,
        )
        self.access = self.accounts.access

    async def _end(self, grants: Sequence[str]) -> None:
        self.ended += grants

    async def _change(self, grants: Sequence[str]) -> None:
        self.changed += grants

    async def register(self, name: str) -> Identity:
        return await self.identity(await self.accounts.register(name, PASSWORD, None, None, HERE))

    async def login(self, name: str, password: str = PASSWORD) -> Identity:
        return await self.identity(await self.accounts.login(name, password, HERE))

    async def identity(self, signed_in: SignedIn) -> Identity:
        identity = await self.access.identify(signed_in.session, "session")
        assert identity is not None
        return identity

    async def admin(self) -> Identity:
        await self.accounts.ensure_admin()
        token = await self.accounts.sign_in_link_token()
        assert token is not None
        return await self.identity(await self.accounts.redeem_link(token, None, HERE))

    async def is_in(self, identity: Identity) -> bool:
        return identity.grant_id in {grant.id for grant in await self.access.sessions(identity)}


@pytest.fixture
def studio(database: Database) -> Studio:
    return Studio(database)


# -- the first start --------------------------------------------------------------------------------------------------


async def test_the_first_start_makes_an_admin_without_a_password(studio: Studio) -> None:
    assert await studio.accounts.ensure_admin()
    assert not await studio.accounts.ensure_admin()
    assert await studio.accounts.needs_set_up()
    admin = await studio.admin()
    assert (admin.username, admin.account_role) == ("admin", "admin")
    assert not (await studio.accounts.me(admin)).has_password


async def test_of_workers_that_start_together_one_makes_the_admin(studio: Studio) -> None:
    made = await asyncio.gather(*(studio.accounts.ensure_admin() for _ in range(5)))
    assert sorted(made) == [False] * 4 + [True]


async def test_an_admin_made_by_the_command_line_is_admin_enough(studio: Studio) -> None:
    await studio.accounts.create_user("grace", PASSWORD, "admin")
    assert not await studio.accounts.ensure_admin()
    assert not await studio.accounts.needs_set_up()


async def test_nobody_signs_in_with_a_password_that_was_never_set(studio: Studio) -> None:
    await studio.accounts.ensure_admin()
    for password in ("", "admin", PASSWORD):
        with pytest.raises(Unauthenticated):
            await studio.accounts.login("admin", password, HERE)


async def test_the_sign_in_link_works_once_and_only_on_this_machine(studio: Studio) -> None:
    await studio.accounts.ensure_admin()
    token = await studio.accounts.sign_in_link_token()
    assert token is not None
    with pytest.raises(Forbidden):
        await studio.accounts.redeem_link(token, None, ELSEWHERE)
    assert (await studio.accounts.redeem_link(token, None, HERE)).user.username == "admin"
    with pytest.raises(Unauthenticated):
        await studio.accounts.redeem_link(token, None, HERE)


async def test_a_new_start_ends_the_link_of_the_one_before(studio: Studio) -> None:
    await studio.accounts.ensure_admin()
    before, after = await studio.accounts.sign_in_link_token(), await studio.accounts.sign_in_link_token()
    assert before is not None
    assert after is not None
    with pytest.raises(Unauthenticated):
        await studio.accounts.redeem_link(before, None, HERE)
    await studio.accounts.redeem_link(after, None, HERE)


async def test_the_sign_in_link_ends_after_a_day(studio: Studio) -> None:
    await studio.accounts.ensure_admin()
    token = await studio.accounts.sign_in_link_token()
    assert token is not None
    studio.now += timedelta(hours=24)
    with pytest.raises(Unauthenticated):
        await studio.accounts.redeem_link(token, None, HERE)


async def test_the_set_up_token_claims_the_admin_from_anywhere_once(studio: Studio) -> None:
    await studio.accounts.ensure_admin()
    token = await studio.accounts.set_up_token()
    assert token is not None
    claimed = await studio.accounts.redeem_link(token, PASSWORD, ELSEWHERE)
    assert claimed.user.role == "admin"
    assert not await studio.accounts.needs_set_up()
    with pytest.raises(Unauthenticated):
        await studio.accounts.redeem_link(token, OTHER_PASSWORD, ELSEWHERE)
    assert (await studio.login("admin")).account_role == "admin"


async def test_an_admin_with_a_password_is_claimed_by_nobody(studio: Studio) -> None:
    admin = await studio.admin()
    await studio.accounts.change_password(admin, None, PASSWORD)
    late = await studio.accounts.set_up_token()
    assert late is not None
    with pytest.raises(Unauthenticated):
        await studio.accounts.redeem_link(late, OTHER_PASSWORD, HERE)
    await studio.login("admin")


async def test_a_weak_password_leaves_the_link_unused(studio: Studio) -> None:
    await studio.accounts.ensure_admin()
    token = await studio.accounts.set_up_token()
    assert token is not None
    for weak in (None, "short", "1234567890"):
        with pytest.raises(Rejected):
            await studio.accounts.redeem_link(token, weak, HERE)
    await studio.accounts.redeem_link(token, PASSWORD, HERE)


# -- registration -----------------------------------------------------------------------------------------------------


async def test_who_registers_is_a_member_and_signed_in(studio: Studio) -> None:
    signed_in = await studio.accounts.register("Ada", PASSWORD, " ada@example.org ", None, ELSEWHERE)
    assert (signed_in.user.username, signed_in.user.role) == ("Ada", "member")
    assert (signed_in.user.email, signed_in.user.has_password) == ("ada@example.org", True)
    assert (await studio.identity(signed_in)).user_id == signed_in.user.id
    assert (await studio.login("aDA")).user_id == signed_in.user.id


async def test_a_name_is_taken_in_every_spelling(studio: Studio) -> None:
    await studio.register("Strasse")
    for name in ("Strasse", "STRASSE", "straße", "ｓｔｒａｓｓｅ"):
        with pytest.raises(Conflict):
            await studio.accounts.register(name, PASSWORD, None, None, HERE)


async def test_of_many_who_want_a_name_at_once_one_gets_it(studio: Studio) -> None:
    tries = await asyncio.gather(*(studio.register("ada") for _ in range(5)), return_exceptions=True)
    assert [type(one) for one in tries].count(Conflict) == 4


async def test_an_email_tells_nobody_who_is_here(studio: Studio) -> None:
    for name in ("ada", "bob"):
        await studio.accounts.register(name, PASSWORD, "same@example.org", None, HERE)
    for email in ("no address", "@", "a@", "@b", "a b@c", "a@b\nc", "x" * 250 + "@b.org"):
        with pytest.raises(Rejected):
            await studio.accounts.register("eve", PASSWORD, email, None, HERE)


async def test_weak_passwords_get_a_reason(studio: Studio) -> None:
    for password in ("short", "1234567890"):
        with pytest.raises(Rejected):
            await studio.accounts.register("ada", password, None, None, HERE)
    await studio.register("ada")


@pytest.mark.parametrize(
    ("registration", "client", "policy"),
    [
        ("open", ELSEWHERE, "open"),
        ("closed", HERE, "closed"),
        ("invitation", HERE, "invitation"),
        ("loopback", HERE, "open"),
        ("loopback", ELSEWHERE, "invitation"),
    ],
)
async def test_registration_follows_the_policy(
    database: Database, registration: str, client: ClientInfo, policy: str
) -> None:
    accounts = Studio(database, registration).accounts
    assert accounts.policy(client) == policy
    if policy == "open":
        await accounts.register("ada", PASSWORD, None, None, client)
    else:
        with pytest.raises(Forbidden):
            await accounts.register("ada", PASSWORD, None, None, client)


async def test_an_invitation_makes_one_account_of_its_role(database: Database) -> None:
    studio = Studio(database, "invitation")
    link = await studio.accounts.invitation("guest")
    assert link.expires_at == studio.now + timedelta(days=7)
    with pytest.raises(Rejected):
        await studio.accounts.register("ada", "short", None, link.token, HERE)
    joined = await studio.accounts.register("ada", PASSWORD, None, link.token, ELSEWHERE)
    assert joined.user.role == "guest"
    with pytest.raises(Forbidden):
        await studio.accounts.register("bob", PASSWORD, None, link.token, ELSEWHERE)


async def test_a_taken_name_leaves_the_invitation_unused(database: Database) -> None:
    studio = Studio(database, "invitation")
    await studio.accounts.create_user("ada", PASSWORD, "member")
    link = await studio.accounts.invitation("member")
    with pytest.raises(Conflict):
        await studio.accounts.register("ada", PASSWORD, None, link.token, HERE)
    await studio.accounts.register("bob", PASSWORD, None, link.token, HERE)


async def test_one_invitation_never_makes_two_accounts(database: Database) -> None:
    studio = Studio(database, "invitation")
    link = await studio.accounts.invitation("member")
    tries = await asyncio.gather(
        *(studio.accounts.register(f"user{n}", PASSWORD, None, link.token, HERE) for n in range(4)),
        return_exceptions=True,
    )
    assert len([one for one in tries if isinstance(one, SignedIn)]) == 1
    assert await database.fetch_value("SELECT count(*) FROM users") == 1


async def test_an_old_or_false_invitation_is_refused_where_registration_is_open(studio: Studio) -> None:
    link = await studio.accounts.invitation("admin")
    studio.now += timedelta(days=7)
    for token in (link.token, "false"):
        with pytest.raises(Forbidden):
            await studio.accounts.register("ada", PASSWORD, None, token, HERE)


# -- signing in -------------------------------------------------------------------------------------------------------


async def test_a_login_that_fails_says_the_same_for_every_reason(studio: Studio) -> None:
    await studio.accounts.ensure_admin()  # has no password
    await studio.register("ada")
    disabled = await studio.register("bob")
    await studio.accounts.update_user(disabled.user_id, None, True)
    answers = set()
    for name, password in (("nobody", PASSWORD), ("ada", "wrong"), ("admin", PASSWORD), ("bob", PASSWORD), ("", "")):
        for sign_in in (studio.accounts.login, studio.accounts.token_by_password):
            with pytest.raises(ChatError) as refused:
                await sign_in(name, password, HERE)
            answers.add((type(refused.value), refused.value.detail, refused.value.retry_after_s))
    assert len(answers) == 1


async def test_a_hash_of_old_parameters_is_renewed_at_sign_in(studio: Studio, database: Database) -> None:
    ada = await studio.register("ada")
    old = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
    await database.execute("UPDATE users SET password_hash = $2 WHERE id = $1", ada.user_id, old)
    await studio.login("ada")
    renewed = await database.fetch_value("SELECT password_hash FROM users WHERE id = $1", ada.user_id)
    assert renewed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    await studio.login("ada")


async def test_who_is_disabled_while_the_password_is_checked_gets_nothing(
    studio: Studio, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await studio.register("ada")
    verify = studio.accounts._passwords.verify

    async def slow(password_hash: str | None, password: str) -> bool:
        is_right = await verify(password_hash, password)
        await studio.accounts.update_user(ada.user_id, None, True)
        return is_right

    monkeypatch.setattr(studio.accounts._passwords, "verify", slow)
    with pytest.raises(Unauthenticated):
        await studio.accounts.login("ada", PASSWORD, HERE)
    assert await database.fetch_value("SELECT count(*) FROM grants") == 0


async def test_a_session_lives_30_days_from_its_last_use(studio: Studio) -> None:
    signed_in = await studio.accounts.register("ada", PASSWORD, None, None, HERE)
    for _ in range(4):
        studio.now += timedelta(days=29)
        assert await studio.access.identify(signed_in.session, "session") is not None
    studio.now += timedelta(days=30)
    assert await studio.access.identify(signed_in.session, "session") is None


async def test_an_access_token_lives_an_hour_however_much_it_is_used(studio: Studio) -> None:
    await studio.register("ada")
    tokens = await studio.accounts.token_by_password("ada", PASSWORD, HERE)
    assert tokens.expires_in_s == 3600
    for _ in range(5):
        assert await studio.access.identify(tokens.access_token, "access") is not None
        studio.now += timedelta(minutes=12)
    assert await studio.access.identify(tokens.access_token, "access") is None


async def test_refreshing_gives_new_tokens_under_the_same_grant(studio: Studio) -> None:
    await studio.register("ada")
    first = await studio.accounts.token_by_password("ada", PASSWORD, HERE)
    before = await studio.access.identify(first.access_token, "access")
    second = await studio.access.refresh(first.refresh_token)
    assert await studio.access.identify(second.access_token, "access") == before
    assert {first.access_token, first.refresh_token}.isdisjoint({second.access_token, second.refresh_token})


async def test_a_stolen_refresh_token_ends_the_grant_and_says_so(studio: Studio) -> None:
    await studio.register("ada")
    stolen = await studio.accounts.token_by_password("ada", PASSWORD, HERE)
    owner = await studio.access.refresh(stolen.refresh_token)
    identity = await studio.access.identify(owner.access_token, "access")
    assert identity is not None
    studio.now += timedelta(seconds=11)
    with pytest.raises(Unauthenticated):
        await studio.access.refresh(stolen.refresh_token)
    assert studio.ended == [identity.grant_id]
    assert await studio.access.identify(owner.access_token, "access") is None
    with pytest.raises(Unauthenticated):
        await studio.access.refresh(owner.refresh_token)


async def test_no_token_serves_for_another(studio: Studio) -> None:
    signed_in = await studio.accounts.register("ada", PASSWORD, None, None, HERE)
    tokens = await studio.accounts.token_by_password("ada", PASSWORD, HERE)
    for token in (signed_in.session, tokens.access_token, "", "x" * 5000, "\u00e9"):
        with pytest.raises(Unauthenticated):
            await studio.access.refresh(token)
        with pytest.raises(Unauthenticated):
            await studio.access.redeem_ticket(token)
        with pytest.raises(Unauthenticated):
            await studio.accounts.redeem_link(token, PASSWORD, HERE)
    assert await studio.access.identify(signed_in.session, "access") is None
    assert await studio.access.identify(tokens.refresh_token, "access") is None


async def test_a_ticket_lets_one_socket_in_within_30_seconds(studio: Studio) -> None:
    ada = await studio.register("ada")
    ticket = await studio.access.ticket(ada)
    assert ticket.expires_in_s == 30
    assert await studio.access.redeem_ticket(ticket.text) == ada
    with pytest.raises(Unauthenticated):
        await studio.access.redeem_ticket(ticket.text)
    late = await studio.access.ticket(ada)
    studio.now += timedelta(seconds=30)
    with pytest.raises(Unauthenticated):
        await studio.access.redeem_ticket(late.text)


async def test_what_ended_while_a_socket_was_opened_is_noticed(studio: Studio) -> None:
    await studio.accounts.ensure_admin()
    ada, bob, cyd = [await studio.register(name) for name in ("ada", "bob", "cyd")]
    assert [await studio.access.is_current(one) for one in (ada, bob, cyd)] == [True] * 3
    await studio.access.logout(ada)
    await studio.accounts.update_user(bob.user_id, "guest", None)
    await studio.accounts.update_user(cyd.user_id, None, True)
    assert [await studio.access.is_current(one) for one in (ada, bob, cyd)] == [False] * 3


# -- ending -----------------------------------------------------------------------------------------------------------


async def test_logout_ends_this_sign_in_and_no_other(studio: Studio) -> None:
    here = await studio.register("ada")
    there = await studio.login("ada")
    await studio.access.logout(here)
    assert studio.ended == [here.grant_id]
    assert not await studio.is_in(here)
    assert await studio.is_in(there)


async def test_sessions_show_where_somebody_is_signed_in(studio: Studio) -> None:
    ada = await studio.register("ada")
    await studio.register("bob")
    studio.now += timedelta(minutes=5)
    await studio.accounts.token_by_password("ada", PASSWORD, ELSEWHERE)
    sessions = await studio.access.sessions(ada)
    assert [(one.kind, one.address, one.user_agent) for one in sessions] == [
        ("program", "192.0.2.7", "another browser"),
        ("browser", "127.0.0.1", "a browser"),
    ]


async def test_one_ends_ones_own_sessions_only(studio: Studio) -> None:
    ada, bob = await studio.register("ada"), await studio.register("bob")
    with pytest.raises(NotFound):
        await studio.access.end_session(ada, bob.grant_id)
    with pytest.raises(NotFound):
        await studio.access.end_session(ada, "..")
    other = await studio.login("ada")
    await studio.access.end_session(ada, other.grant_id)
    assert studio.ended == [other.grant_id]
    third = await studio.login("ada")
    await studio.access.end_other_sessions(ada)
    assert studio.ended == [other.grant_id, third.grant_id]
    assert await studio.is_in(ada)
    assert await studio.is_in(bob)


async def test_a_new_password_ends_all_other_sign_ins(studio: Studio) -> None:
    ada, other = await studio.register("ada"), await studio.login("ada")
    await studio.accounts.change_password(ada, PASSWORD, OTHER_PASSWORD)
    assert studio.ended == [other.grant_id]
    assert await studio.is_in(ada)
    with pytest.raises(Unauthenticated):
        await studio.accounts.login("ada", PASSWORD, HERE)
    await studio.login("ada", OTHER_PASSWORD)


async def test_a_new_password_needs_the_current_one_where_there_is_one(studio: Studio) -> None:
    ada = await studio.register("ada")
    for wrong in (None, "", OTHER_PASSWORD):
        with pytest.raises(Rejected, match="current password"):
            await studio.accounts.change_password(ada, wrong, OTHER_PASSWORD)
    with pytest.raises(Rejected, match="short"):
        await studio.accounts.change_password(ada, PASSWORD, "short")
    await studio.login("ada")

    admin = await studio.admin()
    await studio.accounts.change_password(admin, None, PASSWORD)
    with pytest.raises(Rejected, match="current password"):
        await studio.accounts.change_password(admin, None, OTHER_PASSWORD)


async def test_a_new_password_ends_the_links_that_were_handed_out(studio: Studio) -> None:
    ada = await studio.register("ada")
    link = await studio.accounts.reset_link(ada.user_id)
    await studio.accounts.change_password(ada, PASSWORD, OTHER_PASSWORD)
    with pytest.raises(Unauthenticated):
        await studio.accounts.redeem_link(link.token, PASSWORD, HERE)


async def test_a_reset_link_gives_a_new_password_and_ends_every_sign_in(studio: Studio) -> None:
    ada = await studio.register("ada")
    earlier, link = await studio.accounts.reset_link(ada.user_id), await studio.accounts.reset_link(ada.user_id)
    assert link.expires_at == studio.now + timedelta(hours=24)
    with pytest.raises(Unauthenticated):
        await studio.accounts.redeem_link(earlier.token, OTHER_PASSWORD, ELSEWHERE)
    signed_in = await studio.accounts.redeem_link(link.token, OTHER_PASSWORD, ELSEWHERE)
    assert signed_in.user.id == ada.user_id
    assert studio.ended == [ada.grant_id]
    await studio.identity(signed_in)
    await studio.login("ada", OTHER_PASSWORD)
    with pytest.raises(Unauthenticated):
        await studio.accounts.redeem_link(link.token, PASSWORD, HERE)


async def test_pruning_ends_the_grants_whose_last_token_expired(studio: Studio) -> None:
    ada = await studio.register("ada")
    studio.now += timedelta(days=29)
    await studio.access.prune()
    assert studio.ended == []
    studio.now += timedelta(days=2)
    await studio.access.prune()
    assert studio.ended == [ada.grant_id]


# -- administration ---------------------------------------------------------------------------------------------------


async def test_who_is_disabled_is_out_at_once_and_may_come_back(studio: Studio) -> None:
    await studio.accounts.ensure_admin()
    ada = await studio.register("ada")
    link = await studio.accounts.reset_link(ada.user_id)
    user = await studio.accounts.update_user(ada.user_id, None, True)
    assert user.disabled_at == studio.now
    assert studio.ended == [ada.grant_id]
    with pytest.raises(Unauthenticated):
        await studio.accounts.redeem_link(link.token, OTHER_PASSWORD, HERE)
    with pytest.raises(Conflict):
        await studio.accounts.reset_link(ada.user_id)
    assert (await studio.accounts.update_user(ada.user_id, None, False)).disabled_at is None
    assert not await studio.is_in(ada)
    await studio.login("ada")


async def test_a_new_role_is_told_and_leaves_people_signed_in(studio: Studio) -> None:
    await studio.accounts.ensure_admin()
    signed_in = await studio.accounts.register("ada", PASSWORD, None, None, HERE)
    ada = await studio.identity(signed_in)
    await studio.accounts.update_user(ada.user_id, "guest", None)
    assert (studio.ended, studio.changed) == ([], [ada.grant_id])
    assert (await studio.identity(signed_in)).account_role == "guest"
    await studio.accounts.update_user(ada.user_id, "guest", None)
    assert studio.changed == [ada.grant_id]


async def test_the_last_admin_stays(studio: Studio) -> None:
    admin = await studio.admin()
    for role, disabled in (("member", None), ("guest", False), (None, True), ("admin", True)):
        with pytest.raises(Conflict):
            await studio.accounts.update_user(admin.user_id, role, disabled)
    ada = await studio.register("ada")
    await studio.accounts.update_user(ada.user_id, "admin", None)
    await studio.accounts.update_user(admin.user_id, "member", None)
    with pytest.raises(Conflict):
        await studio.accounts.update_user(ada.user_id, None, True)


async def test_two_admins_cannot_remove_each_other_at_once(studio: Studio) -> None:
    admin, ada = await studio.admin(), await studio.register("ada")
    for _ in range(5):
        await studio.accounts.update_user(admin.user_id, "admin", None)
        await studio.accounts.update_user(ada.user_id, "admin", None)
        tries = await asyncio.gather(
            studio.accounts.update_user(admin.user_id, "member", None),
            studio.accounts.update_user(ada.user_id, "member", None),
            return_exceptions=True,
        )
        assert len([one for one in tries if isinstance(one, Conflict)]) == 1
        left = [one for one in (admin, ada) if (await studio.accounts.me(one)).role == "admin"]
        await studio.accounts.update_user((admin if left == [ada] else ada).user_id, "admin", None)


async def test_what_is_nobody_is_not_found(studio: Studio) -> None:
    await studio.accounts.ensure_admin()
    for nobody in (new_id(), "..", ""):
        with pytest.raises(NotFound):
            await studio.accounts.update_user(nobody, "member", None)
        with pytest.raises(NotFound):
            await studio.accounts.reset_link(nobody)


# -- the directory ----------------------------------------------------------------------------------------------------


async def names(studio: Studio, who: Identity, query: str = "", limit: int = 100) -> list[str]:
    return [user.username for user in await studio.accounts.directory(who, query, limit)]


async def add_conversation(database: Database, members: Sequence[Identity], deleted: bool = False) -> None:
    conversation = new_id()
    await database.execute(
        "INSERT INTO conversations (id, kind, title, visibility, created_at, deleted_at) "
        "VALUES ($1, 'room', 'a room', 'private', now(), CASE WHEN $2 THEN now() END)",
        conversation,
        deleted,
    )
    for member in members:
        await database.execute(
            "INSERT INTO memberships (conversation, user_id, role, joined_at) VALUES ($1, $2, 'member', now())",
            conversation,
            member.user_id,
        )


async def test_members_find_everybody_by_any_part_of_a_name(studio: Studio, database: Database) -> None:
    ada = await studio.register("Ada")
    for name in ("bob", "Nada", "zoe", "a_b"):
        await studio.register(name)
    gone = await studio.register("gone")
    await studio.accounts.ensure_admin()
    await studio.accounts.update_user(gone.user_id, None, True)
    await database.execute("UPDATE users SET origin = 'import' WHERE username = 'zoe'")
    assert await names(studio, ada) == ["a_b", "Ada", "admin", "bob", "Nada"]
    assert await names(studio, ada, "ADA") == ["Ada", "Nada"]
    assert await names(studio, ada, "_") == ["a_b"]
    assert await names(studio, ada, "", 2) == ["a_b", "Ada"]


async def test_guests_see_those_with_whom_they_share_a_conversation(studio: Studio, database: Database) -> None:
    guest, shared, former, other = [await studio.register(name) for name in ("guest", "shared", "former", "other")]
    await studio.accounts.ensure_admin()
    await studio.accounts.update_user(guest.user_id, "guest", None)
    guest = await studio.login("guest")
    assert await names(studio, guest) == ["guest"]
    await add_conversation(database, [guest, shared])
    await add_conversation(database, [guest, former], deleted=True)
    await add_conversation(database, [shared, other])
    assert await names(studio, guest) == ["guest", "shared"]
    assert await names(studio, guest, "o") == []


async def test_admins_page_through_everybody(studio: Studio, database: Database) -> None:
    for name in ("ada", "bob", "cyd"):
        await studio.register(name)
    await database.execute("UPDATE users SET origin = 'import', disabled_at = now() WHERE username = 'bob'")
    people, total = await studio.accounts.people("", 1, 1)
    assert ([user.username for user in people], total) == (["bob"], 3)
    people, total = await studio.accounts.people("D", 0, 10)
    assert ([user.username for user in people], total) == (["ada", "cyd"], 2)

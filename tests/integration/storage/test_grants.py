"""Grants and tokens on a real Postgres."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from server.protocol.errors import Unauthenticated
from server.protocol.ids import new_id
from server.storage.database import Database
from server.storage.grants import Grants, Redeemed, Rotation, sha256
from server.storage.users import NewUser, User, Users

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=30)
GRACE = timedelta(seconds=10)


@pytest.fixture
def grants(database: Database) -> Grants:
    return Grants(database)


@pytest.fixture
async def user(database: Database) -> User:
    return await add_user(database, "ada")


async def add_user(database: Database, name: str) -> User:
    async with database.transaction() as connection:
        return await Users(database).add(connection, NewUser(name, name, "member"), NOW)


async def sign_in(database: Database, user: User, purpose: str, expires_at: datetime = LATER) -> tuple[str, str]:
    """A grant with one token."""
    grants = Grants(database)
    async with database.transaction() as connection:
        grant = await grants.add(connection, user.id, "browser", "127.0.0.1", "a test", NOW)
        return grant, await grants.issue(connection, purpose, expires_at, grant_id=grant)


async def issue(database: Database, purpose: str, user: User, expires_at: datetime = LATER) -> str:
    async with database.transaction() as connection:
        return await Grants(database).issue(connection, purpose, expires_at, user_id=user.id)


async def redeem(database: Database, token: str, purpose: str = "reset", at: datetime = NOW) -> Redeemed | None:
    async with database.transaction() as connection:
        return await Grants(database).redeem(connection, token, [purpose], at)


async def rotate(database: Database, token: str, at: datetime) -> tuple[Rotation, str | None]:
    """The rotation, and the next refresh token where there is one."""
    grants = Grants(database)
    async with database.transaction() as connection:
        rotation = await grants.rotate(connection, token, at, GRACE)
        if rotation.ended:
            return rotation, None
        return rotation, await grants.issue(connection, "refresh", LATER, grant_id=rotation.grant_id)


async def test_a_token_stands_for_its_user_and_grant(database: Database, grants: Grants, user: User) -> None:
    grant, token = await sign_in(database, user, "session")
    holder = await grants.holder(token, "session", NOW)
    assert holder is not None
    assert (holder.user_id, holder.username, holder.role, holder.grant_id) == (user.id, "ada", "member", grant)


async def test_a_token_is_good_for_its_purpose_only(database: Database, grants: Grants, user: User) -> None:
    _, session = await sign_in(database, user, "session")
    _, refresh = await sign_in(database, user, "refresh")
    assert await grants.holder(session, "access", NOW) is None
    assert await grants.holder(refresh, "access", NOW) is None
    assert await redeem(database, session, "ticket") is None


async def test_a_token_ends_at_its_time(database: Database, grants: Grants, user: User) -> None:
    _, token = await sign_in(database, user, "access", NOW + timedelta(hours=1))
    assert await grants.holder(token, "access", NOW + timedelta(minutes=59, seconds=59)) is not None
    assert await grants.holder(token, "access", NOW + timedelta(hours=1)) is None


async def test_the_database_never_holds_a_token(database: Database, user: User) -> None:
    _, token = await sign_in(database, user, "session")
    rows = await database.fetch("SELECT row_to_json(tokens)::text AS row FROM tokens")
    assert [token in row["row"] for row in rows] == [False]
    assert await database.fetch_value("SELECT count(*) FROM tokens WHERE sha256 = $1", sha256(token)) == 1


async def test_tokens_have_256_bits_and_differ(database: Database, user: User) -> None:
    tokens = {await issue(database, "reset", user) for _ in range(20)}
    assert len(tokens) == 20
    assert {len(token) for token in tokens} == {43}  # 256 bits in base64url


async def test_a_used_session_lives_on_and_is_noted_once_a_minute(
    database: Database, grants: Grants, user: User
) -> None:
    _, token = await sign_in(database, user, "session", NOW + timedelta(days=30))
    grant = (await grants.of_user(user.id, NOW))[0]

    soon = NOW + timedelta(seconds=59)
    await grants.touch(token, grant.id, soon, soon + timedelta(days=30))
    assert (await grants.of_user(user.id, NOW))[0].last_used_at == NOW

    then = NOW + timedelta(days=20)
    await grants.touch(token, grant.id, then, then + timedelta(days=30))
    assert (await grants.of_user(user.id, NOW))[0].last_used_at == then
    assert await grants.holder(token, "session", NOW + timedelta(days=49)) is not None
    assert await grants.holder(token, "session", NOW + timedelta(days=51)) is None


async def test_using_an_access_token_does_not_prolong_it(database: Database, grants: Grants, user: User) -> None:
    grant, token = await sign_in(database, user, "access", NOW + timedelta(hours=1))
    then = NOW + timedelta(minutes=50)
    await grants.touch(token, grant, then, then + timedelta(days=30))
    assert await grants.holder(token, "access", NOW + timedelta(hours=2)) is None


async def test_a_disabled_user_holds_nothing(database: Database, grants: Grants, user: User) -> None:
    grant, session = await sign_in(database, user, "session")
    async with database.transaction() as connection:
        ticket = await grants.issue(connection, "ticket", LATER, grant_id=grant)
        await Users(database).update(connection, user.id, "member", NOW)
    assert await grants.holder(session, "session", NOW) is None
    assert await grants.redeem_ticket(ticket, NOW) is None


async def test_ending_a_grant_ends_its_tokens(database: Database, grants: Grants, user: User) -> None:
    grant, session = await sign_in(database, user, "session")
    async with database.transaction() as connection:
        ticket = await grants.issue(connection, "ticket", LATER, grant_id=grant)
    assert await grants.end(user.id, grant)
    assert await grants.holder(session, "session", NOW) is None
    assert await grants.redeem_ticket(ticket, NOW) is None
    assert not await grants.end(user.id, grant)


async def test_nobody_ends_the_grant_of_another(database: Database, grants: Grants, user: User) -> None:
    grant, token = await sign_in(database, user, "session")
    stranger = await add_user(database, "bob")
    assert not await grants.end(stranger.id, grant)
    assert not await grants.end(user.id, "no id at all")
    assert not await grants.end(user.id, new_id())
    assert await grants.holder(token, "session", NOW) is not None


async def test_ending_all_but_one_spares_that_one_and_other_people(
    database: Database, grants: Grants, user: User
) -> None:
    kept, _ = await sign_in(database, user, "session")
    ended = {(await sign_in(database, user, "session"))[0] for _ in range(3)}
    _, of_another = await sign_in(database, await add_user(database, "bob"), "session")
    async with database.transaction() as connection:
        assert set(await grants.end_all(connection, user.id, but=kept)) == ended
    assert [grant.id for grant in await grants.of_user(user.id, NOW)] == [kept]
    assert await grants.holder(of_another, "session", NOW) is not None


async def test_a_one_time_token_works_once(database: Database, user: User) -> None:
    token = await issue(database, "reset", user)
    assert await redeem(database, token) == Redeemed("reset", user.id, None, None)
    assert await redeem(database, token) is None


async def test_of_many_at_once_one_redeems(database: Database, grants: Grants, user: User) -> None:
    token = await issue(database, "reset", user)
    found = await asyncio.gather(*(redeem(database, token) for _ in range(8)))
    assert len([one for one in found if one is not None]) == 1

    grant, _ = await sign_in(database, user, "session")
    async with database.transaction() as connection:
        ticket = await grants.issue(connection, "ticket", LATER, grant_id=grant)
    holders = await asyncio.gather(*(grants.redeem_ticket(ticket, NOW) for _ in range(8)))
    assert [one.grant_id for one in holders if one is not None] == [grant]


async def test_an_expired_one_time_token_is_worth_nothing(database: Database, grants: Grants, user: User) -> None:
    token = await issue(database, "reset", user, NOW + timedelta(hours=1))
    assert await redeem(database, token, at=NOW + timedelta(hours=1)) is None
    assert await grants.look_up(token, ["reset"], NOW + timedelta(hours=1)) is None
    assert await grants.look_up(token, ["reset"], NOW) is not None


async def test_looking_a_link_up_does_not_use_it(database: Database, grants: Grants, user: User) -> None:
    token = await issue(database, "reset", user)
    assert await grants.look_up(token, ["sign-in"], NOW) is None
    assert await grants.look_up(token, ["sign-in", "reset"], NOW) == Redeemed("reset", user.id, None, None)
    assert await redeem(database, token) is not None


async def test_dropped_links_lead_nowhere(database: Database, grants: Grants, user: User) -> None:
    reset, sign_in_link = await issue(database, "reset", user), await issue(database, "sign-in", user)
    of_another = await issue(database, "reset", await add_user(database, "bob"))
    async with database.transaction() as connection:
        await grants.drop_one_time(connection, user.id, ["reset"])
    assert await redeem(database, reset) is None
    assert await redeem(database, sign_in_link, "sign-in") is not None
    assert await redeem(database, of_another) is not None


async def test_refresh_tokens_rotate(database: Database, user: User) -> None:
    grant, token = await sign_in(database, user, "refresh")
    for day in range(3):
        rotation, token_or_none = await rotate(database, token, NOW + timedelta(days=day))
        assert rotation == Rotation(grant, ended=False)
        assert token_or_none is not None
        token = token_or_none


async def test_a_refresh_token_that_comes_back_ends_its_grant(database: Database, grants: Grants, user: User) -> None:
    grant, stolen = await sign_in(database, user, "refresh")
    _, successor = await rotate(database, stolen, NOW)
    assert successor is not None
    rotation, _ = await rotate(database, stolen, NOW + GRACE + timedelta(seconds=1))
    assert rotation == Rotation(grant, ended=True)
    with pytest.raises(Unauthenticated):
        await rotate(database, successor, NOW + timedelta(seconds=12))
    assert await grants.of_user(user.id, NOW) == []


async def test_an_answer_lost_on_its_way_may_be_asked_for_again(database: Database, user: User) -> None:
    _, token = await sign_in(database, user, "refresh")
    await rotate(database, token, NOW)
    await rotate(database, token, NOW + timedelta(seconds=2))
    rotation, successor = await rotate(database, token, NOW + timedelta(seconds=4))
    assert not rotation.ended
    assert successor is not None
    rotation, _ = await rotate(database, successor, NOW + timedelta(hours=1))
    assert not rotation.ended


async def test_what_the_lost_answer_held_ends_the_grant(database: Database, user: User) -> None:
    """A thief who was quick gets no second way in beside the owner's."""
    _, token = await sign_in(database, user, "refresh")
    _, spoiled = await rotate(database, token, NOW)
    assert spoiled is not None
    await rotate(database, token, NOW + timedelta(seconds=2))
    rotation, _ = await rotate(database, spoiled, NOW + timedelta(seconds=3))
    assert rotation.ended


async def test_only_the_latest_used_token_may_be_asked_for_again(database: Database, user: User) -> None:
    _, first = await sign_in(database, user, "refresh")
    _, second = await rotate(database, first, NOW)
    assert second is not None
    await rotate(database, second, NOW + timedelta(seconds=1))
    rotation, _ = await rotate(database, first, NOW + timedelta(seconds=2))
    assert rotation.ended


async def test_at_no_time_do_two_refresh_tokens_work(database: Database, user: User) -> None:
    _, token = await sign_in(database, user, "refresh")
    rotated = await asyncio.gather(*(rotate(database, token, NOW) for _ in range(6)))
    assert all(not rotation.ended for rotation, _ in rotated)
    unused = await database.fetch_value("SELECT count(*) FROM tokens WHERE purpose = 'refresh' AND used_at IS NULL")
    assert unused == 1


async def test_pruning_forgets_what_has_expired_and_names_the_grants(
    database: Database, grants: Grants, user: User
) -> None:
    ended, _ = await sign_in(database, user, "session", NOW + timedelta(days=1))
    kept, session = await sign_in(database, user, "session", NOW + timedelta(days=3))
    await issue(database, "reset", user, NOW + timedelta(days=1))
    assert await grants.prune(NOW + timedelta(days=2)) == [ended]
    assert await grants.holder(session, "session", NOW) is not None
    assert await database.fetch_value("SELECT count(*) FROM tokens") == 1
    assert await database.fetch_value("SELECT id FROM grants") == kept

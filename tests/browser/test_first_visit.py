"""Coming in: the first start's link, an account of one's own, and what is said to whom the door stays shut."""

import asyncio

from playwright.async_api import Locator, Route, expect

from tests.browser.conftest import Visit
from tests.browser.visitor import STRANGER, Visitor
from tests.running_studio import PASSWORD, RunningStudio
from tests.studio_process import StudioProcess


async def test_the_sign_in_link_lands_in_the_sample_room_and_offers_a_password(
    first_start: StudioProcess, visit: Visit
) -> None:
    admin = await visit("admin")
    await admin.page.goto(f"{first_start.url}/#sign-in={first_start.greeting.token}")

    await expect(admin.heading("Welcome")).to_be_visible()
    await expect(admin.message("This is a room")).to_be_visible()
    await expect(admin.page.locator("form")).to_have_count(0)
    assert str(first_start.greeting.token) not in admin.page.url

    await admin.button("Set a password").click()
    await admin.page.get_by_label("New password").fill(PASSWORD)
    await admin.button("Save").click()
    await expect(admin.page.get_by_text("Your password is saved.")).to_be_visible()
    await expect(admin.button("Set a password")).to_have_count(0)

    admin.announce(STRANGER)
    await admin.page.get_by_role("button", name="Sign out").first.click()
    await fill_in(admin, username="admin", password=PASSWORD)
    await admin.button("Sign in").click()
    await expect(admin.heading("Welcome")).to_be_visible()


async def test_a_used_link_says_so_and_lets_nobody_in(first_start: StudioProcess, visit: Visit) -> None:
    link = f"{first_start.url}/#sign-in={first_start.greeting.token}"
    first, second = await visit("first"), await visit("second")
    await first.page.goto(link)
    await expect(first.heading("Welcome")).to_be_visible()

    second.announce(r"status of 40[14]")
    await second.page.goto(link)
    await expect(second.page.get_by_text("This sign-in link does not work any more.")).to_be_visible()
    await expect(second.page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_registering_signing_out_and_signing_in_with_a_wrong_password(
    studio: RunningStudio, visit: Visit
) -> None:
    ada = await visit("Ada")
    ada.announce(STRANGER)
    await ada.page.goto(studio.url)
    await ada.button("Create an account").click()
    await fill_in(ada, username="Ada", password=PASSWORD)
    await ada.button("Create account").click()
    await expect(ada.button("Browse rooms").first).to_be_visible()

    await ada.page.get_by_role("button", name="Account and settings").click()
    await ada.page.get_by_role("button", name="Sign out").first.click()
    await expect(ada.page.get_by_role("heading", name="Sign in")).to_be_visible()
    await ada.page.reload()
    await fill_in(ada, username="Ada", password="not this one at all")
    await ada.button("Sign in").click()
    await expect(problem(ada)).to_have_text("Name and password do not match.")

    await fill_in(ada, username="Ada", password=PASSWORD)
    await ada.button("Sign in").click()
    await expect(ada.page.get_by_role("button", name="Account and settings")).to_be_visible()


async def test_a_weak_password_and_a_taken_name_are_refused_with_a_reason(studio: RunningStudio, visit: Visit) -> None:
    await studio.person("Ada")
    stranger = await visit("stranger")
    stranger.announce(r"status of 4(01|00|09|22)")
    await stranger.page.goto(studio.url)
    await stranger.button("Create an account").click()

    await fill_in(stranger, username="Bo", password="password123")
    await stranger.button("Create account").click()
    await expect(problem(stranger)).to_contain_text("anybody would guess")

    await fill_in(stranger, username="ada", password=PASSWORD)
    await stranger.button("Create account").click()
    await expect(problem(stranger)).to_contain_text("taken")


async def test_a_session_that_was_ended_elsewhere_says_so_and_offers_to_sign_in(
    studio: RunningStudio, visit: Visit
) -> None:
    person = await studio.person("Ada")
    await person.room("Kitchen")
    at_home, at_work = await visit("at_home"), await visit("at_work")
    for visitor in (at_home, at_work):
        await visitor.sign_in(person, studio.url)
        await expect(visitor.heading("Kitchen")).to_be_visible()

    at_home.announce(STRANGER)
    await at_work.page.get_by_role("button", name="Account and settings").click()
    others = at_work.page.get_by_role("dialog").get_by_role("listitem").filter(has_not_text="this one")
    await others.filter(has_not_text="Program").get_by_role("button", name="Sign out").click()

    await expect(at_home.page.get_by_text("Your session has ended. Please sign in again.")).to_be_visible()
    await fill_in(at_home, username="Ada", password=PASSWORD)
    await at_home.button("Sign in").click()
    await expect(at_home.heading("Kitchen")).to_be_visible()
    await expect(at_work.heading("Kitchen")).to_be_visible()


async def test_a_room_that_was_asked_for_before_the_list_is_there_opens(studio: RunningStudio, visit: Visit) -> None:
    person = await studio.person("Ada")
    room = await person.room("Kitchen")
    async with person.socket("/ws", room) as socket:
        await socket.say(room, "you found it")
    is_released = asyncio.Event()

    async def hold(route: Route) -> None:
        await is_released.wait()
        await route.continue_()

    ada = await visit("Ada")
    await ada.page.route("**/api/conversations?*", hold)
    await ada.context.route_web_socket("**/ws", lambda _: None)  # nothing is told there either
    async with ada.page.expect_request("**/api/conversations?*"):
        await ada.sign_in(person, studio.url)
    await ada.page.evaluate("(room) => { location.hash = `#/c/${room}`; }", room)
    is_released.set()
    await expect(ada.message("you found it")).to_be_visible()


async def fill_in(visitor: Visitor, *, username: str, password: str) -> None:
    await visitor.page.get_by_label("Username").fill(username)
    await visitor.page.get_by_label("Password").fill(password)


def problem(visitor: Visitor) -> Locator:
    return visitor.page.get_by_role("alert")

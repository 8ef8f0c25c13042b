"""Two people in private: how far a message has come, and wanting to hear nothing from somebody."""

import re

import pytest
from playwright.async_api import Locator, expect

from tests.browser.conftest import Visit
from tests.browser.visitor import Visitor
from tests.running_studio import Person, RunningStudio

Kitchen = tuple[Visitor, Visitor]


@pytest.fixture
async def people(studio: RunningStudio) -> tuple[Person, Person]:
    """Ada and Bo, who have a room and a private chat."""
    ada, bo = await studio.person("Ada"), await studio.person("Bo")
    await ada.room("Kitchen", members=[bo.id])
    await ada.call("POST", "/api/conversations", {"kind": "private", "members": [bo.id]}, expect=201)
    return ada, bo


@pytest.fixture
async def ada(people: tuple[Person, Person], studio: RunningStudio, visit: Visit) -> Visitor:
    """At her chat with Bo, who is not here yet."""
    visitor = await visit("Ada")
    await visitor.sign_in(people[0], studio.url)
    await visitor.open_room("Bo")
    return visitor


async def test_a_message_climbs_from_sent_over_delivered_to_read(
    ada: Visitor, people: tuple[Person, Person], studio: RunningStudio, visit: Visit
) -> None:
    await ada.say("Are you there?")
    await expect(rung(ada, "Are you there?")).to_have_text("Sent")

    bo = await visit("Bo")
    await bo.sign_in(people[1], studio.url)
    await bo.open_room("Kitchen")
    await expect(rung(ada, "Are you there?")).to_have_text("Delivered")
    await ada.say("And now?")
    await expect(rung(ada, "And now?")).to_have_text("Delivered")

    await bo.open_room("Ada")
    await expect(rung(ada, "Are you there?")).to_have_text("Read")
    await expect(rung(ada, "And now?")).to_have_text("Read")
    await ada.page.reload()
    await expect(rung(ada, "And now?")).to_have_text("Read")
    await expect(bo.messages.locator(".rung")).to_have_count(0)


async def test_what_is_read_at_one_device_is_read_at_the_other(
    ada: Visitor, people: tuple[Person, Person], studio: RunningStudio, visit: Visit
) -> None:
    desk, phone = await visit("Bo at the desk"), await visit("Bo with a phone")
    for device in (desk, phone):
        await device.sign_in(people[1], studio.url)
        await device.open_room("Kitchen")
    await ada.say("one")
    await ada.say("two")
    for device in (desk, phone):
        await expect(device.listed("Ada")).to_have_text(re.compile(r"Ada\s*,\s*2\s*unread"))
    await phone.open_room("Ada")
    await expect(desk.listed("Ada")).not_to_contain_text("unread")
    await expect(desk.page).to_have_title("Chat Studio")


async def test_nobody_reads_behind_the_back_of_a_window(kitchen: Kitchen) -> None:
    """Bo has the chat open in a window that he does not look at: delivered it is, read it is not."""
    ada, bo = kitchen
    await ada.open_room("Bo")
    await ada.say("first")
    await bo.open_room("Ada")
    await expect(rung(ada, "first")).to_have_text("Read")
    await bo.page.evaluate("document.hasFocus = () => false")
    await ada.say("second")
    await expect(bo.message("second")).to_be_visible()
    await expect(rung(ada, "second")).to_have_text("Delivered")
    await bo.page.evaluate("delete document.hasFocus; window.dispatchEvent(new Event('focus'))")
    await expect(rung(ada, "second")).to_have_text("Read")


async def test_a_room_tells_who_has_seen_a_message(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await bo.open_room("Garden")
    await ada.say("Soup is ready")
    await ada.use_tool(ada.message("Soup is ready"), "Seen by")
    readers = ada.page.get_by_role("group", name="Seen by")
    await expect(readers).to_contain_text("Seen by nobody else yet")
    await bo.open_room("Kitchen")
    await expect(readers).to_contain_text("Seen by everybody")
    await expect(readers.get_by_role("listitem")).to_have_text(re.compile("Bo"))
    await bo.message("Soup is ready").hover()
    await expect(bo.message("Soup is ready").get_by_role("button", name="Reply")).to_be_visible()
    await expect(bo.message("Soup is ready").get_by_role("button", name="Seen by")).to_have_count(0)


async def test_whoever_is_blocked_learns_why_and_loses_no_word(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await ada.open_room("Bo")
    await ada.say("hello")
    await bo.open_room("Ada")
    await ada.button("More").click()
    await ada.page.get_by_role("menuitem", name="Block Bo").click()
    await ada.page.get_by_role("dialog").get_by_role("button", name="Block", exact=True).click()
    await expect(ada.page.get_by_text("You have blocked Bo.")).to_be_visible()
    await expect(ada.composer).to_have_count(0)

    await bo.say("a long and careful apology")
    await expect(bo.pending).to_contain_text("a long and careful apology")
    await expect(bo.pending).to_contain_text("Not sent. You cannot write to this person.")
    await bo.page.reload()
    await expect(bo.pending).to_contain_text("Not sent. You cannot write to this person.")
    await expect(ada.message("apology")).to_have_count(0)

    await ada.page.reload()
    await ada.button("Unblock").click()
    await expect(ada.composer).to_be_visible()
    await bo.button("Try again").click()
    await expect(ada.message("a long and careful apology")).to_be_visible()
    await expect(bo.pending).to_have_count(0)


async def test_blocking_at_one_device_shows_at_the_other_and_in_the_account(
    ada: Visitor, people: tuple[Person, Person], studio: RunningStudio, visit: Visit
) -> None:
    phone = await visit("Ada with a phone")
    await phone.sign_in(people[0], studio.url)
    await phone.open_room("Bo")
    await ada.button("More").click()
    await ada.page.get_by_role("menuitem", name="Block Bo").click()
    await ada.page.get_by_role("dialog").get_by_role("button", name="Block", exact=True).click()
    await expect(phone.page.get_by_text("You have blocked Bo.")).to_be_visible()

    await phone.page.get_by_role("button", name="Account and settings").click()
    await phone.page.get_by_role("dialog").get_by_role("button", name="Unblock Bo").click()
    for device in (ada, phone):
        await expect(device.page.get_by_text("You have blocked Bo.")).to_have_count(0)


def rung(visitor: Visitor, text: str) -> Locator:
    """How far the message has come, as it is read out."""
    return visitor.message(text).locator(".rung")

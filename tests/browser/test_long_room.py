"""A room of two thousand messages: reading back keeps the place, and the page stays small."""

import asyncio
import re

import pytest
from playwright.async_api import Route, expect

from server.protocol.events import MessageCreated
from server.protocol.frames import Actor
from server.protocol.ids import new_id
from server.storage.message_log import Draft
from tests.browser.conftest import Visit
from tests.browser.visitor import Visitor
from tests.running_studio import RunningStudio

MESSAGES = 2_000
MOST_ROWS = 400  # what the client promises to keep at most
ALL_OLDER = "**/messages?before=*"

# The first row of which something is seen, and how far below the upper edge it begins.
TOP_ROW = """() => {
    const top = document.querySelector('.viewport').getBoundingClientRect().top;
    const rows = [...document.querySelectorAll('.viewport [data-message]')];
    const row = rows.find((one) => one.getBoundingClientRect().bottom > top);
    return [row.dataset.message, row.getBoundingClientRect().top - top];
}"""
OFFSET = """(row) =>
    row.getBoundingClientRect().top - document.querySelector('.viewport').getBoundingClientRect().top"""


@pytest.fixture
async def reader(studio: RunningStudio, visit: Visit) -> Visitor:
    """Ada, at the end of a room with a long past."""
    ada = await studio.person("Ada")
    room = await ada.room("Archive")
    texts = [f"line {number} of the past" + " and more" * (number % 40) for number in range(1, MESSAGES + 1)]
    actor = Actor("user", ada.id, ada.name)
    drafts = [Draft(room, actor, MessageCreated(id=new_id(), client_id=None, text=text)) for text in texts]
    await asyncio.gather(*(studio.parts.queue.append(draft) for draft in drafts))
    await ada.call("PUT", f"/api/conversations/{room}/read", {"seq": MESSAGES + 1})
    visitor = await visit("Ada")
    await visitor.sign_in(ada, studio.url)
    await expect(visitor.message(f"line {MESSAGES} of")).to_be_in_viewport()
    return visitor


async def test_a_page_that_comes_in_above_moves_nothing(reader: Visitor) -> None:
    is_released = asyncio.Event()

    async def hold(route: Route) -> None:
        await is_released.wait()
        await route.continue_()

    await reader.page.route(ALL_OLDER, hold)
    first = str(await reader.messages.first.get_attribute("data-message"))
    async with reader.page.expect_request(ALL_OLDER):
        await scroll_to_top(reader)
    row, offset = await reader.page.evaluate(TOP_ROW)
    assert row == first
    is_released.set()
    await expect(reader.messages.first).not_to_have_attribute("data-message", first)
    assert abs(await offset_of(reader, row) - offset) <= 1


async def test_all_of_the_past_can_be_read_and_the_newest_is_one_click_away(reader: Visitor) -> None:
    beginning = reader.page.get_by_text("This is the beginning.")
    most = 0
    while not await beginning.is_visible():
        first = await reader.messages.first.get_attribute("data-message")
        await scroll_to_top(reader)
        await expect(reader.messages.first.and_(reader.page.locator(f'[data-message="{first}"]'))).to_have_count(0)
        most = max(most, await reader.messages.count())
    await expect(reader.message("line 1 of")).to_be_visible()
    assert MOST_ROWS - 100 < most <= MOST_ROWS

    await reader.page.get_by_role("button", name="jump to the newest").click()
    await expect(reader.message(f"line {MESSAGES} of")).to_be_in_viewport()
    await expect(reader.page.get_by_role("button", name="jump to the newest")).to_have_count(0)
    await reader.say("and on it goes")
    await expect(reader.message("and on it goes")).to_be_in_viewport()
    assert await reader.messages.count() <= MOST_ROWS


async def test_a_reply_to_the_distant_past_shows_what_it_answers_and_leads_there(
    studio: RunningStudio, reader: Visitor
) -> None:
    [ada] = studio.people
    _, _, room = reader.page.url.rpartition("/")
    page = await ada.call("GET", f"/api/conversations/{room}/messages?after=0&limit=5")
    answered = page["messages"][2]
    async with ada.socket("/ws", room) as socket:
        await socket.say(room, "I remember", reply_to=answered["id"])
    quote = reader.message("I remember").get_by_role("button", name=re.compile(r"Ada line 3 of the past and more and"))
    await expect(quote).to_be_visible()
    await quote.click()
    await expect(reader.page.locator(f'[data-message="{answered["id"]}"]')).to_be_focused()
    await expect(reader.message("line 3 of")).to_be_in_viewport()


async def test_what_is_new_waits_below_for_who_reads_above(studio: RunningStudio, reader: Visitor) -> None:
    [ada] = studio.people
    _, _, room = reader.page.url.rpartition("/")
    await reader.page.mouse.move(700, 400)
    await reader.page.mouse.wheel(0, -700)
    await expect(reader.page.get_by_role("button", name="jump to the newest")).to_be_visible()
    row, offset = await reader.page.evaluate(TOP_ROW)
    async with ada.socket("/ws", room) as socket:
        await socket.say(room, "news from below")
    await expect(reader.message("news from below")).to_be_attached()
    await expect(reader.message("news from below")).not_to_be_in_viewport()
    assert abs(await offset_of(reader, row) - offset) <= 1
    await reader.page.get_by_role("button", name="jump to the newest").click()
    await expect(reader.message("news from below")).to_be_in_viewport()


async def scroll_to_top(visitor: Visitor) -> None:
    await visitor.page.locator(".viewport").evaluate("(viewport) => { viewport.scrollTop = 0; }")


async def offset_of(visitor: Visitor, row: str) -> float:
    found: float = await visitor.page.locator(f'[data-message="{row}"]').evaluate(OFFSET)
    return found

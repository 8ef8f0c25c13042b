"""On a phone: one screen at a time, everything within reach of a thumb."""

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Visit
from tests.browser.visitor import Visitor
from tests.running_studio import RunningStudio

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
LEAST_TARGET_PX = 40.0
WIDE = "```\n" + "a line of code that goes on and on " * 6 + "\n```\n\n" + "anunbrokenword" * 20


@pytest.fixture
async def ada(studio: RunningStudio, visit: Visit) -> Visitor:
    person = await studio.person("Ada")
    room = await person.room("Kitchen")
    async with person.socket("/ws", room) as socket:
        for text in (WIDE, "| a wide | table | of | many | columns | indeed |\n" + "|---" * 6 + "|", "short"):
            await socket.say(room, text)
    ada = await visit("Ada", **PHONE)
    await ada.sign_in(person, studio.url)
    await expect(ada.message("short")).to_be_visible()
    return ada


async def test_from_the_room_to_the_list_and_back(ada: Visitor) -> None:
    await expect(ada.conversations).not_to_be_visible()
    await ada.page.get_by_role("link", name="Back to the list").tap()
    await expect(ada.listed("Kitchen")).to_be_in_viewport()
    await expect(ada.composer).not_to_be_visible()
    assert await overhang_px(ada) == 0

    await ada.listed("Kitchen").tap()
    await expect(ada.message("short")).to_be_in_viewport()
    await expect(ada.conversations).not_to_be_visible()
    await ada.page.go_back()
    await expect(ada.listed("Kitchen")).to_be_in_viewport()


async def test_the_field_is_within_reach_and_nothing_hangs_over_the_side(ada: Visitor) -> None:
    await expect(ada.composer).to_be_in_viewport(ratio=1)
    await expect(ada.button("Send")).to_be_in_viewport(ratio=1)
    assert await overhang_px(ada) == 0
    await ada.composer.tap()
    await ada.composer.fill("from the train")
    await ada.button("Send").tap()
    await expect(ada.message("from the train")).to_be_in_viewport()
    # Below 16 px a phone zooms into the field and leaves the page askew.
    assert await ada.composer.evaluate("(field) => parseFloat(getComputedStyle(field).fontSize)") >= 16


async def test_a_tap_shows_tools_that_a_finger_hits(ada: Visitor) -> None:
    row = ada.message("short")
    await row.locator(".prose").tap()
    tools = row.get_by_role("toolbar").get_by_role("button")
    await expect(tools.first).to_be_visible()
    for tool in [*await tools.all(), ada.button("Send"), ada.page.get_by_role("link", name="Back to the list")]:
        box = await tool.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= LEAST_TARGET_PX, await tool.get_attribute("aria-label")
    await tools.first.tap()
    await ada.page.get_by_role("menuitem", name="coffee").tap()
    await expect(row.get_by_role("button", name="☕")).to_be_visible()
    assert await overhang_px(ada) == 0


async def overhang_px(visitor: Visitor) -> int:
    """By how much the page, or the list of messages, can be pushed sideways."""
    found: int = await visitor.page.evaluate("""() => Math.max(
        ...[document.scrollingElement, ...document.querySelectorAll('.viewport, nav')].map(
            (box) => box.scrollWidth - box.clientWidth,
        ),
    )""")
    return found

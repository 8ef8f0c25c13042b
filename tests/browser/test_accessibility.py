"""For every eye and for screen readers: the rules of axe-core, and both colour schemes."""

from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import expect

from server.app import WEB_DIST
from tests.browser.conftest import Visit
from tests.browser.visitor import STRANGER, Visitor
from tests.running_studio import RunningStudio

AXE = WEB_DIST.parent / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = {"serious", "critical"}
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3: text of ordinary size
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

Scheme = Literal["light", "dark"]
schemes = pytest.mark.parametrize("scheme", ["light", "dark"])


@schemes
async def test_the_door_breaks_no_serious_rule(studio: RunningStudio, visit: Visit, scheme: Scheme) -> None:
    stranger = await visit("stranger", color_scheme=scheme)
    stranger.announce(STRANGER)
    await stranger.page.goto(studio.url)
    await expect(stranger.page.get_by_label("Password")).to_be_visible()
    assert await serious_faults(stranger) == []


@schemes
async def test_a_lively_room_and_its_dialogs_break_no_serious_rule(
    studio: RunningStudio, visit: Visit, scheme: Scheme
) -> None:
    ada = await lively_room(studio, visit, scheme)
    await ada.button("Members").click()
    await expect(ada.page.get_by_role("complementary", name="Members")).to_contain_text("online")
    await ada.messages.first.hover()
    assert await serious_faults(ada) == []
    for opener in ("Account and settings", "New room", "Browse rooms", "Search"):
        await ada.page.get_by_role("button", name=opener).first.click()
        await expect(ada.page.get_by_role("dialog")).to_be_visible()
        assert await serious_faults(ada) == [], opener
        await ada.page.keyboard.press("Escape")
        await expect(ada.page.get_by_role("dialog")).to_have_count(0)


@schemes
async def test_a_private_chat_breaks_no_serious_rule_while_it_lives_or_is_blocked(
    kitchen: tuple[Visitor, Visitor], scheme: Scheme
) -> None:
    ada, bo = kitchen
    for visitor in kitchen:
        await visitor.page.emulate_media(color_scheme=scheme)
    await ada.open_room("Bo")
    await ada.say("read by now")
    await bo.open_room("Ada")
    await expect(ada.message("read by now").get_by_title("Read")).to_be_visible()
    await bo.open_room("Kitchen")
    await ada.say("delivered and no more")
    await expect(ada.message("delivered and no more").get_by_title("Delivered")).to_be_visible()
    assert await serious_faults(ada) == []
    await ada.button("More").click()
    await ada.page.get_by_role("menuitem", name="Block Bo").click()
    assert await serious_faults(ada) == []
    await ada.page.get_by_role("dialog").get_by_role("button", name="Block", exact=True).click()
    await expect(ada.button("Unblock")).to_be_visible()
    assert await serious_faults(ada) == []


@schemes
async def test_text_stands_out_from_its_ground(studio: RunningStudio, visit: Visit, scheme: Scheme) -> None:
    ada = await lively_room(studio, visit, scheme)
    ground = await colour(ada, "body", "backgroundColor")
    assert (luminance(ground) > 0.5) == (scheme == "light")
    texts = ["body", "[data-message] .prose", "[data-message] time", "#composer", ".typing", ".browse", "nav h2"]
    for text in texts:
        found = contrast(await colour(ada, text, "color"), ground)
        assert found >= LEAST_CONTRAST, f"{text}: {found:.2f}"


async def test_a_chosen_scheme_overrides_the_system_and_lasts(studio: RunningStudio, visit: Visit) -> None:
    ada = await lively_room(studio, visit, "light")
    await ada.page.get_by_role("button", name="Account and settings").click()
    await ada.page.get_by_text("Dark", exact=True).click()
    await ada.page.reload()
    await expect(ada.composer).to_be_visible()
    assert luminance(await colour(ada, "body", "backgroundColor")) < 0.5


async def lively_room(studio: RunningStudio, visit: Visit, scheme: Scheme) -> Visitor:
    """Ada in a room with everything that a message can hold, and another one with something unread."""
    person, bo = await studio.person("Ada"), await studio.person("Bo")
    kitchen = await person.room("Kitchen", members=[bo.id])
    garden = await person.room("Garden", members=[bo.id])
    async with bo.socket("/ws", kitchen, garden) as socket:
        text = "# Soup\n\nFor @Ada: *slowly* `stir`, see [the book](https://example.org/)\n\n> said the cook\n\n"
        said = await socket.say(kitchen, text + "```python\nstir()\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |")
        await socket.ask("react", conversation=kitchen, message=said["message"], emoji="🎉", on=True)
        await socket.say(kitchen, "not that one", reply_to=said["message"])
        gone = await socket.say(kitchen, "to be deleted")
        await socket.ask("delete", conversation=kitchen, message=gone["message"])
        await socket.say(garden, "unread")
    ada = await visit("Ada", color_scheme=scheme, reduced_motion="reduce")
    await ada.sign_in(person, studio.url)
    await ada.open_room("Kitchen")
    await expect(ada.messages).to_have_count(3)
    return ada


async def serious_faults(visitor: Visitor) -> list[str]:
    assert AXE.is_file(), f"{AXE} is missing: run `make web`"
    await visitor.page.evaluate(axe_source(AXE))
    found: dict[str, Any] = await visitor.page.evaluate("(tags) => axe.run({ runOnly: tags })", RULES)
    assert found["passes"], "axe looked at nothing"
    return [
        f"{fault['id']}: {node['html'][:160]} {node['failureSummary']}"
        for fault in found["violations"]
        if fault["impact"] in SERIOUS
        for node in fault["nodes"]
    ]


def axe_source(path: Path) -> str:
    return f"() => {{ {path.read_text()} }}"


# Colours, by the formulas of WCAG

Colour = tuple[float, float, float]


async def colour(visitor: Visitor, selector: str, which: str) -> Colour:
    """As drawn: whatever notation the style has, a canvas knows it in bytes."""
    red, green, blue = await visitor.page.locator(selector).first.evaluate(
        """(node, which) => {
            const canvas = document.createElement('canvas').getContext('2d');
            canvas.fillStyle = getComputedStyle(node)[which];
            canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
        }""",
        which,
    )
    return red, green, blue


def luminance(colour: Colour) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (one / 255 for one in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Colour, other: Colour) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)

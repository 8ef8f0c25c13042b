"""Without a mouse: everything is reached, and one always sees where one is."""

from typing import TypedDict

from playwright.async_api import FloatRect, expect

from tests.browser.conftest import DESK, Visit
from tests.browser.visitor import STRANGER, Visitor
from tests.running_studio import RunningStudio

AROUND_PX = 7  # a ring stands outside of what it surrounds
MOST_STOPS = 60
HELD = "const held = document.activeElement;"


class Held(TypedDict):
    """What holds the focus: its name, and where it stands."""

    name: str
    box: FloatRect


async def test_from_signing_in_to_sending_and_reacting(studio: RunningStudio, visit: Visit) -> None:
    person = await studio.person("Ada")
    await person.room("Kitchen")
    ada = await visit("Ada")
    ada.announce(STRANGER)
    keys = ada.page.keyboard
    await ada.page.goto(studio.url)

    await expect(ada.page.get_by_label("Username")).to_be_focused()
    await keys.type("Ada")
    await keys.press("Tab")
    await keys.type(person.password)
    await keys.press("Enter")
    await expect(ada.composer).to_be_focused()
    await keys.type("hello keys")
    await keys.press("Enter")
    await expect(ada.message("hello keys")).to_be_visible()

    await go_back_to(ada, "Messages, arrow keys walk through them")
    await keys.press("ArrowUp")
    await expect(ada.message("hello keys")).to_be_focused()
    await keys.press("Tab")
    await expect(ada.button("React")).to_be_focused()
    await keys.press("Enter")
    await expect(ada.page.get_by_role("menuitem", name="thumbs up")).to_be_focused()
    await keys.press("ArrowRight")
    await keys.press("Enter")
    await expect(ada.message("hello keys").get_by_role("button", name="❤️")).to_be_visible()
    await expect(ada.button("React")).to_be_focused()

    await keys.press("Tab")
    await keys.press("Enter")  # Reply
    await expect(ada.composer).to_be_focused()
    await keys.type("hello yourself")
    await keys.press("Enter")
    await expect(ada.messages).to_have_count(2)


async def test_the_focus_is_always_seen_and_leads_everywhere(kitchen: tuple[Visitor, Visitor]) -> None:
    ada, _ = kitchen
    await ada.say("a message with [a link](https://example.org/)")
    await expect(ada.messages).to_have_count(1)
    await ada.page.mouse.move(0, 0)
    await ada.page.get_by_role("link", name="Skip to the message field").focus()
    reached: list[str] = []
    while (held := await what_is_held(ada)) and len(reached) < MOST_STOPS:
        reached.append(held["name"])
        assert await focus_is_seen(ada, held["box"]), f"nobody sees that {held['name']!r} holds the focus"
        await ada.page.keyboard.press("Tab")
    wanted = ["Skip to the message field", "Search", "New room", "Kitchen", "Garden", "Browse rooms", "Members", "More"]
    wanted += ["New private chat", "Bo", "Account and settings", "a link", "Message", "People only"]
    missing = [name for name in wanted if not any(name in one for one in reached)]
    assert not missing, reached


async def test_escape_closes_a_dialog_and_gives_the_focus_back(kitchen: tuple[Visitor, Visitor]) -> None:
    ada, _ = kitchen
    await ada.button("Search").focus()
    await ada.page.keyboard.press("Enter")
    await expect(ada.page.get_by_role("dialog")).to_be_visible()
    await ada.page.keyboard.press("Escape")
    await expect(ada.page.get_by_role("dialog")).to_have_count(0)
    await expect(ada.button("Search")).to_be_focused()


async def go_back_to(visitor: Visitor, name: str) -> None:
    for _ in range(MOST_STOPS):
        await visitor.page.keyboard.press("Shift+Tab")
        held = await what_is_held(visitor)
        if held and held["name"] == name:
            return
    raise AssertionError(f"Shift+Tab never came to {name!r}")


async def what_is_held(visitor: Visitor) -> Held | None:
    """None when the page itself has it, which is the end of the walk."""
    held: Held | None = await visitor.page.evaluate(f"""() => {{
        {HELD}
        if (!held || held === document.body) return null;
        const {{ x, y, width, height }} = held.getBoundingClientRect();
        const name = held.ariaLabel || held.textContent.trim() || held.placeholder || held.tagName;
        return {{ name, box: {{ x, y, width, height }} }};
    }}""")
    return held


async def focus_is_seen(visitor: Visitor, box: FloatRect) -> bool:
    """The pixels around it are others than without the focus; the caret does not count."""
    left, top = max(0, box["x"] - AROUND_PX), max(0, box["y"] - AROUND_PX)
    right = min(DESK["width"], box["x"] + box["width"] + AROUND_PX)
    bottom = min(DESK["height"], box["y"] + box["height"] + AROUND_PX)
    clip: FloatRect = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    seen = await visitor.page.screenshot(clip=clip, animations="disabled")
    await visitor.page.evaluate(f"() => {{ {HELD} window.held = held; held.blur(); }}")
    unseen = await visitor.page.screenshot(clip=clip, animations="disabled")
    await visitor.page.evaluate("window.held.focus()")
    return seen != unseen

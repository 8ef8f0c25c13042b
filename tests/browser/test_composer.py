"""The field where messages are written: which key sends, and which never does."""

from playwright.async_api import CDPSession, expect

from tests.browser.visitor import Visitor

Kitchen = tuple[Visitor, Visitor]

ENTER = 13
IN_COMPOSITION = 229  # the code by which browsers mark a key that an input method took


async def test_enter_sends_and_shift_enter_breaks_the_line(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await ada.composer.press_sequentially("milk")
    await ada.composer.press("Shift+Enter")
    await ada.composer.press_sequentially("bread")
    await expect(ada.composer).to_have_value("milk\nbread")
    await ada.composer.press("Enter")
    await expect(ada.composer).to_have_value("")
    await expect(bo.messages).to_have_count(1)
    text = bo.messages.locator(".prose")
    assert (await text.inner_text()).split("\n") == ["milk", "bread"]


async def test_nothing_is_sent_that_is_empty(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await ada.composer.press("Enter")
    await ada.composer.fill("  \n ")
    await ada.composer.press("Enter")
    await expect(ada.button("Send")).to_be_disabled()
    await ada.say("something")
    await expect(bo.message("something")).to_be_visible()
    await expect(bo.messages).to_have_count(1)


async def test_enter_that_belongs_to_an_input_method_never_sends(kitchen: Kitchen) -> None:
    """Japanese is written in pieces, each of which Enter confirms."""
    ada, bo = kitchen
    keyboard = await ada.context.new_cdp_session(ada.page)
    await ada.composer.focus()
    await note_composing_keys(ada)

    await keyboard.send("Input.imeSetComposition", {"text": "にほんご", "selectionStart": 4, "selectionEnd": 4})
    await press_enter(keyboard, ENTER)
    await keyboard.send("Input.insertText", {"text": "日本語"})
    await expect(ada.composer).to_have_value("日本語")
    await press_enter(keyboard, IN_COMPOSITION)  # Safari ends the composition before it tells of the key
    await expect(ada.composer).to_have_value("日本語")
    assert await ada.page.evaluate("window.composingKeys") == ["Enter composing", "Enter 229"]

    await press_enter(keyboard, ENTER)
    await expect(bo.message("日本語")).to_be_visible()
    await expect(bo.messages).to_have_count(1)


async def test_a_name_is_completed_from_the_list(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await ada.composer.press_sequentially("Thank you @b")
    await expect(ada.page.get_by_role("option", name="Bo")).to_be_visible()
    await ada.composer.press("Enter")
    await expect(ada.composer).to_have_value("Thank you @Bo ")
    await ada.composer.press("Enter")
    await expect(bo.page.locator(".mention-me")).to_have_text("@Bo")


async def note_composing_keys(visitor: Visitor) -> None:
    """Proof that the browser took the keys for what the test means by them."""
    await visitor.page.evaluate("""() => {
        window.composingKeys = [];
        document.addEventListener('keydown', ({ key, isComposing, keyCode }) => {
            if (isComposing) window.composingKeys.push(`${key} composing`);
            else if (keyCode === 229) window.composingKeys.push(`${key} 229`);
        }, true);
    }""")


async def press_enter(keyboard: CDPSession, code: int) -> None:
    key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": code}
    await keyboard.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **key})
    await keyboard.send("Input.dispatchKeyEvent", {"type": "keyUp", **key})

"""What an owner may set in a room, and the end of an account."""

import re

from playwright.async_api import expect

from tests.browser.visitor import OFFLINE, STRANGER, Visitor
from tests.running_studio import PASSWORD

Kitchen = tuple[Visitor, Visitor]


async def test_a_room_is_renamed_opened_and_told_how_long_to_remember(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await choose(ada, "Settings")
    await ada.page.get_by_label("Name").fill("Pantry")
    await ada.page.get_by_label("Who may come in").select_option("Everyone in the studio")
    await ada.page.get_by_label("Messages are kept").select_option("30 days")
    await expect(ada.page.get_by_text("Messages older than 30 days go")).to_be_visible()
    await ada.button("Save").click()
    for visitor in kitchen:
        await expect(visitor.heading("Pantry")).to_be_visible()
        await expect(visitor.page.locator("main header")).to_contain_text("Public")

    await choose(ada, "Settings")
    await expect(ada.page.get_by_label("Messages are kept")).to_have_value("30")
    await bo.button("More").click()
    await expect(bo.page.get_by_role("menuitem", name="Leave")).to_be_visible()
    await expect(bo.page.get_by_role("menuitem", name=re.compile("Settings|Webhooks"))).to_have_count(0)


async def test_the_secret_of_a_webhook_is_shown_once(kitchen: Kitchen) -> None:
    ada, _ = kitchen
    await choose(ada, "Webhooks")
    await expect(ada.page.get_by_text("No program is told")).to_be_visible()
    await ada.page.get_by_label("Address").fill("https://hooks.invalid/kitchen")
    await ada.page.get_by_label("What is told").select_option("New messages")
    await ada.button("Add").click()
    await expect(ada.page.get_by_label("Secret")).to_have_value(re.compile(r"\S{20,}"))
    await ada.button("Test").click()
    await expect(ada.page.get_by_text("It failed:")).to_be_visible()
    await ada.page.keyboard.press("Escape")

    await choose(ada, "Webhooks")
    hooks = ada.page.get_by_role("list", name="Webhooks").get_by_role("listitem")
    await expect(hooks).to_contain_text("https://hooks.invalid/kitchen")
    await expect(ada.page.get_by_label("Secret")).to_have_count(0)
    await ada.button("Delete the webhook to https://hooks.invalid/kitchen").click()
    await ada.page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    await expect(ada.page.get_by_text("No program is told")).to_be_visible()


async def test_an_account_is_erased_with_its_messages(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await bo.say("forget that I said this")
    await expect(ada.message("forget that I said this")).to_be_visible()
    for visitor in kitchen:
        visitor.announce(STRANGER)
        visitor.announce(OFFLINE)
    bo.announce(r"status of 422.*/api/auth/me")

    await bo.page.get_by_role("button", name="Account and settings").click()
    await bo.page.get_by_text("Erase this account").click()
    await bo.page.get_by_label("Erase my messages").check()
    field = bo.page.get_by_label("Password to erase the account")
    for password in ("not my password", PASSWORD):
        await field.fill(password)
        await bo.button("Erase my account…").click()
        await bo.button("Erase my account").click()
        if password != PASSWORD:
            await expect(bo.page.get_by_text("The current password is wrong.")).to_be_visible()
    await expect(bo.page.get_by_text("Your account is erased.")).to_be_visible()
    await expect(ada.message("forget that I said this")).to_have_count(0)


async def choose(visitor: Visitor, item: str) -> None:
    """From the menu of the conversation."""
    await visitor.button("More").click()
    await visitor.page.get_by_role("menuitem", name=item).click()

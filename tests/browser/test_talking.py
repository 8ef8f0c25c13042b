"""Two people in one room: what one of them does, the other one sees."""

import re

from playwright.async_api import expect

from tests.browser.visitor import Visitor

Kitchen = tuple[Visitor, Visitor]


async def test_a_message_appears_at_the_other_and_is_answered(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await ada.say("Is there any coffee left?")
    seen = bo.message("Is there any coffee left?")
    await expect(seen).to_be_visible()
    await expect(seen).to_contain_text("Ada")

    await bo.say("A whole pot of it.")
    await expect(ada.message("A whole pot of it.")).to_be_visible()
    for visitor in kitchen:
        await expect(visitor.messages).to_have_count(2)
        await expect(visitor.pending).to_have_count(0)


async def test_typing_shows_and_ends_with_the_message(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await ada.composer.press_sequentially("Well")
    await expect(bo.page.get_by_text("Ada is typing…")).to_be_visible()
    await expect(ada.page.get_by_text("is typing…")).to_have_count(0)
    await ada.composer.press("Enter")
    await expect(bo.message("Well")).to_be_visible()
    await expect(bo.page.get_by_text("Ada is typing…")).to_have_count(0)


async def test_presence_shows_who_is_here(kitchen: Kitchen) -> None:
    ada, _ = kitchen
    await ada.button("Members").click()
    members = ada.page.get_by_role("complementary", name="Members")
    await expect(members.get_by_role("listitem").filter(has_text="Bo")).to_contain_text("online")
    await expect(members).to_contain_text("2 of 2 online")
    await ada.open_room("Bo")
    await expect(ada.page.locator("main header")).to_contain_text("online")


async def test_who_looks_elsewhere_sees_a_count_which_goes_with_reading(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await bo.open_room("Garden")
    for text in ("one", "two", "three"):
        await ada.say(text)
    await expect(bo.listed("Kitchen")).to_have_text(re.compile(r"Kitchen\s*,\s*3\s*unread"))
    await expect(bo.page).to_have_title("(3) Chat Studio")
    await expect(bo.listed("Garden")).not_to_contain_text("unread")

    await bo.open_room("Kitchen")
    await expect(bo.page.get_by_text("New", exact=True)).to_be_visible()
    await expect(bo.listed("Kitchen")).not_to_contain_text("unread")
    await bo.page.reload()
    await expect(bo.message("three")).to_be_visible()
    await expect(bo.page).to_have_title("Chat Studio")


async def test_a_reaction_is_seen_counted_and_taken_back(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await ada.say("Cake at four")
    await bo.use_tool(bo.message("Cake at four"), "React")
    await bo.page.get_by_role("menuitem", name="party").click()
    reaction = ada.message("Cake at four").get_by_role("button", name="🎉")
    await expect(reaction).to_have_text(re.compile(r"🎉\s*1\s*from Bo"))

    await reaction.click()
    of_bo = bo.message("Cake at four").get_by_role("button", name="🎉")
    await expect(of_bo).to_have_text(re.compile(r"🎉\s*2"))
    await of_bo.click()
    await expect(reaction).to_have_text(re.compile(r"🎉\s*1\s*from you"))


async def test_an_edit_replaces_the_text_and_says_so(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await ada.say("See you at noone")
    await expect(bo.message("See you at noone")).to_be_visible()
    await ada.composer.press("ArrowUp")
    await ada.page.get_by_role("textbox", name="Edit message").fill("See you at noon")
    await ada.page.keyboard.press("Enter")
    for visitor in kitchen:
        await expect(visitor.messages.get_by_text("See you at noon", exact=True)).to_be_visible()
        await expect(visitor.message("See you at noon")).to_contain_text("edited")
    await expect(bo.messages.get_by_text("noone")).to_have_count(0)


async def test_a_deleted_text_is_gone_at_the_other_too(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await ada.say("my secret is 4711")
    await expect(bo.message("my secret is 4711")).to_be_visible()
    await ada.use_tool(ada.message("my secret is 4711"), "Delete")
    await ada.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    for visitor in kitchen:
        await expect(visitor.message("This message was deleted.")).to_be_visible()
        await expect(visitor.messages.get_by_text("4711")).to_have_count(0)
    await bo.page.reload()
    await expect(bo.message("This message was deleted.")).to_be_visible()
    assert "4711" not in await bo.page.content()


async def test_a_reply_quotes_what_it_answers(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await ada.say("Who waters the tomatoes?")
    await ada.say("And who feeds the cat?")
    await bo.use_tool(bo.message("Who waters the tomatoes?"), "Reply")
    await expect(bo.page.get_by_text("Reply to Ada · Who waters the tomatoes?")).to_be_visible()
    await bo.say("I do")
    quote = ada.message("I do").get_by_role("button", name="Who waters the tomatoes?")
    await expect(quote).to_be_visible()
    await quote.click()
    await expect(ada.messages.first).to_be_focused()

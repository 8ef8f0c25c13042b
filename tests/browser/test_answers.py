"""Answers of models: everybody sees the words arrive, and everybody may stop them."""

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Locator, expect

from server.ai.adapter import Request
from server.ai.scripted import ScriptedModel
from server.storage.database import Database
from tests.browser.visitor import Visitor
from tests.running_studio import RunningStudio, run_studio

Kitchen = tuple[Visitor, Visitor]

WORDS = 2_000  # a minute of answer, which no test waits for
SHORT = "short"


def count_up(request: Request) -> str:
    asked = request.turns[-1].text
    return "**Done** in a moment." if SHORT in asked else " ".join(f"w{number}" for number in range(WORDS))


@pytest.fixture
async def studio(database: Database) -> AsyncIterator[RunningStudio]:
    """One whose demo model takes its time."""
    async with run_studio(database, models=[ScriptedModel(script=count_up, pace_s=0.03)]) as running:
        yield running


async def test_an_answer_grows_at_both_until_the_other_one_stops_it(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await ada.say("@demo please count")
    answers = [answer_at(visitor) for visitor in kitchen]
    for answer in answers:
        await expect(answer).to_contain_text("w3")
        await grows(answer)

    await bo.button("Stop").click()
    for visitor, answer in zip(kitchen, answers, strict=True):
        await expect(answer).to_contain_text("Stopped here.")
        await expect(visitor.button("Stop")).to_have_count(0)
    told = [await words_of(answer) for answer in answers]
    assert told[0] == told[1]
    assert 3 < len(told[0]) < WORDS

    await bo.page.reload()
    await expect(answers[1]).to_contain_text("Stopped here.")
    assert await words_of(answers[1]) == told[0]


async def test_an_answer_is_steered_and_goes_on_as_another(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await ada.say("@demo please count")
    await expect(answer_at(bo)).to_contain_text("w3")
    await bo.button("Steer").click()
    await bo.page.get_by_label("Steer the answer").fill("only even numbers")
    await bo.page.keyboard.press("Enter")
    for visitor in kitchen:
        await expect(answer_at(visitor)).to_have_count(2)
        await expect(answer_at(visitor).first).to_contain_text("Stopped here.")
        await expect(answer_at(visitor).last).to_contain_text("w3")
    await ada.button("Stop").click()
    await expect(answer_at(ada).last).to_contain_text("Stopped here.")


async def test_a_finished_answer_is_set_as_markdown_and_may_be_reacted_to(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await ada.say(f"@demo something {SHORT}")
    for visitor in kitchen:
        await expect(answer_at(visitor).locator("strong", has_text="Done")).to_be_visible()
        await expect(visitor.button("Stop")).to_have_count(0)
    await ada.use_tool(answer_at(ada), "React")
    await ada.page.get_by_role("menuitem", name="thumbs up").click()
    await expect(answer_at(bo).get_by_role("button", name="👍")).to_be_visible()


async def test_who_comes_in_the_middle_of_an_answer_sees_all_of_it(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await ada.say("@demo please count")
    await expect(answer_at(ada)).to_contain_text("w20")
    await bo.page.reload()
    await expect(answer_at(bo)).to_contain_text("w30")
    words = await words_of(answer_at(bo))
    assert words == [f"w{number}" for number in range(len(words))]
    await grows(answer_at(bo))
    await ada.button("Stop").click()
    await expect(answer_at(bo)).to_contain_text("Stopped here.")


def answer_at(visitor: Visitor) -> Locator:
    return visitor.messages.filter(has=visitor.page.get_by_text("model", exact=True))


async def grows(answer: Locator) -> None:
    """It is longer than it was."""
    last = (await words_of(answer))[-1]
    await expect(answer).to_contain_text(f"w{int(last[1:]) + 5}")


async def words_of(answer: Locator) -> list[str]:
    return re.findall(r"\bw\d+\b", await answer.locator(".prose").inner_text())

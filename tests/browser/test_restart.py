"""Workers are replaced while people talk: nobody sees a break, and nothing is lost, doubled or moved."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import expect

from server.ai.scripted import ScriptedModel
from server.protocol.frames import Drain
from server.storage.database import Database
from tests.browser.conftest import Visit
from tests.browser.test_answers import answer_at, count_up, grows, words_of
from tests.browser.test_outage import register, stored
from tests.browser.visitor import OFFLINE, Visitor
from tests.running_studio import RunningStudio, run_studio
from tests.studio_process import StudioProcess

ROUNDS = 4
DRAFT = "a thought that is not finished"

# What was seen, however shortly: whatever the banner said, and whether the composer was ever taken away.
WATCH = """() => {
    const composer = document.getElementById('composer');
    window.seen = { said: [], isSame: () => document.getElementById('composer') === composer };
    new MutationObserver(() => {
        const banner = document.querySelector('main [role=status]')?.textContent.trim();
        if (banner) window.seen.said.push(banner);
        if (document.body.textContent.includes('sent as soon as')) window.seen.said.push('a message waits');
        if (document.querySelector('.notice')) window.seen.said.push(document.querySelector('.notice').textContent);
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""
SELECTED = """() => {
    const field = document.getElementById('composer');
    return [field.value, field.selectionStart, field.selectionEnd, document.activeElement === field];
}"""


@pytest.fixture
async def studio(database: Database) -> AsyncIterator[RunningStudio]:
    """One whose demo model takes its time."""
    async with run_studio(database, models=[ScriptedModel(script=count_up, pace_s=0.03)]) as running:
        yield running


@asynccontextmanager
async def unseen(*visitors: Visitor) -> AsyncIterator[None]:
    """Nothing in here may be seen of a connection that comes and goes."""
    for visitor in visitors:
        await visitor.page.evaluate(WATCH)
    yield
    for visitor in visitors:
        assert await visitor.page.evaluate("window.seen.said") == []
        assert await visitor.page.evaluate("window.seen.isSame()")


async def replace_worker(studio: RunningStudio, slot_ms: int = 400) -> None:
    """As seen from outside: all are told when to come back, and a moment later the sockets close."""
    connections = studio.parts.hub.connections()
    for connection in connections:
        connection.tell(Drain(reconnect_in_ms=slot_ms))
    await asyncio.sleep(0.1)
    for connection in connections:
        connection.end(1012, "this worker is replaced")


async def test_two_people_talk_through_restarts_and_see_nothing_of_them(
    kitchen: tuple[Visitor, Visitor], studio: RunningStudio
) -> None:
    ada, bo = kitchen
    said = [f"round {number} from {visitor.name}" for number in range(ROUNDS) for visitor in kitchen]
    async with unseen(ada, bo):
        for number in range(ROUNDS):
            await ada.say(f"round {number} from Ada")
            await replace_worker(studio)
            await bo.say(f"round {number} from Bo")  # into the gap
            for visitor in kitchen:
                await expect(visitor.message(f"round {number} from Bo")).to_be_visible()
        for visitor in kitchen:
            await expect(visitor.messages).to_have_count(len(said))
            await expect(visitor.pending).to_have_count(0)
    for visitor in kitchen:
        texts = await visitor.messages.locator(".prose").all_inner_texts()
        assert sorted(texts) == sorted(said)
    assert [await stored(ada, text) for text in said] == [1] * len(said)


async def test_draft_selection_focus_and_place_stay_where_they_were(
    kitchen: tuple[Visitor, Visitor], studio: RunningStudio
) -> None:
    ada, bo = kitchen
    await ada.say("\n\n".join(f"line {number}" for number in range(80)))
    await ada.say("the newest")
    await expect(bo.message("the newest")).to_be_visible()
    await bo.composer.fill(DRAFT)
    await bo.composer.evaluate("(field) => field.setSelectionRange(2, 9)")
    await bo.page.mouse.move(700, 300)
    await bo.page.mouse.wheel(0, -900)
    await expect(bo.page.get_by_role("button", name="jump to the newest")).to_be_visible()
    top = await bo.page.locator(".viewport").evaluate("(viewport) => viewport.scrollTop")
    async with unseen(bo):
        await replace_worker(studio)
        await ada.say("said after the restart")
        await expect(bo.message("said after the restart")).to_be_attached()
        assert await bo.page.evaluate(SELECTED) == [DRAFT, 2, 9, True]
        assert abs(await bo.page.locator(".viewport").evaluate("(viewport) => viewport.scrollTop") - top) <= 1


async def test_a_reset_moves_nobody_who_reads_above(kitchen: tuple[Visitor, Visitor], studio: RunningStudio) -> None:
    """As after a restored backup nobody can tell what was missed: the page is read anew, around what is looked at."""
    ada, bo = kitchen
    for number in range(12):
        await ada.say(f"paragraph {number}\n\n" + "more of it\n\n" * 8)
    await expect(bo.message("paragraph 11")).to_be_visible()
    await bo.page.mouse.move(700, 300)
    await bo.page.mouse.wheel(0, -1500)
    await expect(bo.page.get_by_role("button", name="jump to the newest")).to_be_visible()
    row = bo.messages.filter(has_text=re.compile("paragraph 7"))
    before = await row.bounding_box()
    _, _, room = bo.page.url.rpartition("/")
    async with bo.page.expect_response("**/messages?before=*"):
        await studio.parts.database.execute("UPDATE heads SET epoch = 'another' WHERE conversation = $1", room)
    await bo.page.evaluate(
        "() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))"
    )
    after = await row.bounding_box()
    assert before is not None
    assert after is not None
    assert abs(after["y"] - before["y"]) <= 1
    await ada.say("and on it goes")
    await bo.page.get_by_role("button", name="jump to the newest").click()
    await expect(bo.message("and on it goes")).to_be_in_viewport()


async def test_an_answer_goes_on_growing_through_a_restart(
    kitchen: tuple[Visitor, Visitor], studio: RunningStudio
) -> None:
    ada, _ = kitchen
    await ada.say("@demo please count")
    await expect(answer_at(ada)).to_contain_text("w5")
    async with unseen(ada):
        await replace_worker(studio)
        await grows(answer_at(ada))
        words = await words_of(answer_at(ada))
        assert words == [f"w{number}" for number in range(len(words))]
    await ada.button("Stop").click()
    await expect(answer_at(ada)).to_contain_text("Stopped here.")


async def test_a_whole_server_is_restarted_while_two_people_write(first_start: StudioProcess, visit: Visit) -> None:
    """With one process there is a gap, so a word about it may be said; lost or doubled is nothing."""
    ada, bo = await register("Ada", first_start, visit), await register("Bo", first_start, visit)
    for visitor in (ada, bo):
        visitor.announce(OFFLINE)
    await ada.say("before the restart")
    await expect(bo.message("before the restart")).to_be_visible()
    await bo.composer.fill(DRAFT)
    stopping = asyncio.create_task(first_start.stop())
    for number in range(5):
        await ada.say(f"during {number}")
    assert await stopping == 0
    await ada.say("while it is away")
    await first_start.start("--port", str(first_start.port))
    said = ["before the restart", *(f"during {number}" for number in range(5)), "while it is away"]
    for visitor in (ada, bo):
        for text in said:
            await expect(visitor.message(text)).to_have_count(1)
    await expect(ada.pending).to_have_count(0)
    await expect(bo.composer).to_have_value(DRAFT)
    assert [await stored(ada, text) for text in said] == [1] * len(said)

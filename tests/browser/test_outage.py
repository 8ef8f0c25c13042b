"""The server is killed in mid-conversation: nothing that was written is lost, and nothing is said twice."""

import asyncio

from playwright.async_api import WebSocketRoute, expect

from server.protocol.codec import parse
from tests.browser.conftest import Visit
from tests.browser.visitor import OFFLINE, STRANGER, TIMEOUT_MS, Visitor
from tests.running_studio import PASSWORD, RunningStudio
from tests.studio_process import StudioProcess

DRAFT = "and this I am still thinking ab"


async def test_an_outage_loses_neither_draft_nor_message_and_doubles_nothing(
    first_start: StudioProcess, visit: Visit
) -> None:
    ada, bo = await register("Ada", first_start, visit), await register("Bo", first_start, visit)
    await ada.say("before")
    await expect(bo.message("before")).to_be_visible()

    await first_start.kill()
    for visitor in (ada, bo):
        await expect(visitor.page.get_by_text("Reconnecting…")).to_be_visible()
    await ada.say("into the void")
    await expect(ada.pending).to_contain_text("into the void")
    await expect(ada.pending).to_contain_text("Kept here, sent as soon as the studio answers.")
    await ada.composer.press_sequentially(DRAFT)

    await first_start.start("--port", str(first_start.port))
    for visitor in (ada, bo):
        await expect(visitor.message("into the void")).to_be_visible()
        await expect(visitor.page.get_by_text("Reconnecting…")).to_have_count(0)
    await expect(ada.pending).to_have_count(0)
    await expect(ada.composer).to_have_value(DRAFT)

    await bo.say("after")
    for visitor in (ada, bo):
        await expect(visitor.message("after")).to_be_visible()
        await expect(visitor.message("into the void")).to_have_count(1)
    assert await stored(ada, "into the void") == 1

    await ada.page.reload()
    await expect(ada.message("after")).to_be_visible()
    await expect(ada.composer).to_have_value(DRAFT)
    await expect(ada.message("into the void")).to_have_count(1)


async def test_a_message_that_waits_survives_the_closing_of_the_page(first_start: StudioProcess, visit: Visit) -> None:
    ada = await register("Ada", first_start, visit)
    await first_start.kill()
    await ada.say("written on the train")
    await expect(ada.pending).to_contain_text("written on the train")
    await ada.page.goto("about:blank")

    await first_start.start("--port", str(first_start.port))
    await ada.page.goto(first_start.url)
    await expect(ada.message("written on the train")).to_be_visible()
    await expect(ada.pending).to_have_count(0)
    assert await stored(ada, "written on the train") == 1


async def test_a_message_whose_answer_was_lost_is_not_said_twice(kitchen: tuple[Visitor, Visitor]) -> None:
    """It was committed, everybody has it, and only its author was never told."""
    ada, bo = kitchen
    ada.announce(OFFLINE)
    sockets: list[WebSocketRoute] = []
    is_lost = asyncio.Event()

    def lead_through(socket: WebSocketRoute) -> None:
        def hear(text: str | bytes) -> None:
            frame = parse(str(text))
            if len(sockets) == 1 and isinstance(frame, dict) and frame["type"] in ("ack", "event"):
                is_lost.set()
            else:
                socket.send(text)

        socket.connect_to_server().on_message(hear)
        sockets.append(socket)

    await ada.page.route_web_socket("**/ws", lead_through)
    await ada.page.reload()
    await expect(ada.composer).to_be_visible()
    await ada.say("said once")
    await expect(bo.message("said once")).to_be_visible()
    await asyncio.wait_for(is_lost.wait(), TIMEOUT_MS / 1000)
    await expect(ada.pending).to_contain_text("said once")
    await sockets[0].close(code=1012)

    await expect(ada.message("said once")).to_be_visible()
    await expect(ada.pending).to_have_count(0)
    await bo.say("heard once")
    for visitor in kitchen:
        await expect(visitor.message("heard once")).to_be_visible()
        await expect(visitor.message("said once")).to_have_count(1)


async def test_a_room_that_could_not_be_loaded_comes_with_the_next_connection(
    kitchen: tuple[Visitor, Visitor], studio: RunningStudio
) -> None:
    ada, bo = kitchen
    await ada.open_room("Bo")
    await ada.say("the roses are out")
    bo.announce(OFFLINE)
    await bo.page.route("**/messages?*", lambda route: route.abort())
    await bo.open_room("Ada")
    await expect(bo.page.get_by_text("Loading…")).to_be_visible()

    await bo.page.unroute("**/messages?*")
    for connection in studio.parts.hub.connections():
        connection.end(1012, "a restart")
    await expect(bo.message("the roses are out")).to_be_visible()


async def register(name: str, studio: StudioProcess, visit: Visit) -> Visitor:
    """Through the form, which leads a newcomer into the sample room."""
    visitor = await visit(name)
    visitor.announce(STRANGER)
    visitor.announce(OFFLINE)
    await visitor.page.goto(studio.url)
    await visitor.button("Create an account").click()
    await visitor.page.get_by_label("Username").fill(name)
    await visitor.page.get_by_label("Password").fill(PASSWORD)
    await visitor.button("Create account").click()
    await expect(visitor.heading("Welcome")).to_be_visible()
    await expect(visitor.message("This is a room")).to_be_visible()
    return visitor


async def stored(visitor: Visitor, text: str) -> int:
    """How often the server has it."""
    _, _, room = visitor.page.url.rpartition("/")
    origin = await visitor.page.evaluate("location.origin")
    answer = await visitor.context.request.get(f"{origin}/api/conversations/{room}/messages?limit=100")
    assert answer.ok, await answer.text()
    return sum(message["text"] == text for message in (await answer.json())["messages"])

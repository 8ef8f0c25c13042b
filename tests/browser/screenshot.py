"""Draws docs/screenshot.png anew: three people and the demo model in a room of a real studio.

    .venv/bin/python -m tests.browser.screenshot
    .venv/bin/python -m tests.browser.screenshot --dark --phone phone.png

`--look-at DIR` draws every scheme and size into a folder, for eyes that want to know what a change of the style did.
"""

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal
from unittest.mock import patch

from playwright.async_api import Browser, expect

from server.protocol import clock
from server.protocol.codec import encode
from server.storage.embedded_postgres import EmbeddedPostgres
from server.storage.schema import bring_up_to_date
from tests.browser.chromium import launched
from tests.browser.visitor import Visitor
from tests.conftest import opened
from tests.running_studio import RunningStudio, Socket, run_studio

SCREENSHOT = Path(__file__).parents[2] / "docs" / "screenshot.png"
SIZES = {"desk": (1280, 800), "phone": (390, 844)}
ROOM = "Bike workshop"
QUESTION = "@demo will you keep us company on Saturday?"

Size = Literal["desk", "phone"]
Scheme = Literal["light", "dark"]


@dataclass(frozen=True)
class Line:
    """What somebody said, how many minutes ago, and who reacted with what."""

    minutes_ago: int
    who: str
    text: str
    reactions: Sequence[tuple[str, str]] = ()


TALK = (
    Line(14, "Bo", "Morning! Twelve bikes are signed up for Saturday, two of them with a **flat tyre**."),
    Line(
        12, "Chiara", "I bring patches and glue. Still missing:\n\n- a stand and chain oil\n- coffee, lots of it",
        [("Bo", "☕"), ("Ada", "☕"), ("Bo", "👍")],
    ),
    Line(
        9, "Ada", "The stand is in my cellar. Does your pump fit `Presta` valves?",
        [("Chiara", "🎉"), ("Bo", "🎉"), ("Chiara", "❤️")],
    ),
    Line(6, "Chiara", "It does. Here is [how to tell them apart](https://en.wikipedia.org/wiki/Presta_valve)."),
)  # fmt: skip
UNREAD = {"Announcements": 0, "Garden": 3, "Kitchen": 12, "Welcome": 0}


@dataclass(frozen=True)
class Scene:
    studio: RunningStudio
    room: str
    typing: asyncio.Task[None]


async def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("file", nargs="?", type=Path, default=SCREENSHOT)
    asked.add_argument("--dark", action="store_true")
    asked.add_argument("--phone", action="store_true")
    asked.add_argument("--look-at", type=Path, metavar="DIR")
    options = asked.parse_args()
    async with furnished() as scene, launched() as browser:
        if not options.look_at:
            size: Size = "phone" if options.phone else "desk"
            await draw(scene, browser, options.file, size, "dark" if options.dark else "light")
            return
        options.look_at.mkdir(parents=True, exist_ok=True)
        for size in ("desk", "phone"):
            for scheme in ("light", "dark"):
                await draw(scene, browser, options.look_at / f"{size}-{scheme}.png", size, scheme)


async def draw(scene: Scene, browser: Browser, file: Path, size: Size, scheme: Scheme) -> None:
    width, height = SIZES[size]
    is_phone = size == "phone"
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        locale="en-US",
        is_mobile=is_phone,
        has_touch=is_phone,
        device_scale_factor=2 if is_phone else 1,
    )
    visitor = await Visitor.arrive("Ada", context)
    await visitor.sign_in(scene.studio.people[0], scene.studio.url)
    await visitor.page.goto(f"{scene.studio.url}/#/c/{scene.room}")
    await expect(visitor.heading(ROOM)).to_be_visible()
    await expect(visitor.message("I am a script, not an AI")).to_be_in_viewport()
    if not is_phone:
        await visitor.button("Members").click()
        await expect(visitor.page.get_by_text("3 of 4 online")).to_be_visible()
    await visitor.page.mouse.move(0, 0)
    await expect(visitor.page.get_by_text("Bo is typing…")).to_be_visible()
    drawn = await visitor.page.screenshot(path=file, animations="disabled")
    assert visitor.complaints == [], visitor.complaints
    await context.close()
    print(f"{file}: {len(drawn) // 1024} KB")


# The studio that is drawn


@asynccontextmanager
async def furnished() -> AsyncIterator[Scene]:
    """A studio in which people have been talking for a while, and go on while it is drawn."""
    with tempfile.TemporaryDirectory() as folder:
        postgres = EmbeddedPostgres(Path(folder) / "postgres")
        dsn = await postgres.start()
        try:
            await bring_up_to_date(dsn)
            async with opened(dsn) as database, run_studio(database) as studio:
                scene = await furnish(studio)
                yield scene
                scene.typing.cancel()
        finally:
            await postgres.stop()


async def furnish(studio: RunningStudio) -> Scene:
    ada, bo, chiara, dev = [await studio.person(name) for name in ("Ada", "Bo", "Chiara", "Dev")]
    others = [bo.id, chiara.id, dev.id]
    room = await ada.room(ROOM, members=others, visibility="public")
    elsewhere = {title: await ada.room(title, members=others, visibility="public") for title in UNREAD}
    sockets = {
        person.name: await studio.stack.enter_async_context(person.socket("/ws", room, *elsewhere.values()))
        for person in (ada, bo, chiara)
    }
    for line in TALK:
        with patch.object(clock, "now", partial(minutes_ago, line.minutes_ago)):
            said = await sockets[line.who].say(room, line.text)
        for who, emoji in line.reactions:
            await sockets[who].ask("react", conversation=room, message=said["message"], emoji=emoji, on=True)
    with patch.object(clock, "now", partial(minutes_ago, 1)):
        await sockets["Ada"].say(room, QUESTION)
        await sockets["Ada"].event("run.ended")
    head = (await ada.call("GET", f"/api/conversations/{room}", expect=200))["head"]
    await ada.call("PUT", f"/api/conversations/{room}/read", {"seq": head}, expect=204)
    for title, count in UNREAD.items():
        for number in range(count):
            await sockets["Chiara"].say(elsewhere[title], f"news {number}")
    for peer in (bo, chiara):
        made = await peer.call("POST", "/api/conversations", {"kind": "private", "members": [ada.id]}, expect=201)
        if peer is chiara:
            await sockets["Chiara"].say(made["id"], "Do you still have my bike lock?")
    await ada.call("POST", "/api/conversations", {"kind": "assistant", "title": "How a derailleur works"}, expect=201)
    return Scene(studio, room, asyncio.create_task(keep_typing(sockets["Bo"], room)))


async def keep_typing(socket: Socket, room: str) -> None:
    while True:
        await socket.send_raw(encode({"type": "typing", "conversation": room, "on": True}).decode())
        await asyncio.sleep(1.0)


def minutes_ago(minutes: int) -> datetime:
    moment = datetime.now(UTC) - timedelta(minutes=minutes)
    return moment.replace(microsecond=0)


if __name__ == "__main__":
    asyncio.run(main())

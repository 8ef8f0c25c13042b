"""What every browser test may ask for: a real Chromium, and people who each sit at a browser of their own."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any, Protocol

import pytest
from playwright.async_api import Browser

from server.app import WEB_DIST
from tests.browser.chromium import NoChromium, launched
from tests.browser.visitor import Visitor
from tests.running_studio import Person, RunningStudio
from tests.studio_process import StudioProcess, studio_on

SEEN_ON_FAILURE = Path(__file__).parents[2] / "test-results"
NO_BROWSER = "NO BROWSER, SO NOTHING THAT A PERSON SEES IS TESTED"
DESK = {"width": 1280, "height": 800}


class Visit(Protocol):
    """A person comes: a fresh context, whose options are Playwright's."""

    async def __call__(self, name: str = "visitor", **options: Any) -> Visitor: ...


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    if not (WEB_DIST / "index.html").is_file():
        pytest.fail("the web client is not built: run `make web` (or `make test`, which does)")
    try:
        async with launched() as browser:
            yield browser
    except NoChromium as error:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"NO BROWSER, and CI needs one: {error}")
        pytest.skip(f"{NO_BROWSER}: {error}")


@pytest.fixture
async def visit(chromium: Browser, request: pytest.FixtureRequest) -> AsyncIterator[Visit]:
    """The test fails when a page complained about something that the test did not announce."""
    visitors: list[Visitor] = []

    async def arrive(name: str = "visitor", **options: Any) -> Visitor:
        context = await chromium.new_context(**{"viewport": DESK, "locale": "en-US", **options})
        visitors.append(await Visitor.arrive(name, context))
        return visitors[-1]

    yield arrive
    complaints = {visitor.name: unexpected for visitor in visitors if (unexpected := visitor.unexpected())}
    if complaints or request.node.stash.get(HAS_FAILED, False):
        await keep_what_was_seen(request.node.name, visitors)
    for visitor in visitors:
        await visitor.context.close()
    assert not complaints, complaints


@pytest.fixture
async def kitchen(studio: RunningStudio, visit: Visit) -> tuple[Visitor, Visitor]:
    """Ada and Bo, each at a browser of their own, in the room Kitchen; there are a Garden and a private chat, too."""
    ada, bo = await studio.person("Ada"), await studio.person("Bo")
    for title in ("Kitchen", "Garden"):
        await ada.room(title, members=[bo.id])
    await ada.call("POST", "/api/conversations", {"kind": "private", "members": [bo.id]}, expect=201)
    at_ada, at_bo = await visit("Ada"), await visit("Bo")
    await asyncio.gather(enter(at_ada, ada, studio), enter(at_bo, bo, studio))
    return at_ada, at_bo


async def enter(visitor: Visitor, person: Person, studio: RunningStudio) -> None:
    await visitor.sign_in(person, studio.url)
    await visitor.open_room("Kitchen")


@pytest.fixture
async def first_start(tmp_path: Path) -> AsyncIterator[StudioProcess]:
    """A studio in a process of its own, started for the first time."""
    async with studio_on(tmp_path / "data") as studio:
        await studio.start()
        yield studio


# What the person saw when a test failed

HAS_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[HAS_FAILED] = True
    if report.skipped and isinstance(report.longrepr, tuple) and NO_BROWSER in report.longrepr[2]:
        report.longrepr = (
            str(Path(__file__)),
            0,
            report.longrepr[2],
        )  # the same for all: pytest folds them
    return report


async def keep_what_was_seen(test: str, visitors: list[Visitor]) -> None:
    SEEN_ON_FAILURE.mkdir(exist_ok=True)
    for visitor in visitors:
        await visitor.screenshot(SEEN_ON_FAILURE / f"{re.sub(r'[^a-z0-9_]+', '-', test)}.{visitor.name}.png")

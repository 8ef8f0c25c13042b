"""A real Chromium: the machine's own, else the one that Playwright fetched.

Out:  a running browser, shared by all tests; each person in it has a context and so a jar of cookies of their own.
Promises: where none can be launched, `NoChromium` says in one line what was tried.
"""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Error, async_playwright

COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APPLICATIONS = (
    Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
    Path("/Applications/Chromium.app/Contents/MacOS/Chromium"),
)
ARGUMENTS = [
    "--disable-gpu",  # the same pixels on every machine
    "--disable-quic",
    "--no-first-run",
    # A test talks with nobody but its studio.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class NoChromium(Exception):
    """No browser could be launched."""


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    found = on_this_machine()
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    sandbox = ["--no-sandbox"] if is_root else []  # Chromium refuses to start its sandbox as root
    async with async_playwright() as playwright:
        try:
            browser = await playwright.chromium.launch(executable_path=found, args=[*ARGUMENTS, *sandbox])
        except Error as error:
            tried = found or "Playwright's own Chromium"
            raise NoChromium(f"{tried}: {error.message.strip().splitlines()[0]}") from None
        yield browser
        await browser.close()


def on_this_machine() -> str | None:
    """The path of the machine's own; None leaves it to Playwright."""
    for command in COMMANDS:
        if found := shutil.which(command):
            return found
    return next((str(path) for path in APPLICATIONS if path.exists()), None)

"""A person at a browser, as a test sees them: the verbs are what people do, the locators what people look at.

Promises: whatever the page complains about is remembered, and fails the test that did not announce it: errors and
warnings on the console, errors thrown, breaches of the content security policy, dialogs that a message opened, and
requests to anybody but the studio.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import (
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Error,
    Locator,
    Page,
    Request,
    expect,
)

from tests.running_studio import Person

TIMEOUT_MS = 20_000.0  # a moment on an idle machine; on one that runs everything at once it takes its time
expect.set_options(timeout=TIMEOUT_MS)

OFFLINE = r"net::ERR_|WebSocket connection to "  # what Chromium itself says while a server is away
STRANGER = r"status of 401"  # Chromium says this of every page that asks who it is and is nobody

# The policy is enforced whatever a page does; this only lets the test hear of it.
REPORT_BREACHES = """
document.addEventListener('securitypolicyviolation', (event) =>
  console.error(`breach of ${event.effectiveDirective}: ${event.blockedURI} ${event.sample}`));
"""


class Visitor:
    """Made by the `visit` fixture."""

    def __init__(self, name: str, context: BrowserContext, page: Page) -> None:
        self.name = name
        self.context = context
        self.page = page
        self.complaints: list[str] = []
        self._announced: list[re.Pattern[str]] = []
        page.on("console", self._on_console)
        page.on("pageerror", self._on_page_error)
        page.on("dialog", self._on_dialog)
        page.on("request", self._on_request)

    @classmethod
    async def arrive(cls, name: str, context: BrowserContext) -> "Visitor":
        context.set_default_timeout(TIMEOUT_MS)
        await context.add_init_script(REPORT_BREACHES)
        return cls(name, context, await context.new_page())

    # What a test says about the page

    def announce(self, pattern: str) -> None:
        """From now on complaints that match are expected."""
        self._announced.append(re.compile(pattern))

    def unexpected(self) -> list[str]:
        return [
            complaint for complaint in self.complaints if not any(known.search(complaint) for known in self._announced)
        ]

    async def screenshot(self, path: Path) -> None:
        await self.page.screenshot(path=path, animations="disabled")

    # What a person does

    async def sign_in(self, person: Person, url: str) -> None:
        """Past the form, which a test of its own fills in."""
        answer = await self.context.request.post(
            f"{url}/api/auth/login", data={"username": person.name, "password": person.password}
        )
        assert answer.ok, await answer.text()
        await self.page.goto(url)

    async def open_room(self, title: str) -> None:
        await self.listed(title).click()
        await expect(self.heading(title)).to_be_visible()

    async def say(self, text: str) -> None:
        await self.composer.fill(text)
        await self.composer.press("Enter")

    async def use_tool(self, message: Locator, tool: str) -> None:
        """Point at a message and click one of the tools that come up."""
        await message.hover()
        await message.get_by_role("toolbar").get_by_role("button", name=tool, exact=True).click()

    # What a person looks at

    @property
    def composer(self) -> Locator:
        return self.page.get_by_role("textbox", name="Message", exact=True)

    @property
    def conversations(self) -> Locator:
        return self.page.get_by_role("navigation", name="Conversations")

    @property
    def messages(self) -> Locator:
        """The rows of the log; a message that is still on its way is none yet."""
        return self.page.locator("[data-message]")

    @property
    def pending(self) -> Locator:
        return self.page.locator("li.pending")

    def message(self, text: str) -> Locator:
        return self.messages.filter(has_text=text)

    def listed(self, title: str) -> Locator:
        """The conversation's line in the list."""
        return self.conversations.get_by_role("link").filter(has_text=title)

    def heading(self, title: str) -> Locator:
        return self.page.get_by_role("heading", name=title, level=2, exact=True)

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    # What the page says behind the person's back

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} ({message.location['url']})")

    def _on_page_error(self, error: Error) -> None:
        self.complaints.append(f"thrown: {error.stack or error.message}")

    async def _on_dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"a dialog opened: {dialog.message}")
        await dialog.dismiss()

    def _on_request(self, request: Request) -> None:
        asked, page = urlsplit(request.url), urlsplit(self.page.url)
        if asked.scheme not in ("data", "blob") and page.netloc and asked.netloc != page.netloc:
            self.complaints.append(f"a request elsewhere: {request.url}")

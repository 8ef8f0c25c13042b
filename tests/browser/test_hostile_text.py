"""What people write is text: it may be set in bold, it is never a part of the page that acts."""

import asyncio

from playwright.async_api import expect

from tests.browser.conftest import Visit
from tests.browser.visitor import TIMEOUT_MS, Visitor
from tests.running_studio import RunningStudio

Kitchen = tuple[Visitor, Visitor]

HOSTILE = [
    "<script>window.taken = 1</script>",
    "<img src=x onerror=\"window.taken = 1; alert('taken')\">",
    '<svg onload="window.taken = 1"><style>* { display: none }</style></svg>',
    '<a href="javascript:window.taken=1" onclick="window.taken=1">click</a>',
    '<iframe srcdoc="<script>parent.taken = 1</script>"></iframe>',
    "```html\n</code></pre><script>window.taken = 1</script>\n```",
]
LINKS = {
    "[script](javascript:window.taken=1)": None,
    "[data](data:text/html,<script>window.taken=1</script>)": None,
    "[odd](jAvAsCrIpT&#58;window.taken=1)": None,
    "[file](file:///etc/passwd)": None,
    "[page](https://example.org/a?b=c&d)": "https://example.org/a?b=c&d",
    "![image](https://example.org/pixel.png)": "https://example.org/pixel.png",
    "https://example.org/bare": "https://example.org/bare",
}
FAULTS = {
    "a request elsewhere": "document.body.append(Object.assign(new Image(), { src: 'https://example.org/' }))",
    "breach of script": "document.body.append(Object.assign(document.createElement('script'), { text: '0' }))",
    "breach of img": "document.body.append(Object.assign(new Image(), { src: 'https://example.org/' }))",
    "breach of style": "document.body.innerHTML += '<p style=\"color: red\">'",
    "thrown: ": "setTimeout(() => { throw new Error('planted') })",
    "a dialog opened": "alert('planted')",
    "planted error": "console.error('planted error')",
    "breach of connect": "fetch('http://127.0.0.1:9/').catch(() => {})",
}


async def test_raw_html_is_shown_as_it_was_typed(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    for text in HOSTILE:
        await ada.say(text)
    await expect(bo.messages).to_have_count(len(HOSTILE))
    for visitor in kitchen:
        shown = await visitor.messages.locator(".prose").all_inner_texts()
        for text, seen in zip(HOSTILE, shown, strict=True):
            assert text.removeprefix("```html\n").removesuffix("\n```") in seen
        made = visitor.messages.locator(".prose").locator("script, img, svg:not(.icon), style, iframe, [onclick]")
        await expect(made).to_have_count(0)
        assert await visitor.page.evaluate("window.taken") is None


async def test_links_lead_out_safely_or_not_at_all(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    for text in LINKS:
        await ada.say(text)
    await expect(bo.messages).to_have_count(len(LINKS))
    for row, (text, address) in zip(await bo.messages.all(), LINKS.items(), strict=True):
        link = row.locator(".prose a[href]")
        if address is None:
            assert await link.count() == 0, text
            for inert in await row.locator(".prose a").all():
                await inert.click()
        else:
            await expect(link).to_have_attribute("href", address)
            await expect(link).to_have_attribute("rel", "noopener noreferrer")
            await expect(link).to_have_attribute("target", "_blank")
    assert await bo.page.evaluate("window.taken") is None


async def test_markdown_is_set(kitchen: Kitchen) -> None:
    ada, bo = kitchen
    await ada.say("**bold** and *soft* and `code`\n\n- one\n- two\n\n> said\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    await ada.say("```python\nprint('<b>')\n```")
    for element in ("strong", "em", "p code", "ul li", "blockquote", "table td"):
        await expect(bo.messages.first.locator(f".prose {element}").first).to_be_visible()
    await expect(bo.messages.last.locator("pre code")).to_have_text("print('<b>')\n")


async def test_the_other_tests_would_hear_of_a_fault(studio: RunningStudio, visit: Visit) -> None:
    stranger = await visit("stranger")
    await stranger.page.goto(studio.url)
    await expect(stranger.page.get_by_label("Password")).to_be_visible()
    for complaint, fault in FAULTS.items():
        stranger.complaints.clear()
        await stranger.page.evaluate(f"() => {{ {fault} }}")
        async with asyncio.timeout(TIMEOUT_MS / 1000):
            while not [heard for heard in stranger.unexpected() if complaint in heard]:
                await asyncio.sleep(0.01)
    stranger.complaints.clear()

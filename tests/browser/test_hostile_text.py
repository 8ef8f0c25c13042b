"""What people write is text: it may be set in bold, it is never a part of the page that acts."""

import pytest
from playwright.async_api import expect

from tests.browser.visitor import Visitor

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


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (
            "document.body.append(Object.assign(document.createElement('script'), { text: '0' }))",
            "breach of script",
        ),
        ("document.body.append(Object.assign(new Image(), { src: 'https://example.org/' }))", "breach of img"),
        ("setTimeout(() => { throw new Error('planted') })", "thrown"),
        ("alert('planted')", "a dialog opened"),
        ("console.error('planted')", "planted"),
    ],
)
async def test_a_fault_of_the_page_would_be_noticed(kitchen: Kitchen, fault: str, complaint: str) -> None:
    """The other tests rely on it."""
    ada, _ = kitchen
    await ada.page.evaluate(f"() => {{ {fault} }}")
    await ada.say("one thing later")
    await expect(ada.message("one thing later")).to_be_visible()
    assert any(complaint in heard for heard in ada.unexpected())
    ada.announce("")

import asyncio
from tests.browser.test_long_room import *
from tests.browser.conftest import *
async def test_dbg(reader: Visitor) -> None:
    is_released = asyncio.Event()
    async def hold(route: Route) -> None:
        await is_released.wait()
        await route.continue_()
    await reader.page.route(ALL_OLDER, hold)
    async with reader.page.expect_request(ALL_OLDER):
        await scroll_to_top(reader)
    row, offset = await reader.page.evaluate(TOP_ROW)
    await reader.page.evaluate("""() => { const d=Object.getOwnPropertyDescriptor(Element.prototype,"scrollTop"); window.sets=[]; Object.defineProperty(Element.prototype,"scrollTop",{get(){return d.get.call(this)}, set(x){ const b=d.get.call(this); d.set.call(this,x); window.sets.push([this.className, b, x, d.get.call(this), this.scrollHeight, (new Error).stack.split("\n").slice(2,5).join("")])}}) }""")
    await reader.page.evaluate("""(id) => { window.log=[]; const v=document.querySelector('.viewport'); 
      const f=()=>{ const r=document.querySelector(`[data-message="${id}"]`); window.log.push([performance.now()|0, v.querySelectorAll('[data-message]').length, v.scrollTop, v.scrollHeight, r.getBoundingClientRect().top - v.getBoundingClientRect().top]); requestAnimationFrame(f)}; f(); }""", row)
    print(row, offset)
    is_released.set()
    await asyncio.sleep(1.5)
    last=None
    for l in await reader.page.evaluate("window.log"):
        if l[1:]!=last: print(l); last=l[1:]
    for l in await reader.page.evaluate("window.sets"): print(l)

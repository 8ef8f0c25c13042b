"""Waiting for what must come true, with a deadline that only a fault misses."""

import asyncio
from collections.abc import Awaitable, Callable

WAIT_S = 30.0


async def until(is_true: Callable[[], Awaitable[bool]], timeout_s: float = WAIT_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not await is_true():
            await asyncio.sleep(0.02)

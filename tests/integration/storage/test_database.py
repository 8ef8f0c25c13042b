"""What failures of Postgres mean to our callers."""

import asyncio

import pytest

from server.protocol.errors import Overloaded
from server.storage.database import Database


async def test_a_deadlock_may_be_tried_again(database: Database) -> None:
    both_hold_one = asyncio.Barrier(2)

    async def take(first: int, second: int) -> None:
        async with database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", first)
            await both_hold_one.wait()
            await connection.execute("SELECT pg_advisory_xact_lock($1)", second)

    outcomes = await asyncio.gather(take(1, 2), take(2, 1), return_exceptions=True)
    (victim,) = [outcome for outcome in outcomes if outcome is not None]
    with pytest.raises(Overloaded) as refused:
        raise victim
    assert refused.value.retryable

"""Calls that wait together become one."""

from __future__ import annotations

import asyncio

import pytest

from agr.service.joining import MOST_TOGETHER, Joined


def test_what_comes_while_a_batch_is_worked_on_is_the_next_one() -> None:
    batches: list[list[int]] = []

    async def doubled(items: list[int]) -> list[int]:
        batches.append(items)
        await asyncio.sleep(0.01)
        return [2 * item for item in items]

    async def asked() -> list[int]:
        joined = Joined(doubled)
        first = asyncio.create_task(joined(0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return await asyncio.gather(first, *map(joined, range(1, MOST_TOGETHER + 3)))

    assert asyncio.run(asked()) == [2 * item for item in range(MOST_TOGETHER + 3)]
    assert list(map(len, batches)) == [1, MOST_TOGETHER, 2]


def test_a_failure_reaches_its_batch_and_a_caller_that_left_nobody() -> None:
    async def reciprocals(items: list[int]) -> list[float]:
        await asyncio.sleep(0.01)
        return [1 / item for item in items]

    async def asked() -> None:
        joined = Joined(reciprocals)
        left = asyncio.create_task(joined(0))
        await asyncio.sleep(0)
        left.cancel()
        assert await joined(4) == 0.25
        found = await asyncio.gather(joined(0), joined(2), return_exceptions=True)
        assert list(map(type, found)) == [ZeroDivisionError] * 2
        assert await joined(2) == 0.5

    asyncio.run(asked())
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(Joined(cancelled)(1))


async def cancelled(items: list[int]) -> list[int]:
    raise asyncio.CancelledError

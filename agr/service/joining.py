"""Calls that wait together become one: what the model is asked while it answers is its next batch.

`Joined` does it in `agr serve`; on Ray Serve `serve.batch` takes its place, which is called in the same way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Together = Callable[[list[Item]], Awaitable[list[Result]]]

MOST_TOGETHER = 16  # items of one batch


class Joined(Generic[Item, Result]):
    """Called with one item; awaits the result of the batch that it became part of."""

    def __init__(self, together: Together[Item, Result]) -> None:
        """together: makes a batch's results, in order; what it raises goes to every caller of the batch."""
        self._together = together
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._work: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """The result of one item."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._work is None:
            self._work = asyncio.create_task(self._work_off())
        return await future

    async def _work_off(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
            batch = [each for each in batch if not each[1].done()]  # a caller that was cancelled
            (results,) = await asyncio.gather(self._together([item for item, _ in batch]), return_exceptions=True)
            for at, (_, future) in enumerate(batch):
                if future.done():
                    continue
                if isinstance(results, BaseException):
                    future.set_exception(results)
                else:
                    future.set_result(results[at])
        self._work = None

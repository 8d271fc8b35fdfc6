"""Cancelling a task at its k-th await, counted over everything that a coroutine awaits."""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

T = TypeVar("T")


class Cancelling:
    """`await Cancelling(k).over(coroutine)`: the k-th time that it waits, from 1, its task is cancelled.

    Args:
        k: which await.
        late: cancel when what it waits for has come, and before the task goes on: the answer is there, and nobody sees it.

    Attributes:
        done: it was cancelled.
        armed: it may be; False ends it.
    """

    def __init__(self, k: int, *, late: bool = False) -> None:
        self.k = k
        self.late = late
        self.awaits = 0
        self.done = False
        self.armed = True

    async def over(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it to its end, or to its k-th await."""
        return await self._drive(coroutine)

    @types.coroutine
    def _drive(self, coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        step: Callable[[Any], Any] = coroutine.send
        value: Any = None
        while True:
            try:
                waited_for = step(value)
            except StopIteration as end:
                result: T = end.value
                return result
            self.awaits += 1
            if self.armed and self.awaits == self.k:
                self._cancel(waited_for)
            try:
                value = yield waited_for
                step = coroutine.send
            except BaseException as error:  # noqa: BLE001 - it is the coroutine's
                step, value = coroutine.throw, error

    def _cancel(self, waited_for: asyncio.Future[Any] | None) -> None:
        task = asyncio.current_task()
        assert task is not None

        def cancel(_: object = None) -> None:
            self.done = True
            task.cancel()

        if self.late and waited_for is not None:
            waited_for.add_done_callback(cancel)  # before the task's own callback: that comes when it has been yielded
        else:
            cancel()

"""PerLoop: one object per event loop, as futures, tasks and lifespans belong to one."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class PerLoop(Generic[T]):
    """Makes an object at its first use in a loop, and forgets it with the loop."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, T] = weakref.WeakKeyDictionary()

    def here(self) -> T:
        """The running loop's."""
        loop = asyncio.get_running_loop()
        found = self._made.get(loop)
        if found is None:
            found = self._made[loop] = self._make()
        return found

    def exists(self) -> bool:
        """Whether the running loop has one."""
        return asyncio.get_running_loop() in self._made

    def all(self) -> list[tuple[asyncio.AbstractEventLoop, T]]:
        """Those of all loops that are still there, running or closed."""
        return list(self._made.items())

    def forget(self) -> T | None:
        """Take the running loop's away."""
        return self._made.pop(asyncio.get_running_loop(), None)

"""Lifespans of job classes, entered when the first job of a class runs, and all left by the task that entered them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiojobs_rt.job import Job


class Lifespans:
    """What each class's `lifespan` yielded, in one event loop.

    Attributes:
        states: by class.
    """

    def __init__(self) -> None:
        self.states: dict[type[Job], Any] = {}
        self._entered: dict[Any, asyncio.Future[Any]] = {}
        self._wanted: asyncio.Queue[tuple[Any, asyncio.Future[Any]] | None] = asyncio.Queue()
        self._keeper: asyncio.Task[None] | None = None

    async def enter(self, job_class: type[Job]) -> None:
        """Have `states` hold the class's own, when it has a lifespan.

        Raises:
            Exception: what the lifespan raised, each time.
        """
        lifespan = job_class.lifespan
        if job_class in self.states or _is_plain(job_class):
            return
        entered = self._entered.get(lifespan)
        if entered is None:
            loop = asyncio.get_running_loop()
            entered = self._entered[lifespan] = loop.create_future()
            self._wanted.put_nowait((lifespan, entered))
            if self._keeper is None:
                self._keeper = loop.create_task(self._keep())
        self.states[job_class] = await asyncio.shield(entered)

    async def leave(self) -> None:
        """Leave them all, the last one first."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            self._wanted.put_nowait(None)
            await keeper
        self._entered.clear()
        self.states.clear()

    def leave_soon(self) -> None:
        """In their loop: have them left without waiting for it. What a lifespan raises then is asyncio's to report."""
        if self._keeper is not None:
            self._keeper = None
            self._wanted.put_nowait(None)
        self._entered.clear()
        self.states.clear()

    async def _keep(self) -> None:
        async with AsyncExitStack() as stack:
            while (wanted := await self._wanted.get()) is not None:
                lifespan, entered = wanted
                try:
                    state = await stack.enter_async_context(lifespan())
                except Exception as error:  # noqa: BLE001 - it is the job's to tell
                    entered.set_exception(error)
                    entered.exception()  # whoever awaits it has it; nobody need
                    del self._entered[lifespan]
                else:
                    entered.set_result(state)


def _is_plain(job_class: type[Job]) -> bool:
    """Whether it has no lifespan but Job's own."""
    return getattr(job_class.lifespan, "__module__", "") == "aiojobs_rt.job"

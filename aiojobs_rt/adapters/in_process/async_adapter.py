"""AsyncAdapter: jobs in this process's own event loop.

1. The first use in a loop makes a `_Session`: queues, and a guard by which the loop drains them when it ends.
2. A job that is enqueued starts at once, while fewer than `concurrency` run; each runs in a task of its own.
3. What is due later waits for one timer: the next due time.
"""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial
from typing import TYPE_CHECKING

from aiojobs_rt.adapters.in_process.base import InProcessAdapter, State, process_name
from aiojobs_rt.adapters.in_process.clocks import SystemClock
from aiojobs_rt.adapters.in_process.memory import Memory
from aiojobs_rt.adapters.in_process.per_loop import PerLoop
from aiojobs_rt.errors import ConfigurationError
from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from aiojobs_rt.adapters.base import Envelope
    from aiojobs_rt.adapters.in_process.runner import Run

logger = logging.getLogger("aiojobs_rt.in_process")


class AsyncAdapter(InProcessAdapter):
    """Runs jobs in the event loop in which they were enqueued, beside what else runs there: for development.

    Jobs live in the memory of the process: they are lost with it. Each event loop has queues of its own. `aclose`, and the end of the
    loop, wait for the jobs that run or could run; what is due later is dropped, with a line in the log. With AIOJOBS_RT_ENV=production
    its first use logs a warning.

    Args:
        concurrency: how many jobs run at once.
        shutdown_timeout: seconds for which jobs may finish at the end; then they are interrupted. Default:
            AIOJOBS_RT_SHUTDOWN_TIMEOUT, else 25.

    Raises:
        ConfigurationError: `concurrency` is less than 1.
    """

    def __init__(self, *, concurrency: int = 10, shutdown_timeout: float | None = None) -> None:
        super().__init__(SystemClock())
        if concurrency < 1:
            raise ConfigurationError(f"concurrency must be at least 1, got {concurrency}")
        self._concurrency = concurrency
        self._timeout = shutdown_timeout
        self._sessions = PerLoop(self._session)
        self._told = False

    def state(self) -> _Session:
        """The queues of the running loop."""
        return self._sessions.here()

    async def enqueue(self, envelopes: Sequence[Envelope], /) -> list[bool]:
        """Enqueue jobs; see `Adapter.enqueue`. They start at the caller's next await."""
        self._tell()
        state = self.state()
        await state.bind_to_loop()
        enqueued = await super().enqueue(envelopes)
        state.fill()
        return enqueued

    def wake(self) -> None:
        """Look for jobs that may run now."""
        self.state().fill()

    async def aclose(self) -> None:
        """Wait for the jobs that run or could run, as long as `shutdown_timeout` says. It may be used again."""
        if self._sessions.exists():
            session = self.state()
            await session.aclose()
            self._sessions.forget()

    def _session(self) -> _Session:
        timeout = settings().shutdown_timeout if self._timeout is None else self._timeout
        return _Session(self.clock, concurrency=self._concurrency, shutdown_timeout=timeout)

    def _tell(self) -> None:
        if self._told:
            return
        self._told = True
        if os.environ.get("AIOJOBS_RT_ENV", "").lower() == "production":
            logger.warning(
                "AsyncAdapter is for development: jobs live in this process's memory and are lost with it; use RedisAdapter in production"
            )
        else:
            logger.info("jobs run in this process (AsyncAdapter, for development) and are lost with it")


class _Session(State):
    """The queues of one loop."""

    def __init__(self, clock: SystemClock, *, concurrency: int, shutdown_timeout: float) -> None:
        super().__init__(clock, Memory(process_name("async")))
        self._concurrency = concurrency
        self._shutdown_timeout = shutdown_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._guard: AsyncGenerator[None] | None = None
        self._closing = False

    async def bind_to_loop(self) -> None:
        """Have the loop drain the queues when it ends: a loop closes the async generators that run in it."""
        if self._guard is None:
            self._guard = self._drain_with_loop()
            await anext(self._guard)

    def fill(self) -> None:
        """Start what may run, and set the timer for what is due next."""
        now_ms = self.clock.now_ms()
        while len(self.runs) < self._concurrency and (held := self.memory.take(now_ms)) is not None:
            run = self.start(held)
            run.task.add_done_callback(partial(self._done, run))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ms = self.memory.next_due()
        if due_ms is not None and not self._closing:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0, due_ms - now_ms) / 1000, self.fill)

    def _done(self, run: Run, _: object) -> None:
        self.finish(run)
        if not self._closing:
            self.fill()

    async def aclose(self) -> None:
        if self._guard is None:
            await self._drain()
        else:
            await self._guard.aclose()

    async def _drain_with_loop(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await self._drain()

    async def _drain(self) -> None:
        deadline = asyncio.get_running_loop().time() + self._shutdown_timeout
        self._closing = True
        while True:
            self.fill()
            left = deadline - asyncio.get_running_loop().time()
            if not self.runs or left <= 0:
                break
            await asyncio.wait([run.task for run in self.runs.values()], timeout=left, return_when="FIRST_COMPLETED")
            await asyncio.sleep(0)  # their callbacks
        running = [run.task for run in self.runs.values()]
        for run in list(self.runs.values()):
            run.halt("stop")
        if running:
            await asyncio.wait(running, timeout=1.0)
            await asyncio.sleep(0)
        if self._timer is not None:
            self._timer.cancel()
        await self.lifespans.leave()
        dropped = sum(held.place != "dead" for held in self.memory.jobs.values())
        if dropped:
            logger.warning(
                "%d jobs that wait or were interrupted are dropped: AsyncAdapter keeps them in memory", dropped
            )

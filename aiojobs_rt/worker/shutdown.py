"""Shutdown: the end of a worker, step by step. (G6)

1. The buffer goes back to its queues, and running jobs may finish for `timeout` seconds.
2. What still runs is put back first and cancelled after: better twice than lost. `finally` blocks have a second.
3. What a read still brings is put back, all outcomes are settled, the leases given up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from aiojobs_rt.adapters.redis.connection import Away
from aiojobs_rt.core.execution import interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from aiojobs_rt.worker.buffer import Buffer
    from aiojobs_rt.worker.heartbeat import Heartbeat
    from aiojobs_rt.worker.settler import Settler
    from aiojobs_rt.worker.slots import Slots
    from aiojobs_rt.worker.state import WorkerState

logger = logging.getLogger("aiojobs_rt.worker")

FINALLY = 1.0


class Shutdown:
    """Ends one worker.

    Args:
        state, buffer, slots, settler: the worker's.
        timeout: seconds for which running jobs may finish.
        leave: gives up the leases.

    Attributes:
        at_once: set when running jobs are not to be waited for.
        asked_at: since when it is expected (time.monotonic).
    """

    def __init__(
        self,
        state: WorkerState,
        *,
        buffer: Buffer,
        slots: Slots,
        settler: Settler,
        timeout: float,
        leave: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._state = state
        self._buffer = buffer
        self._slots = slots
        self._settler = settler
        self._timeout = timeout
        self._leave = leave
        self._done = False
        self.asked_at: float | None = None
        self.at_once = asyncio.Event()

    def expect(self, heartbeat: Heartbeat | None, *, at_once: bool = False) -> None:
        """It is asked for: its time begins, also when the event loop does not move. From then on the heartbeat enforces it."""
        now = time.monotonic()
        self.asked_at = self.asked_at or now
        if heartbeat is not None:
            latest = now + FINALLY + 3 if at_once else self.asked_at + self._timeout + FINALLY + 5
            heartbeat.deadline = min(latest, heartbeat.deadline or latest)

    async def run(self, fetching: asyncio.Task[None], heartbeat: Heartbeat | None) -> None:
        """End in good order; `fetching` is the fetcher's task, and the heartbeat enforces the time that this may take."""
        asked_at = self.asked_at or time.monotonic()
        if heartbeat is not None:
            heartbeat.deadline = max(asked_at + self._timeout + FINALLY + 5, time.monotonic() + FINALLY + 5)
        for delivery in self._buffer.drain():
            self._settler.release(delivery)
        self._buffer.close()
        deadline = asked_at + self._timeout
        left_s = max(0.0, deadline - time.monotonic())
        logger.info("stopping: %d running job(s) may finish within %.3g s", len(self._slots.running), left_s)
        await _first_of(deadline, self._slots.wait_idle(), self.at_once.wait())
        left = self._slots.running
        if left:
            logger.warning("%d job(s) are still running: they are put back, then cancelled", len(left))
            for delivery in left:
                if delivery.message is not None and delivery.consumer == delivery.served.consumer:
                    self._settler.release(delivery, interrupted(delivery.message).message.meta())
            await _first_of(time.monotonic() + 2, self._settler.flush())
            self._slots.halt("stop", lambda _: True)
            if heartbeat is not None:
                heartbeat.deadline = time.monotonic() + FINALLY + 3
            await _first_of(time.monotonic() + FINALLY, self._slots.wait_idle())
        await _first_of(max(deadline, time.monotonic()) + 2, asyncio.wait([fetching]), self.at_once.wait())
        for delivery in self._buffer.drain():
            self._settler.release(delivery)
        await _first_of(max(deadline, time.monotonic()) + 2, self._settler.flush())
        await _first_of(time.monotonic() + 2, self._leave())
        self._done = True
        logger.info("stopped after %d job(s)", self._slots.finished)
        if heartbeat is not None and self._slots.running:
            heartbeat.deadline = time.monotonic()

    async def give_back(self) -> None:
        """Put back what is still held, when the worker was cancelled instead of stopped, and give up the leases."""
        if self._done:
            return
        self._buffer.close()
        try:
            await self._settler.flush()
            for served in self._state.queues.values():
                for held in served.held.values():
                    for delivery in list(held.values()):
                        message = delivery.message
                        self._settler.release(delivery, b"" if message is None else interrupted(message).message.meta())
            await self._settler.flush()
            await self._leave()
        except Away as error:  # what follows closes the connections, and ends the thread that renews the leases
            logger.error("while stopping: %s; what is left here is reclaimed by other workers", error)  # noqa: TRY400 - an outage


async def to_its_end(coroutine: Coroutine[Any, Any, None], *, timeout: float) -> None:  # noqa: ASYNC109 - what is left then is cancelled
    """Run it, for at most `timeout` seconds, however often the caller is cancelled meanwhile; then the caller is told.

    Raises:
        CancelledError: the caller was cancelled; the coroutine has ended.
    """
    task = asyncio.create_task(coroutine)
    deadline = time.monotonic() + timeout
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task], timeout=max(0.0, deadline - time.monotonic()))
        except asyncio.CancelledError as error:
            cancelled = error
        if time.monotonic() >= deadline:
            task.cancel()
            deadline += timeout
    if cancelled is not None:
        raise cancelled
    if not task.cancelled():
        task.result()


async def _first_of(deadline: float, *waits: Any) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=max(0.0, deadline - time.monotonic()), return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                logger.error("while stopping: %s: %s", type(error).__name__, error)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

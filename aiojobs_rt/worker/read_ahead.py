"""How much is read, and when: enough that no slot waits, and no more than this worker runs at once.

1. The free slots, and beyond them what the slots finish in about 50 ms at the rate that is measured: nothing for slow jobs, hundreds for
   fast ones. (`prefetch` puts a fixed number in the place of that.)
2. When there is no room, the fetcher waits here until slots are free or the buffer runs low.
3. What has waited in the buffer for 250 ms is put back at no charge, and nothing is read ahead until the buffer runs low again.
4. While too much is unsettled, nothing is read.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiojobs_rt.settings import Prefetch
    from aiojobs_rt.worker.buffer import Buffer
    from aiojobs_rt.worker.settler import Settler
    from aiojobs_rt.worker.slots import Slots
    from aiojobs_rt.worker.state import WorkerState

AHEAD = 0.05
MOST_AHEAD = 1_000
STALE = 0.25


class ReadAhead:
    """Says how many entries to ask for.

    Args:
        state: the worker's.
        buffer: what waits.
        slots: how fast they are.
        settler: where stale entries are put back.
        prefetch: how many entries to read ahead of the free slots; "auto": by the measured rate.
    """

    def __init__(
        self, state: WorkerState, *, buffer: Buffer, slots: Slots, settler: Settler, prefetch: Prefetch
    ) -> None:
        self._state = state
        self._buffer = buffer
        self._slots = slots
        self._settler = settler
        self._prefetch: Prefetch = prefetch
        self._rate = 0.0
        self._measured_at = time.monotonic()
        self._measured = 0
        self._hoarding = False

    def want(self) -> int:
        """How many entries there is room for."""
        if self._settler.overloaded:
            return 0
        allowance = self._measure() if self._prefetch == "auto" else self._prefetch
        if self._hoarding:
            allowance = 0
        self._buffer.low = allowance // 2
        return self._buffer.idle + allowance - len(self._buffer)

    async def wait_for_space(self) -> None:
        """Wait until slots are free or the buffer runs low; meanwhile put back what waits for too long."""
        if self._settler.overloaded:
            self._settler.less_unsettled.clear()
            if self._state.quiet:  # it was set before the event was cleared: nobody sets it again
                return
            await self._settler.less_unsettled.wait()
            return
        self._buffer.ran_low.clear()
        if self._state.quiet or (self._buffer.idle and not len(self._buffer)):
            return
        try:
            async with asyncio.timeout(STALE / 2 if len(self._buffer) else None):
                await self._buffer.ran_low.wait()
                self._hoarding = False
        except TimeoutError:
            stale = self._buffer.drain(older_than=time.monotonic() - STALE)
            for delivery in stale:
                self._settler.release(delivery)
            if stale:
                self._hoarding, self._rate = True, 0.0

    def _measure(self) -> int:
        """What the slots finish in about 50 ms."""
        now = time.monotonic()
        if now - self._measured_at >= AHEAD:
            finished = self._slots.finished
            rate = (finished - self._measured) / (now - self._measured_at)
            self._rate = rate if rate > self._rate else 0.5 * self._rate + 0.5 * rate
            self._measured_at, self._measured = now, finished
        return min(int(self._rate * AHEAD), MOST_AHEAD)

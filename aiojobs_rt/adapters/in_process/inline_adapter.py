"""InlineAdapter: a job runs while it is enqueued."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiojobs_rt.adapters.in_process.base import InProcessAdapter, State, process_name
from aiojobs_rt.adapters.in_process.clocks import SystemClock
from aiojobs_rt.adapters.in_process.memory import Memory
from aiojobs_rt.adapters.in_process.per_loop import PerLoop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiojobs_rt.adapters.base import Envelope

logger = logging.getLogger("aiojobs_rt.in_process")


class InlineAdapter(InProcessAdapter):
    """Runs each job at `perform_later`, which returns when the run has ended: for scripts and simple tests.

    What the job raises is not raised by `perform_later`: it becomes the job's outcome, as everywhere; ask the handle. What is due
    later (`set(wait=...)`, a retry with a wait, a snooze) stays scheduled or retrying, with a warning in the log: nothing here would
    run it. A job that enqueues another runs it at once, within itself. Cancelling the call interrupts the job, which stays queued.
    """

    def __init__(self) -> None:
        super().__init__(SystemClock())
        memory = Memory(process_name("inline"))
        self._states = PerLoop(lambda: State(self.clock, memory))

    def state(self) -> State:
        """The queues, and what runs of them in this loop."""
        return self._states.here()

    async def enqueue(self, envelopes: Sequence[Envelope], /) -> list[bool]:
        """Enqueue jobs, and run those that are due; see `Adapter.enqueue`."""
        enqueued = await super().enqueue(envelopes)
        state = self.state()
        for envelope in envelopes:
            while held := state.memory.take(self.clock.now_ms(), lambda held: held.message.id == envelope.id):  # noqa: B023 - called at once
                await state.perform(held)
            status = state.memory.status(envelope.id, self.clock.now_ms())
            if status in ("scheduled", "retrying"):
                logger.warning(
                    "job %s (%s) is %s and will not run: InlineAdapter runs only what is due at once; AsyncAdapter waits",
                    envelope.id,
                    envelope.job,
                    status,
                )
        return enqueued

    async def aclose(self) -> None:
        """Leave the lifespans of this loop. It may be used again."""
        if self._states.exists():
            await super().aclose()

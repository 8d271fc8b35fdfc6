"""What the in-process adapters have in common: queues, runs and waiters, and the answers that a handle asks for."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from aiojobs_rt.adapters.default import in_process
from aiojobs_rt.adapters.in_process.hosts import InProcessHost
from aiojobs_rt.adapters.in_process.lifespans import Lifespans
from aiojobs_rt.adapters.in_process.runner import Run, Runner
from aiojobs_rt.core import events
from aiojobs_rt.core.context import about
from aiojobs_rt.core.lines import log_outcome
from aiojobs_rt.core.outcome import Released, Succeeded
from aiojobs_rt.core.progress import progress_from
from aiojobs_rt.errors import ResultNotKept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiojobs_rt.adapters.base import Ended, Envelope, Status
    from aiojobs_rt.adapters.in_process.clocks import SystemClock
    from aiojobs_rt.adapters.in_process.memory import Held, Memory
    from aiojobs_rt.core.continuation import Host
    from aiojobs_rt.core.outcome import Outcome
    from aiojobs_rt.core.progress import Progress

logger = logging.getLogger("aiojobs_rt.in_process")


class State:
    """Queues, and what runs of them in one event loop.

    Args:
        clock: the time.
        memory: the queues.
        host: asked by continuations; None: one that never stops.
    """

    def __init__(self, clock: SystemClock, memory: Memory, host: Host | None = None) -> None:
        self.memory = memory
        self.clock = clock
        self.lifespans = Lifespans()
        self.runner = Runner(memory.name, clock.now_ms, self.lifespans, host or InProcessHost())
        self.runs: dict[str, Run] = {}
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}

    def start(self, held: Held) -> Run:
        """Run a job that was taken."""
        run = self.runs[held.message.id] = self.runner.start(held)
        return run

    def finish(self, run: Run) -> Outcome:
        """Settle a run whose task is done."""
        held = run.held
        del self.runs[held.message.id]
        self.runner.ended()
        outcome = Released(held.message) if run.task.cancelled() else run.task.result()
        message = run.message
        about_it = about(message.id, message.job, message.queue, message.runs)  # its context is gone
        if isinstance(outcome, Succeeded):
            logger.debug("job %s (%s) has succeeded", message.id, message.job, extra=about_it)
        log_outcome(logger, message, outcome, extra=about_it, traceback=True)
        if events.subscribed:
            events.tell_outcome(run.message, outcome, None if run.began is None else time.monotonic() - run.began)
        self.memory.settle(held, outcome, self.clock.now_ms())
        self.tell(held.message.id)
        return outcome

    async def perform(self, held: Held) -> Outcome:
        """Run a job to its outcome; a caller that is cancelled interrupts it, and it is put back."""
        run = self.start(held)
        try:
            await asyncio.wait({run.task})
        except asyncio.CancelledError:
            run.halt("stop")
            await asyncio.wait({run.task})
            raise
        finally:
            outcome = self.finish(run)
        return outcome

    def cancel(self, job_id: str) -> bool:
        """See `Adapter.cancel`."""
        answer = self.memory.cancel(job_id, self.clock.now_ms())
        if answer == "marked" and (run := self.runs.get(job_id)) is not None:
            run.halt("cancel")
        if answer == "gone":
            self.tell(job_id)
        return answer in ("gone", "marked")

    def tell(self, job_id: str) -> None:
        """Wake who waits for a job."""
        for waiter in self._waiters.get(job_id, ()):
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, job_id: str) -> Ended:
        """Wait until a job has ended."""
        while (ended := self.memory.ended(job_id, self.clock.now_ms())) is None:
            waiter = asyncio.get_running_loop().create_future()
            waiters = self._waiters.setdefault(job_id, [])
            waiters.append(waiter)
            try:
                await waiter
            finally:
                waiters.remove(waiter)
                if not waiters:
                    self._waiters.pop(job_id, None)
        return ended


class InProcessAdapter:
    """Carries jobs inside this process; see the classes that derive from it.

    Attributes:
        checks_arguments: arguments are read back from their bytes when a job is enqueued, and compared.
        stays_in_process: jobs of classes that are encrypted are carried as they are, and need no key.
    """

    checks_arguments = True
    stays_in_process = True

    def __init__(self, clock: SystemClock) -> None:
        self.clock = clock
        in_process.made = True

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def state(self) -> State:
        """The queues that hold here."""
        raise NotImplementedError

    async def enqueue(self, envelopes: Sequence[Envelope], /) -> list[bool]:
        """Enqueue jobs; see `Adapter.enqueue`."""
        state = self.state()
        now_ms = self.clock.now_ms()
        enqueued: list[bool] = []
        for envelope in envelopes:
            new = state.memory.put(envelope, now_ms)
            if new:
                about_it = about(envelope.id, envelope.job, envelope.queue)
                logger.debug("job %s (%s) is enqueued", envelope.id, envelope.job, extra=about_it)
            enqueued.append(new)
        return enqueued

    async def status(self, job_id: str, /) -> Status:
        """Where a job is; see `JobHandle.status`."""
        return self.state().memory.status(job_id, self.clock.now_ms())

    async def progress(self, job_id: str, /) -> Progress | None:
        """How far the steps of a job have got; see `JobHandle.progress`."""
        held = self.state().memory.jobs.get(job_id)
        return None if held is None else progress_from(held.message.meta())

    async def cancel(self, job_id: str, /) -> bool:
        """Cancel a job; see `JobHandle.cancel`."""
        return self.state().cancel(job_id)

    async def wait_ended(self, job_id: str, /, *, timeout_ms: int | None) -> Ended:
        """Wait until a job has ended; see `Adapter.wait_ended`."""
        ended: Ended | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000):
                ended = await self.state().wait(job_id)
        if ended is None:
            raise TimeoutError(f"job {job_id} has not ended within {(timeout_ms or 0) / 1000:g} s{self.advice()}")
        if ended.outcome == "unknown":
            raise ResultNotKept(
                f"nothing is known of job {job_id}: its result was not kept, or has expired", job_id=job_id
            )
        return ended

    def advice(self) -> str:
        """What is said to who waits in vain."""
        return ""

    def wake(self) -> None:
        """Look for jobs that may run now: one was revived, a queue resumed."""

    async def aclose(self) -> None:
        """Leave the lifespans of this loop. It may be used again."""
        await self.state().lifespans.leave()


def process_name(kind: str) -> str:
    """What stands as the worker in records."""
    return f"{kind}-{os.getpid()}"

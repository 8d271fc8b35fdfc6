"""Runner: one job in a task of its own, with its timeout and its cancellation.

1. Its class is looked up; a job of an unknown class goes back, as in a worker.
2. A task in a fresh context runs it (`core/execution.py`): nothing that a job sets is seen by another.
3. Its outcome, or None when it is to be put back, is what the task returns.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from aiojobs_rt.adapters.default import fresh_context
from aiojobs_rt.core import events, registry
from aiojobs_rt.core.attempt import describe, error_record
from aiojobs_rt.core.context import host, running
from aiojobs_rt.core.execution import Halt, Runtime, execute, interrupted, unknown_class
from aiojobs_rt.core.outcome import Cancelled, Dead

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiojobs_rt.adapters.in_process.lifespans import Lifespans
    from aiojobs_rt.adapters.in_process.memory import Held
    from aiojobs_rt.core.continuation import Host
    from aiojobs_rt.core.execution import HaltReason
    from aiojobs_rt.core.outcome import Outcome
    from aiojobs_rt.job import Job

logger = logging.getLogger("aiojobs_rt.in_process")


class Run:
    """One run of one job.

    Attributes:
        task: returns the outcome.
        message: as it is when the run begins.
        began: time.monotonic() of its start; None: not started.
    """

    def __init__(self, held: Held, runner: Runner) -> None:
        self.held = held
        self.message = held.message
        self.began: float | None = None
        self._halt = Halt()
        self._runner = runner
        self._timer: asyncio.TimerHandle | None = None
        self.task = asyncio.get_running_loop().create_task(self._run(), context=fresh_context())

    def halt(self, reason: HaltReason) -> None:
        """Interrupt it, once."""
        if not self._halt.reason and not self.task.done():
            self._halt.reason = reason
            self.task.cancel()

    async def _run(self) -> Outcome:
        message = self.held.message
        runtime = self._runner.runtime
        job_class = registry.resolve(message.job)
        if job_class is None:
            return unknown_class(message, runtime)
        options = job_class.options()
        timeout_ms = message.options.get("timeout", options.timeout_ms)
        running.set(message)
        host.set(self._runner.host)
        try:
            await self._runner.lifespans.enter(job_class)
            if timeout_ms:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(timeout_ms / 1000, self.halt, "timeout")
            self.began = time.monotonic()
            logger.debug("job %s (%s) starts", message.id, message.job)
            if events.subscribed:
                events.tell("started", message)
            outcome = await execute(message, job_class, self._halt, runtime)
        except asyncio.CancelledError:
            outcome = None  # its loop ends, or it was halted before it began
        except Exception as error:
            logger.exception("job %s (%s) can't be run", message.id, message.job)
            name = type(error).__qualname__
            record = error_record(name, describe(error), "", runtime.now_ms(), runtime.worker)
            return Dead(message, f"it can't be run: {name}", record)
        finally:
            if self._timer is not None:
                self._timer.cancel()
        if outcome is not None:
            return outcome
        if self._halt.why() == "cancel":
            return Cancelled(message.options.get("keep_result", options.keep_ms))
        return interrupted(message)


class Runner:
    """What the runs of an adapter share.

    Args:
        name: what stands as the worker in records.
        now_ms: the clock.
        lifespans: of the job classes.
        host: asked by continuations.
    """

    def __init__(self, name: str, now_ms: Callable[[], int], lifespans: Lifespans, host: Host) -> None:
        self.host = host
        self.lifespans = lifespans
        states: dict[type[Job], Any] = lifespans.states
        self.runtime = Runtime(worker=name, now_ms=now_ms, states=states, is_cancelled=self._loop_ends)
        self._runs = 0
        self._witness: asyncio.Task[Any] | None = None

    def start(self, held: Held) -> Run:
        """Run a job."""
        if self._witness is None:
            # a loop that ends cancels all its tasks; a job that cancels its own does not cancel this one
            self._witness = asyncio.get_running_loop().create_task(asyncio.Event().wait())
        self._runs += 1
        return Run(held, self)

    def ended(self) -> None:
        """Note that a run is over."""
        self._runs -= 1
        if not self._runs and self._witness is not None:
            self._witness.cancel()
            self._witness = None

    def _loop_ends(self) -> bool:
        return self._witness is not None and (self._witness.done() or self._witness.cancelling() > 0)

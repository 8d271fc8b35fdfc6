"""Slots: N runner tasks, fed from the buffer; N is how many jobs run at once.

1. A slot takes the next delivery. A malformed one, one of an unknown class, a cancelled one ends here.
2. It runs the job (`core/execution.py`) in a context that no other job has touched.
3. It hands the outcome to the settler and takes the next.

A slot is spawned once, not per job. One sweeper keeps all jobs' timeouts. A job that is halted (timeout, cancel, stopping worker, lost
lease) is cancelled once, like any asyncio task, so that its `finally` blocks may await; one that ignores it for 10 s is reported stuck
and its slot replaced.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, cast

from aiojobs_rt.core import events, registry
from aiojobs_rt.core.attempt import describe, error_record
from aiojobs_rt.core.context import host, running
from aiojobs_rt.core.execution import (
    UNKNOWN_FOR_MS,
    UNKNOWN_LONGEST_MS,
    Halt,
    HaltReason,
    Runtime,
    execute,
    unknown_class,
)
from aiojobs_rt.core.message import JobMessage, MalformedMessage, NewerMessage, note_unread
from aiojobs_rt.core.outcome import SUCCEEDED, Cancelled, Dead, Retried
from aiojobs_rt.errors import DecryptionError, MissingKey
from aiojobs_rt.worker import forked
from aiojobs_rt.worker.buffer import TURN, Buffer

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from aiojobs_rt.worker.progress import Progress
    from aiojobs_rt.worker.served import Delivery
    from aiojobs_rt.worker.settler import Settler

logger = logging.getLogger("aiojobs_rt.slots")

STUCK_AFTER = 10.0
NEVER = float("inf")


class Slot:
    """One runner.

    Attributes:
        delivery: what it runs now.
        started: time.monotonic() of its start.
        deadline: time.monotonic() at which it has run too long.
    """

    __slots__ = ("deadline", "delivery", "halt", "halted_at", "retired", "started", "task")

    def __init__(self) -> None:
        self.halt = Halt()
        self.task: asyncio.Task[None] | None = None
        self.delivery: Delivery | None = None
        self.started = 0.0
        self.deadline = NEVER
        self.halted_at = NEVER
        self.retired = False


class Slots:
    """All slots of a worker.

    Args:
        concurrency: how many.
        buffer: where they take from.
        settler: where outcomes go.
        runtime: what a run needs to know.
        progress: keeps what the steps of jobs have reached.
    """

    def __init__(
        self, concurrency: int, *, buffer: Buffer, settler: Settler, runtime: Runtime, progress: Progress
    ) -> None:
        self.concurrency = concurrency
        self.finished = 0
        self._buffer = buffer
        self._settler = settler
        self._runtime = runtime
        self._progress = progress
        self._slots: set[Slot] = set()
        self._sweep = asyncio.Event()
        self._next_sweep = NEVER
        self._one_ended = asyncio.Event()
        self._awaited = 0

    async def run(self, group: TaskGroup) -> None:
        """Start all slots in the group; sweep until cancelled."""
        for _ in range(self.concurrency):
            self._spawn(group)
        while True:
            await self._sweep_loop(group)

    @property
    def running(self) -> list[Delivery]:
        """What runs now."""
        return [slot.delivery for slot in self._slots if slot.delivery is not None]

    def halt(self, reason: HaltReason, which: Callable[[Delivery], bool]) -> int:
        """Interrupt the running jobs for which `which` holds; how many."""
        found = [slot for slot in self._slots if slot.delivery is not None and which(slot.delivery)]
        for slot in found:
            self._halt(slot, reason)
        return len(found)

    async def wait_idle(self) -> None:
        """Wait until no job runs."""
        self._awaited += 1
        try:
            while any(slot.delivery is not None for slot in self._slots):
                self._one_ended.clear()
                await self._one_ended.wait()
        finally:
            self._awaited -= 1

    def _spawn(self, group: TaskGroup) -> None:
        slot = Slot()
        self._slots.add(slot)
        # a fresh context: what a job left in its slot's is never seen by another
        Context().run(group.start_soon, self._run_slot, slot, group)

    def _replace(self, slot: Slot, group: TaskGroup) -> None:
        self._slots.discard(slot)
        if not slot.retired:
            self._spawn(group)

    async def _run_slot(self, slot: Slot, group: TaskGroup) -> None:
        task = slot.task = cast("asyncio.Task[None]", asyncio.current_task())
        host.set(self._progress)
        verbose, pid = logger.isEnabledFor(logging.DEBUG), forked.pid
        buffer, settler = self._buffer, self._settler
        fresh = True  # just woken
        began = run_began = 0.0  # what it takes now; since when it runs jobs that never wait
        try:
            while True:
                if fresh:
                    if buffer.turning and not buffer.closed:
                        await buffer.wait()
                        continue
                    began = run_began = time.monotonic()
                elif began - run_began > TURN:
                    await buffer.turn()
                    began = run_began = time.monotonic()
                delivery = buffer.pop()
                if delivery is None:
                    if buffer.closed:
                        return
                    running.set(None)
                    await buffer.wait()
                    fresh = True
                    continue
                fresh = False
                served = delivery.served
                if began > served.safe_until:
                    settler.release_unsafe(delivery)
                    began = time.monotonic()
                    continue
                try:
                    message = delivery.read()
                except (MalformedMessage, NewerMessage, DecryptionError) as error:
                    self._settle_unreadable(delivery, error)
                    began = time.monotonic()
                    continue
                running.set(message)  # also for the settler's lines about it
                job_class = registry.resolve(message.job)
                if job_class is None:
                    settler.put(delivery, unknown_class(message, self._runtime), began, began)
                    began = time.monotonic()
                    continue
                if served.cancels and message.id in served.cancels:
                    settler.put(delivery, Cancelled(job_class.options().keep_ms), began, began)
                    began = time.monotonic()
                    continue
                slot.delivery = delivery
                slot.started = began
                if verbose:
                    logger.debug("job %s (%s) starts", message.id, message.job)
                if events.subscribed:
                    events.tell("started", message)
                timeout_ms = job_class._plan.options.timeout_ms  # noqa: SLF001 - made for this
                if message.options:
                    timeout_ms = message.options.get("timeout", timeout_ms)
                if timeout_ms:
                    self._set_deadline(slot, began + timeout_ms / 1000)
                baseline = copy_context()
                try:
                    outcome = await execute(message, job_class, slot.halt, self._runtime)
                except Exception as error:  # noqa: BLE001 - no job takes its worker down (G13)
                    outcome = self._broken(message, error)
                if forked.pid != pid:
                    forked.leave(0 if outcome is SUCCEEDED else 1)
                ended = time.monotonic()
                if ended - began > TURN:
                    run_began = ended
                slot.delivery = None
                self.finished += 1
                slot.deadline = NEVER
                if outcome is not None:
                    settler.put(delivery, outcome, began, ended)
                if message.extra:
                    self._progress.ended(message)
                if slot.retired:
                    return
                if self._awaited:
                    self._one_ended.set()
                if slot.halt.reason or task.cancelling():
                    # by `_halt`, also where the job took its cancellation back (`uncancel`), or by the job itself; what is still on its
                    # way must not reach another job
                    await asyncio.sleep(0)
                    self._replace(slot, group)
                    return
                context = copy_context()
                if context != baseline and _is_dirty(context, baseline):
                    self._replace(slot, group)
                    return
                began = ended  # of the next one, at once
        except asyncio.CancelledError:
            if self._runtime.is_cancelled():
                raise
            self._replace(slot, group)  # a job cancelled the task that it had run in, after its end
        finally:
            slot.delivery = None
            self._slots.discard(slot)
            self._one_ended.set()

    def _broken(self, message: JobMessage, error: Exception) -> Dead:
        logger.error("job %s (%s) can't be run", message.id, message.job, exc_info=error)
        name = type(error).__qualname__
        record = error_record(name, describe(error), "", self._runtime.now_ms(), self._runtime.worker)
        return Dead(message, f"it can't be run: {name}", record)

    def _settle_unreadable(self, delivery: Delivery, error: Exception) -> None:
        now_ms = self._runtime.now_ms()
        fields = delivery.fields
        named = len(fields) == 8 and fields[0] == b"id"
        job_id = fields[1].decode("utf-8", "replace") if named else ""
        job = fields[3].decode("utf-8", "replace") if named else ""
        if not job_id.startswith(delivery.served.name) or not job_id.isprintable() or len(job_id) > 300:
            job_id = f"{delivery.served.name}.malformed-{delivery.entry.decode()}"
        job = "".join(char if char.isprintable() else "?" for char in job[:200])
        message = JobMessage(job_id, job, b"", delivery.served.name)
        delivery.message = message
        running.set(message)
        began = time.monotonic()
        reason = str(error) if isinstance(error, DecryptionError) else f"malformed message: {error}"
        record = error_record(type(error).__name__, str(error), "", now_ms, self._runtime.worker)
        if isinstance(error, (NewerMessage, MissingKey)):
            fields[7], unread_ms = note_unread(fields[7], now_ms)
            if unread_ms < UNKNOWN_FOR_MS:
                # as long again as it has been unread: 1 s, 1 s, 2 s, 4 s and so on
                delay_ms = min(max(unread_ms, 1000), UNKNOWN_LONGEST_MS)
                retried = Retried(message, delay_ms, b"" if unread_ms else record)
                self._settler.put(delivery, retried, began, began, keep_meta=True)
                return
            reason = f"no worker can read it: {error}"
        self._settler.put(delivery, Dead(message, reason, record), began, began, keep_meta=True)

    # -- halting ---------------------------------------------------------------------------------

    def _halt(self, slot: Slot, reason: HaltReason) -> None:
        if slot.halt.reason or slot.task is None:
            return
        slot.halt.reason = reason
        slot.halted_at = time.monotonic()
        slot.task.cancel()
        self._set_deadline(slot, slot.halted_at + STUCK_AFTER)

    def _set_deadline(self, slot: Slot, deadline: float) -> None:
        slot.deadline = deadline
        if deadline < self._next_sweep:
            self._sweep.set()

    async def _sweep_loop(self, group: TaskGroup) -> None:
        self._sweep.clear()
        self._next_sweep = min((slot.deadline for slot in self._slots), default=NEVER)
        pause = max(0.01, self._next_sweep - time.monotonic())
        try:
            async with asyncio.timeout(None if pause == NEVER else pause):
                await self._sweep.wait()
                return
        except TimeoutError:
            pass
        now = time.monotonic()
        for slot in list(self._slots):
            if slot.deadline > now or slot.delivery is None:
                continue
            if slot.halt.reason:
                self._replace_stuck(slot, group)
            else:
                self._halt(slot, "timeout")

    def _replace_stuck(self, slot: Slot, group: TaskGroup) -> None:
        message = slot.delivery.message if slot.delivery is not None else None
        logger.error(
            "job %s (%s) ignores its cancellation (%s) for %g s and goes on; its slot is replaced, and the job stays with this worker "
            "until it ends",
            message.id if message else "?",
            message.job if message else "?",
            slot.halt.reason,
            STUCK_AFTER,
        )
        slot.retired = True
        slot.deadline = NEVER
        self._spawn(group)


def _is_dirty(context: Context, baseline: Context) -> bool:
    """Whether a job changed a variable; decimal's own, which any arithmetic sets, does not count."""
    if len(context) < len(baseline):
        return True
    for variable, value in context.items():
        if variable.name != "decimal_context" and (variable not in baseline or baseline[variable] is not value):
            return True
    return False

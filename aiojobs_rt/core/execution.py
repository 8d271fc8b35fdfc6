"""One run of a job: a message in, an outcome out, with no I/O of its own. The same for every adapter.

1. The class is looked up by the message's name; a job that expired is discarded. The context that travelled with it is set.
2. The arguments are loaded from their bytes, and the records that they refer to located, inside the scope of the job's policies.
3. `perform` runs, inside its callbacks.
4. What it returned, or raised, becomes an `Outcome`.

Whatever a job raises is its own failure: `SystemExit`, an exception group, a `CancelledError` that it leaked. Only a cancellation that
was meant for it, or for the worker, is more than that; `Halt` tells them apart. (G13)
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from random import random
from typing import TYPE_CHECKING, Any, Literal

from pydantic_core import ValidationError

from aiojobs_rt.core import events
from aiojobs_rt.core.attempt import MAX_REASON, clean, error_record, record_of, summary
from aiojobs_rt.core.continuation import RESUME_AFTER_MS, interruption_in, resumed
from aiojobs_rt.core.decision import Decision, decide, run_callback
from aiojobs_rt.core.hooks import Halted, run_chain, run_discard
from aiojobs_rt.core.message import ENCRYPTED
from aiojobs_rt.core.outcome import (
    SUCCEEDED,
    Cancelled,
    Dead,
    Discarded,
    Outcome,
    Released,
    Retried,
    Snoozed,
    Succeeded,
)
from aiojobs_rt.core.propagation import CONTEXT, Restored
from aiojobs_rt.errors import InvalidResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiojobs_rt.core.arguments import Arguments
    from aiojobs_rt.core.hooks import Hooks
    from aiojobs_rt.core.message import JobMessage
    from aiojobs_rt.core.options import Options
    from aiojobs_rt.job import Job

logger = logging.getLogger("aiojobs_rt.execution")

UNKNOWN_FOR_MS = 86_400_000
"""A job whose class no worker has known for so long is dead."""
UNKNOWN_LONGEST_MS = 900_000

BEGINS = "job %s (%s) begins with %s"
ENDS = ("discard", "exhausted", "dead")
"""Decisions after which a job does not run again, and has not succeeded."""

HaltReason = Literal["", "timeout", "cancel", "stop", "lost"]


class Halt:
    """Why the job that runs in a slot was interrupted from outside: one per slot, reset for each job."""

    __slots__ = ("reason",)

    def __init__(self) -> None:
        self.reason: HaltReason = ""

    def why(self) -> HaltReason:
        """The reason as it is now: it may change at any await."""
        return self.reason


class Runtime:
    """What a run needs to know of its worker.

    Args:
        worker: its name, for error records.
        now_ms: Redis' clock.
        states: what each class's `lifespan` yielded.
        is_cancelled: asked when the task in which a job runs was cancelled by somebody: whether it was the worker, not the job itself.
    """

    __slots__ = ("is_cancelled", "now_ms", "states", "worker")

    def __init__(
        self,
        *,
        worker: str,
        now_ms: Callable[[], int],
        states: dict[type[Job], Any],
        is_cancelled: Callable[[], bool] = lambda: True,
    ) -> None:
        self.worker = worker
        self.now_ms = now_ms
        self.states = states
        self.is_cancelled = is_cancelled


async def execute(message: JobMessage, job_class: type[Job], halt: Halt, runtime: Runtime) -> Outcome | None:
    """Run a job; None when it was interrupted because it is no longer this worker's.

    Raises:
        asyncio.CancelledError: the worker itself is cancelled.
    """
    plan = job_class._plan  # noqa: SLF001 - made for this
    options = plan.options
    job: Job | None = None
    restored: Restored | None = None
    try:
        job = job_class() if plan.bare else job_class.__new__(job_class)
        job._message = message  # noqa: SLF001 - this is where a job gets its message
        if message.queue != options.queue:
            job.queue = message.queue
        if message.extra or message.options or options.expires_ms:
            expired = message.expired(options.expires_ms, runtime.now_ms)
            if expired:
                return Discarded(expired, keep_ms=message.options.get("keep_result", options.keep_ms))
            if CONTEXT in message.extra:
                restored = Restored(message.extra[CONTEXT])
        if not plan.bare:
            job.__init__()  # type: ignore[misc] # the class's own, with no arguments; made without it so that its errors are the job's
        if restored is not None:
            restored.check()
        if runtime.states:
            job.state = runtime.states.get(job_class)
        if plan.load is not None:
            value = await job.perform(**plan.load(message.args))
        else:
            arguments, raw = plan.arguments or job_class.signature(), message.args
            if plan.log_arguments:
                logger.info(BEGINS, message.id, message.job, shown_arguments(message, arguments))
            positional, named = await arguments.locate(raw) if arguments.refers else arguments.load(raw)
            if plan.hooks is None:
                value = await job.perform(*positional, **named)
            else:
                job._given = positional, named  # noqa: SLF001 - this is where a job gets them
                value = await run_chain(plan.hooks.perform, job, partial(job.perform, *positional, **named))
        keep_ms = options.keep_ms if not message.options else message.options.get("keep_result", options.keep_ms)
        if not keep_ms:
            return SUCCEEDED
        result = job_class.result()
        return Succeeded(result.dump(value), keep_ms, result.secret)
    except BaseException as error:  # noqa: BLE001 - whatever a job raises is its own failure (G13)
        return await _conclude(job, job_class, message, error, halt=halt, runtime=runtime)
    finally:
        if restored is not None:
            restored.undo()


def unknown_class(message: JobMessage, runtime: Runtime) -> Retried | Dead:
    """What becomes of a job whose class this worker does not know: back with backoff, as a newer deploy may know it; dead after 24 h."""
    now_ms = runtime.now_ms()
    since_ms = message.extra.get("unknown_since", now_ms)
    tries = message.extra.get("unknown_tries", 0)
    reason = f"no worker of this queue knows a job named {clean(message.job)[:200]!r}; import its module in the worker"
    record = error_record("UnknownJob", reason, "", now_ms, runtime.worker)
    if now_ms - since_ms >= UNKNOWN_FOR_MS:
        message = replace(message, extra={**message.extra, "dead": reason})
        return Dead(message, reason, record, message.options.get("keep_result", 0))
    delay_ms = min(1000 * 2 ** min(tries, 20), UNKNOWN_LONGEST_MS)
    extra = {**message.extra, "unknown_since": since_ms, "unknown_tries": tries + 1}
    return Retried(replace(message, extra=extra), delay_ms, b"" if tries else record)


def interrupted(message: JobMessage) -> Released:
    """A job that is put back while it runs, because its worker stops: costs no attempt; reported from the tenth on."""
    message = replace(message, interruptions=message.interruptions + 1)
    if events.subscribed:
        events.tell("interrupted", message, details={"reason": "stop"})
    if message.interruptions >= 10:
        logger.warning(
            "job %s (%s) was interrupted %d times by stopping workers; is it longer than --shutdown-timeout?",
            message.id,
            message.job,
            message.interruptions,
        )
    return Released(message)


async def _conclude(
    job: Job | None, job_class: type[Job], message: JobMessage, error: BaseException, *, halt: Halt, runtime: Runtime
) -> Outcome | None:
    """What an error comes to; `job` is None when the class could not even be made."""
    options = job_class.options()
    keep_ms = message.options.get("keep_result", options.keep_ms)
    reason = halt.why()
    if reason == "cancel":
        return Cancelled(keep_ms)
    if reason in ("stop", "lost"):
        return None
    if isinstance(error, Halted):
        logger.info("job %s (%s) is not performed: %s", message.id, message.job, error)
        return Discarded(clean(str(error))[:MAX_REASON], keep_ms)
    if reason == "timeout":
        late = TimeoutError(timed_out(message.options.get("timeout", options.timeout_ms)))
        late.__cause__ = error
        error = late
    elif isinstance(error, asyncio.CancelledError) and _is_for_worker(halt, runtime):
        raise error
    elif job is not None and job._continuation is not None and (interruption := interruption_in(error)) is not None:  # noqa: SLF001 - as below
        if interruption.counts:
            return interrupted(message)
        if events.subscribed:
            events.tell("interrupted", message, details={"reason": "isolated step"})
        return Released(message)
    elif isinstance(error, ValidationError) and _is_of_arguments(error):
        error = job_class.signature().explain(error)
    now_ms = runtime.now_ms()
    decision = decide_for(job_class if job is not None else object, options, message, error, now_ms)
    if job is not None and job._continuation is not None and (again := resumed(job, decision, error)):  # noqa: SLF001 - as above
        return Retried(again, RESUME_AFTER_MS, record_of(error, now_ms, runtime.worker))
    if decision.note:
        logger.error("job %s (%s): %s", message.id, message.job, decision.note)
    result = b""
    if decision.callback is not None:
        try:
            value = await run_callback(decision.callback, job, decision.error)
            result = _rescued(job_class, value) if decision.kind == "rescue" and keep_ms else b""
        except BaseException as wrong:
            if halt.why() in ("stop", "lost"):
                return None
            if halt.why() == "cancel":
                return Cancelled(keep_ms)
            if _is_more(wrong, halt, runtime):
                raise
            logger.exception("job %s (%s): its handler for %s failed", message.id, message.job, type(error).__name__)
            failure: BaseException = wrong
            if halt.why() != reason:  # the time was up while the handler ran
                failure = TimeoutError(timed_out(message.options.get("timeout", options.timeout_ms)))
                failure.__cause__ = wrong
            if wrong is not error:
                wrong.__context__ = error
            # the job's own declarations have had their turn
            decision, error = decide_for(object, options, message, failure, now_ms), failure
    if decision.kind == "rescue":
        return Succeeded(result, keep_ms, job_class.result().secret) if keep_ms else SUCCEEDED
    if events.subscribed and decision.policy is not None and decision.kind in ("exhausted", "dead"):
        events.tell("exhausted", message, error=summary(decision.error), details={"reason": decision.reason})
    outcome = _outcome(decision, message, error, keep_ms=keep_ms, now_ms=now_ms, worker=runtime.worker)
    if job is None or job_class._hooks is None:  # noqa: SLF001 - compiled with the class
        return outcome
    try:
        return await _call_back(
            job_class._hooks,  # noqa: SLF001 - as above
            job,
            decision,
            outcome,
            keep_ms=keep_ms,
            is_more=lambda wrong: _is_more(wrong, halt, runtime),
        )
    except asyncio.CancelledError:
        if halt.why() in ("stop", "lost"):
            return None
        if halt.why() == "cancel":
            return Cancelled(keep_ms)
        raise


async def _call_back(
    hooks: Hooks,
    job: Job,
    decision: Decision,
    outcome: Outcome,
    *,
    keep_ms: int,
    is_more: Callable[[BaseException], bool],
) -> Outcome:
    """Run the hooks that an outcome has. A retry is an enqueue, and its callbacks may halt it; an error in one loses no job."""
    if decision.kind in ENDS:
        await run_discard(hooks, job, decision.error, is_more)
    elif decision.kind == "retry" and hooks.enqueue:
        if decision.queue is not None:
            job.queue = decision.queue  # where it is enqueued now
        try:
            await run_chain(hooks.enqueue, job, _nothing)
        except Halted as halted:
            return Discarded(clean(f"its retry was {halted}")[:MAX_REASON], keep_ms)
        except BaseException as wrong:
            if is_more(wrong):
                raise
            logger.exception(
                "job %s (%s): an enqueue callback of its retry failed; it is retried all the same", job.id, job.name
            )
    return outcome


async def _nothing() -> None: ...


def _outcome(
    decision: Decision, message: JobMessage, error: BaseException, *, keep_ms: int, now_ms: int, worker: str
) -> Outcome:
    if decision.kind == "snooze":
        extra = {**message.extra, "snoozes": message.extra.get("snoozes", 0) + 1}
        return Snoozed(replace(message, extra=extra), decision.delay_ms)
    reason = clean(decision.reason)[:MAX_REASON]
    if decision.kind in ("discard", "exhausted"):
        return Discarded(reason if decision.policy is None else f"{reason}: {summary(error)}", keep_ms)
    record = record_of(error, now_ms, worker)
    failed = message.failed(decision.key, now_ms=now_ms)
    if decision.kind == "dead":
        failed.extra = {**failed.extra, "dead": reason}
        return Dead(failed, reason, record, keep_ms)
    if decision.priority is not None:
        failed.priority = decision.priority
    queue = decision.queue if decision.queue is not None and decision.queue != message.queue else None
    return Retried(failed, decision.delay_ms, record, queue)


def decide_for(
    policies: type[Any], options: Options, message: JobMessage, error: BaseException, now_ms: int
) -> Decision:
    """The decision by the declarations on a class; `object` has none."""
    return decide(
        policies,
        error,
        failures=message.failures,
        executions=message.executions,
        max_attempts=message.options.get("max_attempts", options.max_attempts),
        retry_for_ms=options.retry_for_ms,
        first_failed_ago_ms=now_ms - message.extra.get("failed_at", now_ms),
        random=random,
    )


def _is_more(error: BaseException, halt: Halt, runtime: Runtime) -> bool:
    """Whether what a callback raised is no failure of its own: the job was interrupted, or the worker is cancelled. (G13)"""
    if not isinstance(error, asyncio.CancelledError):
        return False
    return halt.why() in ("stop", "lost", "cancel") or _is_for_worker(halt, runtime)


def _is_for_worker(halt: Halt, runtime: Runtime) -> bool:
    """Whether a CancelledError is for the worker itself: somebody cancelled this task beside `halt`, and it was not the job."""
    task = asyncio.current_task()
    if task is None or task.cancelling() <= bool(halt.why()):
        return False
    if runtime.is_cancelled():
        return True
    while task.cancelling() > bool(halt.why()):
        task.uncancel()
    return False


def _rescued(job_class: type[Job], value: Any) -> bytes:
    """What a rescue_from handler returned, as the job's result; null when it does not fit."""
    try:
        return job_class.result().dump(value)
    except InvalidResult:
        return b"null"


def shown_arguments(message: JobMessage, arguments: Arguments) -> str:
    """The arguments for a log, which keeps for long and shows to many what was encrypted for all but the worker."""
    return "[encrypted]" if ENCRYPTED in message.extra else arguments.show(message.args)


def _is_of_arguments(error: ValidationError) -> bool:
    """Whether it was the loading of the arguments that failed: then no frame of perform is in the traceback."""
    trace = error.__traceback__
    return trace is not None and trace.tb_next is None


def timed_out(timeout_ms: int) -> str:
    return f"ran longer than its timeout of {timeout_ms / 1000:g} s"


__all__ = [
    "Halt",
    "HaltReason",
    "Runtime",
    "execute",
    "interrupted",
    "unknown_class",
]

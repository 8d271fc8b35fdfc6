"""One run of a job: a message in, an outcome out, with no I/O of its own. The same for every adapter.

1. The class is looked up by the message's name; a job that expired is discarded.
2. The arguments are loaded from their bytes, inside the scope of the job's policies.
3. `perform` runs.
4. What it returned, or raised, becomes an `Outcome`.

Whatever a job raises is its own failure: `SystemExit`, an exception group, a `CancelledError` that it leaked. Only a cancellation that
was meant for it, or for the worker, is more than that; `Halt` tells them apart. (G13)
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from dataclasses import replace
from random import random
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic_core import ValidationError

from aiojobs_rt.core.arguments import explain
from aiojobs_rt.core.decision import Decision, decide, perform_now_raises, run_callback
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
from aiojobs_rt.errors import unwrap

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiojobs_rt.core.message import JobMessage
    from aiojobs_rt.job import Job

logger = logging.getLogger("aiojobs_rt.execution")

MAX_MESSAGE = 10_000
MAX_TRACEBACK = 16 * 1024
UNKNOWN_FOR_MS = 86_400_000
"""A job whose class no worker has known for so long is dead."""
UNKNOWN_LONGEST_MS = 900_000

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
    """

    __slots__ = ("now_ms", "states", "worker")

    def __init__(self, *, worker: str, now_ms: Callable[[], int], states: dict[type[Job], Any]) -> None:
        self.worker = worker
        self.now_ms = now_ms
        self.states = states


async def execute(message: JobMessage, job_class: type[Job], halt: Halt, runtime: Runtime) -> Outcome | None:
    """Run a job; None when it was interrupted because it is no longer this worker's.

    Raises:
        asyncio.CancelledError: the worker itself is cancelled.
    """
    options = job_class._options  # noqa: SLF001 - the hot path reads what options() returns
    job = job_class.__new__(job_class)
    job._message = message  # noqa: SLF001 - this is where a job gets its message
    if message.queue != options.queue:
        job.queue = message.queue
    try:
        if message.extra or message.options or options.expires_ms:
            expired = _expired(message, options.expires_ms, runtime)
            if expired:
                return Discarded(expired, keep_ms=message.options.get("keep_result", options.keep_ms))
        job.__init__()  # type: ignore[misc] # the class's own, with no arguments; made without it so that its errors are the job's
        if runtime.states:
            job.state = runtime.states.get(job_class)
        arguments = job_class._arguments or job_class.arguments()  # noqa: SLF001 - compiled when the class was defined
        if arguments.plain:
            value = await job.perform(**arguments.load_plain(message.args))
        else:
            positional, named = arguments.load(message.args)
            value = await job.perform(*positional, **named)
        keep_ms = options.keep_ms if not message.options else message.options.get("keep_result", options.keep_ms)
        if not keep_ms:
            return SUCCEEDED
        return Succeeded(job_class.result().dump(value), keep_ms)
    except BaseException as error:  # noqa: BLE001 - whatever a job raises is its own failure (G13)
        return await _conclude(job, message, error, halt, runtime)


async def perform_now(job_class: type[Job], message: JobMessage) -> Any:
    """Run a job in the calling task and return its value.

    Raises:
        BaseException: what `perform` raised, unless rescue_from or discard_on takes it.
    """
    options = job_class.options()
    job = job_class()
    job._message = message  # noqa: SLF001 - this is where a job gets its message
    if message.queue != options.queue:
        job.queue = message.queue
    timeout_ms = message.options.get("timeout", options.timeout_ms)
    try:
        positional, named = job_class.arguments().load(message.args)
        async with asyncio.timeout(timeout_ms / 1000 if timeout_ms else None):
            return await job.perform(*positional, **named)
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        decision = _decide(job, message, error, 0)
        if perform_now_raises(decision):
            raise
        if decision.callback is None:
            return None
        value = await run_callback(decision.callback, job, decision.error)
        return value if decision.kind == "rescue" else None


def unknown_class(message: JobMessage, runtime: Runtime) -> Retried | Dead:
    """What becomes of a job whose class this worker does not know: back with backoff, as a newer deploy may know it; dead after 24 h."""
    now_ms = runtime.now_ms()
    since_ms = message.extra.get("unknown_since", now_ms)
    tries = message.extra.get("unknown_tries", 0)
    reason = f"no worker of this queue knows a job named {message.job!r}; import its module in the worker"
    record = error_record("UnknownJob", reason, "", now_ms, runtime.worker)
    if now_ms - since_ms >= UNKNOWN_FOR_MS:
        return Dead(message, reason, record)
    delay_ms = min(1000 * 2 ** min(tries, 20), UNKNOWN_LONGEST_MS)
    extra = {**message.extra, "unknown_since": since_ms, "unknown_tries": tries + 1}
    return Retried(replace(message, extra=extra), delay_ms, b"" if tries else record)


def interrupted(message: JobMessage) -> Released:
    """A job that is put back while it runs, because its worker stops: costs no attempt; reported from the tenth on."""
    message = replace(message, interruptions=message.interruptions + 1)
    if message.interruptions >= 10:
        logger.warning(
            "job %s (%s) was interrupted %d times by stopping workers; is it longer than --shutdown-timeout?",
            message.id,
            message.job,
            message.interruptions,
        )
    return Released(message)


def error_record(name: str, text: str, trace: str, now_ms: int, worker: str) -> bytes:
    """One attempt's error as it is kept: JSON of error, message (at most 10,000 characters), traceback (the last 16 KiB), at, worker."""
    return orjson.dumps(
        {
            "error": _clean(name)[:200],
            "message": _clean(text)[:MAX_MESSAGE],
            "traceback": _clean(trace).encode()[-MAX_TRACEBACK:].decode(errors="ignore"),
            "at": now_ms,
            "worker": worker,
        }
    )


def describe(error: BaseException) -> str:
    """An exception's message, whatever its `__str__` does."""
    try:
        return str(error)
    except BaseException as wrong:  # noqa: BLE001 - user code (G13)
        return f"<its message can't be made: {type(wrong).__name__}>"


async def _conclude(
    job: Job, message: JobMessage, error: BaseException, halt: Halt, runtime: Runtime
) -> Outcome | None:
    options = job.options()
    keep_ms = message.options.get("keep_result", options.keep_ms)
    if halt.reason == "cancel":
        return Cancelled(keep_ms)
    if halt.reason in ("stop", "lost"):
        return None
    if halt.reason == "timeout":
        seconds = message.options.get("timeout", options.timeout_ms) / 1000
        timed_out = TimeoutError(f"ran longer than its timeout of {seconds:g} s")
        timed_out.__cause__ = error
        error = timed_out
    elif isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise error  # the worker itself is cancelled
    if isinstance(error, ValidationError) and _is_of_arguments(error):
        error = explain(error, job=job.name)
    now_ms = runtime.now_ms()
    decision = _decide(job, message, error, now_ms)
    if decision.note:
        logger.error("job %s (%s): %s", message.id, message.job, decision.note)
    if decision.callback is not None:
        try:
            await run_callback(decision.callback, job, decision.error)
        except BaseException as wrong:
            if halt.why() in ("stop", "lost"):
                return None
            if halt.why() == "cancel":
                return Cancelled(keep_ms)
            task = asyncio.current_task()
            if isinstance(wrong, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            logger.exception("job %s (%s): its handler for %s failed", message.id, message.job, type(error).__name__)
            wrong.__context__ = error
            decision, error = _decide_by_default(message, wrong, options, now_ms), wrong
    return _outcome(decision, message, error, keep_ms=keep_ms, now_ms=now_ms, worker=runtime.worker)


def _outcome(
    decision: Decision, message: JobMessage, error: BaseException, *, keep_ms: int, now_ms: int, worker: str
) -> Outcome:
    if decision.kind == "rescue":
        return Succeeded(b"null", keep_ms) if keep_ms else SUCCEEDED
    if decision.kind == "snooze":
        return Snoozed(message, decision.delay_ms)
    if decision.kind in ("discard", "exhausted"):
        reason = decision.reason if decision.policy is None else f"{decision.reason}: {_summary(error)}"
        return Discarded(reason, keep_ms)
    error = unwrap(error)
    trace = "".join(traceback.format_exception(error, limit=-50, chain=True))
    record = error_record(type(error).__qualname__, describe(error), trace, now_ms, worker)
    failed = message.failed(decision.key, now_ms=now_ms)
    if decision.kind == "dead":
        failed.extra = {**failed.extra, "dead": decision.reason[:500]}
        return Dead(failed, decision.reason, record, keep_ms)
    if decision.priority is not None:
        failed.priority = decision.priority
    queue = decision.queue if decision.queue is not None and decision.queue != message.queue else None
    return Retried(failed, decision.delay_ms, record, queue)


def _decide(job: Job, message: JobMessage, error: BaseException, now_ms: int) -> Decision:
    options = job.options()
    return decide(
        type(job),
        error,
        failures=message.failures,
        executions=message.executions,
        max_attempts=message.options.get("max_attempts", options.max_attempts),
        retry_for_ms=options.retry_for_ms,
        first_failed_ago_ms=now_ms - message.extra.get("failed_at", now_ms),
        random=random,
    )


def _decide_by_default(message: JobMessage, error: BaseException, options: Any, now_ms: int) -> Decision:
    """For what a handler raised: the job's own policies have had their turn."""
    return decide(
        object,
        error,
        failures=message.failures,
        executions={},
        max_attempts=message.options.get("max_attempts", options.max_attempts),
        retry_for_ms=options.retry_for_ms,
        first_failed_ago_ms=now_ms - message.extra.get("failed_at", now_ms),
        random=random,
    )


def _expired(message: JobMessage, expires_ms: int, runtime: Runtime) -> str:
    expires_ms = message.options.get("expires_in", expires_ms)
    if not expires_ms or message.runs > 1 or message.interruptions:
        return ""
    due_ms = message.extra.get("due", message.enqueued_at_ms + message.extra.get("delay", 0))
    late_ms = runtime.now_ms() - due_ms - expires_ms
    return f"expired: not started within {expires_ms / 1000:g} s of its time" if late_ms > 0 else ""


def _is_of_arguments(error: ValidationError) -> bool:
    """Whether it was the loading of the arguments that failed: then no frame of perform is in the traceback."""
    trace = error.__traceback__
    return trace is not None and trace.tb_next is None


def _summary(error: BaseException) -> str:
    error = unwrap(error)
    return f"{type(error).__qualname__}: {describe(error)}"[:1000]


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


__all__ = [
    "Halt",
    "HaltReason",
    "Runtime",
    "describe",
    "error_record",
    "execute",
    "interrupted",
    "perform_now",
    "unknown_class",
]

"""perform_now: a job is run in the calling task, and its value returned. The policies and callbacks of its class hold, as far as nothing is enqueued."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from aiojobs_rt.core import context
from aiojobs_rt.core.decision import perform_now_raises, run_callback
from aiojobs_rt.core.execution import BEGINS, ENDS, decide_for, shown_arguments, timed_out
from aiojobs_rt.core.hooks import Halted, run_chain, run_discard

if TYPE_CHECKING:
    from aiojobs_rt.core.decision import Decision
    from aiojobs_rt.core.message import JobMessage
    from aiojobs_rt.job import Job

logger = logging.getLogger("aiojobs_rt.execution")


async def perform_now(job_class: type[Job], message: JobMessage) -> Any:
    """Run a job in the calling task and return its value.

    Raises:
        BaseException: what `perform` raised, unless rescue_from or discard_on takes it.
    """
    outer, host = context.running.get(), context.host.get()
    context.running.set(message)
    context.host.set(None)  # the job around it has a host; this one has none
    try:
        return await _perform_now(job_class, message)
    finally:
        context.running.set(outer)
        context.host.set(host)


async def _perform_now(job_class: type[Job], message: JobMessage) -> Any:
    options = job_class.options()
    job = job_class()
    job._message = message  # noqa: SLF001 - this is where a job gets its message
    if message.queue != options.queue:
        job.queue = message.queue
    timeout_ms = message.options.get("timeout", options.timeout_ms)
    limit: asyncio.Timeout | None = None
    try:
        if job_class.log_arguments:
            logger.info(BEGINS, message.id, message.job, shown_arguments(message, job_class.signature()))
        arguments, raw = job_class.signature(), message.args
        async with asyncio.timeout(timeout_ms / 1000 if timeout_ms else None) as limit:
            positional, named = await arguments.locate(raw) if arguments.refers else arguments.load(raw)
            if job_class._hooks is None:  # noqa: SLF001 - compiled with the class
                return await job.perform(*positional, **named)
            job._given = positional, named  # noqa: SLF001 - this is where a job gets them
            return await run_chain(job_class._hooks.perform, job, partial(job.perform, *positional, **named))  # noqa: SLF001 - as above
    except asyncio.CancelledError:
        raise
    except Halted as halted:
        logger.info("job %s (%s) is not performed: %s", message.id, message.job, halted)
        return None
    except BaseException as error:
        if isinstance(error, TimeoutError) and limit is not None and limit.expired():
            error.args = (timed_out(timeout_ms),)
        decision = decide_for(job_class, options, message, error, 0)
        if perform_now_raises(decision):
            if decision.kind in ENDS:
                await _after_discard(job_class, job, decision)
            raise
        value = None if decision.callback is None else await run_callback(decision.callback, job, decision.error)
        if decision.kind in ENDS:
            await _after_discard(job_class, job, decision)
        return value if decision.kind == "rescue" else None


async def _after_discard(job_class: type[Job], job: Job, decision: Decision) -> None:
    if job_class._hooks is not None:  # noqa: SLF001 - compiled with the class
        await run_discard(job_class._hooks, job, decision.error, _is_of_caller)  # noqa: SLF001 - as above


def _is_of_caller(error: BaseException) -> bool:
    """Whether it ends more than the job: this is the caller's own task."""
    return not isinstance(error, Exception)

"""The running job, for log records and continuations: what a context says of the job that runs in it.

A slot sets `running` for each job, and never changes what an earlier context holds: a task, thread or timer that a job started and that
outlives it keeps naming that job, not the one that has its slot now.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiojobs_rt.core.continuation import Host
    from aiojobs_rt.core.message import JobMessage

running: ContextVar[JobMessage | None] = ContextVar("aiojobs_rt_running", default=None)
"""The job that runs in this context, or None."""

host: ContextVar[Host | None] = ContextVar("aiojobs_rt_host", default=None)
"""Who runs jobs in this context, asked and told by continuations; None: nobody stops, and nothing is saved."""


class JobContextFilter(logging.Filter):
    """Adds job_id, job, queue and executions to each record made while a job runs; empty strings and 0 elsewhere.

    A record that says itself which job it is about (as that of an enqueued job does) keeps that. Add the filter to a handler, so that the
    records of every logger pass it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, with the job's names on it."""
        fields = record.__dict__
        if "job_id" in fields:
            return True
        message = running.get()
        if message is None:
            fields.update(job_id="", job="", queue="", executions=0)
        else:
            fields.update(about(message.id, message.job, message.queue, message.runs))
        return True


def about(job_id: str, job: str, queue: str, executions: int = 0) -> dict[str, Any]:
    """The four fields, as the `extra` of a record about another job than the running one."""
    return {"job_id": job_id, "job": job, "queue": queue, "executions": executions}

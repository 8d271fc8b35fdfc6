"""The running job, for log records: a cell that each slot owns and refills, so that nothing is set and reset per job."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiojobs_rt.core.continuation import Host
    from aiojobs_rt.core.message import JobMessage


class Cell:
    """Holds the message of the job that runs in this context, or None; and who runs it.

    Args:
        host: asked and told by continuations; None: nobody stops, and nothing is saved.
    """

    __slots__ = ("host", "message")

    def __init__(self, host: Host | None = None) -> None:
        self.message: JobMessage | None = None
        self.host = host


running: ContextVar[Cell | None] = ContextVar("aiojobs_rt_running", default=None)


class JobContextFilter(logging.Filter):
    """Adds job_id, job, queue and executions to each record made while a job runs; empty strings and 0 elsewhere.

    Add it to a handler, so that the records of every logger pass it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, with the job's names on it."""
        cell = running.get()
        message = cell.message if cell is not None else None
        if message is None:
            record.__dict__.update(job_id="", job="", queue="", executions=0)
        else:
            record.__dict__.update(job_id=message.id, job=message.job, queue=message.queue, executions=message.runs)
        return True

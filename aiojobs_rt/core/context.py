"""The running job, for log records: a cell that each slot owns and refills, so that nothing is set and reset per job."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiojobs_rt.core.message import JobMessage


class Cell:
    """Holds the message of the job that runs in this context, or None."""

    __slots__ = ("message",)

    def __init__(self) -> None:
        self.message: JobMessage | None = None


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

"""Logging of the worker command: lines for people, or JSON lines for machines.

JSON lines have these fields, in this order:

    time        ISO 8601, UTC, ms
    level       debug, info, warning, error or critical
    logger      its name; this package's begin with aiojobs_rt, a job's own is aiojobs_rt.job.NAME
    message     the text
    job_id, job, queue, executions    of the job that runs; left out elsewhere
    exception   the traceback; left out when there is none
"""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from aiojobs_rt.core.context import JobContextFilter

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]


def set_up(level: LogLevel, form: LogFormat) -> None:
    """Send all loggers' records to stderr. What an application configures when it is imported comes later, and stays."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(JobContextFilter())
    handler.setFormatter(JsonLines() if form == "json" else Lines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def flush() -> None:
    """Write out what handlers hold back, before the process ends at once."""
    for handler in logging.getLogger().handlers:
        handler.flush()


class Lines(logging.Formatter):
    """Time, level, logger, the job's id when there is one, message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(name)s%(where)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        job_id = getattr(record, "job_id", "")
        record.where = f" [{job_id}]" if job_id else ""
        return super().format(record)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002 - logging's own name
        """Local time with its offset and ms."""
        local = time.localtime(record.created)
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{int(record.msecs):03d}{time.strftime('%z', local)}"


class JsonLines(logging.Formatter):
    """One JSON object a line; the fields stand in this module's docstring."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as JSON."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if job_id := getattr(record, "job_id", ""):
            fields = record.__dict__
            line |= {
                "job_id": job_id,
                "job": fields["job"],
                "queue": fields["queue"],
                "executions": fields["executions"],
            }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        try:
            return orjson.dumps(line).decode()
        except TypeError:  # a lone surrogate
            return orjson.dumps({key: _clean(value) for key, value in line.items()}).decode()


def _clean(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value

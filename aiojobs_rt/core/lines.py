"""The log lines about what became of a run: the same words whoever carries the job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from aiojobs_rt.core.attempt import summary_of
from aiojobs_rt.core.outcome import Cancelled, Dead, Discarded, Outcome, Retried

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping

    from aiojobs_rt.core.message import JobMessage


def log_outcome(
    logger: logging.Logger,
    message: JobMessage,
    outcome: Outcome,
    *,
    extra: Mapping[str, Any] | None = None,
    traceback: bool = False,
) -> None:
    """Log an outcome that people want to know of: not that the job has succeeded, was put back or will be tried again with nothing wrong.

    Args:
        logger: whose line it is.
        message: as it was when the run began.
        outcome: what became of it.
        extra: further fields of the record, where it is made outside of the job.
        traceback: with that of the error, where nobody can look it up.
    """
    told = _with_traceback if traceback else summary_of
    match outcome:
        case Retried(_, delay_ms, error) if error:
            logger.warning(
                "job %s (%s) is tried again in %.1f s: %s",
                message.id,
                message.job,
                delay_ms / 1000,
                told(error),
                extra=extra,
            )
        case Dead(_, reason, error):
            logger.error("job %s (%s) is dead, %s: %s", message.id, message.job, reason, told(error), extra=extra)
        case Discarded(reason):
            logger.info("job %s (%s) is discarded: %s", message.id, message.job, reason, extra=extra)
        case Cancelled():
            logger.info("job %s (%s) is cancelled", message.id, message.job, extra=extra)
        case _:
            pass


def _with_traceback(error: bytes) -> str:
    return f"{summary_of(error)}\n{orjson.loads(error)['traceback']}".rstrip()

"""Every exception that this package raises.

AiojobsError
├── DefinitionError            a job class is wrong (raised where it is defined)
│   ├── InvalidJob             its perform, options or parameters
│   └── DuplicateJob           its name is another class's
├── InvalidArguments           these arguments do not fit perform
├── InvalidResult              what perform returned does not fit its annotation
├── EnqueueError               the job is not known to be enqueued
│   ├── PayloadTooLarge        the arguments exceed max_payload
│   └── QueueFullError         Redis is at maxmemory
├── JobError                   what became of a job, at handle.result()
│   ├── JobFailed              it died, or was discarded
│   ├── JobCancelled
│   └── ResultNotKept
├── DeserializationError       a reference could not be located, or a context variable not loaded
│   └── RecordNotFound         because it is gone
├── DecryptionError            what is encrypted was changed, or is another job's
│   └── MissingKey             no key for it is here
├── InvalidStep                a step of a job is not where, or what, it was
├── ConfigurationError         a setting, URL or module is wrong
└── RedisUnavailable           Redis did not answer in time

Directive                      raised inside perform, or a callback, to say what happens next; not errors
├── Abort                      in a before callback: neither enqueue nor perform
├── Retry
├── Discard
└── Snooze
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class AiojobsError(Exception):
    """Base of all errors of this package."""


class DefinitionError(AiojobsError, TypeError):
    """A job class is wrong. Raised when the class is defined, so that no wrong class is ever enqueued."""


class InvalidJob(DefinitionError):
    """A job's perform, options or parameters can't work; the message says what to write instead."""


class DuplicateJob(DefinitionError):
    """Two job classes would share one name on the wire."""


class InvalidArguments(AiojobsError, TypeError):
    """Arguments do not fit the signature of perform. The message never repeats the values."""


class InvalidResult(AiojobsError, TypeError):
    """What `perform` returned does not fit its annotation, or has no JSON; or a kept result does not fit (any more).

    Raised where the job runs, if its result is kept: the job is then dead at once, unless it declares otherwise. Raised by
    `JobHandle.result` when the class at hand is another than the worker's. The message never repeats the values.
    """


class EnqueueError(AiojobsError):
    """A job is not known to be enqueued: Redis could not be reached, or refused.

    When a reply was lost for longer than the retries last, the job may have been enqueued all the same.
    """


class PayloadTooLarge(EnqueueError):
    """The serialised arguments exceed the setting `max_payload` (bytes). Pass an id or a reference, not the data."""


class QueueFullError(EnqueueError):
    """Redis is at its maxmemory and takes no new jobs. Nothing was enqueued."""


class JobError(AiojobsError):
    """Base of what `JobHandle.result` raises about the job itself; `job_id` says which."""

    def __init__(self, message: str, *, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class JobFailed(JobError):
    """The job ended without success: it is dead, or was discarded.

    Attributes:
        outcome: "dead" or "discarded".
        error: class name and message of its last error, as text. Exceptions are never rebuilt from Redis.
    """

    def __init__(self, message: str, *, job_id: str, outcome: str, error: str) -> None:
        super().__init__(message, job_id=job_id)
        self.outcome = outcome
        self.error = error


class JobCancelled(JobError):
    """The job was cancelled."""


class ResultNotKept(JobError):
    """The job keeps no result (set `keep_result` on its class), or its result has expired."""


class DeserializationError(AiojobsError):
    """A reference among the arguments could not be located, or a context variable not loaded. Retried by default."""


class RecordNotFound(DeserializationError):
    """The record that a reference names does not exist. Not retried by default."""


class DecryptionError(AiojobsError):
    """Arguments or a result can't be decrypted: they were changed, or belong to another job."""


class MissingKey(DecryptionError):
    """No key for it is here, or the cipher fails. A worker leaves such a job to others, for 24 h; then it is dead."""


class InvalidStep(AiojobsError):
    """The steps of a job contradict each other, or the progress of an earlier execution; the message says which and how."""


class ConfigurationError(AiojobsError, ValueError):
    """A setting, URL, module or flag is wrong."""


class RedisUnavailable(AiojobsError):
    """Redis could not be reached, or did not answer in time."""


class Directive(Exception):
    """Base of what `perform` may raise to direct its own outcome."""


class Abort(Directive):
    """Halt the job, in a before callback (or an around one, before its `yield`): it is not enqueued, or ends without being performed.

    Anywhere else it is an error like any other.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Retry(Directive):
    """Retry this job; counts as a failure.

    Args:
        wait: seconds or timedelta until the next run; None for the default backoff.
        reason: recorded with the attempt.

    Raises:
        ValueError: `wait` is negative.
    """

    def __init__(self, wait: float | timedelta | None = None, reason: str = "") -> None:
        super().__init__(reason or "retry requested")
        self.wait = None if wait is None else _seconds(wait)
        self.reason = reason


class Discard(Directive):
    """End this job now: no retry, not in the dead set."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "discarded by the job")
        self.reason = reason


class Snooze(Directive):
    """Run this job again after `wait` (seconds or timedelta); costs no attempt."""

    def __init__(self, wait: float | timedelta) -> None:
        super().__init__(f"snoozed for {_seconds(wait):g} s")
        self.wait = _seconds(wait)


def unwrap(error: BaseException) -> BaseException:
    """The one exception inside an exception group of one, however deep; other exceptions as they are."""
    while isinstance(error, BaseExceptionGroup):
        members: Sequence[BaseException] = error.exceptions
        if len(members) != 1:
            break
        error = members[0]
    return error


def _seconds(wait: float | timedelta) -> float:
    try:
        seconds = wait.total_seconds() if isinstance(wait, timedelta) else float(wait)
    except (TypeError, ValueError):
        raise TypeError(f"wait must be seconds or a timedelta, got {wait!r}") from None
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"wait must be finite and not negative, got {wait!r}")
    return seconds

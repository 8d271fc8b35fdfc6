"""Options: what a job class, or `set` for one job, says beside perform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiojobs_rt.core.durations import to_ms
from aiojobs_rt.core.message import check_queue_name
from aiojobs_rt.errors import InvalidJob

if TYPE_CHECKING:
    from datetime import timedelta

MAX_PRIORITY = 1_000_000


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a job class, checked and in milliseconds.

    Attributes:
        queue: where its jobs are enqueued.
        priority: lower runs first within the queue.
        timeout_ms: of one run; 0 for none.
        max_attempts: failures until it is dead, where no retry_on says otherwise.
        retry_for_ms: bounds the retries by time instead; None: max_attempts does.
        keep_ms: for how long results are kept; 0: not at all.
        expires_ms: a job not started so long after it was due is discarded; 0: never.
        encrypted: its arguments and results; None: as the setting says.
    """

    queue: str
    priority: int
    timeout_ms: int
    max_attempts: int
    retry_for_ms: int | None
    keep_ms: int
    expires_ms: int
    encrypted: bool | None = None

    @classmethod
    def of(cls, job_class: type[Any]) -> Options:
        """Read and check the class attributes.

        Raises:
            InvalidJob: one of them is wrong; the message names class and attribute.
        """
        try:
            return cls(
                queue=check_queue_name(job_class.queue),
                priority=check_priority(job_class.priority),
                timeout_ms=_optional_ms(job_class.timeout, "timeout"),
                max_attempts=check_max_attempts(job_class.max_attempts),
                retry_for_ms=None
                if job_class.retry_for is None
                else to_ms(job_class.retry_for, what="retry_for", positive=True),
                keep_ms=_optional_ms(job_class.keep_result, "keep_result"),
                expires_ms=_optional_ms(job_class.expires_in, "expires_in"),
                encrypted=_check_encrypted(job_class.encrypted),
            )
        except (TypeError, ValueError) as error:
            raise InvalidJob(f"{job_class.__qualname__}: {error}") from None


def _check_encrypted(encrypted: object) -> bool | None:
    if encrypted is not None and type(encrypted) is not bool:
        raise TypeError(f"encrypted must be True, False or None, got {encrypted!r}")
    return encrypted


def check_priority(priority: int) -> int:
    """The priority, when it is one.

    Raises:
        TypeError: not an int.
        ValueError: out of range.
    """
    if type(priority) is not int:
        raise TypeError(f"priority must be an int, got {priority!r}")
    if abs(priority) > MAX_PRIORITY:
        raise ValueError(f"priority must be between -{MAX_PRIORITY} and {MAX_PRIORITY}, got {priority}")
    return priority


def check_max_attempts(attempts: int) -> int:
    """The number of attempts, when it is one.

    Raises:
        TypeError: not an int.
        ValueError: less than 1.
    """
    if type(attempts) is not int:
        raise TypeError(f"max_attempts must be an int, got {attempts!r}")
    if attempts < 1:
        raise ValueError(f"max_attempts must be at least 1, got {attempts}")
    return attempts


def overrides(
    *,
    timeout: float | timedelta | None,
    max_attempts: int | None,
    keep_result: float | timedelta | None,
    expires_in: float | timedelta | None,
) -> dict[str, int]:
    """What `set` overrides for one job, as it travels in the message's meta.

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range.
    """
    found: dict[str, int] = {}
    if timeout is not None:
        found["timeout"] = to_ms(timeout, what="timeout", positive=True)
    if max_attempts is not None:
        found["max_attempts"] = check_max_attempts(max_attempts)
    if keep_result is not None:
        found["keep_result"] = to_ms(keep_result, what="keep_result")
    if expires_in is not None:
        found["expires_in"] = to_ms(expires_in, what="expires_in", positive=True)
    return found


def _optional_ms(value: float | timedelta | None, what: str) -> int:
    return 0 if value is None else to_ms(value, what=what, positive=True)

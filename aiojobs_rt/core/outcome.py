"""Outcomes: what one run of a job comes to, and what the settler is to make of it.

An outcome is data. `execution.py` decides it, `settler.py` carries it, `settle.lua` makes it so, in one step and fenced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from aiojobs_rt.core.message import JobMessage

Verb = Literal["succeeded", "retried", "snoozed", "dead", "discarded", "released", "cancelled"]


@dataclass(frozen=True, slots=True)
class Succeeded:
    """`perform` returned, or a rescue_from handler did.

    Attributes:
        result: the return value as JSON, or None when the job keeps none.
        keep_ms: for how long to keep it.
        secret: people see stars in its place.
    """

    result: bytes | None = field(default=None, repr=False)
    keep_ms: int = 0
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Retried:
    """The run failed and another follows.

    Attributes:
        message: as the next run is to find it (counts raised).
        delay_ms: until the next run is due.
        error: the attempt's record, JSON, for the job's error history; empty when nothing went wrong in the job itself.
        queue: where the next run takes place, when not here.
    """

    message: JobMessage
    delay_ms: int
    error: bytes
    queue: str | None = None


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The job asked to run again later; costs no attempt."""

    message: JobMessage
    delay_ms: int


@dataclass(frozen=True, slots=True)
class Dead:
    """The run failed for the last time: the job goes to the dead set with its payload.

    Attributes:
        keep_ms: for how long a waiter may learn of the failure, when the job keeps results.
    """

    message: JobMessage
    reason: str
    error: bytes
    keep_ms: int = 0


@dataclass(frozen=True, slots=True)
class Discarded:
    """The job ends here: no retry, not in the dead set."""

    reason: str
    keep_ms: int = 0


@dataclass(frozen=True, slots=True)
class Released:
    """The job goes back to its queue, before all others; costs no attempt."""

    message: JobMessage


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The job was cancelled while it ran."""

    keep_ms: int = 0


Outcome = Succeeded | Retried | Snoozed | Dead | Discarded | Released | Cancelled

SUCCEEDED = Succeeded()
"""The outcome of most jobs: one object for all of them."""

"""What the admin queries answer. Instants are aware UTC, durations are seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from datetime import datetime

    from aiojobs_rt.core.progress import Progress

ListedState = Literal["waiting", "running", "scheduled", "retrying", "dead", "finished"]
"""The states by which jobs are listed. Running: delivered to a worker that holds its lease."""

Retried = Literal["retried", "queued", "malformed", "ended", "unknown"]
"""What became of a retry: it runs now; it waits or runs already; it can't be read; it has ended; nothing is known of it."""
Discarded = Literal["discarded", "running", "ended", "unknown"]
"""What became of a discard; "running": it is delivered to a worker, so cancel it."""

Level = Literal["OK", "WARN", "ERROR"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSummary:
    """A queue in numbers.

    Attributes:
        waiting, running, scheduled, retrying, dead: how many jobs.
        latency: since when the oldest waiting job could have run, in seconds; None when none waits.
        workers: the names of those that serve it now.
        dead_workers: those whose lease has run out.
        stranded: how many jobs dead workers hold, until another worker puts them back.
        paused: nothing is taken from it.
    """

    name: str
    waiting: int
    running: int
    scheduled: int
    retrying: int
    dead: int
    latency: float | None
    workers: tuple[str, ...]
    dead_workers: tuple[str, ...]
    stranded: int
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """A job in a list.

    Attributes:
        id: empty for an entry of the stream that is no job.
        job: its name.
        state: where it is, or for a finished job its outcome.
        at: since when it could run, when it is due, when it died or ended.
        failures, crashes: of its runs so far; not known of a finished job.
        worker: who runs or ran it.
        took: how long the last run took, in seconds, of a finished job.
        reason: why it ended, of a finished job.
    """

    id: str
    job: str
    queue: str
    state: str
    at: datetime | None
    enqueued_at: datetime | None = None
    priority: int = 0
    failures: int = 0
    crashes: int = 0
    worker: str = ""
    took: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs of a list.

    Attributes:
        jobs: in order.
        next: the cursor of the next page; empty at the end. A page may hold fewer jobs than asked for, or none, and go on.
    """

    jobs: tuple[JobSummary, ...]
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One failed run.

    Attributes:
        error: the exception's class name.
    """

    error: str
    message: str
    traceback: str
    at: datetime | None
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetails(JobSummary):
    """All that is kept of one job.

    Attributes:
        interruptions: runs that ended because their worker stopped.
        cancelled: it is marked as cancelled, and its worker told.
        encrypted: its arguments and its result are, and nobody is shown them here.
        args: its arguments as they are in Redis, with stars for secrets; empty when it has ended; `[encrypted]` when they are.
        meta: further fields of its message: options, executions per policy, ...
        attempts: its failed runs, the latest first; at most 25.
        steps: how far its steps have got, while it runs as of a second ago at most; None: it has none, or has ended.
        result: its result as JSON, when it is kept; `[encrypted]` when it is.
    """

    interruptions: int = 0
    cancelled: bool = False
    encrypted: bool = False
    args: bytes = field(default=b"", repr=False)  # it may hold secrets
    meta: dict[str, Any]
    attempts: tuple[Attempt, ...] = ()
    steps: Progress | None = None
    result: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSummary:
    """A worker process.

    Attributes:
        state: "running"; "quiet", it takes no more jobs; "dead", its lease has run out.
        queues: those on which it has a lease.
        jobs: how many jobs are delivered to it.
        concurrency, running, finished: as it said last; 0 when nothing of it is left but its lease.
        seen: when it last said so.
    """

    name: str
    state: Literal["running", "quiet", "dead"]
    queues: tuple[str, ...]
    jobs: int
    host: str = ""
    pid: int = 0
    concurrency: int = 0
    running: int = 0
    finished: int = 0
    started_at: datetime | None = None
    seen: datetime | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What an examination found.

    Attributes:
        subject: what was looked at.
        text: what was found, as a sentence.
        advice: what to do about it; empty when all is well.
    """

    level: Level
    subject: str
    text: str
    advice: str = ""

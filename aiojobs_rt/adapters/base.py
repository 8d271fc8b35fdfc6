"""What every adapter does: carry messages in, and tell what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiojobs_rt.core.progress import Progress

Status = Literal[
    "queued",
    "scheduled",
    "running",
    "retrying",
    "blocked",
    "succeeded",
    "dead",
    "discarded",
    "cancelled",
    "unknown",
]


@dataclass(slots=True)  # not frozen: that makes it five times slower to make, and one is made for each job
class Envelope:
    """A message on its way into an adapter.

    Attributes:
        id: the job's id.
        queue: the queue it goes to.
        job: the job's name.
        args: its arguments, JSON.
        meta: the tail of its meta (`JobMessage.meta_tail`); version and time are put in front by the adapter's own clock.
        priority: lower runs first.
        delay_ms: due so long from now.
        due_ms: due at this instant (ms since the epoch) instead; 0: `delay_ms` says.
        placed: its id is known to somebody: it keeps it, and so its shard.
        encrypted: its arguments are.
    """

    id: str
    queue: str
    job: str
    args: bytes = field(repr=False)  # it may hold secrets
    meta: bytes
    priority: int = 0
    delay_ms: int = 0
    due_ms: int = 0
    placed: bool = False
    encrypted: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended, as far as it is kept.

    Attributes:
        outcome: "succeeded", "dead", "discarded" or "cancelled".
        result: its result as JSON, or None when none is kept.
        error: class name and message of the last error, or the reason; empty when it succeeded.
        encrypted: the job is; operators are not shown the result.
        secret: the result holds a SecretStr or the like; operators see stars.
    """

    outcome: str
    result: bytes | None = field(default=None, repr=False)
    error: str = ""
    encrypted: bool = False
    secret: bool = False


class Adapter(Protocol):
    """How jobs are carried.

    Methods may be called from any task; cancelling a call leaves the adapter sound, and a job enqueued or not, never in between.
    """

    async def enqueue(self, envelopes: Sequence[Envelope], /) -> list[bool]:
        """Enqueue jobs in order; per job whether it was (False: it was there already).

        Raises:
            EnqueueError: they are not known to be enqueued.
        """
        ...

    async def status(self, job_id: str, /) -> Status:
        """Where a job is."""
        ...

    async def progress(self, job_id: str, /) -> Progress | None:
        """How far the steps of a job have got; None when it has none, or has ended."""
        ...

    async def cancel(self, job_id: str, /) -> bool:
        """Cancel a job: True when it was waiting or is marked, False when it had ended."""
        ...

    async def wait_ended(self, job_id: str, /, *, timeout_ms: int | None) -> Ended:
        """Wait until a job has ended.

        Raises:
            TimeoutError: it has not within the timeout; None waits for ever.
            ResultNotKept: it has ended, or is not known, and nothing of it is kept.
            DecryptionError: its result is encrypted, and can't be decrypted here.
        """
        ...

    async def aclose(self) -> None:
        """Release what this adapter holds in the running event loop. It may be used again."""
        ...

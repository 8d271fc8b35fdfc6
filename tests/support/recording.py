"""An adapter that keeps what it is given, and runs it on demand: for tests without Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from aiojobs_rt.adapters.base import Ended
from aiojobs_rt.core import registry
from aiojobs_rt.core.execution import Halt, Runtime, execute
from aiojobs_rt.core.message import JobMessage, parse
from aiojobs_rt.core.outcome import Dead, Retried

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiojobs_rt.adapters.base import Envelope, Status
    from aiojobs_rt.core.outcome import Outcome
    from aiojobs_rt.core.progress import Progress
    from aiojobs_rt.job import Job

NOW_MS = 1_795_314_296_123


class RecordingAdapter:
    """Keeps envelopes.

    Attributes:
        envelopes: what was enqueued, in order.
        calls: how many envelopes each call brought.
        ended: what `wait_ended` answers.
    """

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.calls: list[int] = []
        self.ended = Ended("succeeded")
        self.enqueued = True
        self.cancelled: list[str] = []

    async def enqueue(self, envelopes: Sequence[Envelope], /) -> list[bool]:
        self.envelopes += envelopes
        self.calls.append(len(envelopes))
        return [self.enqueued] * len(envelopes)

    async def status(self, job_id: str, /) -> Status:
        return "queued" if any(envelope.id == job_id for envelope in self.envelopes) else "unknown"

    async def progress(self, job_id: str, /) -> Progress | None:
        return None

    async def cancel(self, job_id: str, /) -> bool:
        self.cancelled.append(job_id)
        return True

    async def wait_ended(self, job_id: str, /, *, timeout_ms: int | None) -> Ended:
        if timeout_ms == 0:
            raise TimeoutError(f"job {job_id} has not ended")
        return self.ended

    async def aclose(self) -> None: ...


def as_message(envelope: Envelope, *, at_ms: int = NOW_MS) -> JobMessage:
    """An envelope as a worker reads it: its meta's head is the script's."""
    meta = b'{"v":1,"at":%d' % at_ms + envelope.meta
    return parse(envelope.id.encode(), envelope.job.encode(), envelope.args, meta, queue=envelope.queue)


def message_of(job: type[Job], args: bytes = b"{}", **fields: Any) -> JobMessage:
    """A message of this class, enqueued a second ago; `fields` as JobMessage has them."""
    given: dict[str, Any] = {"queue": "default", "enqueued_at_ms": NOW_MS - 1000, **fields}
    return JobMessage("default.abc", job.name, args, **given)


def runtime(*, now_ms: int = NOW_MS, states: dict[Any, Any] | None = None) -> Runtime:
    """A worker's, at an instant."""
    return Runtime(worker="host-1", now_ms=lambda: now_ms, states=states or {})


async def outcome_of(job: type[Job], args: bytes = b"{}", *, now_ms: int = NOW_MS, **fields: Any) -> Outcome:
    """What becomes of a message of this class that nobody interrupts."""
    outcome = await execute(message_of(job, args, **fields), job, Halt(), runtime(now_ms=now_ms))
    assert outcome is not None
    return outcome


def record_of(outcome: Outcome | None) -> dict[str, Any]:
    """The error's record of a failed run."""
    assert isinstance(outcome, Retried | Dead)
    found: dict[str, Any] = orjson.loads(outcome.error)
    return found


async def run(message: JobMessage, *, halt: Halt | None = None, using: Runtime | None = None) -> Outcome | None:
    """Run a message as a slot would."""
    job_class = registry.resolve(message.job)
    assert job_class is not None
    return await execute(message, job_class, halt or Halt(), using or runtime())

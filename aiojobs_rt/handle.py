"""JobHandle: a job that was enqueued, from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import orjson

from aiojobs_rt.adapters.default import default_adapter
from aiojobs_rt.core.durations import to_ms
from aiojobs_rt.core.message import queue_of
from aiojobs_rt.errors import JobCancelled, JobFailed, ResultNotKept

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from aiojobs_rt.adapters.base import Adapter, Status
    from aiojobs_rt.core.progress import Progress

R_co = TypeVar("R_co", covariant=True)


class JobHandle(Generic[R_co]):
    """A job by its id: ask where it is, wait for its result, cancel it.

    Attributes:
        id: the job's id; all that is needed to find it again (`JobHandle.of`).
        enqueued: False when the job was not enqueued because it was there already.
    """

    __slots__ = ("_adapter", "_load", "enqueued", "id")

    def __init__(
        self,
        job_id: str,
        *,
        adapter: Adapter,
        load: Callable[[bytes], Any] = orjson.loads,
        enqueued: bool = True,
    ) -> None:
        self.id = job_id
        self.enqueued = enqueued
        self._adapter = adapter
        self._load = load

    @classmethod
    def made(cls, job_id: str, adapter: Adapter, load: Callable[[bytes], Any], enqueued: bool) -> JobHandle[Any]:  # noqa: FBT001 - as below
        """As the constructor, in half the time: one is made for each job."""
        handle: JobHandle[Any] = cls.__new__(cls)
        handle.id = job_id
        handle.enqueued = enqueued
        handle._adapter = adapter
        handle._load = load
        return handle

    @classmethod
    def of(cls, job_id: str, *, adapter: Adapter | None = None) -> JobHandle[Any]:
        """The handle of a job whose class is not at hand; its result comes as plain JSON.

        Args:
            job_id: as in `handle.id`.
            adapter: where it was enqueued; default: the default adapter.

        Raises:
            ValueError: `job_id` is no job id.
        """
        queue_of(job_id)
        return JobHandle(job_id, adapter=adapter or default_adapter())

    @property
    def queue(self) -> str:
        """The queue on which the job was enqueued."""
        return queue_of(self.id)

    async def status(self) -> Status:
        """Where the job is now.

        "unknown" for a job of which nothing is known (any more): a finished job is remembered while its result, or its line among
        the recently finished, is kept.
        """
        return await self._adapter.status(self.id)

    async def progress(self) -> Progress | None:
        """How far a job in steps has got: the steps that are complete, the one that is open, and its cursor.

        While the job runs on a worker, as of a second ago at most.

        Returns:
            None: no step has got anywhere yet, the job has no steps, has ended, or is not known. A dead job has not ended: what it reached
            is kept for its next run.
        """
        return await self._adapter.progress(self.id)

    async def cancel(self) -> bool:
        """Cancel the job.

        A waiting job is removed. A running job is marked, and its `perform` is cancelled within moments; if it succeeds all the same,
        it has succeeded.

        Returns:
            True: it was waiting, or is marked. False: it had ended, or is not known.
        """
        return await self._adapter.cancel(self.id)

    async def result(self, timeout: float | timedelta | None = None) -> R_co:  # noqa: ASYNC109 - it bounds the wait for the job
        """Wait for the job to end and return what `perform` returned.

        Needs `keep_result` on the job's class (or in `set`). Cancelling the wait does not touch the job. A job that `rescue_from` saved
        gives what the handler returned, or None when that does not fit perform's annotation.

        Args:
            timeout: seconds or timedelta; None waits for ever.

        Raises:
            JobFailed: it is dead, or was discarded.
            JobCancelled: it was cancelled.
            InvalidResult: what is kept does not fit the annotation of `perform` in the class at hand.
            ResultNotKept: it has ended and its result is not there (any more).
            TimeoutError: it has not ended in time.
        """
        timeout_ms = None if timeout is None else to_ms(timeout, what="timeout")
        ended = await self._adapter.wait_ended(self.id, timeout_ms=timeout_ms)
        if ended.outcome == "succeeded":
            if ended.result is None:
                raise ResultNotKept(
                    f"job {self.id} succeeded, but its result is not kept: set keep_result on its class, "
                    "and ask before that time has passed",
                    job_id=self.id,
                )
            if ended.result == b"null":  # also of a job that a handler rescued, whatever perform's annotation says
                return None  # type: ignore[return-value]
            return self._load(ended.result)  # type: ignore[no-any-return] # what perform returned, by its annotation
        if ended.outcome == "cancelled":
            raise JobCancelled(f"job {self.id} was cancelled", job_id=self.id)
        raise JobFailed(
            f"job {self.id} is {ended.outcome}: {ended.error}", job_id=self.id, outcome=ended.outcome, error=ended.error
        )

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

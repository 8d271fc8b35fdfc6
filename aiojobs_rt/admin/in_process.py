"""InProcessAdmin: what `Admin` asks and does, for the adapters that carry jobs inside this process."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aiojobs_rt.admin import reading
from aiojobs_rt.admin.calls import MOST_JOBS
from aiojobs_rt.admin.records import JobDetails, JobPage, JobSummary, QueueSummary
from aiojobs_rt.core.message import check_queue_name, queue_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from aiojobs_rt.adapters.in_process.base import InProcessAdapter
    from aiojobs_rt.adapters.in_process.memory import Finished, Held, Memory
    from aiojobs_rt.admin.records import Discarded, ListedState, Retried, WorkerSummary


class InProcessAdmin:
    """Queries and actions over the queues of one in-process adapter; each method as that of `Admin`.

    Args:
        adapter: where the queues are. It is not closed with the admin.
    """

    def __init__(self, adapter: InProcessAdapter) -> None:
        self.adapter = adapter

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """There is nothing to close."""

    # -- queries ---------------------------------------------------------------------------------

    async def queue_names(self) -> list[str]:
        """Every queue that was ever used, sorted."""
        return sorted(self._memory().queues)

    async def queues(self) -> list[QueueSummary]:
        """All queues in numbers, by name."""
        return [await self.queue(name) for name in await self.queue_names()]

    async def queue(self, name: str) -> QueueSummary:
        """One queue in numbers; one that does not exist is empty."""
        memory = self._memory()
        counts = {state: len(self._in(name, state)) for state in ("queued", "running", "scheduled", "retrying", "dead")}
        waiting = self._in(name, "queued")
        since_ms = min((held.at_ms for held in waiting), default=None)
        return QueueSummary(
            name=name,
            waiting=counts["queued"],
            running=counts["running"],
            scheduled=counts["scheduled"],
            retrying=counts["retrying"],
            dead=counts["dead"],
            latency=None if since_ms is None else max(0, self._now_ms() - since_ms) / 1000,
            workers=(),
            dead_workers=(),
            stranded=0,
            paused=name in memory.paused,
        )

    async def jobs(self, queue: str, state: ListedState, *, job: str = "", limit: int = 50, after: str = "") -> JobPage:
        """Jobs of one queue in one state, page by page."""
        limit = max(1, min(limit, MOST_JOBS))
        found = [one for one in self._listed(queue, state) if job in ("", one.job)]
        start = int(after) if after else 0
        page = found[start : start + limit]
        return JobPage(tuple(page), str(start + limit) if start + limit < len(found) else "")

    async def job(self, job_id: str) -> JobDetails | None:
        """All that is kept of a job; None when nothing is.

        Raises:
            ValueError: it is no job id.
        """
        held, finished = self._find(job_id)
        if held is not None:
            message = held.message
            fields = [
                b"waiting" if held.place == "queued" else held.place.encode(), self._now_ms(), held.at_ms, b"",
                message.job.encode(), message.args, message.meta(), self._consumer(held), held.marked, list(held.errors),
            ]  # fmt: skip
            return reading.details(job_id, message.queue, fields)
        if finished is None:
            return None
        details = reading.ended(job_id, finished.queue, finished.line, b"")
        kept = finished.ended
        return replace(details, encrypted=kept.encrypted, result=reading.shown_result(kept))

    async def workers(self) -> list[WorkerSummary]:
        """There are none: jobs run in this process."""
        return []

    # -- actions ---------------------------------------------------------------------------------

    async def pause(self, queue: str) -> bool:
        """Take no more jobs from a queue; whether it was not paused before.

        Raises:
            ValueError: no queue name.
        """
        paused = self._memory().paused
        was_paused = check_queue_name(queue) in paused
        paused.add(queue)
        return not was_paused

    async def resume(self, queue: str) -> bool:
        """Let a paused queue be read again; whether it was paused.

        Raises:
            ValueError: no queue name.
        """
        paused = self._memory().paused
        was_paused = check_queue_name(queue) in paused
        paused.discard(queue)
        self.adapter.wake()
        return was_paused

    async def retry(self, job_id: str) -> Retried:
        """Run a dead, retrying or scheduled job now; a dead one begins anew.

        Raises:
            ValueError: it is no job id.
        """
        held, finished = self._find(job_id)
        if held is None:
            return "unknown" if finished is None else "ended"
        if held.place in ("queued", "running"):
            return "queued"
        self._memory().revive(held, self._now_ms())
        self.adapter.wake()
        return "retried"

    async def retry_dead(self, queue: str) -> int:
        """Run all dead jobs of a queue anew; how many."""
        dead = sorted(self._in(queue, "dead"), key=lambda held: held.rank)
        for held in dead:
            self._memory().revive(held, self._now_ms())
        self.adapter.wake()
        return len(dead)

    async def discard(self, job_id: str) -> Discarded:
        """Remove a dead, retrying, scheduled or waiting job for good.

        Raises:
            ValueError: it is no job id.
        """
        held, finished = self._find(job_id)
        if held is None:
            return "unknown" if finished is None else "ended"
        if held.place == "running":
            return "running"
        self._memory().remove(held, self._now_ms())
        self.adapter.state().tell(job_id)
        return "discarded"

    async def discard_dead(self, queue: str) -> int:
        """Remove all dead jobs of a queue; how many."""
        dead = self._in(queue, "dead")
        for held in dead:
            self._memory().remove(held, self._now_ms())
        return len(dead)

    async def cancel(self, job_id: str) -> bool:
        """Cancel a waiting or running job; see `JobHandle.cancel`.

        Raises:
            ValueError: it is no job id.
        """
        queue_of(job_id)
        return await self.adapter.cancel(job_id)

    # -- within ----------------------------------------------------------------------------------

    def _memory(self) -> Memory:
        memory = self.adapter.state().memory
        memory.promote(self._now_ms())
        return memory

    def _now_ms(self) -> int:
        return self.adapter.clock.now_ms()

    def _find(self, job_id: str) -> tuple[Held | None, Finished | None]:
        queue_of(job_id)
        memory = self._memory()
        return memory.jobs.get(job_id), memory.finished(job_id, self._now_ms())

    def _in(self, queue: str, place: str) -> list[Held]:
        return [held for held in self._memory().jobs.values() if held.place == place and held.message.queue == queue]

    def _consumer(self, held: Held) -> bytes:
        return f"{self._memory().name}.0".encode() if held.place == "running" else b""

    def _listed(self, queue: str, state: ListedState) -> Iterable[JobSummary]:
        if state == "finished":
            lines = (reading.finished(one.line, queue) for one in self._memory().history(queue))
            return [line for line in lines if line is not None]
        place = "queued" if state == "waiting" else state
        found = sorted(self._in(queue, place), key=lambda held: held.rank, reverse=state == "dead")
        return [
            reading.summary(
                held.message.id.encode(), held.message.job.encode(), held.message.meta(),
                queue=queue, state=state, at_ms=held.at_ms, consumer=self._consumer(held),
            )
            for held in found
        ]  # fmt: skip

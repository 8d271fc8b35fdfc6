"""Admin: look at queues, jobs and workers, and retry, discard or cancel jobs.

Each look and each change of one queue is one script (`calls.py`); what one script can't do (all queues, all dead jobs) goes page by page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiojobs_rt.adapters.redis.keys import worker_key
from aiojobs_rt.adapters.redis.shards import queue_of_part, registered_parts
from aiojobs_rt.admin import reading
from aiojobs_rt.admin.calls import MOST_JOBS, Calls
from aiojobs_rt.admin.records import JobDetails, JobPage, JobSummary, QueueSummary, WorkerSummary
from aiojobs_rt.core.message import check_queue_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from aiojobs_rt.adapters.redis.adapter import RedisAdapter
    from aiojobs_rt.adapters.redis.connection import Argument
    from aiojobs_rt.admin.records import Discarded, ListedState, Retried

MOST_PAGES = 40
"""So many looks of 500 jobs each a page takes at most: a rare name among a million jobs comes with several pages."""
TRIES = 3

_RETRIED: dict[bytes, Retried] = {b"revived": "retried", b"queued": "queued"}
_DISCARDED: dict[bytes, Discarded] = {b"removed": "discarded", b"running": "running", b"unknown": "unknown"}


class Admin:
    """Queries and actions over the queues of one adapter, in one event loop. Close it, or use it in `async with`.

    Every method raises RedisUnavailable when Redis is not there, and ConfigurationError when it refuses the user. Cancelling a
    query is harmless; a cancelled action is done or is not, never half.

    Args:
        adapter: where the queues are. It is not closed with the Admin.
    """

    def __init__(self, adapter: RedisAdapter) -> None:
        self.adapter = adapter
        self._calls = Calls(adapter)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection. A later query makes a new one."""
        await self._calls.close()

    # -- queries ---------------------------------------------------------------------------------

    async def queue_names(self) -> list[str]:
        """Every queue that was ever used, sorted; a sharded one once."""
        return sorted({queue_of_part(part) for part in await self._calls.registered()})

    async def queues(self) -> list[QueueSummary]:
        """All queues in numbers, by name."""
        registered = await self._calls.registered()
        names = sorted({queue_of_part(part) for part in registered})
        return [reading.together(name, [await self._queue(p) for p in self._parts(name, registered)]) for name in names]

    async def queue(self, name: str) -> QueueSummary:
        """One queue in numbers, all its shards together; one that does not exist is empty."""
        return reading.together(
            name, [await self._queue(part) for part in self._parts(name, await self._calls.registered())]
        )

    async def _queue(self, name: str) -> QueueSummary:
        now_ms, waiting, running, scheduled, retrying, dead, since_ms, paused, leases = await self._calls.survey(name)
        expired = [lease for lease in leases if lease[1] <= now_ms]
        return QueueSummary(
            name=name,
            waiting=waiting,
            running=running,
            scheduled=scheduled,
            retrying=retrying,
            dead=dead,
            latency=None if since_ms < 0 else max(0, now_ms - since_ms) / 1000,
            workers=tuple(sorted(reading.worker_of(consumer) for consumer, expiry, _ in leases if expiry > now_ms)),
            dead_workers=tuple(sorted(reading.worker_of(consumer) for consumer, _, _ in expired)),
            stranded=sum(pending for _, _, pending in expired),
            paused=bool(paused),
        )

    async def jobs(self, queue: str, state: ListedState, *, job: str = "", limit: int = 50, after: str = "") -> JobPage:
        """Jobs of one queue in one state: in the order in which they run, or the latest first (dead, finished).

        Args:
            queue: its name.
            state: which jobs.
            job: only jobs of this name; empty for all.
            limit: at most so many, up to 500.
            after: the cursor of an earlier page (`JobPage.next`).

        Of a sharded queue shard after shard is shown, each in its order.
        """
        limit = max(1, min(limit, MOST_JOBS))
        found: list[JobSummary] = []
        parts = self._parts(queue, await self._calls.registered())
        shard, separator, rest = after.partition("|")
        at, after = (int(shard), rest) if separator and shard.isdigit() else (0, after)
        for _ in range(MOST_PAGES):
            if at >= len(parts):
                return JobPage(tuple(found), "")
            look = self._finished if state == "finished" else self._page
            page, after = await look(parts[at], state, job=job, limit=limit - len(found), after=after)
            found += page
            if not after:
                at += 1
            if len(found) >= limit:
                break
        if at >= len(parts):
            return JobPage(tuple(found), "")
        return JobPage(tuple(found), f"{at}|{after}" if at else after)

    async def job(self, job_id: str) -> JobDetails | None:
        """All that is kept of a job; None when nothing is.

        Raises:
            ValueError: it is no job id.
        """
        queue, fields = await self._calls.inspect(job_id)
        if fields[0] == b"unknown":
            return None
        if fields[0] == b"ended":
            return reading.ended(job_id, queue_of_part(queue), fields[2], fields[3])
        return reading.details(job_id, queue_of_part(queue), fields)

    async def workers(self) -> list[WorkerSummary]:
        """All workers that have a lease, or have left one behind, by name."""
        served: dict[str, list[tuple[str, bool, int]]] = {}
        for part in sorted(await self._calls.registered()):
            now_ms, *_, leases = await self._calls.survey(part)
            for consumer, expiry, pending in leases:
                line = queue_of_part(part), expiry > now_ms, pending
                served.setdefault(reading.worker_of(consumer), []).append(line)
        names = sorted(served)
        told: list[Any] = [
            await self.call("HGETALL", key, key=key)
            for key in (worker_key(self.adapter.prefix, name) for name in names)
        ]
        return [_worker(name, served[name], fields) for name, fields in zip(names, told, strict=True)]

    # -- actions ---------------------------------------------------------------------------------

    async def pause(self, queue: str) -> bool:
        """Stop the reading of a queue by all workers; what runs goes on, and jobs are enqueued as ever. Whether it was not paused before.

        Raises:
            ValueError: no queue name.
        """
        return await self._set_paused(queue, "pause")

    async def resume(self, queue: str) -> bool:
        """Let a paused queue be read again; whether it was paused.

        Raises:
            ValueError: no queue name.
        """
        return await self._set_paused(queue, "resume")

    async def retry(self, job_id: str) -> Retried:
        """Run a dead, retrying or scheduled job now.

        A dead job begins anew: its counts are reset, so that `max_attempts` and its policies apply as to a new job, and its error
        history is kept. A retrying or scheduled one only runs earlier.

        Raises:
            ValueError: it is no job id.
        """
        for _ in range(TRIES):
            queue, fields = await self._calls.inspect(job_id)
            state: bytes = fields[0]
            if state in (b"waiting", b"running"):
                return "queued"
            if state in (b"ended", b"unknown"):
                return "ended" if state == b"ended" else "unknown"
            meta: bytes = fields[6]
            fresh = reading.fresh_meta(meta, queue=queue, now_ms=fields[1]) if state == b"dead" else meta
            if fresh is None:
                return "malformed"
            (answer,) = await self._calls.revive(queue, [(job_id, meta, fresh)])
            if answer in _RETRIED:
                return _RETRIED[answer]
        return "queued"  # it changes faster than one can look: it runs

    async def retry_dead(self, queue: str) -> int:
        """Run all dead jobs of a queue anew, but those that can't be read; how many. Jobs that die meanwhile stay dead."""
        return sum([await self._retry_dead(part) for part in self._parts(queue, await self._calls.registered())])

    async def _retry_dead(self, queue: str) -> int:
        revived = 0
        dead, now_ms = await self._all_dead(queue)
        readable = [
            (job_id, meta, fresh)
            for job_id, meta in dead.items()
            if (fresh := reading.fresh_meta(meta, queue=queue, now_ms=now_ms)) is not None
        ]
        for start in range(0, len(readable), MOST_JOBS):
            answers = await self._calls.revive(queue, readable[start : start + MOST_JOBS])
            revived += answers.count(b"revived")
        return revived

    async def discard(self, job_id: str) -> Discarded:
        """Remove a dead, retrying, scheduled or waiting job for good.

        Raises:
            ValueError: it is no job id.
        """
        queue, fields = await self._calls.inspect(job_id)
        if fields[0] == b"ended":
            return "ended"
        (answer,) = await self._calls.remove(queue, [job_id], only_dead=False)
        return _DISCARDED[answer]

    async def discard_dead(self, queue: str) -> int:
        """Remove all dead jobs of a queue; how many."""
        return sum([await self._discard_dead(part) for part in self._parts(queue, await self._calls.registered())])

    async def _discard_dead(self, queue: str) -> int:
        removed = 0
        ids = list((await self._all_dead(queue))[0])
        for start in range(0, len(ids), MOST_JOBS):
            answers = await self._calls.remove(queue, ids[start : start + MOST_JOBS], only_dead=True)
            removed += answers.count(b"removed")
        return removed

    async def cancel(self, job_id: str) -> bool:
        """Cancel a waiting or running job; see `JobHandle.cancel`.

        Raises:
            ValueError: it is no job id.
        """
        return await self.adapter.cancel(job_id)

    async def call(self, *command: Argument, key: str | None = None) -> Any:
        """Send one command; see `Calls.call`."""
        return await self._calls.call(*command, key=key)

    # -- within ----------------------------------------------------------------------------------

    def _parts(self, queue: str, registered: Sequence[str]) -> list[str]:
        """A queue's shards: those that this adapter is told of, and those that are registered."""
        found = registered_parts(queue, [name.encode() for name in registered])
        return list(dict.fromkeys([*self.adapter.shards.parts(queue), *found]))

    async def _set_paused(self, queue: str, action: str) -> bool:
        changed = False
        for part in self._parts(check_queue_name(queue), await self._calls.registered()):
            changed |= await self._calls.pause(part, action)
        return changed

    async def _page(self, queue: str, state: str, *, job: str, limit: int, after: str) -> tuple[list[JobSummary], str]:
        _, cursor, rows = await self._calls.page(queue, state, job=job, limit=limit, after=after)
        jobs = [
            reading.summary(job_id, name, meta, queue=queue_of_part(queue), state=state, at_ms=at_ms, consumer=consumer)
            for job_id, name, meta, _, at_ms, consumer in rows
        ]
        return jobs, cursor.decode()

    async def _finished(self, queue: str, _: str, *, job: str, limit: int, after: str) -> tuple[list[JobSummary], str]:
        entries = await self._calls.recent(queue, after)
        found: list[JobSummary] = []
        for entry, fields in entries:
            line = reading.finished(fields[1], queue_of_part(queue))
            if line is not None and job in ("", line.job):
                found.append(line)
                if len(found) == limit:
                    return found, entry.decode()
        return found, entries[-1][0].decode() if len(entries) == MOST_JOBS else ""

    async def _all_dead(self, queue: str) -> tuple[dict[str, bytes], int]:
        """Id and meta of all dead jobs, and Redis' time."""
        found: dict[str, bytes] = {}
        cursor: bytes = b""
        while True:
            now_ms, cursor, rows = await self._calls.page(queue, "dead", job="", limit=MOST_JOBS, after=cursor)
            found.update((job_id.decode(), meta) for job_id, _, meta, *_ in rows)
            if not cursor:
                return found, now_ms


def _worker(name: str, served: list[tuple[str, bool, int]], fields: list[bytes]) -> WorkerSummary:
    told = dict(zip(fields[::2], fields[1::2], strict=True))
    alive = any(live for _, live, _ in served)
    return WorkerSummary(
        name=name,
        state="dead" if not alive else "quiet" if told.get(b"quiet") == b"1" else "running",
        queues=tuple(dict.fromkeys(queue for queue, _, _ in served)),
        jobs=sum(pending for _, _, pending in served),
        host=reading.text(told.get(b"host", b"")),
        pid=reading.whole(told.get(b"pid")),
        concurrency=reading.whole(told.get(b"concurrency")),
        running=reading.whole(told.get(b"running")),
        finished=reading.whole(told.get(b"finished")),
        started_at=reading.instant(reading.whole(told.get(b"started"))),
        seen=reading.instant(reading.whole(told.get(b"beat"))),
    )

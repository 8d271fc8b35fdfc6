"""Memory: queues inside this process. Which job is where, and what becomes of an outcome; no clock, loop or task of its own.

It answers as the scripts of the Redis adapter do: what is said of `enqueue.lua`, `settle.lua`, `cancel.lua`, `revive.lua` and `remove.lua` holds here.
Every method is told the time.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, cast

import orjson

from aiojobs_rt.adapters.base import Ended
from aiojobs_rt.core.message import ENCRYPTED, WIRE_VERSION, JobMessage, parse
from aiojobs_rt.core.outcome import Cancelled, Dead, Discarded, Outcome, Released, Retried, Snoozed, Succeeded
from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiojobs_rt.adapters.base import Envelope, Status

Place = Literal["queued", "scheduled", "retrying", "running", "dead"]

MAX_ERRORS = 25
EARLIER_RUNS = ("failed_at", "dead", "unknown_since", "unknown_tries")
FIRST = -(10**9)
"""Before every priority: a job that was put back, as on the `returned` lane."""


@dataclass(slots=True, eq=False)
class Held:
    """A job that has not ended, or is dead.

    Attributes:
        message: as its next run finds it.
        place: where it is.
        at_ms: since when it could run, when it is due, when it died.
        rank: its place among those of its queue that wait; lower runs first.
        marked: it was cancelled while it ran.
        errors: the records of its failed runs, the latest first.
    """

    message: JobMessage
    place: Place
    at_ms: int
    rank: tuple[int, int]
    marked: bool = False
    errors: deque[bytes] = field(default_factory=lambda: deque(maxlen=MAX_ERRORS))


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that has ended.

    Attributes:
        line: as in the history of Redis: id, job, outcome, enqueued ms, began ms, took us, worker, reason.
        ended: what a waiter is told.
        kept_until_ms: until when its result is kept; 0: it is not.
    """

    id: str
    queue: str
    job: str
    line: bytes
    ended: Ended
    kept_until_ms: int


class Memory:
    """All queues.

    Args:
        name: what stands as the worker in records.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.jobs: dict[str, Held] = {}
        self.queues: set[str] = set()
        self.paused: set[str] = set()
        self._finished: dict[str, Finished] = {}
        self._ready: dict[str, list[tuple[tuple[int, int], str]]] = {}
        self._due: list[tuple[int, int, str]] = []
        self._numbers = itertools.count()

    # -- in ----------------------------------------------------------------------------------------

    def put(self, envelope: Envelope, now_ms: int) -> bool:
        """Take a job in; False when its id is there already."""
        if envelope.id in self.jobs:
            return False
        meta = b'{"v":%d,"at":%d' % (WIRE_VERSION, now_ms) + envelope.meta
        message = parse(envelope.id.encode(), envelope.job.encode(), envelope.args, meta, queue=envelope.queue)
        held = self.jobs[envelope.id] = Held(message, "queued", now_ms, (0, 0))
        due_ms = envelope.due_ms or now_ms + envelope.delay_ms
        if due_ms > now_ms:
            self._park(held, "scheduled", due_ms)
        else:
            self._push(held, now_ms)
        return True

    # -- out ---------------------------------------------------------------------------------------

    def promote(self, now_ms: int) -> None:
        """Make what is due by now wait for a slot, in the order of the due times."""
        while (due_ms := self.next_due()) is not None and due_ms <= now_ms:
            held = self.jobs[heapq.heappop(self._due)[2]]
            self._push(held, due_ms)

    def next_due(self) -> int | None:
        """When the next scheduled or retrying job is due."""
        while self._due:
            due_ms, number, job_id = self._due[0]
            held = self.jobs.get(job_id)
            if held is not None and held.place in ("scheduled", "retrying") and held.rank == (due_ms, number):
                return due_ms
            heapq.heappop(self._due)
        return None

    def take(self, now_ms: int, which: Callable[[Held], bool] = lambda _: True) -> Held | None:
        """The next job that waits, as running; by priority within its queue, and among queues the one that waits longest."""
        self.promote(now_ms)
        heads: list[Held] = []
        for queue in self._ready:
            head = None if queue in self.paused else self._head(queue, which)
            if head is not None:
                heads.append(head)
        if not heads:
            return None
        held = min(heads, key=lambda head: head.rank[1])
        held.place, held.at_ms = "running", now_ms
        return held

    def waiting(self, queue: str) -> list[Held]:
        """The jobs of a queue that wait, in the order in which they run."""
        found = [held for held in self.jobs.values() if held.place == "queued" and held.message.queue == queue]
        return sorted(found, key=lambda held: held.rank)

    # -- outcomes ------------------------------------------------------------------------------------

    def settle(self, held: Held, outcome: Outcome, now_ms: int) -> None:
        """Make an outcome so. A job that was cancelled while it ran does not run again."""
        message = held.message
        if held.marked and isinstance(outcome, Retried | Snoozed | Released):
            outcome = Cancelled()
        match outcome:
            case Retried(again, delay_ms, error, queue):
                if error:
                    held.errors.appendleft(error)
                held.message = _over_the_wire(again, queue or again.queue)
                if delay_ms:
                    self._park(held, "retrying", now_ms + delay_ms)
                else:
                    self._push(held, now_ms)
            case Snoozed(again, delay_ms):
                held.message = _over_the_wire(again, again.queue)
                self._park(held, "scheduled", now_ms + delay_ms)
            case Released(again):
                held.message = _over_the_wire(again, again.queue)
                self._push(held, now_ms, first=True)
            case Dead(again, _, error, keep_ms):
                held.errors.appendleft(error)
                held.message = _over_the_wire(again, message.queue)
                held.place, held.at_ms = "dead", now_ms
                held.rank = (now_ms, next(self._numbers))
                summary = error_text(error)
                self._note(held, Ended("dead", error=summary), keep_ms, now_ms, began_ms=now_ms, reason=summary)
                self._trim_dead(message.queue, now_ms)
            case Discarded(reason, keep_ms):
                self._end(held, Ended("discarded", error=reason), keep_ms, now_ms)
            case Cancelled(keep_ms):
                self._end(held, Ended("cancelled"), keep_ms, now_ms)
            case Succeeded(result, keep_ms, secret):
                ended = Ended("succeeded", result, encrypted=ENCRYPTED in message.extra, secret=secret)
                self._end(held, ended, keep_ms, now_ms)

    # -- queries -------------------------------------------------------------------------------------

    def status(self, job_id: str, now_ms: int) -> Status:
        """Where a job is."""
        self.promote(now_ms)
        held = self.jobs.get(job_id)
        if held is not None:
            return held.place
        finished = self.finished(job_id, now_ms)
        return "unknown" if finished is None else cast("Status", finished.ended.outcome)

    def finished(self, job_id: str, now_ms: int) -> Finished | None:
        """How a job ended, as far as it is kept."""
        finished = self._finished.get(job_id)
        if finished is None or not finished.kept_until_ms or finished.kept_until_ms > now_ms:
            return finished
        return replace(finished, ended=Ended(finished.ended.outcome, error="its result is not kept"), kept_until_ms=0)

    def history(self, queue: str) -> Iterable[Finished]:
        """The jobs of a queue that ended, the latest first."""
        return (finished for finished in reversed(list(self._finished.values())) if finished.queue == queue)

    def ended(self, job_id: str, now_ms: int) -> Ended | None:
        """What a waiter is told of a job; None while it has not ended. "unknown" is an outcome here."""
        held = self.jobs.get(job_id)
        if held is not None:
            return Ended("dead", error=error_text(held.errors[0])) if held.place == "dead" else None
        finished = self.finished(job_id, now_ms)
        return Ended("unknown") if finished is None else finished.ended

    # -- actions -------------------------------------------------------------------------------------

    def cancel(self, job_id: str, now_ms: int) -> Literal["gone", "marked", "ended", "unknown"]:
        """Cancel a job: one that waits is gone, a running one is marked."""
        held = self.jobs.get(job_id)
        if held is None or held.place == "dead":
            return "unknown" if held is None else "ended"
        if held.place == "running":
            held.marked = True
            return "marked"
        self._end(held, Ended("cancelled"), 0, now_ms, worker="")
        return "gone"

    def revive(self, held: Held, now_ms: int) -> None:
        """Run a dead, retrying or scheduled job now; a dead one as if for the first time."""
        if held.place == "dead":
            extra = {key: value for key, value in held.message.extra.items() if key not in EARLIER_RUNS}
            extra |= {"due": now_ms, "revived": extra.get("revived", 0) + 1}
            held.message = replace(held.message, failures=0, crashes=0, interruptions=0, executions={}, extra=extra)
            self._finished.pop(held.message.id, None)
        self._push(held, now_ms)

    def remove(self, held: Held, now_ms: int) -> None:
        """Discard a job that does not run."""
        self._end(held, Ended("discarded", error="discarded by an operator"), 0, now_ms, worker="")

    def clear(self) -> None:
        """Forget every job that does not run."""
        self.jobs = {job_id: held for job_id, held in self.jobs.items() if held.place == "running"}
        self._finished.clear()

    # -- within --------------------------------------------------------------------------------------

    def _push(self, held: Held, now_ms: int, *, first: bool = False) -> None:
        held.place, held.at_ms = "queued", now_ms
        held.rank = (FIRST if first else held.message.priority, next(self._numbers))
        self.queues.add(held.message.queue)
        heapq.heappush(self._ready.setdefault(held.message.queue, []), (held.rank, held.message.id))

    def _park(self, held: Held, place: Place, due_ms: int) -> None:
        held.place, held.at_ms, held.rank = place, due_ms, (due_ms, next(self._numbers))
        self.queues.add(held.message.queue)
        heapq.heappush(self._due, (*held.rank, held.message.id))

    def _head(self, queue: str, which: Callable[[Held], bool]) -> Held | None:
        heap = self._ready[queue]
        while heap:
            rank, job_id = heap[0]
            held = self.jobs.get(job_id)
            if held is None or held.place != "queued" or held.rank != rank or held.message.queue != queue:
                heapq.heappop(heap)
            elif which(held):
                return held
            else:
                return next((held for held in self.waiting(queue) if which(held)), None)
        return None

    def _end(self, held: Held, ended: Ended, keep_ms: int, now_ms: int, *, worker: str | None = None) -> None:
        del self.jobs[held.message.id]
        began_ms = held.at_ms if held.place == "running" else now_ms
        self._note(held, ended, keep_ms, now_ms, began_ms=began_ms, reason=ended.error, worker=worker)

    def _note(
        self,
        held: Held,
        ended: Ended,
        keep_ms: int,
        now_ms: int,
        *,
        began_ms: int,
        reason: str,
        worker: str | None = None,
    ) -> None:
        message = held.message
        line: list[str | int] = [
            message.id, message.job, ended.outcome, message.enqueued_at_ms, began_ms, (now_ms - began_ms) * 1000,
            self.name if worker is None else worker,
        ]  # fmt: skip
        if reason:
            line.append(reason[:500])
        if not keep_ms:
            ended = Ended(ended.outcome, error="its result is not kept")
        until_ms = now_ms + keep_ms if keep_ms else 0
        self._finished[message.id] = Finished(
            message.id, message.queue, message.job, orjson.dumps(line), ended, until_ms
        )
        while len(self._finished) > settings().recent:
            kept = self._finished
            # what keeps its result goes last
            del kept[next((key for key, one in kept.items() if one.kept_until_ms <= now_ms), next(iter(kept)))]

    def _trim_dead(self, queue: str, now_ms: int) -> None:
        dead = sorted(
            (held for held in self.jobs.values() if held.place == "dead" and held.message.queue == queue),
            key=lambda held: held.rank,
        )
        oldest_ms = now_ms - int(settings().dead_max_age * 1000)
        excess = len(dead) - settings().dead_max_jobs
        for number, held in enumerate(dead):
            if number < excess or held.at_ms < oldest_ms:
                del self.jobs[held.message.id]


def error_text(record: bytes) -> str:
    """Class and message of an attempt's error, for people."""
    fields = orjson.loads(record)
    return f"{fields['error']}: {fields['message']}"


def _over_the_wire(message: JobMessage, queue: str) -> JobMessage:
    """The message as it arrives when it has been written and read again."""
    return parse(message.id.encode(), message.job.encode(), message.args, message.meta(), queue=queue)

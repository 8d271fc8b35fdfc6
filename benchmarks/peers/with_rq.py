"""RQ: a SimpleWorker (no fork for each job: what its documentation names for throughput) of a worker pool. No results are kept."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from redis import Redis
from rq import Queue, SimpleWorker
from rq.worker_pool import WorkerPool

from benchmarks import tally
from benchmarks.peers import jobs

if TYPE_CHECKING:
    from benchmarks.load import Load, Produced


def noop(n: int, s: str) -> None:  # noqa: ARG001 - part of the load
    jobs.mark(n)


def sleep(n: int, ms: int) -> None:
    jobs.sleep(n, ms)


def stamp(n: int, at_ns: int, us: int) -> None:
    jobs.stamp(n, at_ns, us)


def late(n: int, due_ms: int) -> None:
    jobs.late(n, due_ms)


def echo(n: int) -> int:
    jobs.mark(n)
    return n


class CountedWorker(SimpleWorker):
    """Leaves the tally when it ends."""

    def work(self, *args: Any, **kwargs: Any) -> bool:
        try:
            return bool(super().work(*args, **kwargs))
        finally:
            tally.write()


class PooledWorker(CountedWorker):
    """One of a pool, whose process is measured too."""

    def work(self, *args: Any, **kwargs: Any) -> bool:
        jobs.count_parent()
        return super().work(*args, **kwargs)


def produce(load: Load) -> Produced:
    connection = Redis.from_url(jobs.url())
    queue = Queue(connection=connection)
    function: Any = {"Noop": noop, "Sleep": sleep, "Stamp": stamp, "Late": late, "Echo": echo}[load.job]
    kept = 60 if load.job == "Echo" else 0

    async def one(given: jobs.Arguments) -> None:
        if "due_ms" in given:
            due = datetime.fromtimestamp(given["due_ms"] / 1000, UTC)
            queue.enqueue_at(due, function, kwargs=given, result_ttl=kept)
        else:
            queue.enqueue_call(function, kwargs=given, result_ttl=kept)

    async def many(several: Any) -> None:
        queue.enqueue_many([Queue.prepare_data(function, kwargs=given, result_ttl=kept) for given in several])

    async def ask(given: jobs.Arguments) -> None:
        job = queue.enqueue_call(function, kwargs=given, result_ttl=kept)
        job.latest_result(timeout=30)  # blocks on the stream of its results

    return asyncio.run(jobs.produce(load, one, many if load.job != "Late" else None, ask))


def work(load: Load, concurrency: int) -> None:
    connection = Redis.from_url(jobs.url())
    level = "WARNING" if jobs.quiet() else "INFO"
    if concurrency == 1:
        CountedWorker([Queue(connection=connection)], connection=connection).work(
            logging_level=level, with_scheduler=load.job == "Late"
        )
    else:
        WorkerPool(["default"], connection=connection, num_workers=concurrency, worker_class=PooledWorker).start(
            logging_level=level
        )

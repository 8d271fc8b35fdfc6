"""streaQ: an anyio worker over streams, through coredis. A result is kept for its least time: tasks with ttl 0 keep none."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from streaq import Worker

from benchmarks import tally
from benchmarks.loop import run
from benchmarks.peers import jobs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import Any

    from benchmarks.load import Load, Produced


@asynccontextmanager
async def lifespan() -> AsyncGenerator[None]:
    try:
        yield
    finally:
        tally.write()


def build(concurrency: int, *, quiet: bool) -> tuple[Any, dict[str, Any]]:
    worker = Worker(
        jobs.url(), concurrency=concurrency, lifespan=lifespan, anyio_kwargs={"use_uvloop": True}, grace_period=5
    )

    @worker.task(name="noop", ttl=0, silent=quiet)
    async def noop(n: int, s: str) -> None:  # noqa: ARG001 - part of the load
        jobs.mark(n)

    @worker.task(name="sleep", ttl=0, silent=quiet)
    async def sleep(n: int, ms: int) -> None:
        await jobs.asleep(n, ms)

    @worker.task(name="stamp", ttl=0, silent=quiet)
    async def stamp(n: int, at_ns: int, us: int) -> None:
        jobs.stamp(n, at_ns, us)

    @worker.task(name="late", ttl=0, silent=quiet)
    async def late(n: int, due_ms: int) -> None:
        jobs.late(n, due_ms)

    @worker.task(name="echo", silent=quiet)
    async def echo(n: int) -> int:
        jobs.mark(n)
        return n

    return worker, {"Noop": noop, "Sleep": sleep, "Stamp": stamp, "Late": late, "Echo": echo}


def produce(load: Load) -> Produced:
    async def main() -> Produced:
        worker, tasks = build(1, quiet=True)
        task = tasks[load.job]

        def prepare(given: jobs.Arguments) -> Any:
            made = task.enqueue(**given)
            if "due_ms" in given:
                made.start(schedule=datetime.fromtimestamp(given["due_ms"] / 1000, UTC))
            return made

        async def one(given: jobs.Arguments) -> None:
            await prepare(given)

        async def many(several: Any) -> None:
            await worker.enqueue_many([prepare(given) for given in several])

        async def ask(given: jobs.Arguments) -> None:
            made = await prepare(given)
            await made.result()

        async with worker:
            return await jobs.produce(load, one, many, ask)

    return run(main())


def work(load: Load, concurrency: int) -> None:  # noqa: ARG001 - it knows all jobs
    if jobs.quiet():
        jobs.hush()
    else:
        logging.basicConfig(level=logging.INFO)
    worker, _ = build(concurrency, quiet=jobs.quiet())
    worker.run_sync()

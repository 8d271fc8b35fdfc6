"""arq: an asyncio worker over a sorted set. No results are kept; a job's lock and its entry stay until it has ended."""

from __future__ import annotations

import asyncio
import logging.config
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import uvloop
from arq import create_pool, func
from arq.connections import RedisSettings
from arq.logs import default_log_config
from arq.worker import Worker

from benchmarks import tally
from benchmarks.loop import run
from benchmarks.peers import jobs

if TYPE_CHECKING:
    from benchmarks.load import Load, Produced


async def noop(ctx: Any, n: int, s: str) -> None:  # noqa: ARG001 - part of the load
    jobs.mark(n)


async def sleep(ctx: Any, n: int, ms: int) -> None:  # noqa: ARG001 - arq's way
    await jobs.asleep(n, ms)


async def stamp(ctx: Any, n: int, at_ns: int, us: int) -> None:  # noqa: ARG001 - arq's way
    jobs.stamp(n, at_ns, us)


async def late(ctx: Any, n: int, due_ms: int) -> None:  # noqa: ARG001 - arq's way
    jobs.late(n, due_ms)


async def echo(ctx: Any, n: int) -> int:  # noqa: ARG001 - arq's way
    jobs.mark(n)
    return n


def produce(load: Load) -> Produced:
    async def main() -> Produced:
        pool = await create_pool(RedisSettings.from_dsn(jobs.url()))
        name = load.job.lower()

        async def one(given: jobs.Arguments) -> None:
            due = datetime.fromtimestamp(given["due_ms"] / 1000, UTC) if "due_ms" in given else None
            await pool.enqueue_job(name, _defer_until=due, **given)

        async def ask(given: jobs.Arguments) -> None:
            job = await pool.enqueue_job(name, **given)
            await job.result(poll_delay=0.001)

        produced = await jobs.produce(load, one, ask=ask)
        await pool.aclose()
        return produced

    return run(main())


def work(load: Load, concurrency: int) -> None:
    asyncio.set_event_loop(uvloop.new_event_loop())
    if jobs.quiet():
        jobs.hush()
    else:
        logging.config.dictConfig(default_log_config(verbose=False))
    kept = 60 if load.job == "Echo" else 0
    worker = Worker(
        functions=[func(f, keep_result=kept) for f in (noop, sleep, stamp, late, echo)],
        redis_settings=RedisSettings.from_dsn(jobs.url()),
        max_jobs=concurrency,
        keep_result=kept,
        poll_delay=0.01 if load.job in {"Stamp", "Late", "Echo"} else 0.5,
        job_completion_wait=5,
    )
    worker.run()
    tally.write()

"""SAQ: an asyncio worker over a list; BLMOVE keeps what is taken in a list of its own until it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saq import Worker
from saq.queue.redis import RedisQueue

from benchmarks import tally
from benchmarks.loop import run
from benchmarks.peers import jobs

if TYPE_CHECKING:
    from benchmarks.load import Load, Produced


async def noop(ctx: Any, *, n: int, s: str) -> None:  # noqa: ARG001 - part of the load
    jobs.mark(n)


async def sleep(ctx: Any, *, n: int, ms: int) -> None:  # noqa: ARG001 - SAQ's way
    await jobs.asleep(n, ms)


async def stamp(ctx: Any, *, n: int, at_ns: int, us: int) -> None:  # noqa: ARG001 - SAQ's way
    jobs.stamp(n, at_ns, us)


async def late(ctx: Any, *, n: int, due_ms: int) -> None:  # noqa: ARG001 - SAQ's way
    jobs.late(n, due_ms)


async def echo(ctx: Any, *, n: int) -> int:  # noqa: ARG001 - SAQ's way
    jobs.mark(n)
    return n


def produce(load: Load) -> Produced:
    async def main() -> Produced:
        queue = RedisQueue.from_url(jobs.url(connections=5_000))
        await queue.connect()
        name = load.job.lower()

        # due times are whole seconds here, and a job is due when its second has come: rounded up, lest it be early
        async def one(given: jobs.Arguments) -> None:
            due = -(-given["due_ms"] // 1000) if "due_ms" in given else 0
            await queue.enqueue(name, scheduled=due, ttl=-1, **given)

        async def ask(given: jobs.Arguments) -> None:
            await queue.apply(name, poll_interval=0.001, **given)

        produced = await jobs.produce(load, one, ask=ask)
        await queue.disconnect()
        return produced

    return run(main())


def work(load: Load, concurrency: int) -> None:  # noqa: ARG001 - it knows all jobs
    if jobs.quiet():
        jobs.hush()

    async def main() -> None:
        queue = RedisQueue.from_url(jobs.url(connections=5_000))
        await queue.connect()
        worker = Worker(
            queue, functions=[noop, sleep, stamp, late, echo], concurrency=concurrency, shutdown_grace_period_s=1
        )
        await worker.start()
        await queue.disconnect()

    run(main())
    tally.write()

"""docket (pydocket): an asyncio worker over streams; what has ended leaves no record (execution_ttl 0), as its documentation offers for throughput."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from docket import Docket, Worker

from benchmarks import tally
from benchmarks.loop import run
from benchmarks.peers import jobs

if TYPE_CHECKING:
    from benchmarks.load import Load, Produced


async def noop(n: int, s: str) -> None:  # noqa: ARG001 - part of the load
    jobs.mark(n)


async def sleep(n: int, ms: int) -> None:
    await jobs.asleep(n, ms)


async def stamp(n: int, at_ns: int, us: int) -> None:
    jobs.stamp(n, at_ns, us)


async def late(n: int, due_ms: int) -> None:
    jobs.late(n, due_ms)


async def echo(n: int) -> int:
    jobs.mark(n)
    return n


TASKS: dict[str, Any] = {"Noop": noop, "Sleep": sleep, "Stamp": stamp, "Late": late, "Echo": echo}


def build(load: Load) -> Any:
    return Docket(
        "benchmarks",
        jobs.url(connections=5_000),
        execution_ttl=timedelta(minutes=1) if load.job == "Echo" else timedelta(0),
    )


def produce(load: Load) -> Produced:
    async def main() -> Produced:
        async with build(load) as docket:
            task = TASKS[load.job]

            def due(given: jobs.Arguments) -> datetime | None:
                return datetime.fromtimestamp(given["due_ms"] / 1000, UTC) if "due_ms" in given else None

            async def one(given: jobs.Arguments) -> None:
                await docket.add(task, when=due(given))(**given)

            async def many(several: Any) -> None:
                await docket.add_many([docket.call(task, when=due(given))(**given) for given in several])

            async def ask(given: jobs.Arguments) -> None:
                execution = await docket.add(task)(**given)
                await execution.get_result()

            return await jobs.produce(load, one, many, ask)

    return run(main())


def work(load: Load, concurrency: int) -> None:
    if jobs.quiet():
        jobs.hush()
    else:
        logging.basicConfig(level=logging.INFO)

    async def main() -> None:
        import asyncio  # noqa: PLC0415 - the loop's own
        import signal  # noqa: PLC0415 - as above

        async with build(load) as docket:
            for task in TASKS.values():
                docket.register(task)
            async with Worker(
                docket, concurrency=concurrency, scheduling_resolution=timedelta(milliseconds=10)
            ) as worker:
                running = asyncio.create_task(worker.run_forever())
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
                await asyncio.wait([running])

    run(main())
    tally.write()

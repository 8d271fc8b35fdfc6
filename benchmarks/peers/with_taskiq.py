"""taskiq, with the streams broker of taskiq-redis: messages are acked when they have ended, and no results are kept.

Worker: the taskiq command, with one child process: `taskiq worker benchmarks.peers.with_taskiq:broker`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from taskiq import TaskiqEvents
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks import tally
from benchmarks.loop import run
from benchmarks.peers import jobs

if TYPE_CHECKING:
    from benchmarks.load import Load, Produced

broker = RedisStreamBroker(jobs.url(), consumer_id="0", unacknowledged_lock_timeout=60)
if os.environ.get("BENCHMARKS_RESULTS"):
    broker = broker.with_result_backend(RedisAsyncResultBackend(jobs.url(), result_ex_time=60))


@broker.task(task_name="noop")
async def noop(n: int, s: str) -> None:  # noqa: ARG001 - part of the load
    jobs.mark(n)


@broker.task(task_name="sleep")
async def sleep(n: int, ms: int) -> None:
    await jobs.asleep(n, ms)


@broker.task(task_name="stamp")
async def stamp(n: int, at_ns: int, us: int) -> None:
    jobs.stamp(n, at_ns, us)


@broker.task(task_name="echo")
async def echo(n: int) -> int:
    jobs.mark(n)
    return n


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def began(_: object) -> None:
    jobs.count_parent()


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def ended(_: object) -> None:
    tally.write()


def produce(load: Load) -> Produced:
    async def main() -> Produced:
        await broker.startup()
        task = {"Noop": noop, "Sleep": sleep, "Stamp": stamp, "Echo": echo}[load.job]

        async def one(given: jobs.Arguments) -> None:
            await task.kiq(**given)

        async def ask(given: jobs.Arguments) -> None:
            kicked = await task.kiq(**given)
            await kicked.wait_result(check_interval=0.001)

        produced = await jobs.produce(load, one, ask=ask)
        await broker.shutdown()
        return produced

    return run(main())

"""Celery on Redis: acks_late, no results, no events. Worker: `celery -A benchmarks.peers.with_celery worker`; prefork, and threads for jobs that wait."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celery import Celery, signals

from benchmarks import tally
from benchmarks.peers import jobs

if TYPE_CHECKING:
    from benchmarks.load import Load, Produced

RESULTS = bool(os.environ.get("BENCHMARKS_RESULTS"))


def address() -> str:
    """Of the unix socket, as kombu spells it."""
    return "redis+socket://" + jobs.url().removeprefix("unix://") if jobs.url().startswith("unix:") else jobs.url()


app = Celery("benchmarks", broker=address(), backend=address() if RESULTS else None)
app.conf.update(
    task_acks_late=True,
    task_ignore_result=not RESULTS,
    worker_prefetch_multiplier=int(os.environ.get("BENCHMARKS_PREFETCH", "4")),
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
    broker_pool_limit=10,
)


@app.task(name="noop")
def noop(n: int, s: str) -> None:  # noqa: ARG001 - part of the load
    jobs.mark(n)


@app.task(name="sleep")
def sleep(n: int, ms: int) -> None:
    jobs.sleep(n, ms)


@app.task(name="stamp")
def stamp(n: int, at_ns: int, us: int) -> None:
    jobs.stamp(n, at_ns, us)


@app.task(name="late")
def late(n: int, due_ms: int) -> None:
    jobs.late(n, due_ms)


@app.task(name="echo")
def echo(n: int) -> int:
    jobs.mark(n)
    return n


@signals.worker_process_init.connect
def began(**_: Any) -> None:
    jobs.count_parent()


@signals.worker_process_shutdown.connect
def ended(**_: Any) -> None:
    tally.write()


@signals.worker_shutdown.connect
def closed(**_: Any) -> None:
    if any(tally.marks):  # a pool of threads
        tally.write()


def produce(load: Load) -> Produced:
    task: Any = {"Noop": noop, "Sleep": sleep, "Stamp": stamp, "Late": late, "Echo": echo}[load.job]

    async def one(given: jobs.Arguments) -> None:
        due = datetime.fromtimestamp(given["due_ms"] / 1000, UTC) if "due_ms" in given else None
        task.apply_async(kwargs=given, eta=due)

    async def ask(given: jobs.Arguments) -> None:
        task.apply_async(kwargs=given).get(timeout=30)

    return asyncio.run(jobs.produce(load, one, ask=ask))

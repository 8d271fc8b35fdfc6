"""A producer process: `python -m benchmarks.producer LOAD`. Enqueues to AIOJOBS_RT_REDIS_URL, and prints what it took as one JSON line."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from aiojobs_rt import Bound, perform_all_later
from benchmarks.jobs import Late, Noop, Sleep, Stamp
from benchmarks.load import Load, Produced
from benchmarks.loop import run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

SLICE = 10_000


async def produce(load: Load) -> Produced:
    """Enqueue the load."""
    modes: dict[str, Callable[[Load], Coroutine[None, None, None]]] = {
        "one": _one_by_one,
        "concurrent": _concurrently,
        "bulk": _in_bulk,
        "paced": _paced,
    }
    began, cpu_began = time.perf_counter(), time.process_time()
    await modes[load.mode](load)
    return Produced(time.perf_counter() - began, time.process_time() - cpu_began)


async def _one_by_one(load: Load) -> None:
    for n in range(load.jobs):
        await Noop.perform_later(n, "x")


async def _concurrently(load: Load) -> None:
    async def call(first: int) -> None:
        for n in range(first, load.jobs, load.callers):
            await Noop.perform_later(n, "x")

    await asyncio.gather(*(call(first) for first in range(load.callers)))


async def _in_bulk(load: Load) -> None:
    bind = _binder(load)
    for start in range(0, load.jobs, SLICE):
        await perform_all_later([bind(n) for n in range(start, min(start + SLICE, load.jobs))])


async def _paced(load: Load) -> None:
    for n in range(load.jobs):
        await Stamp.perform_later(n, time.monotonic_ns())
        await asyncio.sleep(load.pause_ms / 1000 * random.uniform(0.5, 1.5))


def _binder(load: Load) -> Callable[[int], Bound[None]]:
    match load.job:
        case "Noop":
            return lambda n: Noop.bind(n, "x")
        case "Sleep":
            return lambda n: Sleep.bind(n, load.sleep_ms)
        case "Late":
            # enough time to enqueue them all before the first is due
            first = int(time.time() * 1000) + 1_000 + load.jobs // 10
            return lambda n: _late(n, first + n * load.spread_ms // load.jobs)
        case _:
            raise ValueError(f"{load.job} jobs are not enqueued in bulk")


def _late(n: int, due_ms: int) -> Bound[None]:
    return Late.set(wait_until=datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=due_ms)).bind(n, due_ms)


if __name__ == "__main__":
    print(json.dumps(asdict(run(produce(Load.parse(sys.argv[1]))))))

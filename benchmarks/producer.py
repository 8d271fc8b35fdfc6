"""A producer process: `python -m benchmarks.producer LOAD`. Enqueues to AIOJOBS_RT_REDIS_URL, and prints what it took as one JSON line."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aiojobs_rt import Bound, perform_all_later
from benchmarks.jobs import Cpu, Echo, Flaky, Late, Noop, Payload, Ranked, Rich, Sleep, Stamp
from benchmarks.load import RANKS, Load, Produced
from benchmarks.loop import run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

SLICE = 10_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def produce(load: Load) -> Produced:
    """Enqueue the load."""
    delays: list[float] = []
    began, cpu_began = time.perf_counter(), time.process_time()
    match load.mode:
        case "one":
            await _one_by_one(load)
        case "concurrent":
            await _concurrently(load)
        case "bulk":
            await _in_bulk(load)
        case "paced":
            await _paced(load)
        case "results":
            await _with_results(load, delays)
    return Produced(time.perf_counter() - began, time.process_time() - cpu_began, delays)


async def _one_by_one(load: Load) -> None:
    enqueue = _caller(load)
    for n in range(load.jobs):
        await enqueue(n)


async def _concurrently(load: Load) -> None:
    enqueue = _caller(load)

    async def call(first: int) -> None:
        for n in range(first, load.jobs, load.callers):
            await enqueue(n)

    await asyncio.gather(*(call(first) for first in range(load.callers)))


async def _in_bulk(load: Load) -> None:
    bind = _binder(load)
    for start in range(0, load.jobs, SLICE):
        await perform_all_later([bind(n) for n in range(start, min(start + SLICE, load.jobs))])


async def _paced(load: Load) -> None:
    at = time.monotonic()
    for n, gap in enumerate(load.gaps()):
        await Stamp.perform_later(n, time.monotonic_ns(), load.spin_us)
        at += gap
        await asyncio.sleep(max(at - time.monotonic(), 0))


async def _with_results(load: Load, delays: list[float]) -> None:
    async def call(first: int) -> None:
        for n in range(first, load.jobs, load.callers):
            began = time.perf_counter()
            handle = await Echo.perform_later(n)
            value = await handle.result(timeout=60)
            delays.append((time.perf_counter() - began) * 1e3)
            if value != n:
                raise RuntimeError(f"job {n} answered {value!r}")

    await asyncio.gather(*(call(first) for first in range(load.callers)))


def _caller(load: Load) -> Callable[[int], Coroutine[Any, Any, object]]:
    match load.job:
        case "Noop":
            return lambda n: Noop.perform_later(n, "x")
        case "Payload":
            data = "x" * load.payload
            return lambda n: Payload.perform_later(n, data)
        case _:
            raise ValueError(f"{load.job} jobs are not enqueued one by one")


def _binder(load: Load) -> Callable[[int], Bound[Any]]:
    match load.job:
        case "Noop":
            return lambda n: Noop.bind(n, "x")
        case "Sleep":
            return lambda n: Sleep.bind(n, load.sleep_ms)
        case "Cpu":
            return lambda n: Cpu.bind(n, load.spin_us)
        case "Flaky":
            return Flaky.bind
        case "Rich":
            return Rich.bind
        case "Payload":
            data = "x" * load.payload
            return lambda n: Payload.bind(n, data)
        case "Ranked":
            ranked = [Ranked.set(queue=queue, priority=priority) for queue, priority in RANKS]
            return lambda n: ranked[n % len(RANKS)].bind(n, n % len(RANKS))
        case "Late":
            began_ms = int(time.time() * 1000)
            return lambda n: _late(n, load.due_ms(n, began_ms))
        case _:
            raise ValueError(f"{load.job} jobs are not enqueued in bulk")


def _late(n: int, due_ms: int) -> Bound[None]:
    return Late.set(wait_until=EPOCH + timedelta(milliseconds=due_ms)).bind(n, due_ms)


if __name__ == "__main__":
    print(json.dumps(asdict(run(produce(Load.parse(sys.argv[1]))))))

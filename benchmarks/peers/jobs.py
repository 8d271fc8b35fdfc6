"""What the jobs of every peer do, and what their producers have in common. Runs in the peers' environments: the standard library alone."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import tally
from benchmarks.load import Load, Produced

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    One = Callable[["Arguments"], Awaitable[object]]
    Many = Callable[[Sequence["Arguments"]], Awaitable[object]]

URL = "BENCHMARKS_URL"
LOG = "BENCHMARKS_LOG"
SCHEDULED = 2  # see benchmarks/process.py
SLICE = 1_000

Arguments = dict[str, Any]


def url(*, connections: int = 0) -> str:
    """Where Redis is; with a number of connections, for those whose pool is redis-py's: its default of 100 is too few for 100 jobs at once."""
    return os.environ[URL] + (f"?max_connections={connections}" if connections else "")


def quiet() -> bool:
    """Whether only warnings are to be logged; else what the peer logs by default."""
    return os.environ.get(LOG, "WARNING") == "WARNING"


def hush() -> None:
    """Log warnings and worse alone."""
    logging.basicConfig(level=logging.WARNING)


def mark(n: int) -> None:
    """Note a run of job n."""
    tally.marks[n] += 1
    if not n:
        tally.begin()


def stamp(n: int, at_ns: int, us: int) -> None:
    """Note how long ago the call was, then work for so long."""
    late_ns = time.monotonic_ns() - at_ns
    mark(n)
    if n:
        tally.delays.append(late_ns / 1_000_000)
    if us:
        tally.spin(us)


def late(n: int, due_ms: int) -> None:
    """Note how long ago the job was due."""
    late_ms = time.time() * 1000 - due_ms
    mark(n)
    tally.delays.append(late_ms)


async def asleep(n: int, ms: int) -> None:
    """Note a run, and sleep."""
    mark(n)
    await asyncio.sleep(ms / 1000)


def sleep(n: int, ms: int) -> None:
    """Note a run, and sleep, in a thread or a process."""
    mark(n)
    time.sleep(ms / 1000)


def count_parent() -> None:
    """Called when a process that runs jobs has started: what it, and the parent that it has, used until now is not the jobs' cost."""
    tally.ready()
    folder, parent = os.environ.get(tally.FOLDER), os.getppid()
    if folder is None:
        return
    used = time.clock_gettime((~parent << 3) | SCHEDULED)
    path = Path(folder) / str(parent)
    path.with_suffix(".marks").write_bytes(bytes(len(tally.marks)))
    path.with_suffix(".json").write_text(json.dumps({"began": [], "cpu_began": used, "delays": []}))


def arguments(load: Load, n: int, began_ms: int) -> Arguments:
    """Those of job n."""
    match load.job:
        case "Noop":
            return {"n": n, "s": "x"}
        case "Sleep":
            return {"n": n, "ms": load.sleep_ms}
        case "Stamp":
            return {"n": n, "at_ns": time.monotonic_ns(), "us": load.spin_us}
        case "Late":
            return {"n": n, "due_ms": load.due_ms(n, began_ms)}
        case "Echo":
            return {"n": n}
        case _:
            raise ValueError(f"no peer runs {load.job} jobs")


async def produce(load: Load, one: One, many: Many | None = None, ask: One | None = None) -> Produced:
    """Enqueue a load.

    Args:
        load: what.
        one: enqueues a job with these arguments.
        many: enqueues several, by the peer's own bulk call; None when it has none: then one by one, from some callers.
        ask: enqueues a job and waits for its result.
    """
    began_ms = int(time.time() * 1000)
    delays: list[float] = []
    began, cpu_began = time.perf_counter(), time.process_time()
    match load.mode:
        case "bulk" if many is not None:
            for start in range(0, load.jobs, SLICE):
                await many([arguments(load, n, began_ms) for n in range(start, min(start + SLICE, load.jobs))])
        case "bulk" | "concurrent":
            await _concurrently(load, one, began_ms, callers=load.callers if load.mode == "concurrent" else 20)
        case "one":
            for n in range(load.jobs):
                await one(arguments(load, n, began_ms))
        case "paced":
            due = time.perf_counter()
            for n, gap in enumerate(load.gaps()):
                await one(arguments(load, n, began_ms))
                due += gap
                await asyncio.sleep(max(due - time.perf_counter(), 0))
        case "results":
            assert ask is not None, "it keeps no results"
            for n in range(load.jobs):
                at = time.perf_counter()
                await ask(arguments(load, n, began_ms))
                delays.append((time.perf_counter() - at) * 1000)
    return Produced(time.perf_counter() - began, time.process_time() - cpu_began, delays)


async def _concurrently(load: Load, one: One, began_ms: int, *, callers: int) -> None:
    async def call(first: int) -> None:
        for n in range(first, load.jobs, callers):
            await one(arguments(load, n, began_ms))

    await asyncio.gather(*(call(first) for first in range(callers)))


def say(produced: Produced) -> None:
    """Print it, as the last line."""
    print(json.dumps(asdict(produced)))

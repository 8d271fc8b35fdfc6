"""Scenarios: what is measured, and at which sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.load import Load, Mode
from benchmarks.systems import FLOOR, PRODUCT
from benchmarks.trial import Figures, spread, trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.systems import System

BOTH: tuple[System, ...] = (PRODUCT, FLOOR)
ALONE: tuple[System, ...] = (PRODUCT,)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        jobs: of a no-op drain; the others take a share of it.
        quick: tiny numbers, to see that it works.
    """

    jobs: int = 200_000
    quick: bool = False

    def share(self, divisor: int, *, least: int = 100) -> int:
        """A share of the jobs."""
        return max(self.jobs // divisor, least)

    def fixed(self, jobs: int, quick: int) -> int:
        """A number that is part of the scenario."""
        return quick if self.quick else jobs


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing to measure.

    Attributes:
        name: for --only.
        title: for tables.
        table: the table that shows it: "throughput", "delay" or "cost".
        systems: those that can do it.
        measure: measures once; figures by the names in report.py.
    """

    name: str
    title: str
    table: str
    systems: tuple[System, ...]
    measure: Callable[[System, Sizes], Figures]


def _enqueue(mode: Mode, *, divisor: int, callers: int = 1) -> Callable[[System, Sizes], Figures]:
    """Enqueue with no worker there; then a worker runs them all, so that what was counted as enqueued is known to have been."""

    def measure(system: System, sizes: Sizes) -> Figures:
        load = Load(jobs=sizes.share(divisor), mode=mode, callers=callers)
        with trial(system, load) as t:
            before = t.server.cost()
            produced = t.produce()
            cost = t.server.cost().since(before)
            t.drain()
        return {
            "jobs_per_s": load.jobs / produced.seconds,
            "python_us": produced.cpu_seconds / load.jobs * 1e6,
            **t.redis_costs(cost),
        }

    return measure


def _drain(system: System, sizes: Sizes) -> Figures:
    with trial(system, Load(jobs=sizes.jobs)) as t:
        t.produce()
        return t.drain()


def _sleep(ms: int, *, concurrency: int, divisor: int) -> Callable[[System, Sizes], Figures]:
    def measure(system: System, sizes: Sizes) -> Figures:
        with trial(system, Load(job="Sleep", jobs=sizes.share(divisor), sleep_ms=ms)) as t:
            t.produce()
            figures = t.drain(concurrency=concurrency)
        return {**figures, "of_ideal": figures["jobs_per_s"] / (concurrency * 1000 / ms)}

    return measure


def _wake_up(system: System, sizes: Sizes) -> Figures:
    load = Load(job="Stamp", jobs=sizes.fixed(1_001, 51), mode="paced", pause_ms=sizes.fixed(10, 4))
    with trial(system, load) as t, t.worker() as worker:
        t.wait_listening(worker)
        t.produce()
        t.wait_settled(worker)
        worker.stop()
        return spread(t.count().delays)


def _late(jobs: int) -> Callable[[System, Sizes], Figures]:
    def measure(system: System, sizes: Sizes) -> Figures:
        load = Load(
            job="Late",
            jobs=sizes.fixed(jobs, jobs // 20),
            spread_ms=sizes.fixed(1_000, 100),
            lead_ms=1_000 + jobs // 10,
        )
        with trial(system, load) as t, t.worker() as worker:
            t.wait_listening(worker)
            t.produce()
            t.wait_settled(worker, look=0.05)
            worker.stop()
            figures = spread(t.count().delays)
        if figures["least_ms"] < 0:
            raise RuntimeError(f"{system.name}: a delayed job started {-figures['least_ms']:.3f} ms early")
        return figures

    return measure


def _memory(system: System, sizes: Sizes) -> Figures:
    with trial(system, Load(jobs=sizes.share(2))) as t:
        before = t.server.memory()
        t.produce()
        return {"bytes_per_job": (t.server.memory() - before) / t.load.jobs}


def _idle(system: System, sizes: Sizes) -> Figures:
    seconds = sizes.fixed(10, 1)
    with trial(system, Load(jobs=1)) as t:
        t.produce()
        with t.worker() as worker:
            t.wait_settled(worker)
            t.wait_listening(worker)
            cpu_before, redis_before = worker.cpu_seconds(), t.server.cost()
            requests, commands = t.server.watch(seconds)
            cpu_seconds, cost = worker.cpu_seconds() - cpu_before, t.server.cost().since(redis_before)
            worker.stop()
        t.count()
    return {
        "requests_per_s": requests / seconds,
        "commands_per_s": commands / seconds,
        "worker_cpu_ms_per_s": cpu_seconds / seconds * 1e3,
        "redis_cpu_ms_per_s": cost.cpu_seconds / seconds * 1e3,
    }


SCENARIOS = (
    Scenario("enqueue-one", "enqueue, one by one", "throughput", BOTH, _enqueue("one", divisor=20)),
    Scenario(
        "enqueue-100", "enqueue, 100 callers", "throughput", ALONE, _enqueue("concurrent", divisor=4, callers=100)
    ),
    Scenario(
        "enqueue-1000", "enqueue, 1,000 callers", "throughput", ALONE, _enqueue("concurrent", divisor=4, callers=1_000)
    ),
    Scenario("enqueue-bulk", "enqueue, in bulk", "throughput", BOTH, _enqueue("bulk", divisor=2)),
    Scenario("drain-noop", "drain, no-op", "throughput", BOTH, _drain),
    Scenario(
        "drain-1ms-100", "drain, 1 ms, concurrency 100", "throughput", BOTH, _sleep(1, concurrency=100, divisor=4)
    ),
    Scenario(
        "drain-10ms-100", "drain, 10 ms, concurrency 100", "throughput", BOTH, _sleep(10, concurrency=100, divisor=10)
    ),
    Scenario(
        "drain-1ms-1000", "drain, 1 ms, concurrency 1,000", "throughput", BOTH, _sleep(1, concurrency=1_000, divisor=2)
    ),
    Scenario(
        "drain-10ms-1000",
        "drain, 10 ms, concurrency 1,000",
        "throughput",
        BOTH,
        _sleep(10, concurrency=1_000, divisor=2),
    ),
    Scenario("wake-up", "wake-up, idle worker", "delay", BOTH, _wake_up),
    Scenario("late-1000", "lateness, 1,000 over 1 s", "delay", ALONE, _late(1_000)),
    Scenario("late-20000", "lateness, 20,000 over 1 s", "delay", ALONE, _late(20_000)),
    Scenario("memory", "Redis bytes per waiting job", "cost", BOTH, _memory),
    Scenario("idle", "idle worker", "cost", ALONE, _idle),
)

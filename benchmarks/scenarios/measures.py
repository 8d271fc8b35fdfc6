"""What scenarios do: each of these functions measures once, one system, on a fresh redis-server."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, cast

from benchmarks.load import Load
from benchmarks.server import Cost, Server
from benchmarks.systems import PRODUCT, System
from benchmarks.trial import Figures, spread, trial

if TYPE_CHECKING:
    from benchmarks.load import JobName, Mode
    from benchmarks.systems import Counted

LEASE_S = 3.0


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


Measure = Callable[[System, Sizes], Figures]


def enqueue(mode: Mode, *, divisor: int = 1, callers: int = 1, payload: int = 0, jobs: int = 0) -> Measure:
    """Enqueue with no worker there; then a worker runs them all, so that what was counted as enqueued is known to have been."""

    def measure(system: System, sizes: Sizes) -> Figures:
        load = _plain(sizes.fixed(jobs, jobs // 20) if jobs else sizes.share(divisor), mode, callers, payload)
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


def _plain(jobs: int, mode: Mode, callers: int, payload: int) -> Load:
    return Load(job="Payload" if payload else "Noop", jobs=jobs, mode=mode, callers=callers, payload=payload)


def drain(job: JobName = "Noop", *, divisor: int = 1, payload: int = 0, spin_us: int = 0, jobs: int = 0) -> Measure:
    """A worker on a backlog, until it is gone."""

    def measure(system: System, sizes: Sizes) -> Figures:
        count = sizes.fixed(jobs, jobs // 20) if jobs else sizes.share(divisor)
        with trial(system, Load(job=job, jobs=count, payload=payload, spin_us=spin_us)) as t:
            t.produce()
            return t.drain()

    return measure


def processes(workers: int) -> Measure:
    """Several worker processes on one backlog, all from the same moment."""

    def measure(system: System, sizes: Sizes) -> Figures:
        with trial(system, Load(jobs=sizes.jobs)) as t:
            t.produce()
            return t.drain(workers=workers)

    return measure


def ranked(system: System, sizes: Sizes) -> Figures:
    """Three queues in strict order, the middle one with three priorities; enqueued in turns, and run in order of rank."""
    with trial(system, Load(job="Ranked", jobs=sizes.share(2))) as t:
        t.produce()
        figures = t.drain()
        return {**figures, "overtaken": t.count().overtaken / t.load.jobs}


def results(callers: int) -> Measure:
    """Enqueue and wait for the result, again and again, from one caller or several."""

    def measure(system: System, sizes: Sizes) -> Figures:
        jobs = sizes.fixed(2_000 if callers == 1 else 20_000, 100 if callers == 1 else 1_000)
        with trial(system, Load(job="Echo", jobs=jobs, mode="results", callers=callers)) as t, t.worker() as worker:
            t.wait_listening(worker)
            before = t.server.cost()
            produced = t.produce()
            t.wait_settled(worker)
            cost = t.server.cost().since(before)
            cpu_seconds = worker.cpu_seconds()
            worker.stop()
            counted = t.count()
        return {
            "jobs_per_s": jobs / produced.seconds,
            "python_us": (cpu_seconds - counted.cpu_began) / jobs * 1e6,
            "producer_us": produced.cpu_seconds / jobs * 1e6,
            **t.redis_costs(cost),
            **spread(produced.delays),
        }

    return measure


def backlog(jobs: int) -> Measure:
    """What a job costs while so many wait: a tenth of them, at most 100,000, from the moment when the worker is warm.

    A small backlog is gone before anything can be said of it: the worker is held (SIGSTOP) while as many are enqueued again, some rounds.
    """

    def measure(system: System, sizes: Sizes) -> Figures:
        waiting = sizes.fixed(jobs, jobs // 100)
        rounds = max(sizes.fixed(50_000, 500) // waiting, 1)
        return _flat(system, waiting) if rounds == 1 else _in_rounds(system, waiting, rounds)

    return measure


def _in_rounds(system: System, waiting: int, rounds: int) -> Figures:
    load = Load(jobs=waiting)
    cpu_seconds = 0.0
    seconds = 0.0
    costs: list[Cost] = []
    with trial(system, load) as t:
        t.produce()
        with t.worker() as worker:
            t.wait_settled(worker)  # it is warm
            for _ in range(rounds):
                worker.signal(signal.SIGSTOP)
                t.produce()
                cpu_before, before = worker.cpu_seconds(), t.server.cost()
                began = time.monotonic()
                worker.signal(signal.SIGCONT)
                seconds += t.wait_settled(worker, look=0.001) - began
                cpu_seconds += worker.cpu_seconds() - cpu_before
                costs.append(t.server.cost().since(before))
            peak = worker.peak_rss()
            worker.stop()
        t.count(times=rounds + 1)
    jobs = waiting * rounds
    cost = reduce(Cost.plus, costs)
    return {
        "jobs_per_s": jobs / seconds,
        "python_us": cpu_seconds / jobs * 1e6,
        **t.redis_costs(cost, jobs),
        "rss_mib": peak / (1 << 20),
    }


def _flat(system: System, jobs: int) -> Figures:
    """The first tenth of a drain says what a job costs while the backlog is long; RSS is looked at there and at the end."""
    counted = cast("Counted", system)
    load = Load(jobs=jobs)
    with trial(system, load) as t:
        t.produce()
        with t.worker() as worker:
            t.wait(lambda: counted.left(t.server.client, load) <= jobs * 0.99, worker, look=0.002)
            cpu_before, before, began = worker.cpu_seconds(), t.server.cost(), time.monotonic()
            left = counted.left(t.server.client, load)
            t.wait(lambda: counted.left(t.server.client, load) <= left - jobs // 10, worker, look=0.002)
            cpu_seconds, cost, seconds = worker.cpu_seconds() - cpu_before, t.server.cost(), time.monotonic() - began
            done = left - counted.left(t.server.client, load)
            early = worker.rss()
            t.wait_settled(worker)
            end = worker.rss()
            peak = worker.peak_rss()
            worker.stop()
        t.count()
    return {
        "jobs_per_s": done / seconds,
        "python_us": cpu_seconds / done * 1e6,
        **t.redis_costs(cost.since(before), done),
        "rss_mib": peak / (1 << 20),
        "rss_growth": end / early,
    }


def sleep(ms: int, *, concurrency: int, divisor: int) -> Measure:
    def measure(system: System, sizes: Sizes) -> Figures:
        with trial(system, Load(job="Sleep", jobs=sizes.share(divisor), sleep_ms=ms)) as t:
            t.produce()
            figures = t.drain(concurrency=concurrency)
        return {**figures, "of_ideal": figures["jobs_per_s"] / (concurrency * 1000 / ms)}

    return measure


def wake_up(*, jobs: int, pause_ms: int, spin_us: int = 0) -> Measure:
    """From the call to the first line of perform, now and then or under a steady load."""

    def measure(system: System, sizes: Sizes) -> Figures:
        load = Load(
            job="Stamp", jobs=sizes.fixed(jobs, 51), mode="paced", pause_ms=min(pause_ms, sizes.fixed(10, 4)), spin_us=spin_us
        )  # fmt: skip
        with trial(system, load) as t, t.worker() as worker:
            t.wait_listening(worker)
            t.produce()
            t.wait_settled(worker)
            worker.stop()
            return spread(t.count().delays)

    return measure


def late(jobs: int) -> Measure:
    """How long after its due time a job begins, of so many that are due within a second."""

    def measure(system: System, sizes: Sizes) -> Figures:
        load = _due(sizes.fixed(jobs, jobs // 20), sizes.fixed(1_000, 100))
        with trial(system, load) as t, t.worker() as worker:
            t.wait_listening(worker)
            t.produce()
            t.wait_settled(worker, look=0.05)
            worker.stop()
            return _lateness(system, t.count().delays)

    return measure


def at_once(jobs: int) -> Measure:
    """So many due at one instant: lateness, how long Redis leaves another client waiting meanwhile, and what becomes of the lease.

    A second Redis that has nothing to do is asked in the same way at the same time: what it lets wait is the machine's doing.

    The worker has a lease of 3 s, which it renews each second; the least that is ever left of it is seen from outside.
    """

    def measure(system: System, sizes: Sizes) -> Figures:
        load = _due(sizes.fixed(jobs, jobs // 20), 0)
        with trial(system, load) as t, t.worker(environment={"AIOJOBS_RT_LEASE": f"{LEASE_S:g}"}) as worker:
            t.wait_listening(worker)
            t.produce()
            t.server.client.config_set("slowlog-log-slower-than", 500)
            t.server.client.config_set("slowlog-max-len", 10_000)
            t.server.client.slowlog_reset()  # what enqueueing took is not asked here
            least = [LEASE_S]

            def settled() -> bool:
                left = t.server.lease_left(PRODUCT.workers_key)
                least[0] = min(least[0], LEASE_S if left is None else left)
                return system.settled(t.server.client, load)

            with Server() as idle, idle.probe() as beside, t.server.probe() as probe:
                t.wait(settled, worker, look=0.01)
            slowest_us = max((entry["duration"] for entry in t.server.client.slowlog_get(10_000)), default=500)
            worker.stop()
            figures = _lateness(system, t.count().delays)
        return {
            **figures,
            "stall_ms": probe.longest_ms,
            "idle_stall_ms": beside.longest_ms,
            "overslept_ms": probe.overslept_ms,
            "slowest_command_ms": slowest_us / 1e3,
            "least_lease_s": least[0],
        }

    return measure


def _due(jobs: int, spread_ms: int) -> Load:
    return Load(job="Late", jobs=jobs, spread_ms=spread_ms, lead_ms=1_000 + jobs // 10)


def _lateness(system: System, delays: list[float]) -> Figures:
    figures = spread(delays)
    if figures["least_ms"] < 0:
        raise RuntimeError(f"{system.name}: a delayed job started {-figures['least_ms']:.3f} ms early")
    return figures


def memory(system: System, sizes: Sizes) -> Figures:
    with trial(system, Load(jobs=sizes.share(2))) as t:
        before = t.server.memory()
        t.produce()
        return {"bytes_per_job": (t.server.memory() - before) / t.load.jobs}


def idle(system: System, sizes: Sizes) -> Figures:
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

"""A trial: one scenario, once, for one system. A fresh redis-server, a load, a worker process, and the check that each job ran once."""

from __future__ import annotations

import statistics
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks import tally
from benchmarks.process import WorkerProcess, run_producer
from benchmarks.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from benchmarks.load import Load, Produced
    from benchmarks.server import Cost
    from benchmarks.systems import System
    from benchmarks.tally import Tally

PATIENCE = 180.0
"""Seconds after which a trial has failed."""
LOOK = 0.005


class Trial:
    """What scenarios are made of.

    Args:
        system: what is measured.
        server: where.
        load: what is enqueued.
    """

    def __init__(self, system: System, server: Server, load: Load) -> None:
        self.system = system
        self.server = server
        self.load = load

    def produce(self) -> Produced:
        """Enqueue the load, in a process of its own."""
        system = self.system
        command = system.producer(self.server.url, self.load)
        return run_producer(command, system.environment(self.server.url), timeout=PATIENCE)

    @contextmanager
    def worker(self, *, concurrency: int = 100) -> Generator[WorkerProcess]:
        """A worker process, started."""
        system, folder = self.system, self.server.folder
        environment = {**system.environment(self.server.url), **tally.environment(folder, self.load.jobs)}
        command = system.worker(self.server.url, self.load, concurrency=concurrency)
        with WorkerProcess(command, environment, folder / "worker.log") as worker:
            yield worker

    def wait_listening(self, worker: WorkerProcess) -> None:
        """Wait until the worker waits for jobs."""
        self._wait(worker, lambda: self.server.info("clients")["blocked_clients"] > 0, look=0.05)

    def wait_settled(self, worker: WorkerProcess, *, look: float = LOOK) -> float:
        """Wait until every job is settled; time.monotonic() of then, to `look` seconds."""
        return self._wait(worker, lambda: not self.server.client.exists(self.system.pending), look=look)

    def drain(self, *, concurrency: int = 100) -> dict[str, float]:
        """Start a worker on what was enqueued, wait until all is settled, and say what a job cost."""
        with self.worker(concurrency=concurrency) as worker:
            before = self.server.cost()
            settled = self.wait_settled(worker)
            cpu_seconds = worker.cpu_seconds()
            cost = self.server.cost().since(before)
            peak = worker.peak_rss()
            worker.stop()
        counted = self.count()
        seconds = settled - counted.began
        return {
            "jobs_per_s": self.load.jobs / seconds,
            "python_us": (cpu_seconds - counted.cpu_began) / self.load.jobs * 1e6,
            **self.redis_costs(cost),
            "rss_mib": peak / (1 << 20),
        }

    def redis_costs(self, cost: Cost) -> dict[str, float]:
        """Per job: CPU in us, commands with those inside scripts, and requests."""
        jobs = self.load.jobs
        return {
            "redis_us": cost.cpu_seconds / jobs * 1e6,
            "commands": cost.commands / jobs,
            "requests": cost.requests / jobs,
        }

    def count(self) -> Tally:
        """The tally, after the worker has ended.

        Raises:
            RuntimeError: not every job ran exactly once.
        """
        counted = tally.read(self.server.folder, self.load.jobs)
        if counted.lost or counted.repeated:
            raise RuntimeError(
                f"{self.system.name}: of {self.load.jobs:,} {self.load.job} jobs {counted.lost:,} never ran, "
                f"and {counted.repeated:,} runs were repetitions"
            )
        return counted

    def _wait(self, worker: WorkerProcess, predicate: Callable[[], bool], *, look: float) -> float:
        deadline = time.monotonic() + PATIENCE
        while not predicate():
            worker.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.system.name}: {self.load} is not done after {PATIENCE:g} s")
            time.sleep(look)
        return time.monotonic()


@contextmanager
def trial(system: System, load: Load) -> Generator[Trial]:
    """A trial on a server of its own."""
    with Server() as server:
        yield Trial(system, server, load)


def spread(delays: list[float]) -> dict[str, float]:
    """Median, 99th percentile, least and greatest of some delays, in ms."""
    hundredths = statistics.quantiles(delays, n=100, method="inclusive")
    return {"p50_ms": hundredths[49], "p99_ms": hundredths[98], "least_ms": min(delays), "most_ms": max(delays)}

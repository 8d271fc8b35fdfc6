"""A trial: one scenario, once, for one system. A fresh redis-server, a load, a worker process, and the check that each job ran once."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks import tally
from benchmarks.process import WorkerProcess, run_producer
from benchmarks.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from benchmarks.load import Load, Produced
    from benchmarks.server import Cost
    from benchmarks.systems import System
    from benchmarks.tally import Tally

PATIENCE = 180.0
"""Seconds after which a trial has failed."""
LOOK = 0.005
SAMPLES = 2_000
Figures = dict[str, Any]
"""Figures by their names, floats; under "samples" alone stands a sorted list of them."""


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

    @property
    def url(self) -> str:
        """The server's, of the kind that the system knows."""
        return self.server.tcp_url if self.system.tcp else self.server.url

    def produce(self, load: Load | None = None) -> Produced:
        """Enqueue the load, or another of the same kind, in a process of its own."""
        system = self.system
        command = system.producer(self.url, load or self.load)
        return run_producer(command, system.environment(self.url), timeout=PATIENCE)

    @contextmanager
    def worker(
        self, *, concurrency: int = 100, index: int = 0, workers: int = 1, environment: Mapping[str, str] | None = None
    ) -> Generator[WorkerProcess]:
        """A worker process, started; the `index`-th of so many, with more in its environment."""
        system, folder = self.system, self.server.folder
        around = {
            **system.environment(self.url),
            **tally.environment(folder, self.load.jobs, workers),
            **(environment or {}),
        }
        command = system.worker(self.url, self.load, concurrency=concurrency, index=index)
        with WorkerProcess(command, around, folder / f"worker-{index}.log") as worker:
            yield worker

    def wait_listening(self, worker: WorkerProcess) -> None:
        """Wait until the worker waits for jobs."""
        self.wait(lambda: self.system.listening(self.server.client, self.load), worker, look=0.05)

    def wait_settled(self, *workers: WorkerProcess, look: float = LOOK) -> float:
        """Wait until every job is settled; time.monotonic() of then, to `look` seconds."""
        return self.wait(lambda: self.system.settled(self.server.client, self.load), *workers, look=look)

    def drain(self, *, concurrency: int = 100, workers: int = 1) -> Figures:
        """Start workers on what was enqueued, wait until all is settled, and say what a job cost."""
        with ExitStack() as stack:
            started = [
                stack.enter_context(self.worker(concurrency=concurrency, index=index, workers=workers))
                for index in range(workers)
            ]
            before = self.server.cost()
            settled = self.wait_settled(*started)
            cpu_seconds = sum(worker.cpu_seconds() for worker in started)
            cost = self.server.cost().since(before)
            peak = max(worker.peak_rss() for worker in started)
            for worker in started:
                worker.stop()
        counted = self.count()
        figures: Figures = {
            "jobs_per_s": self.load.jobs / (settled - counted.began),
            "python_us": (cpu_seconds - counted.cpu_began) / self.load.jobs * 1e6,
            **self.redis_costs(cost),
            "rss_mib": peak / (1 << 20),
        }
        if workers > 1:
            figures["least_share"] = min(counted.shares) * workers / self.load.jobs
        return figures

    def redis_costs(self, cost: Cost, jobs: int = 0) -> Figures:
        """Per job: CPU in us, commands with those inside scripts, requests, and bytes that Redis received and sent."""
        jobs = jobs or self.load.jobs
        return {
            "redis_us": cost.cpu_seconds / jobs * 1e6,
            "commands": cost.commands / jobs,
            "requests": cost.requests / jobs,
            "net_in": cost.received / jobs,
            "net_out": cost.sent / jobs,
        }

    def count(self, *, times: int = 1) -> Tally:
        """The tally, after the worker has ended, of a load that was enqueued so many times.

        Raises:
            RuntimeError: not every job ran exactly once (or failed once and then ran).
        """
        counted = tally.read(self.server.folder, self.load, times=times)
        if counted.lost or counted.repeated:
            raise RuntimeError(
                f"{self.system.name}: of {self.load.jobs:,} {self.load.job} jobs {counted.lost:,} never ran, "
                f"and {counted.repeated:,} runs were repetitions"
            )
        return counted

    def wait(self, predicate: Callable[[], bool], *workers: WorkerProcess, look: float = LOOK) -> float:
        """Wait until something holds; time.monotonic() of then, to `look` seconds.

        Raises:
            RuntimeError: it did not within `PATIENCE`, or a worker has ended.
        """
        deadline = time.monotonic() + PATIENCE
        while not predicate():
            for worker in workers:
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


def spread(delays: list[float]) -> Figures:
    """Median, 99th percentile, least and greatest of some delays, in ms, and at most `SAMPLES` of them, sorted."""
    hundredths = statistics.quantiles(delays, n=100, method="inclusive")
    figures: Figures = {
        "p50_ms": hundredths[49],
        "p99_ms": hundredths[98],
        "least_ms": min(delays),
        "most_ms": max(delays),
    }
    ordered = sorted(delays)
    if len(ordered) > SAMPLES:
        ordered = [ordered[index * (len(ordered) - 1) // (SAMPLES - 1)] for index in range(SAMPLES)]
    figures["samples"] = [round(delay, 4) for delay in ordered]
    return figures

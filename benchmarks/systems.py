"""Systems: what is measured. Each says how its producers and workers are started, and when its jobs are done.

The product and the floor stand here; another job runner is one more class. Every scenario runs the same way for each system it names.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

from aiojobs_rt.adapters.redis.keys import queue_keys
from benchmarks import floor

if TYPE_CHECKING:
    from benchmarks.load import Load


class System(Protocol):
    """A job runner under measurement.

    Attributes:
        name: as in tables and JSON.
        version: what was measured.
        pending: the key in Redis that exists while a job is not settled.
    """

    name: str
    version: str
    pending: str

    def environment(self, url: str) -> dict[str, str]:
        """What the environment of its processes must say."""
        ...

    def producer(self, url: str, load: Load) -> list[str]:
        """What python is to run to enqueue a load; it prints a `Produced` as one JSON line."""
        ...

    def worker(self, url: str, load: Load, *, concurrency: int) -> list[str]:
        """What python is to run to work on it until TERM; it leaves a tally."""
        ...


class Product:
    """aiojobs_rt with its default settings."""

    name = "aiojobs_rt"
    version = version("aiojobs_rt")
    pending = queue_keys("aiojobs", "default").index

    def environment(self, url: str) -> dict[str, str]:
        return {"AIOJOBS_RT_REDIS_URL": url}

    def producer(self, url: str, load: Load) -> list[str]:  # noqa: ARG002 - it stands in the environment
        return ["-m", "benchmarks.producer", load.dump()]

    def worker(self, url: str, load: Load, *, concurrency: int) -> list[str]:  # noqa: ARG002 - one worker knows all jobs
        return ["-m", "aiojobs_rt", "worker", "benchmarks.jobs", "-c", str(concurrency)]


class Floor:
    """The bare loop of benchmarks/floor.py."""

    name = "floor"
    version = "-"
    pending = floor.INDEX

    def environment(self, url: str) -> dict[str, str]:  # noqa: ARG002 - it stands on its command line
        return {}

    def producer(self, url: str, load: Load) -> list[str]:
        return ["-m", "benchmarks.floor", "produce", url, load.dump()]

    def worker(self, url: str, load: Load, *, concurrency: int) -> list[str]:
        return ["-m", "benchmarks.floor", "work", url, load.job, str(concurrency)]


PRODUCT, FLOOR = Product(), Floor()

"""Systems: what is measured. Each says how its producers and workers are started, and when its jobs are done.

The product and the floor stand here; another job runner is one more class. Every scenario runs the same way for each system it names.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aiojobs_rt.adapters.redis.keys import queue_keys
from aiojobs_rt.adapters.redis.shards import parts_of
from benchmarks import bare, floor
from benchmarks.load import RANKS

if TYPE_CHECKING:
    import redis

    from benchmarks.load import Load

QUEUES = tuple(dict.fromkeys(queue for queue, _ in RANKS))


class System(Protocol):
    """A job runner under measurement. Derive from it: most of what it asks has an answer here.

    Attributes:
        name: as in tables and JSON.
        version: what was measured.
        python: the interpreter of its commands.
        tcp: it knows no unix sockets: its URLs name a loopback port.
    """

    name: str
    version: str
    python: str = sys.executable
    tcp: bool = False

    def environment(self, url: str) -> dict[str, str]:  # noqa: ARG002 - for those that need it
        """What the environment of its processes must say."""
        return {}

    def producer(self, url: str, load: Load) -> list[str]:
        """The command (the program, then its arguments) that enqueues a load; the last line that it prints is a `Produced` as JSON."""
        ...

    def worker(self, url: str, load: Load, *, concurrency: int, index: int = 0) -> list[str]:
        """The command that works on a load until TERM, then leaves a tally and exits with 0.

        Args:
            url: where.
            load: what it is to work on.
            concurrency: how many jobs at once.
            index: which of several workers of a trial it is.
        """
        ...

    def listening(self, client: redis.Redis, load: Load) -> bool:  # noqa: ARG002 - for those that need it
        """Whether a worker is up and waits for jobs; here: whether a client blocks in a read."""
        return bool(client.info("clients")["blocked_clients"])

    def settled(self, client: redis.Redis, load: Load) -> bool:
        """Whether every job of a load, all of them enqueued, has ended. Asked often: a cheap question, best an EXISTS: it is not counted."""
        ...

    def can(self, scenario: str) -> str:  # noqa: ARG002 - for those that can't
        """Empty when it can do a scenario, else why not, in a few words."""
        return ""


class Counted(Protocol):
    """A system that says how many jobs are left."""

    def left(self, client: redis.Redis, load: Load) -> int:
        """How many have not ended."""
        ...


class Product(System):
    """aiojobs_rt with its default settings.

    Args:
        shards: how many streams its queue is spread over.
    """

    name = "aiojobs_rt"
    version = version("aiojobs_rt")
    workers_key = queue_keys("aiojobs", "default").workers

    def __init__(self, shards: int = 1) -> None:
        self._shards = shards

    def environment(self, url: str) -> dict[str, str]:
        sharded = {"AIOJOBS_RT_SHARDS": f"default={self._shards}"} if self._shards > 1 else {}
        return {"AIOJOBS_RT_REDIS_URL": url, **sharded}

    def producer(self, url: str, load: Load) -> list[str]:  # noqa: ARG002 - it stands in the environment
        return [self.python, "-m", "benchmarks.producer", load.dump()]

    def worker(self, url: str, load: Load, *, concurrency: int, index: int = 0) -> list[str]:  # noqa: ARG002 - one worker knows all jobs
        queues = [part for queue in QUEUES for part in ("-q", queue)] if load.job == "Ranked" else ["-q", "default"]
        return [self.python, "-m", "aiojobs_rt", "worker", "benchmarks.jobs", "-c", str(concurrency), *queues]

    def settled(self, client: redis.Redis, load: Load) -> bool:
        return not client.exists(*self._indexes(load))

    def left(self, client: redis.Redis, load: Load) -> int:
        return sum(int(client.hlen(index)) for index in self._indexes(load))

    def _indexes(self, load: Load) -> list[str]:
        queues = QUEUES if load.job == "Ranked" else parts_of("default", self._shards)
        return [queue_keys("aiojobs", queue).index for queue in queues]


class Floor(System):
    """The bare loop of benchmarks/floor.py."""

    name = "floor"
    version = "-"

    def producer(self, url: str, load: Load) -> list[str]:
        return [self.python, "-m", "benchmarks.floor", "produce", url, load.dump()]

    def worker(self, url: str, load: Load, *, concurrency: int, index: int = 0) -> list[str]:  # noqa: ARG002 - they are all alike
        return [self.python, "-m", "benchmarks.floor", "work", url, load.dump(), str(concurrency)]

    def settled(self, client: redis.Redis, load: Load) -> bool:  # noqa: ARG002 - one queue for all
        return not client.exists(floor.INDEX)

    def left(self, client: redis.Redis, load: Load) -> int:  # noqa: ARG002 - one queue for all
        return int(client.hlen(floor.INDEX))


class Bare(System):
    """The bare sockets of benchmarks/bare.py: wake-ups alone.

    Args:
        kind: "socket" or "relay".
    """

    version = "-"

    def __init__(self, kind: str) -> None:
        self.name = f"bare {kind}"
        self._kind = kind

    def producer(self, url: str, load: Load) -> list[str]:
        return [self.python, "-m", "benchmarks.bare", "produce", self._kind, url.removeprefix("unix://"), load.dump()]

    def worker(self, url: str, load: Load, *, concurrency: int, index: int = 0) -> list[str]:  # noqa: ARG002 - one thread
        return [self.python, "-m", "benchmarks.bare", "work", self._kind, url.removeprefix("unix://"), load.dump()]

    def listening(self, client: redis.Redis, load: Load) -> bool:
        if not client.exists(bare.STREAM):
            client.xgroup_create(bare.STREAM, bare.GROUP, "0", mkstream=True)
        if self._kind == "relay":
            return super().listening(client, load)
        path: str = client.connection_pool.connection_kwargs["path"]
        return Path(f"{path}.bare").exists()

    def settled(self, client: redis.Redis, load: Load) -> bool:  # noqa: ARG002 - one stream for all
        return not client.exists(bare.STREAM)


PRODUCT, FLOOR = Product(), Floor()
SHARDED = Product(shards=8)
SOCKET, RELAY = Bare("socket"), Bare("relay")

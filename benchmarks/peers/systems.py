"""The peers as systems: how each is started, when its jobs are done, which settings are tried, and what it can't do.

Settings are the documented ones for throughput. For a no-op drain two or three concurrencies are tried, and the best median counts; for jobs
that wait, a peer gets the concurrency of the scenario. What each does is said in `remark`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from benchmarks.peers import jobs
from benchmarks.peers.environments import FOLDER, python
from benchmarks.systems import System

if TYPE_CHECKING:
    import redis

    from benchmarks.load import Load

NO_BULK = "no bulk call"


@dataclass
class Peer(System):
    """A peer.

    Attributes:
        name: as in the tables, and of its environment.
        kind: "asyncio", "python" (threads or processes) or "other".
        pace: about how many no-op jobs a second it does: trials are sized by it, to last a second or two each.
        pace_enqueue: about how many it enqueues a second, one by one.
        settings: concurrencies that are tried for a no-op drain.
        keys: in Redis; when none of them exists, all jobs have ended.
        cannot: by scenario, why not.
        remark: what to know beside its figures.
        concurrency: which of the settings this is; None: the scenario's.
        logs: "WARNING", or "" for what it logs by default.
    """

    name: str
    kind: str
    pace: int
    pace_enqueue: int
    settings: tuple[int, ...]
    keys: tuple[str, ...] = ()
    cannot: dict[str, str] = field(default_factory=dict[str, str])
    remark: str = ""
    version: str = ""
    tcp: bool = False
    concurrency: int | None = None
    logs: str = "WARNING"

    def environment(self, url: str) -> dict[str, str]:
        return {jobs.URL: url, jobs.LOG: self.logs, "PYTHONPATH": ""}

    def producer(self, url: str, load: Load) -> list[str]:  # noqa: ARG002 - it stands in the environment
        return [
            *results_first(load),
            str(python(self.name)),
            "-m",
            "benchmarks.peers.child",
            self.name,
            "produce",
            load.dump(),
        ]

    def worker(self, url: str, load: Load, *, concurrency: int, index: int = 0) -> list[str]:  # noqa: ARG002 - as above
        slots = str(self.slots(load, concurrency))
        return [str(python(self.name)), "-m", "benchmarks.peers.child", self.name, "work", load.dump(), slots]

    def slots(self, load: Load, concurrency: int) -> int:
        """How many jobs at once: for no-op jobs its own setting."""
        return self.concurrency if load.job == "Noop" and self.concurrency is not None else concurrency

    def settled(self, client: redis.Redis, load: Load) -> bool:  # noqa: ARG002 - one queue for all
        return not client.exists(*self.keys)

    def can(self, scenario: str) -> str:
        return self.cannot.get(scenario, "")

    def tuned(self) -> list[Peer]:
        """This peer with each of its settings."""
        return [replace(self, concurrency=setting) for setting in self.settings]

    def quietly(self, logs: str) -> Peer:
        """This peer with another log level."""
        return replace(self, logs=logs)


def results_first(load: Load) -> list[str]:
    """What comes before a command of those that keep results only when they are told so at import."""
    return ["env", "BENCHMARKS_RESULTS=1"] if load.job == "Echo" else []


class Arq(Peer):
    """arq: it polls."""

    def listening(self, client: redis.Redis, load: Load) -> bool:  # noqa: ARG002 - one queue for all
        return bool(client.exists("arq:queue:health-check"))


class Taskiq(Peer):
    """taskiq: its own command runs the worker."""

    def worker(self, url: str, load: Load, *, concurrency: int, index: int = 0) -> list[str]:  # noqa: ARG002 - it stands in the environment
        return [
            *results_first(load), str(python(self.name)), "-m", "taskiq", "worker", "benchmarks.peers.with_taskiq:broker", "--workers", "1",
            "--max-async-tasks", str(self.slots(load, concurrency)), "--max-prefetch", "100",
            *(("--log-level", self.logs) if self.logs else ()),
        ]  # fmt: skip

    def settled(self, client: redis.Redis, load: Load) -> bool:
        groups: Any = client.xinfo_groups("taskiq") if client.exists("taskiq") else []
        return any(group["entries-read"] == load.jobs and not group["pending"] for group in groups)


class Streaq(Peer):
    """streaQ: a stream holds what waits and what runs."""

    def settled(self, client: redis.Redis, load: Load) -> bool:
        waiting: Any = client.xlen("streaq:default:queues:normal")
        return not waiting and super().settled(client, load)


class Docket(Peer):
    """docket: a stream holds what waits and what runs, a sorted set what is due later."""

    def settled(self, client: redis.Redis, load: Load) -> bool:
        waiting: Any = client.xlen("benchmarks:stream")
        return not waiting and super().settled(client, load)


class Dramatiq(Peer):
    """dramatiq: its own command runs the worker, with one process of threads."""

    def worker(self, url: str, load: Load, *, concurrency: int, index: int = 0) -> list[str]:  # noqa: ARG002 - it stands in the environment
        threads = str(self.slots(load, concurrency))
        command = [str(python(self.name)), "-m", "dramatiq", "benchmarks.peers.with_dramatiq", "-p", "1", "-t", threads]
        if self.logs:
            command.append("--skip-logging")  # Python's own default is WARNING
        return [*results_first(load), *command]

    def listening(self, client: redis.Redis, load: Load) -> bool:  # noqa: ARG002 - it polls
        return bool(client.keys("dramatiq:__heartbeats__"))


class Celery(Peer):
    """Celery: its own command; processes for what computes, threads for what waits."""

    def worker(self, url: str, load: Load, *, concurrency: int, index: int = 0) -> list[str]:  # noqa: ARG002 - it stands in the environment
        waits = load.job == "Sleep"
        pool = (
            ["-P", "threads", "-c", str(concurrency)] if waits else ["-P", "prefork", "-c", str(self.concurrency or 2)]
        )
        return [
            *results_first(load), "env", f"BENCHMARKS_PREFETCH={4 if waits else 64}", str(python(self.name)), "-m", "celery",
            "-A", "benchmarks.peers.with_celery", "worker", *pool, "-O", "fair" if waits else "default",
            "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", self.logs or "INFO",
        ]  # fmt: skip


class Rq(Peer):
    """RQ: a process runs one job at a time."""

    def slots(self, load: Load, concurrency: int) -> int:  # noqa: ARG002 - it has processes
        return self.concurrency if load.job == "Noop" and self.concurrency is not None else 1


class BullMq(Peer):
    """BullMQ, on node."""

    def environment(self, url: str) -> dict[str, str]:
        return {**super().environment(url), "BENCHMARKS_NODE": str(FOLDER / "node"), "NODE_ENV": "production"}

    def producer(self, url: str, load: Load) -> list[str]:  # noqa: ARG002 - it stands in the environment
        return ["node", "benchmarks/peers/bullmq.mjs", "produce", load.dump()]

    def worker(self, url: str, load: Load, *, concurrency: int, index: int = 0) -> list[str]:  # noqa: ARG002 - as above
        return ["node", "benchmarks/peers/bullmq.mjs", "work", load.dump(), str(self.slots(load, concurrency))]


class Sidekiq(Peer):
    """Sidekiq, on ruby."""

    def producer(self, url: str, load: Load) -> list[str]:  # noqa: ARG002 - it stands in the environment
        return ["ruby", "benchmarks/peers/sidekiq_jobs.rb", load.dump()]

    def worker(self, url: str, load: Load, *, concurrency: int, index: int = 0) -> list[str]:  # noqa: ARG002 - as above
        return [
            "sidekiq", "-r", "./benchmarks/peers/sidekiq_jobs.rb", "-e", "production",
            "-c", str(self.slots(load, concurrency)), "-t", "8",
        ]  # fmt: skip

    def settled(self, client: redis.Redis, load: Load) -> bool:  # noqa: ARG002 - its jobs say so
        return bool(client.exists("benchmarks:done"))


SLOW = {"late-20000": "it would take too long"}
ONE_EACH = {
    "drain-10ms-100": "a process runs one job at a time",
    "drain-10ms-1000": "a process runs one job at a time",
}

PEERS: tuple[Peer, ...] = (
    Arq(
        "arq", "asyncio", 2_500, 1_500, (10, 100), ("arq:queue",), {"enqueue-bulk": NO_BULK},
        remark="polls Redis: each 10 ms here where delays are measured (its default is 500 ms)",
    ),
    Peer(
        "saq", "asyncio", 2_500, 3_500, (10, 100), ("saq:default:incomplete", "saq:default:active", "saq:default:queued"),
        {"enqueue-bulk": NO_BULK}, remark="due times are whole seconds, rounded up: no job is early",
    ),
    Taskiq(
        "taskiq", "asyncio", 4_000, 3_500, (100, 200),
        cannot={
            "enqueue-bulk": NO_BULK,
            "late-1000": "a scheduler process of its own, to the second",
            "late-20000": "a scheduler process of its own, to the second",
        },
        remark="streams broker; entries stay in the stream when they are acked",
    ),
    Streaq(
        "streaq", "asyncio", 1_800, 2_500, (16, 100), ("streaq:default:queues:delayed:normal",), tcp=True,
        remark="through coredis",
    ),
    Docket(
        "docket", "asyncio", 2_800, 1_500, (10, 100), ("benchmarks:queue",),
        remark="execution_ttl 0, scheduling_resolution 10 ms (its default is 250 ms)",
    ),
    Celery(
        "celery", "python", 1_300, 900, (1, 2), ("celery", "unacked"), {"enqueue-bulk": NO_BULK, **SLOW},
        remark="acks_late; prefork, prefetch multiplier 64; for jobs that wait threads, multiplier 4",
    ),
    Dramatiq(
        "dramatiq", "python", 5_000, 4_000, (8, 16), ("dramatiq:default.msgs", "dramatiq:default.DQ.msgs"),
        {"enqueue-bulk": NO_BULK}, remark="one process of threads",
    ),
    Rq(
        "rq", "python", 500, 1_500, (1, 2), ("rq:queue:default", "rq:queue:default:intermediate", "rq:wip:default", "rq:scheduled:default"),
        {**ONE_EACH, **SLOW}, remark="SimpleWorker (no fork for each job); a pool of as many processes as the setting",
    ),
    BullMq(
        "bullmq", "other", 20_000, 5_000, (50, 200), tuple(f"bull:benchmarks:{name}" for name in ("wait", "active", "delayed", "paused")),
        tcp=True, remark="node; jobs are removed when they have ended",
    ),
    Sidekiq(
        "sidekiq", "other", 14_000, 6_000, (10, 25), tcp=True,
        cannot={"results": "keeps no results"},
        remark="ruby; its basic fetch acknowledges nothing: a job of a killed process is lost",
    ),
)  # fmt: skip

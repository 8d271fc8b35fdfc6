"""Everything at once: producers and worker processes, while workers, Redis and the network between them are hurt at random.

    python -m tests.faults.chaos [--seconds 120] [--seed N] [--jobs 20000] [--workers 10] [--appendfsync always]

1. A private Redis with an append-only file, a proxy in front of it for half of the workers, and a ledger outside of Redis.
2. Producers enqueue evenly, every tenth job with a delay. Among the jobs are messages of a newer wire version, which no worker may touch.
3. `Nemesis` picks one harm after the other: SIGKILL, SIGSTOP and SIGCONT, SIGTERM, kill -9 of Redis, CLIENT KILL, SCRIPT FLUSH, latency, resets.
4. Quiet again, everything must come to its end and to rest.
5. The history is examined (`tests/support/history.py`): a job that ran again must have been in a worker that was hurt.

With `--appendfsync always` nothing acknowledged may be lost. With `everysec` a kill -9 may lose up to 2 s: Redis holds its writes back while
an fsync takes long.

Exit code 1 when anything was violated.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from rich.console import Console
from rich.table import Table

from aiojobs_rt import EnqueueError, RedisAdapter
from aiojobs_rt.adapters.redis.keys import queue_keys
from tests.support.history import Findings, Harm, examine, not_at_rest
from tests.support.jobs import FaultJob, Nap
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.worker_process import Fleet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.ledger import History
    from tests.support.worker_process import WorkerProcess

LEASE = 2.0
CONCURRENCY = 10
SHUTDOWN_TIMEOUT = 5.0
SETTLING = 60.0
"""Seconds within which all must be at rest after the last harm."""
KEYS = queue_keys("aiojobs", "default")
NEWER = "default.newer-"
NEWER_EACH = 500
"""So many jobs to one message of a newer version."""
LOST_LEASE = "was lost; "
BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 30)


@dataclass(slots=True)
class Record:
    """What happened, as far as the ledger does not say it."""

    acknowledged: list[str] = field(default_factory=list[str])
    due: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    unknown: int = 0
    newer: list[str] = field(default_factory=list[str])
    newer_kept: int = 0
    harms: list[Harm] = field(default_factory=list[Harm])
    done: Counter[str] = field(default_factory=Counter[str])
    redis_back: list[float] = field(default_factory=list[float])
    reported: dict[int, int] = field(default_factory=dict[int, int])
    exit_codes: list[int] = field(default_factory=list[int])


@dataclass(slots=True)
class Result:
    """What a run has shown. `violations` is empty when all promises were kept."""

    findings: Findings
    violations: dict[str, list[str]]
    recoveries: list[float]
    lateness: list[float]
    record: Record
    dead: int
    seconds: float


class Nemesis:
    """Does harm, one after the other, and keeps as many workers running as there should be."""

    def __init__(
        self, fleet: Fleet, server: RedisServer, proxy: Proxy, record: Record, *, chance: random.Random
    ) -> None:
        self._fleet = fleet
        self._server = server
        self._proxy = proxy
        self._record = record
        self._chance = chance
        self.workers: list[WorkerProcess] = []

    async def work(self, seconds: float) -> None:
        """Harm for so many seconds; all is whole again when this returns."""
        harms = (
            self.kill, self.kill, self.stop, self.terminate, self.kill_redis, self.kill_clients, self.flush_scripts, self.slow, self.reset,
        )  # fmt: skip
        end = time.monotonic() + seconds
        queue = [*harms]
        self._chance.shuffle(queue)  # each kind at least once, then at random
        while time.monotonic() < end:
            harm = queue.pop() if queue else self._chance.choice(harms)
            await harm()
            self._record.done[harm.__name__.replace("_", " ")] += 1
            await asyncio.sleep(self._chance.uniform(0.2, 1.2))

    def launch(self) -> None:
        """One worker more; each other one behind the proxy."""
        through = len(self._fleet.workers) % 2
        self.workers.append(
            self._fleet.launch(
                lease=LEASE,
                concurrency=CONCURRENCY,
                shutdown_timeout=SHUTDOWN_TIMEOUT,
                url=self._proxy.url if through else None,
            )
        )

    async def watch(self) -> None:
        """Write down when workers say that they have lost a lease: what they held runs again."""
        while True:
            for worker in self._fleet.workers:
                count = worker.log.count(LOST_LEASE)
                if count > self._record.reported.get(worker.pid, 0):
                    self._record.reported[worker.pid] = count
                    now = time.monotonic()
                    self._record.harms.append(Harm(worker.pid, now - 2 * LEASE, "lost its lease", until=now + 0.5))
            await asyncio.sleep(0.2)

    async def kill(self) -> None:
        worker = self._take()
        self._record.harms.append(Harm(worker.pid, worker.kill(), "killed"))
        self.launch()

    async def stop(self) -> None:
        worker = self._chance.choice(self.workers)
        at = time.monotonic()
        worker.pause()
        await asyncio.sleep(self._chance.uniform(0.5, 2) * LEASE)
        worker.resume()
        self._record.harms.append(Harm(worker.pid, at, "stopped for long", until=time.monotonic() + LEASE))

    async def terminate(self) -> None:
        worker = self._take()
        await worker.ready(timeout=30)  # before it listens to signals, TERM ends it as any process
        worker.terminate()
        self.launch()
        self._record.exit_codes.append(await worker.ended(timeout=SHUTDOWN_TIMEOUT + 10))

    async def kill_redis(self) -> None:
        self._server.kill()
        await asyncio.sleep(self._chance.uniform(0.1, 1.5))
        await asyncio.to_thread(self._server.start)
        self._record.redis_back.append(time.monotonic())

    async def kill_clients(self) -> None:
        with self._server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # pyright: ignore[reportUnknownMemberType] - redis-py

    async def flush_scripts(self) -> None:
        with self._server.client() as client:
            client.script_flush()

    async def slow(self) -> None:
        self._proxy.latency_ms, self._proxy.jitter_ms = 100, 50
        await asyncio.sleep(self._chance.uniform(0.5, 1.5))
        self._proxy.latency_ms = self._proxy.jitter_ms = 0

    async def reset(self) -> None:
        self._proxy.reset_all()

    def _take(self) -> WorkerProcess:
        return self.workers.pop(self._chance.randrange(len(self.workers)))


async def run(
    *, seconds: float = 120, seed: int = 0, jobs: int = 20_000, workers: int = 10, appendfsync: str = "always"
) -> Result:
    """One chaos run. Takes `seconds`, the start of the workers, and the time until all is at rest."""
    began = time.monotonic()
    chance = random.Random(seed)
    record = Record()
    with (
        tempfile.TemporaryDirectory(prefix="aiojobs_rt-chaos-") as folder,
        RedisServer(appendonly=True, arguments=("--appendfsync", appendfsync)) as server,
    ):
        async with Proxy(server.port, seed=seed) as proxy, RedisAdapter(server.url, enqueue_timeout=30) as adapter:
            FaultJob.adapter = adapter
            fleet = Fleet(server.url, Path(folder), fresh=True)
            nemesis = Nemesis(fleet, server, proxy, record, chance=chance)
            watching = asyncio.create_task(nemesis.watch())
            try:
                for _ in range(workers):
                    nemesis.launch()
                await asyncio.gather(*(worker.ready(timeout=60) for worker in nemesis.workers))
                producing = [
                    asyncio.create_task(_produce(record, jobs // 4, seconds * 0.9, random.Random(seed + n)))
                    for n in range(4)
                ]
                newer = _produce_newer(fleet, record, max(1, jobs // NEWER_EACH), seconds * 0.9)
                producing.append(asyncio.create_task(newer))
                await nemesis.work(seconds)
                await asyncio.gather(*producing)
                violations = await _rest(fleet, record, workers=workers)
                with fleet.client() as client:
                    dead = {id_.decode() for id_ in client.zrange(KEYS.dead, 0, -1)}
                history = fleet.ledger.read()
                tracebacks = [str(worker.pid) for worker in fleet.workers if "Traceback" in worker.log]
            finally:
                watching.cancel()
                fleet.tracebacks = True  # counted above
                for worker in fleet.workers:
                    worker.dispose()
                fleet.ledger.close()
    findings = examine(
        history, record.acknowledged, harms=record.harms, accounted=_three_crashes(dead, history), due=record.due
    )
    violations |= findings.violations
    if len(findings.unexpected) <= record.unknown:
        violations.pop("unexpected", None)
    if tracebacks:
        violations["tracebacks in the logs of"] = tracebacks
    if wrong := [str(code) for code in record.exit_codes if code]:
        violations["exit codes after TERM"] = wrong
    return Result(
        findings=findings,
        violations=violations,
        recoveries=_recoveries(history, record),
        lateness=_lateness(history, record),
        record=record,
        dead=len(dead),
        seconds=time.monotonic() - began,
    )


async def _produce(record: Record, jobs: int, seconds: float, chance: random.Random) -> None:
    began = time.monotonic()
    for number in range(jobs):
        if (ahead := began + number * seconds / jobs - time.monotonic()) > 0:
            await asyncio.sleep(ahead)
        wait = chance.uniform(0.1, 3) if number % 10 == 0 else 0
        job = Nap.set(wait=wait) if wait else Nap
        before = time.monotonic()
        try:
            handle = await job.perform_later(number, chance.uniform(0, 0.2))
        except EnqueueError:
            record.unknown += 1
            continue
        record.acknowledged.append(handle.id)
        record.due[handle.id] = (before + wait, time.monotonic() + wait)


async def _produce_newer(fleet: Fleet, record: Record, count: int, seconds: float) -> None:
    """What a producer of a later release would send."""
    began = time.monotonic()
    with fleet.client() as client:
        for number in range(count):
            if (ahead := began + number * seconds / count - time.monotonic()) > 0:
                await asyncio.sleep(ahead)
            id_ = f"{NEWER}{number}"
            meta = f'{{"v":999,"at":{int(time.time() * 1000)},"novel":[]}}'
            while True:
                try:
                    client.xadd(KEYS.stream, {"id": id_, "job": "Later", "args": "{}", "meta": meta})
                    break
                except redis.RedisError:  # killed
                    await asyncio.sleep(0.2)
            record.newer.append(id_)


async def _rest(fleet: Fleet, record: Record, *, workers: int) -> dict[str, list[str]]:
    """Wait until all is at rest; what is not in time."""
    expected, newer = len(record.acknowledged), len(record.newer)
    mine = {f"{KEYS.parked}: {newer} fields", f"{KEYS.index}: {newer} fields", f"{KEYS.retries}: {newer} due"}
    with fleet.client() as client:

        def left() -> list[str]:
            return [line for line in not_at_rest(client, "default", workers=workers) if line not in mine]

        try:
            await wait_until(
                lambda: (
                    all(client.hmget(KEYS.parked, record.newer))
                    and not left()
                    and fleet.ledger.count("end") >= expected - 20
                ),
                timeout=SETTLING,
                interval=0.1,
                what="everything to be at rest",
            )
        except AssertionError:
            remains = left() or ["nothing, but jobs have not ended or a newer message is away"]
            return {"not at rest": remains}
        messages: list[Any] = client.hmget(KEYS.parked, record.newer)
        changed = [str(message) for message in messages if b'"v":999' not in message or b'"novel":[]' not in message]
        record.newer_kept = newer - len(changed)
        return {"newer messages were changed": changed} if changed else {}


def _three_crashes(dead: set[str], history: History) -> set[str]:
    """The dead that began three times: killed with their workers so often, they are taken for the cause."""
    begun = Counter(run.job_id for run in history.runs())
    return {job_id for job_id in dead if begun[job_id] >= 3}


def _recoveries(history: History, record: Record) -> list[float]:
    """Seconds from a worker's death to the next run of each job it had, and from Redis' return to the next start."""
    killed = {harm.pid: harm.at for harm in record.harms if harm.why == "killed"}
    found: list[float] = []
    open_runs: dict[str, float] = {}
    for run in history.runs():
        if run.job_id in open_runs:
            found.append(run.started - open_runs.pop(run.job_id))
        if run.ended is None and run.pid in killed:
            open_runs[run.job_id] = killed[run.pid]
    starts = [line.at for line in history.of("start")]
    found += [min((at for at in starts if at > back), default=back) - back for back in record.redis_back]
    return sorted(found)


def _lateness(history: History, record: Record) -> list[float]:
    first: dict[str, float] = {}
    for run in history.runs():
        first.setdefault(run.job_id, run.started)
    return sorted(max(0.0, at - record.due[job_id][1]) for job_id, at in first.items() if job_id in record.due)


def show(result: Result, *, seed: int, console: Console) -> None:
    """The table."""
    table = Table(title=f"chaos, seed {seed}, {result.seconds:.0f} s", show_header=False)
    record, findings = result.record, result.findings
    table.add_row("enqueued and acknowledged", f"{len(record.acknowledged):,}")
    table.add_row("harm done", ", ".join(f"{name} {count}" for name, count in sorted(record.done.items())))
    table.add_row("lost", str(len(findings.lost)))
    table.add_row("ran again", f"{len(findings.explained)}: " + _counted(findings.explained.values()))
    table.add_row(
        "ran again, unexplained", str(sum(map(len, (findings.duplicated, findings.overlapping, findings.repeated))))
    )
    table.add_row("dead after three crashes", str(result.dead))
    table.add_row("enqueues with unknown outcome", str(record.unknown))
    table.add_row("messages of a newer version", f"{len(record.newer)}, put back as they were: {record.newer_kept}")
    table.add_row("leases reported lost", str(sum(record.reported.values())))
    table.add_row("recovery p50 / p99 / max", _percentiles(result.recoveries))
    table.add_row("late p50 / p99 / max", _percentiles(result.lateness))
    lower = 0.0
    for upper in (*BUCKETS, float("inf")):
        count = sum(lower <= late < upper for late in result.lateness)
        share = count / max(1, len(result.lateness))
        table.add_row(f"  late < {upper:g} s", f"{count:>6,} {'#' * round(share * 40)}")
        lower = upper
    for name, found in result.violations.items():
        table.add_row(f"[red]{name}", "\n".join([f"{len(found)}:", *found[:5]]))
    console.print(table)
    console.print("[red]violated" if result.violations else "[green]every promise was kept")


def _counted(words: Any) -> str:
    return ", ".join(f"{word} {count}" for word, count in Counter(words).most_common())


def _percentiles(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return " / ".join(f"{values[min(len(values) - 1, int(len(values) * part))]:.3f} s" for part in (0.5, 0.99, 1))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--appendfsync", choices=("always", "everysec"), default="always")
    options = parser.parse_args()
    result = asyncio.run(run(**vars(options)))
    show(result, seed=options.seed, console=Console())
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())

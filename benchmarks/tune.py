"""`python -m benchmarks tune --jobs MODULE:CLASS`: which flags suit a job of yours.

1. A private redis-server is started: yours is never touched, and a class that names an adapter of its own is refused.
2. For each setting the jobs are enqueued first, then a real worker runs them all: throughput is theirs, not the producer's.
3. Every job must succeed at once: one that fails ends the sweep, and is no fast job, even when it is retried and succeeds in the end. The
   queue's counters know: the script that settles a run counts what became of it.
4. A run's duration is what the worker noted in the history: from the first line of perform to its end. How long a job waited says
   nothing here, as they all wait from the beginning.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console

from aiojobs_rt.adapters.redis.keys import queue_keys
from aiojobs_rt.admin.reading import finished
from benchmarks import plots
from benchmarks.process import WorkerProcess, run_command
from benchmarks.server import Server
from benchmarks.tables import Grid

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE = 300.0
UNDONE = ("retried", "snoozed", "dead", "discarded", "cancelled", "lost")
"""What may become of a run that did not succeed, as the queue's counters name it. One that was given back is no failure."""
NEAR = 0.95
"""What is within 5 % of the best counts as as good."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What one setting came to.

    Attributes:
        prefetch: "auto" or a number.
        jobs_per_s: from the lease of the worker to the end of the last job.
        p50_ms, p99_ms: of a run's duration.
        cpu_us: of the worker, for a job.
        rss_mib: its peak.
    """

    concurrency: int
    prefetch: str
    jobs_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    rss_mib: float


def tune(
    jobs: Annotated[str, typer.Option(metavar="MODULE:CLASS", help="The job class.")],
    args: Annotated[str, typer.Option(metavar="JSON", help="Its arguments, an object by parameter name.")] = "{}",
    args_file: Annotated[Path | None, typer.Option(help="One such object a line; they are taken in turn.")] = None,
    *,
    count: Annotated[int, typer.Option(min=10, help="How many jobs for each setting.")] = 2_000,
    concurrency: Annotated[str, typer.Option(help="What to try.")] = "10,50,100,250,500,1000",
    prefetch: Annotated[str, typer.Option(help="What to try.")] = "auto,0",
    out: Annotated[Path | None, typer.Option(help="Write tune.json and a plot to this folder.")] = None,
) -> None:
    """Sweep concurrency and prefetch over a job of yours, and recommend flags."""
    lines = args_file.read_text().splitlines() if args_file else [args]
    sweep = [(slots, ahead) for ahead in _split(prefetch) for slots in _numbers(concurrency)]
    found: list[Setting] = []
    console = Console(stderr=True)
    with console.status("") as status:
        for slots, ahead in sweep:
            status.update(f"concurrency {slots}, prefetch {ahead}")
            try:
                found.append(measure(jobs, lines, count=count, concurrency=slots, prefetch=ahead))
            except RuntimeError as error:
                typer.echo(f"concurrency {slots}, prefetch {ahead}: {error}", err=True)
                raise typer.Exit(1) from None
    Console(width=None if console.is_terminal else 160).print(_grid(found).rich())
    print(recommend(found))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "tune.json").write_bytes(orjson.dumps([asdict(one) for one in found], option=orjson.OPT_INDENT_2))
        try:
            plots.draw_sweep([(s.prefetch, s.concurrency, s.jobs_per_s, s.p99_ms) for s in found], out)
        except ImportError:
            typer.echo(plots.MISSING, err=True)


def recommend(found: Sequence[Setting]) -> str:
    """The flags, and why: the least concurrency whose throughput is within 5 % of the best; auto where it is among these."""
    best = max(found, key=lambda one: one.jobs_per_s)
    near = [one for one in found if one.jobs_per_s >= NEAR * best.jobs_per_s]
    least = min(one.concurrency for one in near)
    chosen = min(
        (one for one in near if one.concurrency == least), key=lambda one: (one.prefetch != "auto", one.p99_ms)
    )
    flags = f"-c {chosen.concurrency}" + ("" if chosen.prefetch == "auto" else f" --prefetch {chosen.prefetch}")
    why = f"{chosen.jobs_per_s:,.0f} jobs/s, p99 of a run {chosen.p99_ms:,.1f} ms"
    if chosen is best:
        return f"{flags}: the most throughput, {why}"
    share = 100 * chosen.jobs_per_s / best.jobs_per_s
    return (
        f"{flags}: {why}; that is {share:.0f} % of the best, {best.jobs_per_s:,.0f} jobs/s and {best.p99_ms:,.1f} ms "
        f"at -c {best.concurrency} --prefetch {best.prefetch}"
    )


def measure(jobs: str, lines: Sequence[str], *, count: int, concurrency: int, prefetch: str) -> Setting:
    """Run so many jobs on a worker of this setting.

    Raises:
        RuntimeError: they can't be enqueued, one did not succeed, or the worker ended.
    """
    with Server() as server:
        path = os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH", ""))))
        around = {"AIOJOBS_RT_REDIS_URL": server.url, "AIOJOBS_RT_RECENT": str(2 * count), "PYTHONPATH": path}
        around["AIOJOBS_RT_PREFIX"] = "aiojobs"
        enqueue = [sys.executable, "-m", "benchmarks.enqueuer", jobs, str(count)]
        queue = json.loads(run_command(enqueue, around, timeout=PATIENCE, stdin="\n".join(lines)))["queue"]
        keys = queue_keys("aiojobs", queue)
        command = [sys.executable, "-m", "aiojobs_rt", "worker", jobs.partition(":")[0], "-q", queue]
        command += ["-c", str(concurrency), "--prefetch", prefetch, "--log-level", "warning"]
        log = server.folder / "worker.log"
        with WorkerProcess(command, around, log) as worker:
            deadline = time.monotonic() + PATIENCE
            while not server.client.exists(keys.workers):
                worker.check()
                _not_after(deadline)
                time.sleep(0.002)
            began, cpu_began = time.monotonic(), worker.cpu_seconds()
            while server.client.exists(keys.index):
                worker.check()
                _not_after(deadline)
                _check(server.client, keys, count, log)
                time.sleep(0.005)
            seconds, cpu_seconds, rss = time.monotonic() - began, worker.cpu_seconds() - cpu_began, worker.peak_rss()
            _check(server.client, keys, count, log)
            took = _runs(server.client, keys, queue, count)
            worker.stop()
    hundredths = statistics.quantiles(took, n=100, method="inclusive")
    return Setting(
        concurrency,
        prefetch,
        count / seconds,
        hundredths[49],
        hundredths[98],
        cpu_seconds / count * 1e6,
        rss / (1 << 20),
    )


def _check(client: Any, keys: Any, count: int, log: Path) -> None:
    counted = zip(UNDONE, client.hmget(keys.stats, UNDONE), strict=True)
    undone = [f"{int(number)} {what}" for what, number in counted if number]
    if undone:
        said = log.read_text(errors="replace")[-2000:]
        raise RuntimeError(
            f"of {count} jobs so far: {', '.join(undone)}. Only jobs that succeed at once are measured. The worker says:\n{said}"
        )


def _runs(client: Any, keys: Any, queue: str, count: int) -> list[float]:
    """How long each took, in ms."""
    took: list[float] = []
    for _, fields in client.xrange(keys.recent):
        job = finished(next(iter(fields.values())), queue)
        if job is None or job.state != "succeeded":
            raise RuntimeError(
                f"a job ended as {job.state if job else 'unreadable'}: only jobs that succeed are measured"
            )
        took.append((job.took or 0.0) * 1000)
    if len(took) < count:
        raise RuntimeError(f"{count} jobs were enqueued, and {len(took)} are in the history")
    return took


def _not_after(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise RuntimeError(f"not done after {PATIENCE:g} s: take fewer jobs (--count)")


def _grid(found: Sequence[Setting]) -> Grid:
    rows = [
        [
            str(one.concurrency), one.prefetch, f"{one.jobs_per_s:,.0f}", f"{one.p50_ms:,.2f}", f"{one.p99_ms:,.2f}",
            f"{one.cpu_us:,.1f}", f"{one.rss_mib:,.0f}",
        ]
        for one in found
    ]  # fmt: skip
    columns = ["concurrency", "prefetch", "jobs/s", "run p50 ms", "run p99 ms", "worker CPU us/job", "peak RSS MiB"]
    return Grid("Settings", columns, rows)


def _split(text: str) -> list[str]:
    items = [item.strip() for item in text.split(",")]
    if not all(item == "auto" or item.isdecimal() for item in items):
        raise typer.BadParameter(f"{text!r}: write auto or numbers, separated by commas", param_hint="--prefetch")
    return items


def _numbers(text: str) -> list[int]:
    items = [item.strip() for item in text.split(",")]
    if not all(item.isdecimal() and int(item) for item in items):
        raise typer.BadParameter(f"{text!r}: write numbers from 1, separated by commas", param_hint="--concurrency")
    return [int(item) for item in items]

"""`python -m benchmarks model --report report.json`: what a rate of jobs would take, by arithmetic, from what a run of the suite measured.

1. `Inputs` come out of the report: CPU of Redis, worker and producer per job, bytes per waiting job, bytes on the wire.
2. `plan` multiplies them with a rate: nodes, processes, memory, network.
3. `check` asks the same arithmetic for the rates of 2 and 4 workers on one Redis, which the report has measured too.

It knows nothing that was not measured: see docs/scaling.md for what it leaves out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console

from benchmarks.tables import SCALING, Grid, put_between

if TYPE_CHECKING:
    from collections.abc import Sequence

ENQUEUE, MEMORY = "enqueue-bulk", "memory"
ALONE = "drain-noop"
WORKERS = {"workers-2": 2, "workers-4": 4}
DRAINS = (ALONE, *WORKERS, "shards-8")
"""Drains of the same no-op job: the costliest counts."""


class NotMeasuredError(Exception):
    """A report has not measured what the model needs."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a job costs.

    Attributes:
        enqueue_us, drain_us: of Redis' CPU.
        producer_us, worker_us: of a Python process' CPU.
        waiting_bytes: of Redis' memory, while it waits.
        in_bytes, out_bytes: that Redis receives and sends for it, enqueue and drain together; None: the report does not say.
        costliest: which of the drains the figures are from: for Redis, for the worker.
    """

    enqueue_us: float
    drain_us: float
    producer_us: float
    worker_us: float
    waiting_bytes: float
    in_bytes: float | None
    out_bytes: float | None
    costliest: tuple[str, str] = (ALONE, ALONE)

    @property
    def redis_us(self) -> float:
        """Of Redis' CPU, from enqueue to the end."""
        return self.enqueue_us + self.drain_us

    @classmethod
    def read(cls, report: dict[str, Any]) -> Inputs:
        """From a report as it stands in JSON.

        Raises:
            NotMeasuredError: a scenario that it needs was not measured.
        """
        drains = [name for name in DRAINS if _has(report, name)] or [ALONE]
        by_redis = max(drains, key=lambda name: median(report, name, "redis_us"))
        by_worker = max(drains, key=lambda name: median(report, name, "python_us"))
        return cls(
            enqueue_us=median(report, ENQUEUE, "redis_us"),
            drain_us=median(report, by_redis, "redis_us"),
            producer_us=median(report, ENQUEUE, "python_us"),
            worker_us=median(report, by_worker, "python_us"),
            waiting_bytes=median(report, MEMORY, "bytes_per_job"),
            in_bytes=_traffic(report, drains, "net_in"),
            out_bytes=_traffic(report, drains, "net_out"),
            costliest=(by_redis, by_worker),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rate takes.

    Attributes:
        node_rate: jobs/s of one redis-server.
        nodes: redis-servers, a core each.
        memory: bytes of all nodes together, for what waits.
        in_bits, out_bits: a second, of all nodes together; None: not known.
    """

    node_rate: float
    nodes: int
    workers: int
    producers: int
    memory: float
    in_bits: float | None
    out_bits: float | None


@dataclass(frozen=True, slots=True)
class Checked:
    """A prediction beside its measurement.

    Attributes:
        predicted: jobs/s, from what one worker cost.
        by: what bounds it.
        redis_us, worker_us: measured with so many workers.
    """

    workers: int
    predicted: float
    by: str
    measured: float
    redis_us: float
    worker_us: float


def plan(inputs: Inputs, rate: float, *, backlog_s: float, busy: float, own_us: float = 0.0) -> Plan:
    """What so many jobs a second take.

    Args:
        inputs: what a job costs.
        rate: jobs/s.
        backlog_s: for how long jobs are to pile up in Redis while no worker runs.
        busy: the share of a core that is to be used at most.
        own_us: CPU that a job's own code takes, beyond a no-op.
    """
    usable = busy * 1e6
    return Plan(
        node_rate=usable / inputs.redis_us,
        nodes=math.ceil(rate * inputs.redis_us / usable),
        workers=math.ceil(rate * (inputs.worker_us + own_us) / usable),
        producers=math.ceil(rate * inputs.producer_us / usable),
        memory=rate * backlog_s * inputs.waiting_bytes,
        in_bits=None if inputs.in_bytes is None else rate * inputs.in_bytes * 8,
        out_bits=None if inputs.out_bytes is None else rate * inputs.out_bytes * 8,
    )


def predict(redis_us: float, worker_us: float, *, workers: int, cores: int) -> tuple[float, str]:
    """The rate at which so many workers drain one Redis when all share a machine, and what bounds it."""
    bounds = {
        "Redis' core": 1e6 / redis_us,
        "the workers' cores": workers * 1e6 / worker_us,
        "the machine's cores": cores * 1e6 / (redis_us + worker_us),
    }
    by = min(bounds, key=lambda name: bounds[name])
    return bounds[by], by


def check(report: dict[str, Any]) -> list[Checked]:
    """The rates of 1, 2 and 4 workers, from the costs with 1; those that were measured."""
    redis_us, worker_us = median(report, ALONE, "redis_us"), median(report, ALONE, "python_us")
    found: list[Checked] = []
    for scenario, workers in {ALONE: 1, **WORKERS}.items():
        if not _has(report, scenario):
            continue
        predicted, by = predict(redis_us, worker_us, workers=workers, cores=int(report["machine"]["cores"]))
        measured, *costs = (median(report, scenario, figure) for figure in ("jobs_per_s", "redis_us", "python_us"))
        found.append(Checked(workers, predicted, by, measured, *costs))
    return found


def median(report: dict[str, Any], scenario: str, figure: str) -> float:
    """The product's median of a figure.

    Raises:
        NotMeasuredError: it was not measured.
    """
    for result in report["results"]:
        if (result["scenario"], result["system"]) == (scenario, "aiojobs_rt") and figure in result["median"]:
            return float(result["median"][figure])
    raise NotMeasuredError(
        f"the report has no {figure} of {scenario}: measure it with `python -m benchmarks --out FOLDER`"
    )


def model(
    report: Annotated[Path, typer.Option(help="A report.json of the suite.")],
    rate: Annotated[float, typer.Option(min=1, help="Jobs a second.")] = 1_000_000,
    *,
    backlog_seconds: Annotated[float, typer.Option(min=0, help="For how long jobs may pile up.")] = 60,
    busy: Annotated[float, typer.Option(min=0.01, max=1, help="The share of a core that is used at most.")] = 0.7,
    own_us: Annotated[float, typer.Option(min=0, help="CPU of a job's own code, in us.")] = 0,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables between the marks of this file.")] = None,
) -> None:
    """Say what a rate of jobs would take, from the figures of a report."""
    try:
        read: dict[str, Any] = orjson.loads(report.read_bytes())
        inputs, checked = Inputs.read(read), check(read)
    except (NotMeasuredError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--report") from None
    planned = plan(inputs, rate, backlog_s=backlog_seconds, busy=busy, own_us=own_us)
    shown = grids(inputs, planned, checked, rate=rate, backlog_s=backlog_seconds, busy=busy, own_us=own_us)
    console = Console()
    for grid in shown:
        Console(width=None if console.is_terminal else 160).print(grid.rich())
    if markdown is not None:
        machine = read["machine"]
        about = (
            f"From the run of {read['at'][:10]} on {machine['processor']}, {machine['cores']} cores, {machine['system']}: "
            "medians, default settings, no persistence."
        )
        put_between(markdown, SCALING, "\n\n".join([about, *(grid.markdown() for grid in shown)]))


def grids(
    inputs: Inputs, planned: Plan, checked: Sequence[Checked], *, rate: float, backlog_s: float, busy: float, own_us: float
) -> list[Grid]:  # fmt: skip
    """The tables: what goes in, what comes out, and the check."""
    by_redis, by_worker = inputs.costliest
    costs = [
        ["Redis CPU, enqueue", ENQUEUE, f"{inputs.enqueue_us:.1f} us"],
        ["Redis CPU, drain", by_redis, f"{inputs.drain_us:.1f} us"],
        ["producer CPU", ENQUEUE, f"{inputs.producer_us:.1f} us"],
        ["worker CPU", by_worker, f"{inputs.worker_us:.1f} us"],
        ["Redis memory while it waits", MEMORY, f"{inputs.waiting_bytes:,.0f} bytes"],
        *(
            [what, "enqueue and drain", f"{amount:,.0f} bytes"]
            for what, amount in (("to Redis", inputs.in_bytes), ("from Redis", inputs.out_bytes))
            if amount is not None
        ),
    ]
    own = f" and {own_us:g} us of the job's own" if own_us else ""
    needs = [
        ["one redis-server carries", f"{busy:.0%} of a core / {inputs.redis_us:.1f} us", f"{planned.node_rate:,.0f} jobs/s"],
        ["redis-servers, a core each", "", f"{planned.nodes:,}"],
        ["worker processes, a core each", f"{inputs.worker_us:.1f} us{own} a job", f"{planned.workers:,}"],
        ["producer processes, a core each", f"{inputs.producer_us:.1f} us a job, in bulk", f"{planned.producers:,}"],
        [
            f"memory for {backlog_s:g} s of jobs",
            f"{planned.memory / planned.nodes / 1e9:,.1f} GB a server",
            f"{planned.memory / 1e9:,.1f} GB",
        ],
        *(
            [what, f"{bits / planned.nodes / 1e6:,.0f} Mbit/s a server", f"{bits / 1e9:,.2f} Gbit/s"]
            for what, bits in (("network to Redis", planned.in_bits), ("network from Redis", planned.out_bits))
            if bits is not None
        ),
    ]  # fmt: skip
    seen = [
        [
            f"{one.workers}", one.by, f"{one.predicted:,.0f}", f"{one.measured:,.0f}", f"{one.measured / one.predicted:.2f}",
            f"{one.redis_us:.1f}", f"{one.worker_us:.1f}",
        ]
        for one in checked
    ]  # fmt: skip
    columns = [
        "workers", "what bounds it, says the model", "jobs/s by the model", "measured", "measured / model", "Redis us/job",
        "worker us/job",
    ]  # fmt: skip
    return [
        Grid("What goes in, per job", ["what", "from", "median"], costs),
        Grid(f"What {rate:,.0f} jobs/s take", ["what", "of which", ""], needs),
        Grid("The model at small scale: a no-op drain, all on one machine", columns, seen),
    ]


def _traffic(report: dict[str, Any], drains: Sequence[str], figure: str) -> float | None:
    try:
        return median(report, ENQUEUE, figure) + max(median(report, name, figure) for name in drains)
    except NotMeasuredError:  # a report from before it was
        return None


def _has(report: dict[str, Any], scenario: str) -> bool:
    return any(
        (result["scenario"], result["system"]) == (scenario, "aiojobs_rt") and result["median"]
        for result in report["results"]
    )

"""The budget: what the product may cost, beside what it did cost in this run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.results import Report


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the budget.

    Attributes:
        what: for people.
        scenario, figure: what is looked at.
        limit: the bound.
        most: whether the bound is the most that it may be; else the least.
        of_floor: whether the figure is divided by the floor's.
        unit: for people.
    """

    what: str
    scenario: str
    figure: str
    limit: float
    most: bool
    of_floor: bool = False
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A line and what was measured; None when it was not."""

    line: Line
    measured: float | None

    @property
    def met(self) -> bool | None:
        """Whether the bound was kept."""
        if self.measured is None:
            return None
        return self.measured <= self.line.limit if self.line.most else self.measured >= self.line.limit

    def dump(self) -> dict[str, Any]:
        """As it stands in JSON."""
        return {**asdict(self.line), "measured": self.measured, "met": self.met}


BUDGET = (
    Line("no-op drain, python CPU a job", "drain-noop", "python_us", 1.7, most=True, of_floor=True, unit="x floor"),
    Line("bulk enqueue, throughput", "enqueue-bulk", "jobs_per_s", 0.6, most=False, of_floor=True, unit="x floor"),
    Line("enqueue from 1,000 callers", "enqueue-1000", "jobs_per_s", 30_000, most=False, unit="jobs/s"),
    Line("10 ms jobs, concurrency 100", "drain-10ms-100", "jobs_per_s", 9_000, most=False, unit="jobs/s"),
    Line(
        "10 ms jobs, concurrency 1,000", "drain-10ms-1000", "jobs_per_s", 0.7, most=False, of_floor=True, unit="x floor"
    ),
    Line("wake-up, p50", "wake-up", "p50_ms", 0.5, most=True, unit="ms"),
    Line("wake-up, p99", "wake-up", "p99_ms", 2.0, most=True, unit="ms"),
    Line("1,000 jobs due over 1 s, p50 late", "late-1000", "p50_ms", 10, most=True, unit="ms"),
    Line("1,000 jobs due over 1 s, p99 late", "late-1000", "p99_ms", 50, most=True, unit="ms"),
    Line("20,000 jobs due over 1 s, p99 late", "late-20000", "p99_ms", 100, most=True, unit="ms"),
    Line("Redis memory a waiting small job", "memory", "bytes_per_job", 280, most=True, unit="bytes"),
    Line("idle worker, one queue, requests", "idle", "requests_per_s", 2, most=True, unit="/s"),
    Line("idle worker, one queue, commands", "idle", "commands_per_s", 5, most=True, unit="/s"),
)


def weigh(report: Report) -> list[Verdict]:
    """The budget against a report."""
    return [Verdict(line, _measured(line, report)) for line in BUDGET]


def _measured(line: Line, report: Report) -> float | None:
    measured = report.median(line.scenario, "aiojobs_rt", line.figure)
    if measured is None or not line.of_floor:
        return measured
    floor = report.median(line.scenario, "floor", line.figure)
    return measured / floor if floor else None

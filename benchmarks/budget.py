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
        against: another scenario, by whose same figure it is divided.
        instead: a bound on the figure itself, which will do as well: "40,000/s, or 70 % of the floor".
        unit: for people.
    """

    what: str
    scenario: str
    figure: str
    limit: float
    most: bool
    of_floor: bool = False
    unit: str = ""
    against: str = ""
    instead: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A line and what was measured; None when it was not.

    Attributes:
        plain: the figure itself, where the line bounds a quotient.
    """

    line: Line
    measured: float | None
    plain: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bound was kept."""
        if self.measured is None:
            return None
        return self._keeps(self.measured, self.line.limit) or (
            self.line.instead is not None and self.plain is not None and self._keeps(self.plain, self.line.instead)
        )

    def _keeps(self, measured: float, limit: float) -> bool:
        return measured <= limit if self.line.most else measured >= limit

    def dump(self) -> dict[str, Any]:
        """As it stands in JSON."""
        return {**asdict(self.line), "measured": self.measured, "met": self.met}


BUDGET = (
    Line("no-op drain, python CPU a job", "drain-noop", "python_us", 1.7, most=True, of_floor=True, unit="x floor"),
    Line("bulk enqueue, throughput", "enqueue-bulk", "jobs_per_s", 0.6, most=False, of_floor=True, unit="x floor"),
    Line("enqueue from 1,000 callers", "enqueue-1000", "jobs_per_s", 30_000, most=False, unit="jobs/s"),
    Line("10 ms jobs, concurrency 100", "drain-10ms-100", "jobs_per_s", 9_000, most=False, unit="jobs/s"),
    Line(
        "10 ms jobs, concurrency 1,000 (or 40,000/s)",
        "drain-10ms-1000",
        "jobs_per_s",
        0.7,
        most=False,
        of_floor=True,
        unit="x floor",
        instead=40_000,
    ),
    Line(
        "declarations, timeout, log context: CPU a job",
        "drain-rich",
        "python_us",
        2.0,
        most=True,
        unit="x no-op",
        against="drain-noop",
    ),
    Line("queues and priorities, jobs out of order", "ranked", "overtaken", 0.0, most=True, unit="of all"),
    Line(
        "backlog of 1,000,000: python CPU a job",
        "backlog-1m",
        "python_us",
        1.15,
        most=True,
        unit="x 10,000",
        against="backlog-10k",
    ),
    Line(
        "backlog of 1,000,000: Redis CPU a job",
        "backlog-1m",
        "redis_us",
        1.15,
        most=True,
        unit="x 10,000",
        against="backlog-10k",
    ),
    Line("drain of 1,000,000: worker RSS, end against 10 %", "backlog-1m", "rss_growth", 1.1, most=True, unit="x"),
    Line("wake-up, p50", "wake-up", "p50_ms", 0.5, most=True, unit="ms"),
    Line("wake-up, p99", "wake-up", "p99_ms", 2.0, most=True, unit="ms"),
    Line("wake-up, worker half busy, p99", "wake-up-busy", "p99_ms", 15.0, most=True, unit="ms"),
    Line("1,000 jobs due over 1 s, p50 late", "late-1000", "p50_ms", 10, most=True, unit="ms"),
    Line("1,000 jobs due over 1 s, p99 late", "late-1000", "p99_ms", 50, most=True, unit="ms"),
    Line("20,000 jobs due over 1 s, p99 late", "late-20000", "p99_ms", 100, most=True, unit="ms"),
    Line("50,000 due at one instant, longest stall of Redis", "late-at-once", "stall_ms", 5.0, most=True, unit="ms"),
    Line(
        "50,000 due at one instant, least left of a lease of 3 s",
        "late-at-once",
        "least_lease_s",
        1.5,
        most=False,
        unit="s",
    ),
    Line("Redis memory a waiting small job", "memory", "bytes_per_job", 280, most=True, unit="bytes"),
    Line("idle worker, one queue, requests", "idle", "requests_per_s", 2, most=True, unit="/s"),
    Line("idle worker, one queue, commands", "idle", "commands_per_s", 5, most=True, unit="/s"),
)


def weigh(report: Report) -> list[Verdict]:
    """The budget against a report."""
    return [_verdict(line, report) for line in BUDGET]


def _verdict(line: Line, report: Report) -> Verdict:
    measured = report.median(line.scenario, "aiojobs_rt", line.figure)
    if measured is None or not (line.of_floor or line.against):
        return Verdict(line, measured)
    if line.against:
        other = report.median(line.against, "aiojobs_rt", line.figure)
    else:
        other = report.median(line.scenario, "floor", line.figure)
    return Verdict(line, measured / other if other else None, measured)

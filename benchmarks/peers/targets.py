"""What the product must show beside the peers, and whether it did in a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.results import Report

PRODUCT = "aiojobs_rt"
Among = Literal["asyncio", "python", "all", "bullmq", "sidekiq"]
"""Which peers: asyncio Python ones; all Python ones; all; or this one."""


@dataclass(frozen=True, slots=True)
class Target:
    """One line.

    Attributes:
        what: for people.
        scenario, figure: what is compared.
        among: the best of which peers it is compared with.
        factor: the product's figure divided by that peer's must be at least this; with `least`, at most.
        least: whether a smaller figure is the better one.
    """

    what: str
    scenario: str
    figure: str
    among: Among
    factor: float
    least: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and what was measured.

    Attributes:
        peer: the best of those it is compared with; empty when none was measured.
        product, best: their figures.
    """

    target: Target
    peer: str = ""
    product: float | None = None
    best: float | None = None

    @property
    def factor(self) -> float | None:
        """The product's figure divided by the peer's."""
        return self.product / self.best if self.product is not None and self.best else None

    @property
    def kept(self) -> bool | None:
        """Whether the target was reached; None when it was not measured."""
        if (factor := self.factor) is None:
            return None
        return factor <= self.target.factor if self.target.least else factor >= self.target.factor

    def dump(self) -> dict[str, Any]:
        """As it stands in JSON."""
        return {
            **asdict(self.target),
            "peer": self.peer,
            "product": self.product,
            "best": self.best,
            "measured": self.factor,
            "met": self.kept,
        }


TARGETS = (
    Target("no-op drain, the fastest asyncio Python peer", "drain-noop", "jobs_per_s", "asyncio", 10),
    Target("no-op drain, the fastest Python peer", "drain-noop", "jobs_per_s", "python", 5),
    Target("no-op drain, BullMQ", "drain-noop", "jobs_per_s", "bullmq", 2.5),
    Target("no-op drain, Sidekiq", "drain-noop", "jobs_per_s", "sidekiq", 4),
    Target("enqueue in bulk, the fastest Python peer", "enqueue-bulk", "jobs_per_s", "python", 5),
    Target("enqueue one by one, the fastest asyncio Python peer", "enqueue-one", "jobs_per_s", "asyncio", 1.25),
    Target("10 ms jobs, concurrency 100, the fastest peer", "drain-10ms-100", "jobs_per_s", "all", 1),
    Target("10 ms jobs, concurrency 1,000, the fastest peer", "drain-10ms-1000", "jobs_per_s", "all", 1),
    Target("wake-up, p50, the quickest peer", "wake-up", "p50_ms", "all", 1, least=True),
    Target("wake-up, p99, the quickest peer", "wake-up", "p99_ms", "all", 1, least=True),
    Target("1,000 due over 1 s, p50 late, the most punctual peer", "late-1000", "p50_ms", "all", 1, least=True),
    Target("1,000 due over 1 s, p99 late, the most punctual peer", "late-1000", "p99_ms", "all", 1, least=True),
    Target("20,000 due over 1 s, p99 late, the most punctual peer", "late-20000", "p99_ms", "all", 1, least=True),
    Target("Redis bytes a waiting job, the smallest peer", "memory", "bytes_per_job", "all", 1, least=True),
)


def judge(report: Report, kinds: Mapping[str, str]) -> list[Verdict]:
    """The targets against a report; `kinds` says of each peer what it is."""
    return [_judge(target, report, kinds) for target in TARGETS]


def _judge(target: Target, report: Report, kinds: Mapping[str, str]) -> Verdict:
    chosen = [
        name
        for name, kind in kinds.items()
        if target.among in {"all", kind, name} or (target.among == "python" and kind == "asyncio")
    ]
    measured = {name: report.median(target.scenario, name, target.figure) for name in chosen}
    figures = {name: figure for name, figure in measured.items() if figure is not None}
    product = report.median(target.scenario, PRODUCT, target.figure)
    if not figures:
        return Verdict(target, product=product)
    best = (min if target.least else max)(figures, key=figures.__getitem__)
    return Verdict(target, best, product, figures[best])

"""`python -m benchmarks compare`: the product, the floor and the peers, by the same scenarios, in one run.

1. Each peer's environment is made where it is missing; a peer that can't be had stands in the tables with the reason.
2. Within each repetition, scenario by scenario, all systems take turns: what else happens on the machine hits all alike.
3. Trials are sized by what a system does, to last a second or two each: a slow peer gets fewer jobs. Throughput and costs are per job.
4. For the no-op drain each of a peer's settings is measured; one that is slower by a fifth than the peer's best is not measured again, and
   the best median is the peer's.
5. Every job ran exactly once, or the trial is no result: the peer stands in the tables with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.console import Console

from benchmarks.machine import describe_machine, describe_versions, load_average
from benchmarks.peers.environments import Unavailable, prepare
from benchmarks.peers.systems import PEERS, Peer
from benchmarks.peers.targets import judge
from benchmarks.results import Report, Result
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.scenarios.measures import Sizes
from benchmarks.systems import FLOOR, PRODUCT, System
from benchmarks.tables import COMPARISON, Grid, grids, put_between

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.trial import Figures

NAMES = (
    "enqueue-one", "enqueue-bulk", "drain-noop", "drain-10ms-100", "drain-10ms-1000", "wake-up", "late-1000",
    "late-20000", "results", "memory",
)  # fmt: skip
"""The scenarios that are compared, as far as the suite has them."""
FAST = 90_000
"""About how many no-op jobs a second the product and the floor do, and so many of them BullMQ at most: it sizes trials."""
NEVER_AGAIN = 0.8
"""A setting whose first figure is below this share of the peer's best is not measured again."""


@dataclass(frozen=True, slots=True)
class Exactly(Sizes):
    """So many jobs, whatever share of them a scenario takes otherwise."""

    def share(self, divisor: int, *, least: int = 100) -> int:  # noqa: ARG002 - the number is decided
        return max(self.jobs, 100)


@dataclass(frozen=True, slots=True)
class AtMost(Exactly):
    """So many jobs, even where the scenario says a number of its own."""

    def fixed(self, jobs: int, quick: int) -> int:
        return min(quick if self.quick else jobs, self.jobs)


@dataclass(slots=True)
class Contestant:
    """A system in the comparison.

    Attributes:
        system: what is measured.
        settings: the system with each of its settings, for scenarios in which they are tried.
        absent: why it can't be measured at all; else empty.
        refused: by scenario, why it was not measured.
        chosen: by scenario, the setting whose median counts.
    """

    system: System
    settings: list[tuple[str, System]] = field(default_factory=list[tuple[str, System]])
    kind: str = ""
    remark: str = ""
    absent: str = ""
    refused: dict[str, str] = field(default_factory=dict[str, str])
    chosen: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, peer: Peer) -> Contestant:
        """A peer, installed if need be."""
        entry = cls(peer, kind=peer.kind, remark=peer.remark)
        try:
            peer.version = prepare(peer.name)
        except Unavailable as error:
            entry.absent = str(error)
        entry.settings = [(f"concurrency {one.concurrency}", one) for one in peer.tuned()]
        return entry

    def size(self, scenario: str, *, quick: bool) -> Sizes:
        """How many jobs a trial gets."""
        drains = self.system.pace if isinstance(self.system, Peer) else FAST
        enqueues = self.system.pace_enqueue if isinstance(self.system, Peer) else 7_000
        jobs = {
            "enqueue-one": enqueues,
            "enqueue-bulk": drains * 3 // 2,
            "drain-noop": drains * 3 // 2,
            "drain-10ms-100": min(drains, 9_000) * 3 // 2,
            "drain-10ms-1000": min(drains, 40_000) * 3 // 2,
            "memory": min(drains * 2, 20_000),
            "wake-up": 501,
        }.get(scenario, 200)
        kind = AtMost if scenario in {"results", "wake-up"} else Exactly
        return kind(min(jobs, 300) if quick else jobs, quick)


@dataclass(slots=True)
class Comparison:
    """A run.

    Attributes:
        runs: figures, by scenario, system and setting.
    """

    contestants: Sequence[Contestant]
    scenarios: Sequence[Scenario]
    quick: bool = False
    runs: dict[tuple[str, str], dict[str, list[Figures]]] = field(
        default_factory=dict[tuple[str, str], dict[str, list["Figures"]]]
    )

    def repeat(self, turn: Callable[[str], None]) -> None:
        """Measure everything once more; `turn` is told what comes."""
        for scenario in self.scenarios:
            for entry in self.contestants:
                if entry.absent or scenario.name in entry.refused:
                    continue
                if why := entry.system.can(scenario.name):
                    entry.refused[scenario.name] = why
                    continue
                for setting, system in self._settings(entry, scenario.name):
                    turn(f"{scenario.title}: {entry.system.name} {setting}")
                    self._measure(entry, scenario, setting, system)

    def results(self) -> list[Result]:
        """Of each scenario and system, with the setting whose median is the best."""
        found = [self._best(scenario, entry) for scenario in self.scenarios for entry in self.contestants]
        return [result for result in found if result is not None]

    def _settings(self, entry: Contestant, scenario: str) -> list[tuple[str, System]]:
        if scenario != "drain-noop" or not entry.settings:
            return [("", entry.system)]
        before = self.runs.get((scenario, entry.system.name), {})
        firsts = {setting: runs[0]["jobs_per_s"] for setting, runs in before.items()}
        least = max(firsts.values(), default=0) * NEVER_AGAIN
        return [(setting, system) for setting, system in entry.settings if firsts.get(setting, least) >= least]

    def _measure(self, entry: Contestant, scenario: Scenario, setting: str, system: System) -> None:
        try:
            figures = scenario.measure(system, entry.size(scenario.name, quick=self.quick))
        except Exception as error:
            if not entry.kind:  # the product and the floor have to work
                raise
            lines = str(error).strip().splitlines()
            entry.refused[scenario.name] = (
                f"failed: {lines[0][:200] if lines else ''} {lines[-1][-200:] if lines[1:] else ''}"
            )
            return
        self.runs.setdefault((scenario.name, entry.system.name), {}).setdefault(setting, []).append(figures)

    def _best(self, scenario: Scenario, entry: Contestant) -> Result | None:
        settings = self.runs.get((scenario.name, entry.system.name), {})
        made = {
            setting: Result(scenario.name, scenario.title, scenario.table, entry.system.name, runs)
            for setting, runs in settings.items()
        }
        if not made or scenario.name in entry.refused:
            return None
        best = max(made, key=lambda setting: made[setting].median("jobs_per_s") or 0)
        if best:
            entry.chosen[scenario.name] = best
        return made[best]


def compare(  # noqa: PLR0917 - typer calls it, by name
    only: Annotated[list[str] | None, typer.Option(help="Compare by this scenario; may be given again.")] = None,
    peer: Annotated[list[str] | None, typer.Option(help="Compare with this peer; may be given again.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="How often each is measured.")] = 2,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny numbers, once: does it work?")] = False,  # noqa: FBT002 - typer's way
    default_logs: Annotated[  # noqa: FBT002 - as above
        bool, typer.Option("--default-logs", help="Peers log what they log by default; else warnings alone.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables between the marks of this file.")] = None,
) -> None:
    """Compare with other job runners, each with its best documented settings, beside the floor."""
    names = [one.name for one in PEERS]
    scenarios = [scenario for scenario in SCENARIOS if scenario.name in NAMES]
    _known("--peer", "peer", peer or [], names)
    _known("--only", "scenario", only or [], [scenario.name for scenario in scenarios])
    logs = "" if default_logs else "WARNING"
    peers = [one.quietly(logs) for one in PEERS if not peer or one.name in peer]
    contestants = [Contestant(PRODUCT), Contestant(FLOOR), *(Contestant.of(one) for one in peers)]
    contestants[1].refused = dict.fromkeys(
        [s.name for s in scenarios if FLOOR not in s.systems], "the floor has no such job"
    )
    comparison = Comparison(contestants, [s for s in scenarios if not only or s.name in only], quick)
    report = measure(comparison, 1 if quick else repeat)
    shown = tables(report, comparison)
    console = Console()
    for grid in shown:
        Console(width=None if console.is_terminal else 200).print(grid.rich())
    if json is not None:
        json.write_bytes(orjson.dumps(dump(report, comparison), option=orjson.OPT_INDENT_2))
    if markdown is not None:
        put_between(markdown, COMPARISON, "\n\n".join([about(report), *(grid.markdown() for grid in shown)]))


def measure(comparison: Comparison, repeat: int) -> Report:
    """Run a comparison so often."""
    versions = {c.system.name: c.system.version or "none" for c in comparison.contestants if c.kind}
    report = Report(
        at=datetime.now(tz=UTC).isoformat(timespec="seconds"),
        machine=describe_machine(),
        versions={**describe_versions(), **versions},
        options={"repeat": repeat, "jobs": FAST, "quick": comparison.quick},
        load_average=[load_average()],
        results=[],
    )
    with Console(stderr=True).status("") as status:
        for number in range(repeat):
            comparison.repeat(lambda what, number=number: status.update(f"run {number + 1} of {repeat}: {what}"))  # type: ignore[misc] # bound now
    report.load_average.append(load_average())
    report.results = comparison.results()
    return report


def tables(report: Report, comparison: Comparison) -> list[Grid]:
    """All tables: figures, targets, and what there is to know about the systems."""
    return [*(grid for grid in grids(report) if grid.title != "The budget"), *_words(report, comparison)]


def about(report: Report) -> str:
    """What was measured where."""
    machine = report.machine
    return (
        f"Measured {report.at[:10]} on {machine['processor']}, {machine['cores']} cores, {machine['memory']}, {machine['system']}; "
        f"load average {report.load_average[0]:.1f} before, {report.load_average[-1]:.1f} after; "
        f"redis-server {report.versions['redis-server']}. Median of {report.options['repeat']} run(s)."
    )


def dump(report: Report, comparison: Comparison) -> dict[str, object]:
    """As it stands in JSON."""
    return {
        **report.dump(),
        "targets": [verdict.dump() for verdict in judge(report, _kinds(comparison))],
        "settings": {c.system.name: c.chosen for c in comparison.contestants if c.chosen},
        "refused": {c.system.name: c.absent or c.refused for c in comparison.contestants if c.absent or c.refused},
    }


def _words(report: Report, comparison: Comparison) -> Iterable[Grid]:
    rows = [
        [
            verdict.target.what,
            verdict.peer,
            {True: "yes", False: "NO", None: "not measured"}[verdict.kept],
            f"{'at most' if verdict.target.least else 'at least'} {verdict.target.factor:g}",
            "" if verdict.factor is None else f"{verdict.factor:.2f}",
            _number(verdict.product),
            _number(verdict.best),
        ]
        for verdict in judge(report, _kinds(comparison))
        if verdict.product is not None
    ]
    if rows:
        columns = ["what is compared", "best peer", "kept", "times the peer", "measured", "aiojobs_rt", "the peer"]
        yield Grid("Against the peers", columns, rows)
    peers = [c for c in comparison.contestants if c.kind]
    about = [
        [c.system.name, c.absent or "; ".join([c.remark, *dict.fromkeys(c.chosen.values())]), c.system.version or "-"]
        for c in peers
    ]
    if about:
        yield Grid("The peers, and the settings that counted", ["peer", "settings", "version"], about)
    titles = {scenario.name: scenario.title for scenario in comparison.scenarios}
    refused = [
        [c.system.name, why, titles[name]]
        for c in comparison.contestants
        for name, why in c.refused.items()
        if name in titles
    ]
    if refused:
        yield Grid("Not measured", ["system", "why", "scenario"], refused)


def _kinds(comparison: Comparison) -> dict[str, str]:
    return {c.system.name: c.kind for c in comparison.contestants if c.kind}


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def _known(option: str, what: str, given: list[str], names: list[str]) -> None:
    for name in given:
        if name not in names:
            raise typer.BadParameter(f"there is no {what} {name!r}; there are: {', '.join(names)}", param_hint=option)

"""Results: the figures of all runs, their median, least and greatest, and the whole as JSON."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Result:
    """What one scenario came to for one system.

    Attributes:
        runs: the figures of each run, by name; under "samples" alone stands a list.
    """

    scenario: str
    title: str
    table: str
    system: str
    runs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def values(self, figure: str) -> list[float]:
        """One figure in all runs; empty when this scenario has no such figure."""
        return [run[figure] for run in self.runs if figure in run]

    def median(self, figure: str) -> float | None:
        """None when this scenario has no such figure."""
        values = self.values(figure)
        return statistics.median(values) if values else None

    def samples(self) -> list[float]:
        """The delays of all runs in ms, sorted; empty when this scenario keeps none."""
        return sorted(delay for run in self.runs for delay in run.get("samples", ()))

    def dump(self) -> dict[str, Any]:
        """As it stands in JSON."""
        figures = [name for name in self.runs[0] if name != "samples"] if self.runs else []
        return {
            "scenario": self.scenario,
            "title": self.title,
            "table": self.table,
            "system": self.system,
            "median": {figure: self.median(figure) for figure in figures},
            "min": {figure: min(self.values(figure)) for figure in figures},
            "max": {figure: max(self.values(figure)) for figure in figures},
            "runs": self.runs,
        }


@dataclass(slots=True)
class Report:
    """A run of the suite.

    Attributes:
        at: when it began, ISO 8601, UTC.
        options: repeat, jobs, quick.
        load_average: of the machine, before and after.
    """

    at: str
    machine: dict[str, str | int]
    versions: dict[str, str]
    options: dict[str, int | bool]
    load_average: list[float]
    results: list[Result]

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Report:
        """A report from what `dump` made of it."""
        return cls(
            at=dumped["at"],
            machine=dumped["machine"],
            versions=dumped["versions"],
            options=dumped["options"],
            load_average=dumped["load_average"],
            results=[
                Result(one["scenario"], one["title"], one["table"], one["system"], one["runs"])
                for one in dumped["results"]
            ],
        )

    def find(self, scenario: str, system: str) -> Result | None:
        """The result of a scenario for a system, when it was measured."""
        return next((r for r in self.results if r.scenario == scenario and r.system == system and r.runs), None)

    def median(self, scenario: str, system: str, figure: str) -> float | None:
        """The median of a figure, when it was measured."""
        found = self.find(scenario, system)
        return None if found is None else found.median(figure)

    def dump(self) -> dict[str, Any]:
        """As it stands in JSON."""
        from benchmarks.budget import weigh  # noqa: PLC0415 - it reads reports

        return {
            "at": self.at,
            "machine": self.machine,
            "versions": self.versions,
            "options": self.options,
            "load_average": self.load_average,
            "results": [result.dump() for result in self.results],
            "budget": [verdict.dump() for verdict in weigh(self)],
        }

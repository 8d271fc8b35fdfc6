"""Tables: a report for the terminal and for docs/performance.md, from the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from benchmarks.budget import weigh

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.results import Report, Result

BEGIN, END = "<!-- figures: python -m benchmarks --markdown docs/performance.md -->", "<!-- end of figures -->"
COMPARISON = "<!-- figures: python -m benchmarks compare --markdown docs/performance.md -->"
SCALING = "<!-- figures: python -m benchmarks model --report report.json --markdown docs/scaling.md -->"


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as text. The first two columns are words, the others figures."""

    title: str
    columns: list[str]
    rows: list[list[str]]

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(title=self.title, title_justify="left", title_style="bold")
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="left" if index < 2 else "right", no_wrap=index >= 2)
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a document."""
        rules = ["---", "---", *["---:"] * (len(self.columns) - 2)]
        lines = [self.columns, rules, *self.rows]
        return f"**{self.title}**\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def grids(report: Report) -> list[Grid]:
    """All tables that have rows."""
    made = [_throughput(report), _delay(report), _cost(report), _budget(report)]
    return [grid for grid in made if grid.rows]


def write_markdown(report: Report, path: Path, plots: Sequence[Path] = ()) -> None:
    """Write the tables, and links to plots, to a file; where it has the marks of generated figures, between them."""
    put_between(path, BEGIN, markdown_of(report, plots, path.parent))


def put_between(path: Path, mark: str, body: str) -> None:
    """Write generated figures to a file, between their mark and the next end mark; a file that is not there is made.

    Raises:
        ValueError: it has no such marks.
    """
    text = path.read_text() if path.exists() else f"{mark}\n{END}\n"
    head, begin, rest = text.partition(mark)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no place for the figures: put the lines {mark} and {END} into it")
    path.write_text(f"{head}{mark}\n\n{body}\n\n{END}{tail}")


def markdown_of(report: Report, plots: Sequence[Path] = (), folder: Path | None = None) -> str:
    """What was measured where, the tables, and the plots by their paths from a folder."""
    machine, options = report.machine, report.options
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    about = (
        f"Measured {report.at[:10]} on {machine['processor']}, {machine['cores']} cores, {machine['memory']}, {machine['system']}; "
        f"load average {report.load_average[0]:.1f} before, {report.load_average[-1]:.1f} after. {versions}. "
        f"Median of {options['repeat']} run(s), in brackets the least and the greatest; a drain is of {options['jobs']:,} jobs."
    )
    shown = [f"![{plot.stem}]({plot.relative_to(folder) if folder else plot})" for plot in plots]
    return "\n\n".join([about, *(grid.markdown() for grid in grids(report)), *shown])


def _throughput(report: Report) -> Grid:
    rows = [
        [
            result.title,
            result.system,
            f"{_figure(result, 'jobs_per_s', 0)} ({_range(result, 'jobs_per_s')})",
            _of_floor(report, result, "jobs_per_s"),
            _figure(result, "python_us", 1),
            _of_floor(report, result, "python_us"),
            _figure(result, "redis_us", 1),
            _figure(result, "commands", 2),
            _figure(result, "requests", 4),
            " + ".join(filter(None, (_figure(result, name, 0) for name in ("net_in", "net_out")))),
            _figure(result, "rss_mib", 0),
        ]
        for result in _of(report, "throughput")
    ]
    columns = [
        "scenario", "system", "jobs/s (least to greatest)", "x floor", "python us/job", "x floor", "Redis us/job",
        "commands/job", "requests/job", "bytes in + out/job", "peak RSS MiB",
    ]  # fmt: skip
    return Grid("Throughput, and CPU per job", columns, rows)


def _delay(report: Report) -> Grid:
    rows = [
        [
            result.title,
            result.system,
            *(_figure(result, name, 2) for name in ("p50_ms", "p99_ms", "least_ms", "most_ms")),
        ]
        for result in _of(report, "delay")
    ]
    return Grid("Delays, in ms", ["scenario", "system", "p50", "p99", "least", "most"], rows)


COSTS = {
    "bytes_per_job": "Redis bytes a job",
    "requests_per_s": "requests/s",
    "commands_per_s": "commands/s",
    "worker_cpu_ms_per_s": "worker CPU ms/s",
    "redis_cpu_ms_per_s": "Redis CPU ms/s",
}


def _cost(report: Report) -> Grid:
    rows = [
        [result.title, f"{result.system}: {COSTS[name]}", _figure(result, name, 1)]
        for result in _of(report, "cost")
        for name in result.runs[0]
    ]
    return Grid("What waiting costs", ["scenario", "what", "median"], rows)


def _budget(report: Report) -> Grid:
    rows = [
        [
            verdict.line.what,
            "yes" if verdict.met else "NO",
            f"{'at most' if verdict.line.most else 'at least'} {verdict.line.limit:,g} {verdict.line.unit}",
            f"{verdict.measured:,.2f}" if abs(verdict.measured) < 100 else f"{verdict.measured:,.0f}",
        ]
        for verdict in weigh(report)
        if verdict.measured is not None
    ]
    return Grid("The budget", ["what", "kept", "bound", "measured"], rows)


def _of(report: Report, table: str) -> list[Result]:
    return [result for result in report.results if result.table == table and result.runs]


def _figure(result: Result, name: str, digits: int) -> str:
    median = result.median(name)
    return "" if median is None else f"{median:,.{digits}f}"


def _range(result: Result, name: str) -> str:
    values = result.values(name)
    return f"{min(values):,.0f} to {max(values):,.0f}"


def _of_floor(report: Report, result: Result, name: str) -> str:
    floor = report.median(result.scenario, "floor", name)
    median = result.median(name)
    if result.system == "floor" or not floor or median is None:
        return ""
    return f"{median / floor:.2f}"

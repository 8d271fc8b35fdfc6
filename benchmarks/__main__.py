"""The command line: `python -m benchmarks [--only NAME]... [--repeat N] [--jobs N] [--full] [--quick] [--out FOLDER] [--list]`.

All scenarios take turns, run after run: what else happens on the machine hits each of them alike, and the floor too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from benchmarks import plots
from benchmarks.compare import compare
from benchmarks.machine import describe_machine, describe_versions, load_average
from benchmarks.model import model
from benchmarks.process import end_children
from benchmarks.results import Report, Result
from benchmarks.scenarios import SCENARIOS, Scenario, Sizes
from benchmarks.tables import grids, markdown_of, write_markdown
from benchmarks.tune import tune

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(compare)
app.command()(tune)
app.command()(model)


@app.callback(invoke_without_command=True)
def main(  # noqa: PLR0917 - typer calls it, by name
    context: typer.Context,
    only: Annotated[list[str] | None, typer.Option(help="Measure this scenario; may be given again.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="How often each is measured.")] = 3,
    jobs: Annotated[
        int, typer.Option(min=1_000, help="Jobs of a no-op drain; the others take a share of it.")
    ] = 200_000,
    full: Annotated[bool, typer.Option("--full", help="With the scenarios that take a minute or more each.")] = False,  # noqa: FBT002 - typer's way
    quick: Annotated[bool, typer.Option("--quick", help="Tiny numbers, once: does the suite work?")] = False,  # noqa: FBT002 - typer's way
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file.")] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(help="Write the tables between the marks of this file, with the plots in a folder of its name."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write report.json, report.md and the plots to this folder.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Name the scenarios, and measure nothing.")] = False,  # noqa: FBT002 - typer's way
) -> None:
    """Measure what a job costs, beside the floor, on private redis-servers."""
    if context.invoked_subcommand is not None:
        return
    if list_:
        for scenario in SCENARIOS:
            print(f"{scenario.name:<20}{scenario.title}{' (only when named, or with --full)' if scenario.full else ''}")
        return
    chosen = _choose(only or [], full=full)
    if quick:
        repeat, jobs = 1, 2_000
    report = Report(
        at=datetime.now(tz=UTC).isoformat(timespec="seconds"),
        machine=describe_machine(),
        versions=describe_versions(),
        options={"repeat": repeat, "jobs": jobs, "quick": quick},
        load_average=[load_average()],
        results=[Result(s.name, s.title, s.table, system.name) for s in chosen for system in s.systems],
    )
    sizes = Sizes(jobs, quick)
    console = Console(stderr=True)
    with console.status("") as status:
        for turn in range(repeat):
            for scenario in chosen:
                for system in scenario.systems:
                    status.update(f"run {turn + 1} of {repeat}: {scenario.title}, {system.name}")
                    result = next(r for r in report.results if (r.scenario, r.system) == (scenario.name, system.name))
                    result.runs.append(scenario.measure(system, sizes))
    report.load_average.append(load_average())
    _print(report)
    _write(report, json=json, markdown=markdown, out=out)


@app.command()
def show(
    report: Annotated[Path, typer.Option(help="A report.json of the suite.")],
    *,
    markdown: Annotated[Path | None, typer.Option(help="As above.")] = None,
    out: Annotated[Path | None, typer.Option(help="As above.")] = None,
) -> None:
    """Show what a run measured, once more, and write its tables and plots anywhere."""
    try:
        dumped: dict[str, Any] = orjson.loads(report.read_bytes())
    except OSError as error:
        raise typer.BadParameter(str(error), param_hint="--report") from None
    for one in dumped["results"]:  # an older report does not say
        one.setdefault("table", next((s.table for s in SCENARIOS if s.name == one["scenario"]), "throughput"))
    loaded = Report.load(dumped)
    _print(loaded)
    _write(loaded, json=None, markdown=markdown, out=out)


def _print(report: Report) -> None:
    console = Console()
    for grid in grids(report):
        Console(width=None if console.is_terminal else 200).print(grid.rich())


def _write(report: Report, *, json: Path | None, markdown: Path | None, out: Path | None) -> None:
    if json is not None:
        _dump(report, json)
    if markdown is not None:
        write_markdown(report, markdown, _draw(report, markdown.with_suffix("")))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _dump(report, out / "report.json")
        (out / "report.md").write_text(markdown_of(report, _draw(report, out), out) + "\n")


def _dump(report: Report, path: Path) -> None:
    path.write_bytes(orjson.dumps(report.dump(), option=orjson.OPT_INDENT_2))


def _draw(report: Report, folder: Path) -> list[Path]:
    try:
        return plots.draw(report, folder)
    except ImportError:
        typer.echo(plots.MISSING, err=True)
        return []


def _choose(only: list[str], *, full: bool) -> list[Scenario]:
    names = [scenario.name for scenario in SCENARIOS]
    for name in only:
        if name not in names:
            raise typer.BadParameter(
                f"there is no scenario {name!r}; there are: {', '.join(names)}", param_hint="--only"
            )
    return [scenario for scenario in SCENARIOS if (scenario.name in only if only else full or not scenario.full)]


if __name__ == "__main__":
    end_children()
    app()

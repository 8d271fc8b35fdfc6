"""The scaling model: arithmetic over a report, the costliest drain, and what a report lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.model import Inputs, NotMeasuredError, check, plan, predict
from benchmarks.tables import END, SCALING

if TYPE_CHECKING:
    from pathlib import Path

FIGURES = {
    "enqueue-bulk": {"jobs_per_s": 90_000.0, "redis_us": 4.0, "python_us": 8.0, "net_in": 150.0, "net_out": 30.0},
    "drain-noop": {"jobs_per_s": 80_000.0, "redis_us": 10.0, "python_us": 12.0, "net_in": 200.0, "net_out": 100.0},
    "workers-2": {"jobs_per_s": 85_000.0, "redis_us": 16.0, "python_us": 11.0, "net_in": 210.0, "net_out": 90.0},
    "memory": {"bytes_per_job": 200.0},
}


def report(figures: dict[str, dict[str, float]] = FIGURES) -> dict[str, Any]:
    """As it stands in JSON: beside the product the floor, which must not count."""
    results = [{"scenario": name, "system": "aiojobs_rt", "median": median} for name, median in figures.items()]
    results += [
        {"scenario": name, "system": "floor", "median": dict.fromkeys(median, 1.0)} for name, median in figures.items()
    ]
    return {"at": "2026-01-01T00:00:00", "machine": {"processor": "p", "cores": 2, "system": "s"}, "results": results}


def test_inputs_are_the_products_and_of_the_costliest_drain() -> None:
    assert Inputs.read(report()) == Inputs(
        enqueue_us=4.0,
        drain_us=16.0,
        producer_us=8.0,
        worker_us=12.0,
        waiting_bytes=200.0,
        in_bytes=360.0,
        out_bytes=130.0,
        costliest=("workers-2", "drain-noop"),
    )


def test_a_plan_is_the_costs_times_the_rate() -> None:
    planned = plan(Inputs.read(report()), 1_000_000, backlog_s=60, busy=0.5)

    assert planned.node_rate == pytest.approx(25_000)
    assert (planned.nodes, planned.workers, planned.producers) == (40, 24, 16)
    assert planned.memory == pytest.approx(12e9)
    assert planned.in_bits == pytest.approx(2.88e9)
    assert planned.out_bits == pytest.approx(1.04e9)


def test_what_a_job_does_itself_counts_for_the_workers_alone() -> None:
    light, heavy = (plan(Inputs.read(report()), 10_000, backlog_s=0, busy=1, own_us=own) for own in (0, 988))

    assert (light.workers, heavy.workers) == (1, 10)
    assert (light.nodes, light.producers) == (heavy.nodes, heavy.producers) == (1, 1)


@pytest.mark.parametrize(
    ("workers", "cores", "rate", "by"),
    [
        (1, 8, 50_000, "the workers' cores"),
        (4, 8, 100_000, "Redis' core"),
        (4, 2, 2e6 / 30, "the machine's cores"),
    ],
)
def test_the_scarcest_bounds_the_rate(workers: int, cores: int, rate: float, by: str) -> None:
    predicted, bound = predict(10, 20, workers=workers, cores=cores)

    assert predicted == pytest.approx(rate)
    assert bound == by


def test_the_check_predicts_from_one_worker_what_was_measured() -> None:
    one, two = check(report())  # four workers were not measured

    assert (one.workers, one.by, one.measured) == (1, "the workers' cores", 80_000)
    assert one.predicted == pytest.approx(1e6 / 12)
    assert (two.workers, two.by, two.measured, two.redis_us) == (2, "the machine's cores", 85_000, 16)
    assert two.predicted == pytest.approx(2e6 / 22)


@pytest.mark.parametrize("missing", ["enqueue-bulk", "drain-noop", "memory"])
def test_a_report_without_a_figure_says_which(missing: str) -> None:
    figures = {name: median for name, median in FIGURES.items() if name not in {missing, "workers-2"}}

    with pytest.raises(NotMeasuredError, match=missing):
        Inputs.read(report(figures))


def test_a_report_from_before_traffic_was_counted_plans_without() -> None:
    figures = {
        name: {figure: value for figure, value in median.items() if not figure.startswith("net_")}
        for name, median in FIGURES.items()
    }

    planned = plan(Inputs.read(report(figures)), 1_000_000, backlog_s=60, busy=0.5)

    assert (planned.nodes, planned.in_bits, planned.out_bits) == (40, None, None)


def test_a_report_that_is_not_there_is_named(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["model", "--report", str(tmp_path / "none.json")], env={"COLUMNS": "400"})

    assert ended.exit_code == 2
    assert "none.json" in ended.output


def test_the_command_writes_its_tables_between_the_marks(tmp_path: Path) -> None:
    path, document = tmp_path / "report.json", tmp_path / "scaling.md"
    path.write_bytes(orjson.dumps(report()))
    document.write_text(f"before\n{SCALING}\nold\n{END}\nafter\n")

    ended = CliRunner().invoke(
        app, ["model", "--report", str(path), "--rate", "500000", "--busy", "0.5", "--markdown", str(document)]
    )

    assert ended.exit_code == 0, ended.output
    assert "What 500,000 jobs/s take" in ended.output
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| redis-servers, a core each |  | 20 |" in text
    assert "| 1 | the workers' cores | 83,333 | 80,000 | 0.96 | 10.0 | 12.0 |" in text

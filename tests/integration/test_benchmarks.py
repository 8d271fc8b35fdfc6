"""The benchmark suite works: tiny numbers, real processes, and a run in which a job was lost or repeated is no result."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from benchmarks import tally
from benchmarks.budget import BUDGET
from benchmarks.load import Load
from benchmarks.scenarios import SCENARIOS
from benchmarks.systems import PRODUCT
from benchmarks.tables import BEGIN, END
from benchmarks.trial import SAMPLES, Trial, spread

if TYPE_CHECKING:
    from benchmarks.server import Server

ROOT = Path(__file__).parents[2]


def run_suite(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)


def only(*names: str) -> list[str]:
    return [part for name in names for part in ("--only", name)]


@pytest.mark.timeout(180)  # ten processes, one after the other; on a busy machine each takes seconds to start
def test_quick_run_measures_and_writes_json_and_tables(tmp_path: Path) -> None:
    figures, document = tmp_path / "figures.json", tmp_path / "performance.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    chosen = ["drain-noop", "wake-up", "idle"]

    ended = run_suite("--quick", *only(*chosen), "--json", str(figures), "--markdown", str(document))

    assert ended.returncode == 0, ended.stderr
    report = json.loads(figures.read_text())
    assert {"at", "machine", "versions", "options", "load_average", "results", "budget"} == set(report)
    assert report["machine"]["cores"] >= 1
    assert report["versions"]["redis-server"][0].isdigit()
    assert report["options"] == {"repeat": 1, "jobs": 2000, "quick": True}
    measured = {(result["scenario"], result["system"]): result for result in report["results"]}
    assert {scenario for scenario, _ in measured} == set(chosen)
    for system in ("aiojobs_rt", "floor"):
        drain = measured["drain-noop", system]
        assert len(drain["runs"]) == 1
        for figure in ("jobs_per_s", "python_us", "redis_us", "commands", "requests", "rss_mib"):
            assert drain["min"][figure] == drain["median"][figure] == drain["max"][figure] > 0
        assert 0 < measured["wake-up", system]["median"]["p50_ms"] <= measured["wake-up", system]["median"]["p99_ms"]
    assert measured["idle", "aiojobs_rt"]["median"]["commands_per_s"] >= 0
    weighed = {verdict["what"]: verdict for verdict in report["budget"]}
    assert set(weighed) == {line.what for line in BUDGET}
    assert weighed["no-op drain, python CPU a job"]["measured"] > 0
    assert weighed["enqueue from 1,000 callers"]["met"] is None  # it was not measured

    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| drain, no-op | aiojobs_rt |" in text
    assert "drain, no-op" in ended.stdout


def test_unknown_scenario_names_those_that_there_are() -> None:
    ended = run_suite("--only", "nothing")

    assert ended.returncode == 2
    assert "drain-noop" in ended.stderr


def test_scenarios_and_budget_fit() -> None:
    names = [scenario.name for scenario in SCENARIOS]

    assert len(set(names)) == len(names)
    assert {line.scenario for line in BUDGET} <= set(names)


@pytest.mark.parametrize(
    ("marks", "complaint"),
    [([1, 0, 1], "1 never ran, and 0 runs were"), ([1, 2, 1], "0 never ran, and 1 runs were"), ([1, 1, 1], "")],
)
def test_run_with_a_lost_or_repeated_job_is_no_result(tmp_path: Path, marks: list[int], complaint: str) -> None:
    # two workers, of which one ran the first job only
    (tmp_path / "1.marks").write_bytes(bytes([1, 0, 0]))
    (tmp_path / "1.json").write_text(json.dumps({"began": [5.0], "cpu_began": 0.5, "delays": [1.0]}))
    (tmp_path / "2.marks").write_bytes(bytes([marks[0] - 1, *marks[1:]]))
    (tmp_path / "2.json").write_text(json.dumps({"began": [], "cpu_began": 0.25, "delays": [2.0]}))
    trial = Trial(PRODUCT, cast("Server", SimpleNamespace(folder=tmp_path)), Load(jobs=3))

    if complaint:
        with pytest.raises(RuntimeError, match=complaint):
            trial.count()
    else:
        assert trial.count() == tally.Tally(0, 0, [1.0, 2.0], 5.0, 0.75, [1, 2])


def test_no_tally_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no worker wrote a tally"):
        tally.read(tmp_path, Load(jobs=3))


def test_spread_of_delays() -> None:
    delays = [float(n) for n in range(101)]

    figures = spread(delays[::-1])

    assert figures == {"p50_ms": 50, "p99_ms": 99, "least_ms": 0, "most_ms": 100, "samples": delays}


def test_samples_of_many_delays_are_few_and_reach_from_least_to_greatest() -> None:
    samples = spread([float(n) for n in range(50_001)])["samples"]

    assert len(samples) == SAMPLES
    assert samples == sorted(samples)
    assert (samples[0], samples[-1]) == (0, 50_000)

"""The benchmark suite works: tiny numbers, real processes, and a run in which a job was lost or repeated is no result."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast, get_args

import pytest

from benchmarks import jobs, tally
from benchmarks.budget import BUDGET, Verdict, weigh
from benchmarks.load import JobName, Load
from benchmarks.results import Report, Result
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
    chosen = ["drain-noop", "drain-flaky", "wake-up", "idle"]

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
    for bare in ("bare relay", "bare socket"):
        assert measured["wake-up", bare]["median"]["p50_ms"] > 0
    assert measured["drain-flaky", "aiojobs_rt"]["median"]["jobs_per_s"] > 0
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
    assert {line.scenario for line in BUDGET} | {line.against for line in BUDGET if line.against} <= set(names)
    assert all(line.limit > 0 or line.figure == "overtaken" for line in BUDGET)


def report_of(**medians: float) -> Report:
    """A report with a figure for the product, and one for the floor: `drain_noop__aiojobs_rt__python_us=10`."""
    results: list[Result] = []
    for name, value in medians.items():
        scenario, system, figure = name.split("__")
        scenario = scenario.replace("_", "-")
        results.append(Result(scenario, scenario, "throughput", system, [{figure: value}]))
    return Report("", {}, {}, {}, [], results)


def verdict_on(scenario: str, report: Report) -> Verdict:
    return next(v for v in weigh(report) if v.line.scenario == scenario and v.measured is not None)


def test_a_figure_is_weighed_against_the_floor_or_another_scenario() -> None:
    report = report_of(
        drain_noop__aiojobs_rt__python_us=17.5, drain_noop__floor__python_us=10, drain_rich__aiojobs_rt__python_us=30
    )

    assert verdict_on("drain-noop", report).measured == 1.75
    assert verdict_on("drain-noop", report).met is False
    assert verdict_on("drain-rich", report).measured == pytest.approx(30 / 17.5)
    assert verdict_on("drain-rich", report).met is True


@pytest.mark.parametrize(("jobs_per_s", "met"), [(41_000, True), (39_000, False), (71_000, True)])
def test_a_figure_of_its_own_will_do_in_the_place_of_a_quotient(jobs_per_s: int, met: bool) -> None:
    report = report_of(drain_10ms_1000__aiojobs_rt__jobs_per_s=jobs_per_s, drain_10ms_1000__floor__jobs_per_s=100_000)

    assert verdict_on("drain-10ms-1000", report).met is met


def test_every_kind_of_job_is_known_to_the_worker() -> None:
    for kind in get_args(JobName):
        job = getattr(jobs, kind)
        assert issubclass(job, jobs.Measured)
        assert list(inspect.signature(job.perform).parameters)[1] == "n"


def test_a_load_travels_whole() -> None:
    load = Load(job="Late", jobs=7, mode="bulk", payload=3, spin_us=4, spread_ms=0, lead_ms=50)

    assert Load.parse(load.dump()) == load
    assert {load.due_ms(n, 1_000) for n in range(7)} == {1_050}


def test_moments_of_a_load_keep_their_mean() -> None:
    for spin_us in (0, 1_000):
        gaps = list(Load(jobs=4_000, mode="paced", pause_ms=2, spin_us=spin_us).gaps())

        assert len(gaps) == 4_000
        assert sum(gaps) / 4_000 == pytest.approx(0.002, rel=0.1)


def test_a_flaky_job_fails_once_and_is_to_run_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "marks", bytearray(40))
    ran = [0] * 40
    for n in range(40):
        while not ran[n] or tally.stumbles(n):
            tally.marks[n] += 1
            ran[n] += 1
            if not tally.stumbles(n):
                break
    (tmp_path / "1.marks").write_bytes(tally.marks)
    (tmp_path / "1.json").write_text(json.dumps({"began": [1.0], "cpu_began": 0.0, "delays": []}))

    assert sum(ran) == 42
    assert tally.read(tmp_path, Load(job="Flaky", jobs=40)).lost == 0
    assert tally.read(tmp_path, Load(job="Noop", jobs=40)).repeated == 2


def test_jobs_that_were_overtaken_are_counted(tmp_path: Path) -> None:
    (tmp_path / "1.marks").write_bytes(bytes([1] * 6))
    (tmp_path / "1.ranks").write_bytes(bytes([0, 1, 1, 0, 2, 1]))
    (tmp_path / "1.json").write_text(json.dumps({"began": [1.0], "cpu_began": 0.0, "delays": []}))

    assert tally.read(tmp_path, Load(job="Ranked", jobs=6)).overtaken == 2


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

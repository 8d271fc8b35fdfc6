"""What the suite writes: plots and tables of a report, and what a run without matplotlib says."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import plots
from benchmarks.__main__ import app
from benchmarks.process import family
from benchmarks.results import Report, Result
from benchmarks.tables import markdown_of
from benchmarks.tune import Setting, recommend
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]


def report() -> Report:
    """Two systems, a throughput, a distribution and a backlog of three sizes."""
    results: list[Result] = []
    for system, factor in (("aiojobs_rt", 1.0), ("floor", 1.5)):
        runs: list[dict[str, Any]] = [
            {"jobs_per_s": 1000 * factor * n, "python_us": 10.0, "redis_us": 9.0} for n in (1, 2)
        ]
        results += [
            Result(f"backlog-{size}", f"backlog {size}", "throughput", system, runs) for size in ("10k", "100k")
        ]
        delays = [
            {"p50_ms": 0.5, "p99_ms": 1.0, "least_ms": 0.1, "most_ms": 2.0, "samples": [n / 1000 for n in range(2000)]}
        ]
        results.append(Result("wake-up", "wake-up", "delay", system, delays))
    machine: dict[str, str | int] = {"processor": "p", "cores": 2, "memory": "1 GiB", "system": "s"}
    return Report("2026-01-01T00:00:00", machine, {"python": "3"}, {"repeat": 2, "jobs": 1000}, [0.1, 0.2], results)


def test_plots_are_small_the_same_each_time_and_keep_words_as_text(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    first, second = (plots.draw(report(), tmp_path / name) for name in ("a", "b"))

    assert [path.name for path in first] == ["throughput.svg", "wake-up.svg", "backlog.svg"]
    for path, again in zip(first, second, strict=True):
        svg = path.read_text()
        assert svg == again.read_text()
        assert len(svg) < 100_000
        assert "<image" not in svg
        assert ET.fromstring(svg).tag.endswith("svg")  # noqa: S314 - written a moment ago
        words = "".join(ET.fromstring(svg).itertext())  # noqa: S314 - written a moment ago
        assert "aiojobs_rt" in words
        assert "floor" in words


def test_sweep_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    path = plots.draw_sweep([("auto", 10, 900.0, 12.0), ("auto", 100, 4000.0, 20.0), ("0", 10, 800.0, 11.0)], tmp_path)

    words = "".join(ET.fromstring(path.read_text()).itertext())  # noqa: S314 - written a moment ago
    assert "prefetch auto" in words
    assert "prefetch 0" in words
    assert "concurrency" in words


@pytest.mark.parametrize("samples", [[1.0], [1.0, 2.0], [float(n) for n in range(5000)]])
def test_thinned_curve_keeps_its_ends(samples: Sequence[float]) -> None:
    curve = plots.thin(samples)

    assert len(curve) == min(len(samples), plots.POINTS)
    assert curve[0][0] == samples[0]
    assert curve[-1] == (samples[-1], 1.0)
    assert curve == sorted(curve)


def test_tables_link_the_plots_by_relative_path(tmp_path: Path) -> None:
    text = markdown_of(report(), [tmp_path / "performance" / "wake-up.svg"], tmp_path)

    assert "![wake-up](performance/wake-up.svg)" in text
    assert "| backlog 10k | aiojobs_rt | 1,500 (1,000 to 2,000) | 0.67 |" in text


def test_an_interrupted_suite_leaves_no_process() -> None:
    with subprocess.Popen([sys.executable, "-m", "benchmarks", "--only", "idle"], cwd=ROOT) as suite:
        try:
            wait_for(lambda: len(family(suite.pid)) == 3, timeout=20)  # itself, Redis, a worker
            started = family(suite.pid)
            suite.terminate()
            assert suite.wait(20) == 128 + signal.SIGTERM
        finally:
            suite.kill()

    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []


def test_a_report_is_shown_again_as_it_was(tmp_path: Path) -> None:
    first = report()
    (tmp_path / "report.json").write_text(json.dumps(first.dump()))

    ended = CliRunner().invoke(
        app, ["show", "--report", str(tmp_path / "report.json"), "--markdown", str(tmp_path / "again.md")]
    )

    assert ended.exit_code == 0, ended.output
    assert Report.load(json.loads((tmp_path / "report.json").read_text())) == first
    assert markdown_of(first) in (tmp_path / "again.md").read_text()
    assert "backlog 10k" in ended.output


def run_suite(*arguments: str, without: str = "") -> subprocess.CompletedProcess[str]:
    block = f"import sys; sys.modules[{without!r}] = None; " if without else ""
    start = f"{block}from benchmarks.__main__ import app; app()"
    command = [sys.executable, "-c", start, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize("name", ["docs/performance.md", "docs/scaling.md"])
def test_commands_of_the_documents_parse(name: str) -> None:
    lines = re.findall(r"^    python -m benchmarks\b(.*)$", (ROOT / name).read_text(), re.MULTILINE)

    assert lines
    for line in lines:
        _parse(shlex.split(line, comments=True))


def _parse(words: list[str]) -> None:
    """As the command would, running nothing; an option that there is not raises."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("benchmarks", words)
    if context._protected_args:
        _, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        command.make_context(command.name, rest, parent=context)


def test_list_names_the_scenarios_and_measures_nothing() -> None:
    ended = run_suite("--list")

    assert ended.returncode == 0, ended.stderr
    assert "drain-noop" in ended.stdout
    assert "jobs/s" not in ended.stdout


def test_out_holds_report_and_tables_and_says_what_plots_need(tmp_path: Path) -> None:
    ended = run_suite("--quick", "--only", "memory", "--out", str(tmp_path / "out"), without="matplotlib")

    assert ended.returncode == 0, ended.stderr
    assert "pip install 'aiojobs_rt[bench]'" in ended.stderr
    assert json.loads((tmp_path / "out/report.json").read_text())["results"][0]["median"]["bytes_per_job"] > 0
    assert "Redis bytes per waiting job" in (tmp_path / "out/report.md").read_text()
    assert not list((tmp_path / "out").glob("*.svg"))


# -- tune ----------------------------------------------------------------------------------------

JOBS = """
import asyncio
from aiojobs_rt import Job, RedisAdapter, retry_on

class Nap(Job):
    queue = "naps"
    async def perform(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

class Wrong(Job):
    async def perform(self) -> None:
        raise RuntimeError("no such user")

@retry_on(RuntimeError, wait=0)
class Hasty(Job):
    async def perform(self) -> None:
        if self.executions == 1:
            raise RuntimeError("busy")
"""
OWN = "Nap.adapter = RedisAdapter('redis://localhost:1/0')\n"


def tune(folder: Path, job: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    start = f"import os; from benchmarks.__main__ import app; os.chdir({str(folder)!r}); app()"
    command = [sys.executable, "-c", start, "tune", "--jobs", f"tuned_jobs:{job}", "--count", "40", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False)


def test_tune_measures_each_setting_and_recommends(tmp_path: Path) -> None:
    (tmp_path / "tuned_jobs.py").write_text(JOBS)
    given = [
        "--args",
        '{"seconds": 0.01}',
        "--concurrency",
        "1,20",
        "--prefetch",
        "auto",
        "--out",
        str(tmp_path / "out"),
    ]

    ended = tune(tmp_path, "Nap", *given)

    assert ended.returncode == 0, ended.stderr
    one, many = json.loads((tmp_path / "out/tune.json").read_text())
    assert (one["concurrency"], many["concurrency"]) == (1, 20)
    assert one["p50_ms"] >= 10
    assert 0 < one["jobs_per_s"] < 100, "one at a time, of 10 ms each"
    assert many["jobs_per_s"] > one["jobs_per_s"]
    assert "-c 20: " in ended.stdout


@pytest.mark.parametrize(
    ("job", "more", "complaint"),
    [
        ("Wrong", "", " retried. Only jobs that succeed at once"),
        ("Hasty", "", " retried. Only jobs that succeed at once"),
        ("Nap", OWN, "Nap names an adapter of its own"),
    ],
)
def test_tune_refuses_what_is_no_measurement(tmp_path: Path, job: str, more: str, complaint: str) -> None:
    (tmp_path / "tuned_jobs.py").write_text(JOBS + more)

    ended = tune(tmp_path, job, "--concurrency", "5", "--prefetch", "auto")

    assert ended.returncode == 1, ended.stdout
    assert complaint in ended.stderr


def setting(concurrency: int, prefetch: str, jobs_per_s: float, p99_ms: float) -> Setting:
    return Setting(concurrency, prefetch, jobs_per_s, 1.0, p99_ms, 1.0, 1.0)


@pytest.mark.parametrize(
    ("found", "flags"),
    [
        ([setting(10, "auto", 94, 1), setting(50, "auto", 96, 2), setting(500, "auto", 100, 9)], "-c 50: "),
        ([setting(10, "auto", 94, 1), setting(10, "0", 100, 9)], "-c 10 --prefetch 0: "),
        ([setting(10, "0", 100, 1), setting(10, "auto", 96, 9)], "-c 10: "),
    ],
)
def test_least_concurrency_near_the_best_is_recommended(found: list[Setting], flags: str) -> None:
    assert recommend(found).startswith(flags)

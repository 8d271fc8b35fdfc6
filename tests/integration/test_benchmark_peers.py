"""Comparing with peers works where none of them is installed: one made here stands in for them, and what can't be measured says why."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks import compare
from benchmarks.compare import Comparison, Contestant, dump, measure, tables
from benchmarks.load import Load
from benchmarks.peers import environments
from benchmarks.peers.environments import Unavailable
from benchmarks.peers.systems import PEERS, Peer
from benchmarks.peers.targets import TARGETS, judge
from benchmarks.results import Report, Result
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.systems import FLOOR, PRODUCT, System

if TYPE_CHECKING:
    from benchmarks.scenarios.measures import Sizes
    from benchmarks.trial import Figures

ROOT = Path(__file__).parents[2]
DRAIN = next(scenario for scenario in SCENARIOS if scenario.name == "drain-noop")
MEMORY = next(scenario for scenario in SCENARIOS if scenario.name == "memory")


class Double(Peer):
    """The floor's programs under another name."""

    def producer(self, url: str, load: Load) -> list[str]:
        return FLOOR.producer(url, load)

    def worker(self, url: str, load: Load, *, concurrency: int, index: int = 0) -> list[str]:
        return FLOOR.worker(url, load, concurrency=self.slots(load, concurrency), index=index)

    def settled(self, client: object, load: Load) -> bool:
        return FLOOR.settled(client, load)  # type: ignore[arg-type] # a redis client

    def environment(self, url: str) -> dict[str, str]:
        return {}


def double(**given: object) -> Double:
    return replace(Double("double", "asyncio", 1_000, 1_000, (10, 20), cannot={"memory": "never waits"}), **given)  # type: ignore[arg-type] # as it takes


def contestant(peer: Peer) -> Contestant:
    return Contestant(peer, [(f"concurrency {one.concurrency}", one) for one in peer.tuned()], peer.kind, peer.remark)


def test_product_floor_and_a_peer_are_compared_and_every_gap_has_its_reason() -> None:
    entries = [Contestant(PRODUCT), Contestant(FLOOR), contestant(double())]
    entries.append(Contestant(double(name="lost"), kind="other", absent="no such runtime"))
    comparison = Comparison(entries, [DRAIN, MEMORY], quick=True)

    report = measure(comparison, 1)

    measured = {(result.scenario, result.system) for result in report.results}
    assert measured == {
        *(("drain-noop", name) for name in ("aiojobs_rt", "floor", "double")),
        *(("memory", name) for name in ("aiojobs_rt", "floor")),
    }
    assert report.median("drain-noop", "double", "jobs_per_s")
    text = "\n".join(grid.markdown() for grid in tables(report, comparison))
    assert "| double | never waits | Redis bytes per waiting job |" in text
    assert "no such runtime" in text
    assert "| no-op drain, the fastest Python peer | double |" in text
    dumped = dump(report, comparison)
    assert dumped["refused"] == {"double": {"memory": "never waits"}, "lost": "no such runtime"}
    assert dumped["settings"] == {"double": {"drain-noop": entries[2].chosen["drain-noop"]}}


def test_best_setting_counts_and_a_slow_one_is_not_measured_again() -> None:
    asked: list[int | None] = []
    speeds = {10: [100.0, 300.0], 20: [110.0, 120.0], 40: [50.0]}

    def pretend(system: System, sizes: Sizes) -> Figures:
        assert isinstance(system, Peer)
        assert sizes.jobs == sizes.share(7) == 1_500
        asked.append(system.concurrency)
        return {"jobs_per_s": speeds[system.concurrency or 0].pop(0)}

    entry = contestant(double(settings=(10, 20, 40)))
    comparison = Comparison([entry], [Scenario("drain-noop", "drain", "throughput", (), pretend)])
    comparison.repeat(lambda _: None)
    comparison.repeat(lambda _: None)

    assert asked == [10, 20, 40, 10, 20]
    (result,) = comparison.results()
    assert result.median("jobs_per_s") == 200
    assert entry.chosen == {"drain-noop": "concurrency 10"}


def test_peer_that_fails_says_so_and_the_others_go_on() -> None:
    def fail(system: System, sizes: Sizes) -> Figures:
        if system.name == "double":
            raise RuntimeError("double: of 3 jobs 1 never ran")
        return {"jobs_per_s": 1.0}

    entry = contestant(double())
    comparison = Comparison([entry, Contestant(PRODUCT)], [Scenario("enqueue-one", "one", "throughput", (), fail)])
    comparison.repeat(lambda _: None)
    comparison.repeat(lambda _: None)

    assert [result.system for result in comparison.results()] == ["aiojobs_rt"]
    assert "1 never ran" in entry.refused["enqueue-one"]


def test_product_that_fails_ends_the_run() -> None:
    def fail(system: System, sizes: Sizes) -> Figures:
        raise RuntimeError("lost a job")

    comparison = Comparison([Contestant(PRODUCT)], [Scenario("drain-noop", "drain", "throughput", (), fail)])

    with pytest.raises(RuntimeError, match="lost a job"):
        comparison.repeat(lambda _: None)


def test_targets_are_weighed_against_the_best_peer_of_their_kind() -> None:
    def result(scenario: str, system: str, **figures: float) -> Result:
        return Result(scenario, scenario, "throughput", system, [figures])

    results = [
        result("drain-noop", "aiojobs_rt", jobs_per_s=50_000),
        result("drain-noop", "arq", jobs_per_s=3_000),
        result("drain-noop", "saq", jobs_per_s=4_000),
        result("drain-noop", "dramatiq", jobs_per_s=11_000),
        result("drain-noop", "bullmq", jobs_per_s=20_000),
        result("wake-up", "aiojobs_rt", p50_ms=0.5, p99_ms=3.0),
        result("wake-up", "arq", p50_ms=5.0, p99_ms=2.0),
    ]
    report = Report("", {}, {}, {}, [], results)
    kinds = {"arq": "asyncio", "saq": "asyncio", "dramatiq": "python", "bullmq": "other", "sidekiq": "other"}

    verdicts = {verdict.target.what: verdict for verdict in judge(report, kinds)}

    def of(what: str) -> tuple[str, float | None, bool | None]:
        verdict = verdicts[what]
        return verdict.peer, verdict.factor, verdict.kept

    assert of("no-op drain, the fastest asyncio Python peer") == ("saq", 12.5, True)
    assert of("no-op drain, the fastest Python peer") == ("dramatiq", 50_000 / 11_000, False)
    assert of("no-op drain, BullMQ") == ("bullmq", 2.5, True)
    assert of("no-op drain, Sidekiq") == ("", None, None)
    assert of("wake-up, p50, the quickest peer") == ("arq", 0.1, True)
    assert of("wake-up, p99, the quickest peer") == ("arq", 1.5, False)
    assert of("enqueue in bulk, the fastest Python peer") == ("", None, None)


def test_targets_name_scenarios_that_are_compared_and_peers_have_programs() -> None:
    assert {target.scenario for target in TARGETS} <= set(compare.NAMES)
    assert {name for peer in PEERS for name in peer.cannot} <= set(compare.NAMES)
    for peer in PEERS:
        assert len(peer.settings) >= 2
        command = peer.producer("unix:///tmp/redis.sock", Load(jobs=1))
        if peer.name in environments.PACKAGES:
            assert (ROOT / "benchmarks" / "peers" / f"with_{peer.name}.py").exists()
        else:
            assert (ROOT / command[1]).exists()


def test_peer_that_cannot_be_installed_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    monkeypatch.setenv("PATH", str(tmp_path))

    for name in ("arq", "bullmq", "sidekiq"):
        with pytest.raises(Unavailable):
            environments.prepare(name)
    entry = Contestant.of(next(peer for peer in PEERS if peer.name == "sidekiq"))
    assert entry.absent == "no sidekiq on PATH: apt-get install ruby-sidekiq"


def test_what_peers_run_needs_the_standard_library_alone() -> None:
    command = [sys.executable, "-S", "-c", "import benchmarks.peers.jobs, benchmarks.loop, benchmarks.tally"]

    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )

    assert ended.returncode == 0, ended.stderr


def test_unknown_peer_names_those_that_there_are() -> None:
    command = [sys.executable, "-m", "benchmarks", "compare", "--peer", "nobody"]

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 2
    assert "dramatiq" in ended.stderr

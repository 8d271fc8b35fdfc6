"""The row about what is published: the figures of the suite, and what they were measured on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.scenarios import SCENARIOS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "performance.md").read_text()


@pytest.mark.acceptance(76)
def test_the_performance_page_shows_each_scenario_and_names_the_machine() -> None:
    assert re.search(r"^Measured 20[0-9]{2}-[0-9]{2}-[0-9]{2} on .+ cores, .+ redis-server [0-9.]+", PAGE, re.MULTILINE)
    assert re.search(r"^\| drain, no-op \| aiojobs_rt \| [0-9]{2,3},[0-9]{3} \(", PAGE, re.MULTILINE), (
        "jobs/s and spread"
    )
    titles = set(re.findall(r"^\| ([^|]+?) \| aiojobs_rt\b", PAGE, re.MULTILINE))
    assert [scenario.title for scenario in SCENARIOS if scenario.title not in titles] == []


@pytest.mark.acceptance(76)
def test_the_reliability_page_shows_a_whole_chaos_run() -> None:
    page = (DOCS / "reliability.md").read_text()
    figures = dict(re.findall(r"^(\S[^\n]*?) {2,}(\S.*)$", page.partition("chaos, seed ")[2], re.MULTILINE))
    assert int(figures["enqueued and acknowledged"].replace(",", "")) >= 20_000
    assert figures["lost"] == figures["ran again, unexplained"] == "0"
    assert {"ran again", "recovery p50 / p99 / max", "late p50 / p99 / max"} <= set(figures)

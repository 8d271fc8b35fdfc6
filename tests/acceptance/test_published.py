"""The row about what is published: the figures of the suite, and what they were measured on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.scenarios import SCENARIOS

PAGE = (Path(__file__).parents[2] / "docs/performance.md").read_text()


@pytest.mark.acceptance(76)
def test_the_performance_page_shows_each_scenario_and_names_the_machine() -> None:
    assert re.search(r"^Measured 20[0-9]{2}-[0-9]{2}-[0-9]{2} on .+ cores, .+ redis-server [0-9.]+", PAGE, re.MULTILINE)
    assert re.search(r"^\| drain, no-op \| aiojobs_rt \| [0-9]{2,3},[0-9]{3} \(", PAGE, re.MULTILINE), (
        "jobs/s and spread"
    )
    titles = set(re.findall(r"^\| ([^|]+?) \| aiojobs_rt\b", PAGE, re.MULTILINE))
    assert [scenario.title for scenario in SCENARIOS if scenario.title not in titles] == []

"""The chaos run keeps every promise; a short one here, the whole one with `-m long`. Its seed is printed."""

from __future__ import annotations

import pytest
from rich.console import Console

from aiojobs_rt import RedisAdapter
from tests.faults import chaos
from tests.support.jobs import FaultJob
from tests.support.moments import seed


@pytest.fixture(autouse=True)
def adapter_of_jobs(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put back what the run sets."""
    monkeypatch.setattr(FaultJob, "adapter", RedisAdapter(redis_url), raising=False)


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("seconds", "jobs", "workers"),
    [(12, 1500, 4), pytest.param(120, 20_000, 10, marks=[pytest.mark.long, pytest.mark.timeout(300)])],
)
async def test_chaos(seconds: float, jobs: int, workers: int) -> None:
    chosen = seed()
    result = await chaos.run(seconds=seconds, seed=chosen, jobs=jobs, workers=workers)
    chaos.show(result, seed=chosen, console=Console(width=100))
    assert result.violations == {}, f"seed {chosen}"
    assert len(result.record.acknowledged) == jobs - result.record.unknown
    assert sum(result.record.done.values()) >= 5, "too little harm was done for a test"
    assert result.record.newer_kept >= jobs // chaos.NEWER_EACH

"""Delayed jobs never start early by Redis' clock, and late by little. (G8)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiojobs_rt import perform_all_later
from tests.support.jobs import Due

if TYPE_CHECKING:
    from tests.support.worker_process import Fleet


async def test_delayed_jobs_start_when_they_are_due(fleet: Fleet) -> None:
    await fleet.start()
    delays = [100 + 13 * number for number in range(100)]
    await perform_all_later([Due.set(wait=delay / 1000).bind(delay) for delay in delays])
    await fleet.written("note", 100)
    late = sorted(float(text) for text in fleet.ledger.read().notes())
    print(f"lateness: median {late[50]:.1f} ms, p99 {late[98]:.1f} ms, most {late[99]:.1f} ms")  # noqa: T201 - figures for the reader
    assert late[0] >= 0, "a job started early"
    assert late[50] < 1000, "the promoter waits for the beat"


async def test_an_earlier_job_wakes_the_promoter(fleet: Fleet) -> None:
    """The lease, and so the beat, is long: only the message about an earlier due time can be in time."""
    await fleet.start(lease=60)
    await Due.set(wait=3600).perform_later(3_600_000)
    for _ in range(3):
        await Due.set(wait=0.2).perform_later(200)
    await fleet.written("note", 3, timeout=5)
    late = [float(text) for text in fleet.ledger.read().notes()]
    assert min(late) >= 0
    assert max(late) < 2000

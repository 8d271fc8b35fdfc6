"""Rows about declared retries and discards, run by the virtual clock."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from aiojobs_rt import Job, after_discard, discard_on, retry_on
from aiojobs_rt.admin import admin_of
from aiojobs_rt.testing import recording_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from aiojobs_rt.testing import Jobs

RUNS: list[datetime] = []
DISCARDED: list[str] = []


class SlowServiceError(Exception):
    """A second kind of timeout."""


class RecordGoneError(Exception):
    """It was there when the job was enqueued."""


@pytest.fixture
def recorded() -> Iterator[Jobs]:
    RUNS.clear()
    DISCARDED.clear()
    with recording_jobs() as recorded:
        CallsService.clock = recorded
        yield recorded


@retry_on(SlowServiceError, wait=30, attempts=5)
@retry_on(TimeoutError, wait=10, attempts=3)
class CallsService(Job):
    """Fails with these errors, one after the other, the last one ever again."""

    clock: Jobs

    async def perform(self, *errors: str) -> None:
        RUNS.append(self.clock.now)
        kinds = {"timeout": TimeoutError, "slow": SlowServiceError}
        raise kinds[errors[min(self.executions, len(errors)) - 1]]


async def waits(recorded: Jobs, *errors: str) -> list[float]:
    """Seconds between the runs of a job that fails so, until it is dead."""
    handle = await CallsService.perform_later(*errors)
    await recorded.perform_enqueued()
    await recorded.advance(hours=24)
    assert await handle.status() == "dead"
    return [(later - earlier).total_seconds() for earlier, later in pairwise(RUNS)]


@pytest.mark.acceptance(23)
async def test_three_attempts_are_three_runs_with_two_waits_of_ten_seconds(recorded: Jobs) -> None:
    found = await waits(recorded, "timeout")
    assert len(RUNS) == 3
    assert all(10 <= wait <= 11.5 for wait in found), found
    (dead,) = (await admin_of(recorded.adapter).jobs("default", "dead")).jobs
    assert (dead.job, dead.failures) == ("CallsService", 3)


@pytest.mark.acceptance(24)
async def test_each_declaration_has_a_counter_and_a_wait_of_its_own(recorded: Jobs) -> None:
    errors = ("slow", "timeout", "slow", "timeout", "slow", "slow", "timeout")
    found = await waits(recorded, *errors)
    assert len(RUNS) == len(errors), "the third timeout, though there were four of the other kind"
    assert [30 if wait > 20 else 10 for wait in found] == [{"slow": 30, "timeout": 10}[error] for error in errors[:-1]]
    assert all(base <= wait <= base * 1.15 for wait in found for base in [30 if wait > 20 else 10])


@discard_on(RecordGoneError)
class ReadsRecord(Job):
    @after_discard
    async def note(self, error: BaseException) -> None:
        DISCARDED.append(type(error).__name__)

    async def perform(self) -> None:
        raise RecordGoneError


@pytest.mark.acceptance(25)
async def test_a_discarded_job_is_neither_retried_nor_dead_and_is_told_once(recorded: Jobs) -> None:
    handle = await ReadsRecord.perform_later()
    await recorded.perform_enqueued()
    assert await handle.status() == "discarded"
    assert recorded.enqueued == []
    assert (await admin_of(recorded.adapter).queue("default")).dead == 0
    await recorded.advance(hours=24)
    assert len(recorded.performed) == 1
    assert DISCARDED == ["RecordGoneError"]

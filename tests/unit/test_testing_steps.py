"""Tests of jobs in steps: interrupted where the test says, and resumed when it says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from aiojobs_rt import Job
from aiojobs_rt.testing import recording_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiojobs_rt.core.continuation import Step
    from aiojobs_rt.testing import Jobs

pytestmark = [pytest.mark.acceptance(67)]
ran: list[object] = []


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    ran.clear()
    with recording_jobs(everywhere=True) as recorded:
        yield recorded


class ImportRows(Job):
    async def perform(self) -> None:
        await self.step("validate", self.validate)
        async for step in self.step("rows", start=0):
            for row in range(step.cursor, 4):
                ran.append(row)
                await step.advance()
        await self.step("notify", self.notify)

    async def validate(self) -> None:
        ran.append("validated")

    async def notify(self, step: Step) -> None:
        ran.append("notified")


class ImportOthers(ImportRows):
    """As its base, under a name of its own."""


ALL = ["validated", 0, 1, 2, 3, "notified"]


@pytest.mark.parametrize(("cursor", "done"), [(None, 2), (1, 2), (3, 4), (4, 5)])
async def test_a_job_is_interrupted_at_a_cursor_and_resumes_after_the_block(
    jobs: Jobs, cursor: int | None, done: int
) -> None:
    handle = await ImportRows.perform_later()
    with jobs.interrupt_during_step(ImportRows, "rows", cursor=cursor):
        (run,) = await jobs.perform_enqueued()
        assert run.outcome == "released"
        assert await jobs.perform_enqueued() == [], "it goes on only after the block"
        assert await jobs.advance(hours=1) == []
    assert ran == ALL[:done]
    waiting = jobs.assert_enqueued(ImportRows, count=1)
    assert waiting.id == handle.id
    assert waiting.at is None

    await jobs.perform_enqueued()
    assert ran == ALL
    jobs.assert_performed(ImportRows, count=1)
    assert [run.outcome for run in jobs.performed] == ["released", "succeeded"]
    jobs.assert_none()


@pytest.mark.parametrize(("step", "done"), [("validate", 1), ("rows", 5)])
async def test_a_job_is_interrupted_between_two_steps(jobs: Jobs, step: str, done: int) -> None:
    async with jobs.performing():
        with jobs.interrupt_after_step(ImportRows, step):
            await ImportRows.perform_later()
        assert ran == ALL[:done]
    await jobs.perform_enqueued()
    assert ran == ALL


async def test_an_interruption_costs_no_attempt(jobs: Jobs) -> None:
    executions: list[int] = []

    class Counts(Job):
        async def perform(self) -> None:
            executions.append(self.executions)
            async for step in self.step("all", start=0):
                while step.cursor < 3:
                    await step.advance()

    await Counts.perform_later()
    for cursor in (1, 2):
        with jobs.interrupt_during_step(Counts, "all", cursor=cursor):
            await jobs.perform_enqueued()
    await jobs.perform_enqueued()
    assert executions == [1, 1, 1]


async def test_only_the_jobs_that_are_meant_are_interrupted(jobs: Jobs) -> None:
    await ImportRows.perform_later()
    await ImportOthers.perform_later()
    with jobs.interrupt_during_step(ImportRows, "rows"):
        await jobs.perform_enqueued()
    jobs.assert_performed(ImportOthers)
    jobs.assert_enqueued(ImportRows)
    jobs.assert_none(ImportOthers)


async def test_several_jobs_and_several_places(jobs: Jobs) -> None:
    await ImportRows.perform_later()
    await ImportRows.perform_later()
    await ImportOthers.perform_later()
    with (
        jobs.interrupt_during_step(ImportRows, "rows", cursor=2),
        jobs.interrupt_after_step(ImportOthers, "validate"),
    ):
        await jobs.perform_enqueued()
    assert ran == [*ALL[:3], *ALL[:3], "validated"]
    await jobs.perform_enqueued()
    assert len(ran) == 3 * len(ALL)


async def test_recordings_side_by_side_are_interrupted_each_for_itself() -> None:
    ran.clear()
    both = asyncio.Barrier(2)

    async def one() -> None:
        with recording_jobs() as jobs:
            await ImportRows.perform_later()
            with jobs.interrupt_during_step(ImportRows, "rows"):
                await both.wait()
                await jobs.perform_enqueued()
                await both.wait()

    async def other() -> None:
        with recording_jobs() as jobs:
            await ImportRows.perform_later()
            await both.wait()
            await jobs.perform_enqueued()
            jobs.assert_performed(ImportRows)
            await both.wait()

    await asyncio.gather(one(), other())


# -- what was not interrupted ---------------------------------------------------------------------


async def test_a_step_that_was_not_interrupted_fails_the_test_and_says_what_was_passed(jobs: Jobs) -> None:
    await ImportRows.perform_later()
    with (
        pytest.raises(AssertionError) as caught,
        jobs.interrupt_during_step(ImportRows, "rows", cursor=7),
    ):
        await jobs.perform_enqueued()
    assert str(caught.value).splitlines() == [
        "no ImportRows was interrupted during step 'rows' at 7; it passed these checkpoints:",
        "  after 'validate'",
        *(f"  in 'rows' at {cursor}" for cursor in (1, 2, 3, 4)),
        "  after 'rows'",
    ]


async def test_the_last_step_has_nothing_after_it(jobs: Jobs) -> None:
    await ImportRows.perform_later()
    with (
        pytest.raises(AssertionError, match=r"(?s)no ImportRows was interrupted after step 'notify'; .* after 'rows'$"),
        jobs.interrupt_after_step(ImportRows, "notify"),
    ):
        await jobs.perform_enqueued()


async def test_a_block_in_which_nothing_ran_says_so(jobs: Jobs) -> None:
    await ImportRows.perform_later()
    with (
        pytest.raises(AssertionError, match=r"none was run within the block: await jobs\.perform_enqueued\(\) there"),
        jobs.interrupt_during_step(ImportRows, "rows"),
    ):
        pass


async def test_a_step_without_checkpoints_says_so(jobs: Jobs) -> None:
    class OneStep(Job):
        async def perform(self) -> None:
            await self.step("only", self.work)

        async def work(self) -> None: ...

    await OneStep.perform_later()
    with (
        pytest.raises(AssertionError, match="it passed no checkpoint: a job can end where a step advances"),
        jobs.interrupt_during_step(OneStep, "only"),
    ):
        await jobs.perform_enqueued()


async def test_an_error_in_the_block_is_what_is_raised(jobs: Jobs) -> None:
    with pytest.raises(ZeroDivisionError), jobs.interrupt_during_step(ImportRows, "rows"):
        raise ZeroDivisionError


async def test_perform_now_is_not_interrupted(jobs: Jobs) -> None:
    with (
        pytest.raises(AssertionError, match="none was run"),
        jobs.interrupt_during_step(ImportRows, "rows"),
    ):
        await ImportRows.perform_now()
    assert ran == ALL

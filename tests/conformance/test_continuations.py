"""Jobs in steps on every adapter: what is skipped, where they go on, and what is seen of them meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from aiojobs_rt import JobFailed, JobHandle, Progress, TestAdapter, retry_on
from aiojobs_rt.core import execution
from aiojobs_rt.worker import progress
from tests.conformance.adapters import CarriedJob, log
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiojobs_rt import Step
    from aiojobs_rt.admin import Administers
    from tests.conformance.adapters import Bed

pytestmark = pytest.mark.acceptance(10, 67)

at_row_2: list[Callable[[], None]] = []
"""Called once, when the third row is being done."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "RESUME_AFTER_MS", 0)
    monkeypatch.setattr(progress, "EVERY", 0.01)
    at_row_2.clear()


class CarriedRows(CarriedJob):
    async def perform(self) -> int:
        await self.step("validate", self.validate)
        async for step in self.step("rows", start=0):
            for row in range(step.cursor, 4):
                log.append(f"row {row}")
                if row == 2 and at_row_2:
                    at_row_2.pop()()
                await step.advance()
        await self.step("notify", self.notify)
        return self.executions

    async def validate(self) -> None:
        log.append("validate")

    async def notify(self, step: Step) -> None:
        log.append(step.name)


ALL = ["validate", "row 0", "row 1", "row 2", "row 3", "notify"]


async def test_the_steps_of_a_job_run_in_a_row(on: Bed) -> None:
    handle = await CarriedRows.perform_later()
    await on.reaches(handle, "succeeded")
    assert log == ALL


async def test_a_job_that_is_interrupted_goes_on_where_it_was(on: Bed, admin: Administers) -> None:
    if on.kind in ("async", "inline"):
        pytest.skip("its jobs run to their end: one that ended early would be lost with the process")
    handle = await CarriedRows.perform_later()
    if isinstance(on.adapter, TestAdapter):
        with on.adapter.interrupt_during_step(CarriedRows, "rows", cursor=3):
            await on.adapter.perform_enqueued()
    else:
        at_row_2.append(on.stop)
        await on.serve()
        await on.stopped()
    assert log == ALL[:4]
    assert await handle.status() == "queued"
    details = await admin.job(handle.id)
    assert details is not None
    assert details.steps == await handle.progress() == Progress(completed=("validate",), open="rows", cursor=3)
    assert (details.interruptions, details.failures) == (1, 0)
    await on.reaches(handle, "succeeded")
    assert log == ALL
    assert await handle.progress() is None, "it has ended"
    assert await handle.result(timeout=5) == 1, "an interruption costs no attempt"


async def test_an_error_after_progress_goes_on_at_no_charge(on: Bed, admin: Administers) -> None:
    def fail() -> None:
        log.append("fails")
        raise ValueError("row 2")

    at_row_2.append(fail)
    handle = await CarriedRows.perform_later()
    await on.reaches(handle, "succeeded")
    assert log == [*ALL[:4], "fails", *ALL[3:]]
    assert await handle.result(timeout=5) == 1


class CarriedFailsFirst(CarriedJob):
    max_attempts = 1

    async def perform(self) -> None:
        async for _ in self.step("rows", start=0):
            raise ValueError("before any row")


async def test_an_error_before_any_progress_is_a_failure(on: Bed) -> None:
    handle = await CarriedFailsFirst.perform_later()
    await on.reaches(handle, "dead")
    with pytest.raises(JobFailed, match="before any row"):
        await handle.result(timeout=5)


@retry_on(ValueError, wait=0, attempts=2)
class CarriedCharged(CarriedRows):
    resume_errors_after_advancing = False


async def test_an_error_that_is_charged_goes_on_all_the_same(on: Bed) -> None:
    def fail() -> None:
        raise ValueError("row 2")

    at_row_2.append(fail)
    handle = await CarriedCharged.perform_later()
    await on.reaches(handle, "succeeded")
    assert log == [*ALL[:4], *ALL[3:]]
    assert await handle.result(timeout=5) == 2


class CarriedIsolated(CarriedJob):
    async def perform(self) -> None:
        log.append("execution")
        await self.step("a", self.work)
        await self.step("alone", self.work, isolated=True)
        await self.step("b", self.work)

    async def work(self, step: Step) -> None:
        log.append(step.name)


async def test_an_isolated_step_has_an_execution_of_its_own(on: Bed) -> None:
    handle = await CarriedIsolated.perform_later()
    await on.reaches(handle, "succeeded")
    assert log == ["execution", "a", "execution", "alone", "execution", "b"]


class CarriedWatched(CarriedJob):
    async def perform(self) -> None:
        await self.step("prepare", self.prepare)
        async for step in self.step("rows"):
            await step.set({"page": 2, "of": ["x", None]})
            log.append("waits")
            await wait_until(lambda: "proceed" in log, interval=0)

    async def prepare(self) -> None: ...


async def test_the_progress_of_a_running_job_is_seen(on: Bed, admin: Administers) -> None:
    running: asyncio.Task[Any] = asyncio.create_task(CarriedWatched.perform_later())
    if not on.runs_at_once:
        running = asyncio.create_task(on.reaches(await running, "succeeded"))
    await wait_until(lambda: log == ["waits"])

    reached = Progress(completed=("prepare",), open="rows", cursor={"page": 2, "of": ["x", None]})

    async with asyncio.timeout(10):
        while True:
            (job,) = (await admin.jobs("default", "running")).jobs
            details = await admin.job(job.id)
            assert details is not None
            if details.steps == await JobHandle.of(job.id, adapter=on.adapter).progress() == reached:
                break
            await asyncio.sleep(0.005)  # a worker saves it now and then
    log.append("proceed")
    await running


class CarriedDisordered(CarriedJob):
    max_attempts = 1

    async def perform(self) -> None:
        await self.step("a", self.work)
        await self.step("a", self.work)

    resume_errors_after_advancing = False

    async def work(self) -> None: ...


async def test_a_contradiction_is_the_failure_of_the_job(on: Bed) -> None:
    handle = await CarriedDisordered.perform_later()
    await on.reaches(handle, "dead")
    with pytest.raises(JobFailed, match="InvalidStep: step 'a' is there twice"):
        await handle.result(timeout=5)

"""A run that is interrupted from outside: by its timeout, a cancel, a worker that stops, a lost lease, the worker's own end."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiojobs_rt import Job, after_discard, before_enqueue, discard_on, rescue_from, retry_on
from aiojobs_rt.core.execution import Halt, HaltReason, Runtime, execute
from aiojobs_rt.core.outcome import SUCCEEDED, Cancelled, Dead, Discarded, Outcome, Retried
from tests.support.recording import NOW_MS, message_of, record_of, runtime
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def _empty() -> None:  # pyright: ignore[reportUnusedFunction]
    SEEN.clear()


class HangsUntilHalted(Job):
    timeout = 5

    async def perform(self) -> str:
        SEEN.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # cancelled once, so that clearing up may await
            SEEN.append("cleared up")
        return ""


class SwallowsItsHalt(HangsUntilHalted):
    async def perform(self) -> str:
        try:
            return await super().perform()
        except asyncio.CancelledError:
            return "all the same"


class FailsWhenHalted(HangsUntilHalted):
    async def perform(self) -> str:
        try:
            return await super().perform()
        except asyncio.CancelledError:
            raise ValueError("while clearing up") from None


async def halted(
    job: type[Job], reason: HaltReason, *, after: Callable[[], object] = lambda: "began" in SEEN, **fields: Any
) -> Outcome | None:
    """Run a job in a task of its own, as a slot does, and halt it once `after` holds."""
    halt = Halt()
    message = message_of(job, **fields)
    task = asyncio.create_task(execute(message, job, halt, runtime()))
    await wait_until(after)
    halt.reason = reason
    task.cancel()
    return await task


async def test_a_timeout_is_a_failure_with_a_timeout_error() -> None:
    outcome = await halted(HangsUntilHalted, "timeout")
    assert isinstance(outcome, Retried)
    found = record_of(outcome)
    assert (found["error"], found["message"]) == ("TimeoutError", "ran longer than its timeout of 5 s")
    assert "asyncio.Event().wait()" in found["traceback"]  # where it hung
    assert outcome.message.failures == 1
    assert SEEN == ["began", "cleared up"]


async def test_a_timeout_is_of_the_declarations() -> None:
    @retry_on(TimeoutError, wait=2, jitter=0)
    class RetriesTimeouts(HangsUntilHalted): ...

    outcome = await halted(RetriesTimeouts, "timeout", options={"timeout": 250})
    assert isinstance(outcome, Retried)
    assert outcome.delay_ms == 2000
    assert "of 0.25 s" in record_of(outcome)["message"]


async def test_an_error_while_clearing_up_does_not_hide_the_timeout() -> None:
    outcome = await halted(FailsWhenHalted, "timeout")
    assert isinstance(outcome, Retried)
    found = record_of(outcome)
    assert found["error"] == "TimeoutError"
    assert "while clearing up" in found["traceback"]


async def test_a_cancelled_job_is_cancelled_whatever_it_raises() -> None:
    assert await halted(HangsUntilHalted, "cancel", options={"keep_result": 7}) == Cancelled(7)
    SEEN.clear()
    assert await halted(FailsWhenHalted, "cancel") == Cancelled(0)


@pytest.mark.parametrize("reason", ["stop", "lost"])
async def test_a_job_that_is_no_longer_this_workers_has_no_outcome(reason: HaltReason) -> None:
    assert await halted(HangsUntilHalted, reason) is None
    SEEN.clear()
    assert await halted(FailsWhenHalted, reason) is None


@pytest.mark.parametrize("reason", ["timeout", "cancel", "stop"])
async def test_a_success_stays_a_success(reason: HaltReason) -> None:
    assert await halted(SwallowsItsHalt, reason) is SUCCEEDED


# -- while a handler runs ------------------------------------------------------------------------


class HandlesSlowly(Job):
    timeout = 5
    max_attempts = 3

    @rescue_from(ValueError)
    async def rescue(self, error: ValueError) -> None:
        SEEN.append("handles")
        await asyncio.Event().wait()

    async def perform(self) -> None:
        raise ValueError("first")


def handling() -> bool:
    return "handles" in SEEN


async def test_a_timeout_while_a_handler_runs_is_a_timeout_of_the_job(caplog: pytest.LogCaptureFixture) -> None:
    outcome = await halted(HandlesSlowly, "timeout", after=handling)
    assert isinstance(outcome, Retried)
    found = record_of(outcome)
    assert (found["error"], found["message"]) == ("TimeoutError", "ran longer than its timeout of 5 s")
    assert "first" in found["traceback"]
    assert "its handler for ValueError failed" in caplog.text
    SEEN.clear()
    assert isinstance(await halted(HandlesSlowly, "timeout", after=handling, failures=2), Dead)


async def test_a_cancel_or_a_stop_while_a_handler_runs_is_one() -> None:
    assert await halted(HandlesSlowly, "cancel", after=handling) == Cancelled(0)
    reasons: tuple[HaltReason, ...] = ("stop", "lost")
    for reason in reasons:
        SEEN.clear()
        assert await halted(HandlesSlowly, reason, after=handling) is None


async def test_a_handler_of_a_timeout_may_leak_a_cancellation() -> None:
    class Leaks(HangsUntilHalted):
        @rescue_from(TimeoutError)
        async def rescue(self, error: TimeoutError) -> None:
            raise asyncio.CancelledError

    outcome = await halted(Leaks, "timeout")
    assert isinstance(outcome, Retried)
    assert record_of(outcome)["error"] == "CancelledError"


async def test_a_timeout_may_be_rescued_and_discarded() -> None:
    class Rescues(HangsUntilHalted):
        @rescue_from(TimeoutError)
        async def rescue(self, error: TimeoutError) -> None:
            await asyncio.sleep(0)

    assert await halted(Rescues, "timeout") is SUCCEEDED
    SEEN.clear()
    discarding = discard_on(TimeoutError)(type("Discards", (HangsUntilHalted,), {}))
    assert isinstance(await halted(discarding, "timeout"), Discarded)


# -- while a callback runs -----------------------------------------------------------------------


class CallsBackSlowly(Job):
    max_attempts = 2

    @before_enqueue
    async def wait_to_enqueue(self) -> None:
        SEEN.append("handles")
        await asyncio.Event().wait()

    @after_discard
    async def wait_at_the_end(self, error: BaseException) -> None:
        SEEN.append("handles")
        await asyncio.Event().wait()

    async def perform(self) -> None:
        raise ValueError("first")


@pytest.mark.parametrize(("failures", "decided"), [(0, Retried), (1, Dead)])
async def test_what_comes_while_a_callback_runs(failures: int, decided: type) -> None:
    """Its time is up: the outcome stands. Cancelled: it is. The worker stops: it is put back, and runs again."""
    found: dict[HaltReason, Outcome | None] = {}
    reasons: tuple[HaltReason, ...] = ("timeout", "cancel", "stop", "lost")
    for reason in reasons:
        SEEN.clear()
        found[reason] = await halted(CallsBackSlowly, reason, after=handling, failures=failures)
    assert isinstance(found["timeout"], decided)
    assert (found["cancel"], found["stop"], found["lost"]) == (Cancelled(0), None, None)


# -- the worker's own end ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "after"),
    [(HangsUntilHalted, lambda: "began" in SEEN), (HandlesSlowly, handling), (CallsBackSlowly, handling)],
)
@pytest.mark.parametrize("halted_too", [False, True])
async def test_a_cancellation_of_the_worker_itself_is_passed_on(
    job: type[Job], after: Callable[[], bool], *, halted_too: bool
) -> None:
    halt = Halt()
    message = message_of(job)
    task = asyncio.create_task(execute(message, job, halt, runtime()))
    await wait_until(after)
    if halted_too and job is HandlesSlowly:
        halt.reason = "timeout"
        task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def own_scope() -> bool:
    """As a worker asks: whether the task group in which the slots run is cancelled."""
    return anyio.current_effective_deadline() == -math.inf


class CancelsItself(Job):
    async def perform(self, times: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        for _ in range(times):
            task.cancel()
        await asyncio.sleep(0)


async def test_a_job_that_cancels_its_own_task_has_failed_and_leaves_the_task_as_it_was() -> None:
    outcomes: list[Outcome | None] = []
    left: list[int] = []
    after: list[str] = []
    using = Runtime(worker="w", now_ms=lambda: NOW_MS, states={}, is_cancelled=own_scope)

    async def slot() -> None:
        for times in (1, 3):
            message = message_of(CancelsItself, b'{"times":%d}' % times)
            outcomes.append(await execute(message, CancelsItself, Halt(), using))
            task = asyncio.current_task()
            assert task is not None
            left.append(task.cancelling())
        await asyncio.sleep(0)
        after.append("goes on")

    async with anyio.create_task_group() as group:
        group.start_soon(slot)
    assert [type(outcome) for outcome in outcomes] == [Retried, Retried]
    assert (left, after) == ([0, 0], ["goes on"])


async def test_the_end_of_a_task_group_is_passed_on_to_its_jobs() -> None:
    using = Runtime(worker="w", now_ms=lambda: NOW_MS, states={}, is_cancelled=own_scope)
    outcomes: list[Outcome | None] = []

    async def slot() -> None:
        message = message_of(HangsUntilHalted)
        outcomes.append(await execute(message, HangsUntilHalted, Halt(), using))

    async with anyio.create_task_group() as group:
        group.start_soon(slot)
        await wait_until(lambda: "began" in SEEN)
        group.cancel_scope.cancel()
    assert outcomes == []

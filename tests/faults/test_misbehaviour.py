"""Jobs that misbehave harm nobody but themselves. (G13)"""

from __future__ import annotations

import asyncio
import decimal
import signal
import time
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiojobs_rt import Job, JobFailed, Worker, perform_all_later, retry_on
from aiojobs_rt.core import registry
from aiojobs_rt.worker import slots
from tests.support.jobs import Blocker, Fails, FaultJob, Nap
from tests.support.outcomes import becomes
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from aiojobs_rt.core.execution import HaltReason
    from tests.support.worker_process import Fleet


class Misbehaves(Job):
    """The base of the jobs of these tests; each runs beside a neighbour that must not notice."""

    max_attempts = 1


class Neighbour(Misbehaves):
    async def perform(self, seconds: float = 0.0) -> None:
        await asyncio.sleep(seconds)


@asynccontextmanager
async def among_neighbours(*, concurrency: int = 4) -> AsyncGenerator[Worker]:
    """A worker whose other jobs all succeed, before, beside and after what happens in the block."""
    worker = Worker(queues=["default"], concurrency=concurrency, lease=5, shutdown_timeout=1)
    async with anyio.create_task_group() as group:
        await group.start(worker.run)
        beside = await Neighbour.perform_later(0.4)
        yield worker
        after = await perform_all_later([Neighbour.bind() for _ in range(3 * concurrency)])
        for handle in (beside, *after):
            await becomes("succeeded", handle)
        worker.stop()


@pytest.fixture(autouse=True)
async def _here(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_classes", {**registry._classes})
    monkeypatch.setattr(Misbehaves, "adapter", FaultJob.adapter)


async def _leak() -> None:
    inner = asyncio.create_task(asyncio.sleep(60))
    asyncio.get_running_loop().call_soon(inner.cancel)
    await inner


async def _cancel_own_task_and_wait() -> None:
    asyncio.current_task().cancel()  # type: ignore[union-attr] # there is one
    await asyncio.sleep(60)


async def _cancel_own_group() -> None:
    async with anyio.create_task_group() as group:
        group.cancel_scope.cancel()
        await asyncio.sleep(60)
    raise RuntimeError("on purpose")


async def _nested_groups() -> None:
    error: Exception = ValueError("deep")
    for _ in range(2000):
        members: list[Exception] = [error, ValueError("beside")]
        error = ExceptionGroup("group", members)
    raise error


class Unspeakable(Exception):  # noqa: N818 - it has no decent name
    def __str__(self) -> str:
        raise SystemExit(5)


def _raising(error: BaseException) -> Callable[[], Coroutine[Any, Any, None]]:
    async def perform() -> None:
        raise error

    return perform


DEADLY: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
    "SystemExit": _raising(SystemExit(3)),
    "KeyboardInterrupt": _raising(KeyboardInterrupt()),
    "GeneratorExit": _raising(GeneratorExit()),
    "BaseExceptionGroup": _raising(BaseExceptionGroup("several", [SystemExit(1), ValueError("one")])),
    "CancelledError raised": _raising(asyncio.CancelledError()),
    "CancelledError leaked": _leak,
    "own task cancelled": _cancel_own_task_and_wait,
    "own task group cancelled": _cancel_own_group,
    "nested groups": _nested_groups,
    "StopIteration": _raising(StopIteration()),
    "no message": _raising(Unspeakable()),
    "RecursionError": _raising(RecursionError("deep")),
}


@pytest.mark.parametrize("what", DEADLY)
@pytest.mark.fault(32)
async def test_whatever_a_job_raises_is_its_own_failure(what: str) -> None:
    class Deadly(Misbehaves):
        async def perform(self) -> None:
            await DEADLY[what]()

    async with among_neighbours():
        await becomes("dead", await Deadly.perform_later())


@pytest.mark.fault(33)
async def test_a_cancellation_that_a_job_leaves_behind_reaches_nobody() -> None:
    tasks: list[asyncio.Task[Any]] = []

    class Swallows(Misbehaves):
        async def perform(self) -> None:
            asyncio.current_task().cancel()  # type: ignore[union-attr] # there is one
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    class Last(Misbehaves):
        async def perform(self) -> None:
            asyncio.current_task().cancel()  # type: ignore[union-attr] # there is one

    class Later(Misbehaves):
        async def perform(self) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.append(task)

    async with among_neighbours():
        await becomes("succeeded", await Swallows.perform_later())
        await becomes("succeeded", await Last.perform_later())
        await becomes("succeeded", await Later.perform_later())
        tasks[0].cancel()  # as a timer would that the job left behind


async def test_a_class_that_can_not_be_made_is_its_job_s_failure() -> None:
    class Frozen(Misbehaves):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(f"{name} is frozen")

        async def perform(self) -> None: ...

    class Demanding(Misbehaves):
        def __init__(self) -> None:
            raise SystemExit(7)

        async def perform(self) -> None: ...

    async with among_neighbours():
        for job in (Frozen, Demanding):
            await becomes("dead", await job.perform_later())


async def test_context_variables_do_not_leak_and_decimal_retires_no_slot() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="pristine")
    seen: list[str] = []
    tasks: set[int] = set()

    class Leaves(Misbehaves):
        async def perform(self, value: str) -> None:
            seen.append(variable.get())
            variable.set(value)

    class Counts(Misbehaves):
        async def perform(self) -> None:
            assert decimal.Decimal(1) / 3  # it sets decimal's variable
            tasks.add(id(asyncio.current_task()))

    async with among_neighbours(concurrency=1):
        for number in range(5):
            await becomes("succeeded", await Leaves.perform_later(str(number)))
        for _ in range(5):
            await becomes("succeeded", await Counts.perform_later())
    assert seen == ["pristine"] * 5
    assert len(tasks) == 1


async def test_a_timeout_is_a_failure_with_timeout_error() -> None:
    runs: list[int] = []

    class Slow(Misbehaves):
        timeout = 0.1

        async def perform(self) -> None:
            await asyncio.sleep(60)

    @retry_on(TimeoutError, wait=0, attempts=3, jitter=0)
    class Retried(Misbehaves):
        async def perform(self) -> None:
            runs.append(self.executions)
            await asyncio.sleep(60 if self.executions < 3 else 0)

    class Quick(Misbehaves):
        timeout = 0.1

        async def perform(self) -> None:
            await asyncio.sleep(0.01)

    async with among_neighbours():
        slow = await Slow.perform_later()
        retried = await Retried.set(timeout=0.1).perform_later()
        quick = [await Quick.perform_later() for _ in range(20)]
        await becomes("dead", slow)
        with pytest.raises(Exception, match=r"TimeoutError: ran longer than its timeout of 0\.1 s"):
            await slow.result(timeout=2)
        await becomes("succeeded", retried)
        for handle in quick:
            await becomes("succeeded", handle)
    assert runs == [1, 2, 3]


async def test_a_job_that_swallows_its_timeout_has_succeeded() -> None:
    class Stubborn(Misbehaves):
        timeout = 0.1

        async def perform(self) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0.05)

    async with among_neighbours(concurrency=2):
        for _ in range(4):
            await becomes("succeeded", await Stubborn.perform_later())


@pytest.mark.parametrize("halted_by", ["timeout", "cancel", "lost"])
async def test_a_job_that_takes_its_cancellation_back_leaves_nothing_of_it_to_the_next(halted_by: HaltReason) -> None:
    """As asyncio asks of code that suppresses a cancellation: `uncancel`."""

    class TakesBack(Misbehaves):
        async def perform(self) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                asyncio.current_task().uncancel()  # type: ignore[union-attr] # there is one

    class FailsAfter(Misbehaves):
        async def perform(self) -> None:
            raise ValueError("its own")

    async with among_neighbours(concurrency=1) as worker:
        before = await TakesBack.perform_later()
        await becomes("running", before)
        await wait_until(
            lambda: worker._slots.halt(halted_by, lambda running: running.message.id == before.id)  # type: ignore[union-attr] # it runs
        )
        await becomes("succeeded", before)
        after = await FailsAfter.perform_later()
        await becomes("dead", after)
        with pytest.raises(JobFailed, match="ValueError: its own"):
            await after.result(timeout=2)


@pytest.mark.acceptance(6)
async def test_a_stuck_job_has_its_slot_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(slots, "STUCK_AFTER", 0.2)
    release = asyncio.Event()

    class Stuck(Misbehaves):
        timeout = 0.1

        async def perform(self) -> None:
            while not release.is_set():
                with suppress(asyncio.CancelledError):
                    await release.wait()

    async with among_neighbours(concurrency=1) as worker:
        stuck = await Stuck.perform_later()
        beside = await Neighbour.perform_later()
        await becomes("succeeded", beside)
        assert stuck.id in caplog.text
        assert "ignores its cancellation (timeout) for 0.2 s" in caplog.text
        assert await stuck.status() == "running"
        release.set()
        await becomes("succeeded", stuck)
        await wait_until(lambda: len(worker._slots._slots) == 1)


# -- with real processes -------------------------------------------------------------------------


@pytest.mark.acceptance(6)
@pytest.mark.fault(32)
async def test_a_process_survives_what_its_jobs_raise(fleet: Fleet) -> None:
    worker = await fleet.start(concurrency=5)
    neighbours = await perform_all_later([Nap.bind(number, 0.3) for number in range(4)])
    kinds = ("exit", "interrupt", "generator", "group", "error", "child exit", "child interrupt")
    bad = await perform_all_later([Fails.bind(kind) for kind in kinds])
    for handle in bad:
        await becomes("dead", handle)
    await fleet.written("end", 4)
    fleet.ledger.read().check([handle.id for handle in neighbours])
    assert worker.exit_code is None
    worker.terminate()
    assert await worker.ended() == 0


@pytest.mark.fault(30)
async def test_a_blocked_loop_keeps_its_lease_and_is_reported(fleet: Fleet) -> None:
    fleet.tracebacks = True  # the report holds a stack
    workers = await asyncio.gather(*(fleet.start(concurrency=5, lease=1) for _ in range(2)))
    blocker = await Blocker.perform_later(3.0)
    await fleet.written("start", 1)
    (run,) = fleet.ledger.read().runs()
    worker = next(worker for worker in workers if worker.pid == run.pid)
    began = time.monotonic()
    await wait_until(lambda: "stood still" in worker.log, timeout=2.5)
    others = await perform_all_later([Nap.bind(number) for number in range(30)])
    await fleet.written("end", 30, timeout=2)
    assert time.monotonic() - began < 3, "what the blocked worker had in its buffer waited for it"
    await fleet.written("end", 31)
    history = fleet.ledger.read()
    history.check_exact([handle.id for handle in (blocker, *others)])
    report = worker.log
    assert f"job {blocker.id} (Blocker) blocks it" in report
    assert "time.sleep(seconds)" in report, "its stack is not shown"
    await becomes("succeeded", blocker)
    assert not any("is dead" in other.log for other in workers)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0

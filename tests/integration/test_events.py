"""What a worker tells of its jobs, in this process."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiojobs_rt import AsyncAdapter, Discard, Event, Job, RedisAdapter, Snooze, Worker, retry_on, subscribe
from aiojobs_rt.core import events, registry
from tests.support.outcomes import becomes
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from aiojobs_rt.worker.served import Served


class ToldJob(Job):
    """The base of the jobs of these tests, which set its adapter."""


@pytest.fixture(autouse=True)
async def adapter(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisAdapter]:
    monkeypatch.setattr(registry, "_classes", {})
    async with RedisAdapter(redis_url) as adapter:
        monkeypatch.setattr(ToldJob, "adapter", adapter)
        yield adapter


@pytest.fixture
def heard() -> Iterator[list[Event]]:
    found: list[Event] = []
    unsubscribe = subscribe(found.append)
    yield found
    unsubscribe()


def of(heard: list[Event], job_id: str) -> list[str]:
    return [event.kind for event in heard if event.job_id == job_id]


@asynccontextmanager
async def working(*, lease: float = 5.0) -> AsyncGenerator[Worker]:
    carrier: Any = ToldJob.adapter
    worker = Worker(adapter=carrier, concurrency=10, lease=lease, shutdown_timeout=5)
    async with anyio.create_task_group() as group:
        await group.start(worker.run)
        yield worker
        worker.stop()


def nothing(_served: Served) -> None: ...


async def nothing_async(_served: Served) -> None: ...


async def fails_in_the_first_run(job: Job) -> None:
    if job.executions == 1:
        raise ConnectionError("no route")


async def test_each_way_of_a_job_is_told(heard: list[Event]) -> None:
    class Succeeds(ToldJob):
        async def perform(self) -> None:
            await asyncio.sleep(0.01)

    class Retries(ToldJob):
        async def perform(self) -> None:
            await fails_in_the_first_run(self)

    class Exhausts(ToldJob):
        async def perform(self) -> None:
            raise ConnectionError("no route")

    class Discards(ToldJob):
        async def perform(self) -> None:
            raise Discard("not any more")

    class Snoozes(ToldJob):
        async def perform(self) -> None:
            if snoozed:
                return
            snoozed.append(self.id)
            raise Snooze(wait=0.01)

    class Waits(ToldJob):
        async def perform(self) -> None:
            await asyncio.Event().wait()

    snoozed: list[str] = []
    retry_on(ConnectionError, wait=0.01, attempts=2)(Retries)
    retry_on(ConnectionError, wait=0.01, attempts=1)(Exhausts)

    def unhappy(_event: Event) -> None:
        raise ValueError("mine")

    unsubscribe = subscribe(unhappy)  # harms nobody
    handles = [await job.perform_later() for job in (Succeeds, Retries, Exhausts, Discards, Snoozes, Waits)]
    succeeds, retries, exhausts, discards, snoozes, waits = handles
    async with working():
        await wait_until(lambda: "started" in of(heard, waits.id))
        await waits.cancel()
        for status, handle in (
            ("succeeded", succeeds), ("succeeded", retries), ("dead", exhausts), ("discarded", discards),
            ("succeeded", snoozes), ("cancelled", waits),
        ):  # fmt: skip
            await becomes(status, handle)
    unsubscribe()
    assert of(heard, succeeds.id) == ["enqueued", "started", "succeeded"]
    assert of(heard, retries.id) == ["enqueued", "started", "retrying", "started", "succeeded"]
    assert of(heard, exhausts.id) == ["enqueued", "started", "exhausted", "dead"]
    assert of(heard, discards.id) == ["enqueued", "started", "discarded"]
    assert of(heard, snoozes.id) == ["enqueued", "started", "snoozed", "started", "succeeded"]
    assert of(heard, waits.id) == ["enqueued", "started", "cancelled"]
    by_job = [event for event in heard if event.job_id == retries.id]
    assert [event.executions for event in by_job] == [0, 1, 1, 2, 2]
    assert by_job[2].error == "ConnectionError: no route"
    (done,) = [event for event in heard if event.job_id == succeeds.id and event.kind == "succeeded"]
    assert done.duration is not None
    assert 0.009 < done.duration < 5


async def test_a_job_in_steps_tells_of_its_steps_its_interruption_and_its_return(heard: list[Event]) -> None:
    at = asyncio.Event()
    proceed = asyncio.Event()

    class Steps(ToldJob):
        async def perform(self) -> None:
            await self.step("first", self.first)
            async for step in self.step("rows", start=0):
                at.set()
                await proceed.wait()
                await step.advance()

        async def first(self) -> None: ...

    handle = await Steps.perform_later()
    async with working() as worker:
        await at.wait()
        worker.stop()
        await wait_until(lambda: worker._progress.stopping)
        proceed.set()
    async with working():
        await becomes("succeeded", handle)
    assert of(heard, handle.id) == [
        "enqueued", "started", "step", "interrupted", "started", "resumed", "step", "succeeded",
    ]  # fmt: skip
    by_kind = {event.kind: event for event in heard}
    assert dict(by_kind["interrupted"].details) == {"reason": "stop"}
    assert dict(by_kind["resumed"].details) == {"completed": ("first",), "step": "rows"}
    assert dict(by_kind["step"].details) == {"step": "rows", "resumed": True}


async def test_a_loop_that_stands_still_is_told_from_the_thread_that_watches_it(heard: list[Event]) -> None:
    class Blocks(ToldJob):
        async def perform(self) -> None:
            deadline = time.monotonic() + 10
            while not of(heard, self.id).count("stalled") and time.monotonic() < deadline:
                time.sleep(0.02)  # noqa: ASYNC251 - this is what is tested

    handle = await Blocks.perform_later()
    async with working(lease=1.5):
        await becomes("succeeded", handle)
    assert of(heard, handle.id) == ["enqueued", "started", "stalled", "succeeded"]
    (stalled,) = [event for event in heard if event.kind == "stalled"]
    assert stalled.duration is not None
    assert stalled.duration >= 1
    assert "in perform" in stalled.details["stack"]


async def test_what_a_dead_worker_held_is_told_by_the_one_that_puts_it_back(
    heard: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    began = asyncio.Event()

    class Held(ToldJob):
        async def perform(self) -> None:
            if not began.is_set():
                began.set()
                await asyncio.Event().wait()

    carrier: Any = ToldJob.adapter
    handle = await Held.perform_later()
    victim = Worker(adapter=carrier, lease=1.0, shutdown_timeout=1)
    async with anyio.create_task_group() as group:
        await group.start(victim.run)
        await began.wait()
        # as if its process were gone
        monkeypatch.setattr(victim._heartbeat, "_renew", nothing)
        monkeypatch.setattr(victim._reclaimer, "_try_beat", nothing_async)
        async with working(lease=1.0):
            await becomes("succeeded", handle)
        victim.stop()
    (reclaimed,) = [event for event in heard if event.kind == "reclaimed"]
    assert (reclaimed.job_id, reclaimed.job, reclaimed.queue) == (handle.id, "Held", "default")
    assert dict(reclaimed.details) == {"worker": victim.name, "crashes": 1}
    assert [event.executions for event in heard if event.kind == "started"] == [1, 2]


async def test_the_adapter_in_the_process_tells_the_same(heard: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    class Local(ToldJob):
        async def perform(self) -> None:
            await fails_in_the_first_run(self)

    retry_on(ConnectionError, wait=0.01, attempts=2)(Local)
    async with AsyncAdapter() as local:
        monkeypatch.setattr(Local, "adapter", local)
        handle = await Local.perform_later()
        await becomes("succeeded", handle)
    assert of(heard, handle.id) == ["enqueued", "started", "retrying", "started", "succeeded"]


def test_nobody_is_subscribed_when_all_have_gone() -> None:
    assert events.subscribed == ()

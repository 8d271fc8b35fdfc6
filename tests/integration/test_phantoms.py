"""Phantoms: what Redis counts as delivered here, and this worker never saw, or has settled already. (G1, G2)"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from aiojobs_rt import Job, RedisAdapter, Worker, retry_on
from aiojobs_rt.admin import Admin
from tests.support.proxy import Proxy
from tests.support.raw_queue import RawQueue
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from tests.support.redis_server import RedisServer

LEASE = 20.0
SOON = 9.0
"""Far less than a lease; a blocking read of 2 s that was lost silently ends after 4."""


class PhantomJob(Job):
    queue = "q"
    ran: list[str]
    gate: asyncio.Event

    async def perform(self, name: str) -> None:
        self.ran.append(name)
        if name == "gated":
            await self.gate.wait()


@retry_on(ValueError, wait=0.2, attempts=3, jitter=0)
class PhantomFlaky(PhantomJob):
    async def perform(self, name: str) -> None:
        self.ran.append(name)
        await self.gate.wait()
        if self.executions == 1:
            raise ValueError


@pytest.fixture
def queue(redis_url: str) -> Iterator[RawQueue]:
    PhantomJob.gate = asyncio.Event()  # of this test's loop
    PhantomJob.ran = PhantomFlaky.ran = []
    with RawQueue(redis_url) as queue:
        yield queue


@asynccontextmanager
async def working(adapter: RedisAdapter, *, lease: float = LEASE) -> AsyncGenerator[Worker]:
    worker = Worker(queues=["q"], adapter=adapter, lease=lease, concurrency=5, shutdown_timeout=1)
    async with anyio.create_task_group() as group:
        await group.start(worker.run)
        try:
            yield worker
        finally:
            worker.stop()


async def enqueue(redis_url: str, *names: str, job: type[PhantomJob] = PhantomJob) -> None:
    async with RedisAdapter(redis_url) as adapter:
        for name in names:
            await adapter.enqueue([job.bind(name).envelope()])


@pytest.mark.parametrize("silently", [False, True], ids=["closed", "silent"])
async def test_an_entry_whose_reply_was_lost_is_run_by_its_worker(
    queue: RawQueue, redis_url: str, redis_server: RedisServer, silently: bool
) -> None:
    async with Proxy(redis_server.port) as proxy, RedisAdapter(proxy.url) as adapter, working(adapter):
        (proxy.eat_reply_silently if silently else proxy.eat_reply)(b"BLOCK")
        await enqueue(redis_url, "ends the read that is on its way")
        await wait_until(lambda: not proxy._meals and PhantomJob.ran)  # the next one is on its way
        await enqueue(redis_url, "lost")
        await wait_until(lambda: "lost" in PhantomJob.ran, timeout=SOON)
        assert proxy.eaten == 1
    assert PhantomJob.ran == ["ends the read that is on its way", "lost"]
    assert queue.leftovers() == {}


@pytest.mark.parametrize("route", ["", "5"], ids=["main", "priority"])
async def test_an_entry_that_came_after_the_look_is_found_by_the_count(
    queue: RawQueue, redis_url: str, route: str
) -> None:
    """No connection broke here: Redis has more pending for this worker than it holds, in two beats running."""
    async with RedisAdapter(redis_url) as adapter, working(adapter, lease=3.0) as worker:
        consumer = worker._state.queues["q"].consumer
        await enqueue(redis_url, "first")
        await wait_until(lambda: PhantomJob.ran)
        await _stop_reading(worker, adapter)
        await adapter.enqueue([PhantomJob.set(priority=int(route or 0)).bind("phantom").envelope()])
        await wait_until(lambda: queue.read(consumer, lane=f"p{route}" if route else ""))
        await wait_until(lambda: "phantom" in PhantomJob.ran, timeout=SOON)
    assert PhantomJob.ran == ["first", "phantom"]
    assert queue.leftovers() == {}


@pytest.mark.parametrize("job", [PhantomJob, PhantomFlaky], ids=["succeeded", "retried"])
async def test_what_a_failed_over_redis_has_forgotten_is_settled_again_and_not_run(
    queue: RawQueue, redis_url: str, job: type[PhantomJob]
) -> None:
    """The copy that takes over was made while the job ran."""
    k = queue.keys
    async with RedisAdapter(redis_url) as adapter, working(adapter, lease=3.0):
        await enqueue(redis_url, "gated", job=job)
        await wait_until(lambda: PhantomJob.ran)
        copies = {key: queue.client.dump(key) for key in (k.stream, k.index)}
        PhantomJob.gate.set()
        await wait_until(lambda: not queue.client.xlen(k.stream))
        queue.client.delete(k.retries, k.parked)
        for key, copy in copies.items():
            assert copy is not None
            queue.client.restore(key, 0, copy, replace=True)
        await wait_until(lambda: not queue.leftovers(), timeout=SOON)
    assert PhantomJob.ran == ["gated"] * (1 if job is PhantomJob else 2)


async def test_more_than_a_page_of_phantoms_is_found(
    queue: RawQueue, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await enqueue(redis_url, "first")
    async with RedisAdapter(redis_url) as adapter, working(adapter, lease=3.0) as worker:
        await wait_until(lambda: PhantomJob.ran)
        await _haunt(worker, adapter, queue, 900)
        await wait_until(lambda: len(PhantomJob.ran) == 901, timeout=SOON)
        await wait_until(lambda: not queue.leftovers())
    assert len(set(PhantomJob.ran)) == 901
    assert told(caplog) == 900
    assert caplog.text.count("a reply that was lost") == 1


async def test_phantoms_that_come_again_and_again_are_told_of_once_in_a_while(
    queue: RawQueue, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await enqueue(redis_url, "first")
    async with RedisAdapter(redis_url) as adapter, working(adapter, lease=3.0) as worker:
        served = worker._state.queues["q"]
        await wait_until(lambda: PhantomJob.ran)
        served.phantoms_told = time.monotonic() + 60  # as if it had just told of one
        await _haunt(worker, adapter, queue, 2)
        await wait_until(lambda: served.phantoms_untold == 2, timeout=SOON)
        assert told(caplog) == 0
        served.phantoms_told = 0
        await _haunt(worker, adapter, queue, 3)
        await wait_until(lambda: told(caplog) == 5, timeout=SOON)  # the two of before among them
        await wait_until(lambda: len(PhantomJob.ran) == 6 and not queue.leftovers())


def told(caplog: pytest.LogCaptureFixture) -> int:
    return sum(map(int, re.findall(r"(\d+) job\(s\) were delivered here in a reply that was lost", caplog.text)))


async def _haunt(worker: Worker, adapter: RedisAdapter, queue: RawQueue, count: int) -> None:
    """So many jobs are delivered to the worker, and it is not told."""
    served = worker._state.queues["q"]
    await _stop_reading(worker, adapter)
    names = [f"{served.phantoms_untold} {n}" for n in range(count)]
    await adapter.enqueue([PhantomJob.bind(name).envelope() for name in names])
    await wait_until(lambda: queue.read(served.consumer, count=1000) or queue.pending(served.consumer) >= count)


async def _stop_reading(worker: Worker, adapter: RedisAdapter) -> None:
    """From now on the worker reads nothing new; a beat of its lease would take back what is set here only."""
    async with Admin(adapter) as admin:
        await admin.pause("q")
    await wait_until(lambda: worker._state.queues["q"].paused and not worker._fetcher.blocked_on)

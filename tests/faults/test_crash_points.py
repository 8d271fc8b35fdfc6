"""The k-th request of a scenario is lost, or its reply is: for k = 1, 2, 3 ... until there is no k-th. (G1, G3, G4)

The scenario touches each boundary: enqueue, register, take, settle, promote, renew, leave. After each: every acknowledged job has one
outcome, no enqueue made two, nothing ran twice, and Redis is clean at rest. Processes that are gone at any point: `test_kill_points.py`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import pytest

from aiojobs_rt import EnqueueError, Job, RedisAdapter, Worker, retry_on
from tests.support.history import not_at_rest
from tests.support.proxy import Meal, Proxy
from tests.support.raw_queue import RawQueue
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from aiojobs_rt.adapters.base import Envelope
    from tests.support.redis_server import RedisServer

LEASE = 1.0
AT_ONCE = 25
"""Scenarios; each has a queue of its own."""
HARMS = ("request", "reply")


@retry_on(ValueError, wait=0.05, attempts=5, jitter=0)
class Crossed(Job):
    ended: list[str]

    async def perform(self, fails: int) -> None:
        if self.executions <= fails:
            raise ValueError("on purpose")
        self.ended.append(self.id)


class Counting(Proxy):
    """Harms the k-th request, from 1, over all its connections."""

    def __init__(self, target_port: int, k: int, how: str) -> None:
        super().__init__(target_port)
        self.k = k
        self.how = how
        self.requests = 0
        self.hit = asyncio.Event()

    def take_meal(self, request: bytes) -> Meal | None:
        self.requests += 1
        if self.requests != self.k:
            return None
        self.hit.set()
        return Meal(request, 0, silently=False, unseen=self.how == "request")


async def scenario(server: RedisServer, k: int, how: str) -> bool:
    """Run it with a harm at its k-th request; whether it had one."""
    queue = f"{how}{k}"
    acknowledged: list[str] = []
    attempted: list[str] = []

    async def enqueue(adapter: RedisAdapter, envelope: Envelope) -> None:
        attempted.append(envelope.id)
        with suppress(EnqueueError):
            await adapter.enqueue([envelope])
            acknowledged.append(envelope.id)

    def done() -> bool:
        return set(acknowledged) <= set(Crossed.ended)

    async with Counting(server.port, k, how) as proxy, RedisAdapter(proxy.url, enqueue_timeout=3) as adapter:
        async with anyio.create_task_group() as group:
            with suppress(EnqueueError):
                worker = Worker(queues=[queue], adapter=adapter, lease=LEASE, concurrency=3, shutdown_timeout=0.2)
                await group.start(worker.run)
                for job in (Crossed.set(queue=queue), Crossed.set(queue=queue, wait=0.05)):
                    await enqueue(adapter, job.bind(0).envelope())
                await enqueue(adapter, Crossed.set(queue=queue).bind(1).envelope())
                await wait_until(done, timeout=20, what=f"all jobs of {how} {k}")
                worker.stop()
        hit = proxy.hit.is_set()
    with RawQueue(server.url, queue) as raw:
        left = not_at_rest(raw.client, queue)
    if hit and left:  # its jobs, or only its lease: the next worker sees to them
        async with RedisAdapter(server.url) as adapter, anyio.create_task_group() as group:
            worker = Worker(queues=[queue], adapter=adapter, lease=LEASE, concurrency=3, shutdown_timeout=0.2)
            await group.start(worker.run)
            with RawQueue(server.url, queue) as raw:
                await wait_until(done, timeout=20, what=f"the jobs of {how} {k} elsewhere")
                await wait_until(
                    lambda: not not_at_rest(raw.client, queue, workers=1), timeout=8, what=f"{how} {k} at rest"
                )
            worker.stop()
    with RawQueue(server.url, queue) as raw:
        await wait_until(lambda: not not_at_rest(raw.client, queue), timeout=8, what=f"{how} {k} at rest at the end")
        records = b" ".join(fields[b"r"] for _, fields in raw.client.xrange(raw.keys.recent))
    for job_id in acknowledged:
        assert records.count(f'"{job_id}"'.encode()) == 1, f"{how} {k}: one outcome each"
    mine = [job_id for job_id in Crossed.ended if job_id.startswith(queue + ".")]
    assert set(mine) <= set(attempted)
    assert len(mine) == len(set(mine)), f"{how} {k}: a job ran twice"
    return hit


@pytest.mark.fault(15, 16, 17)
@pytest.mark.parametrize("how", HARMS)
async def test_a_harm_at_each_boundary(redis_server: RedisServer, redis_url: str, how: str) -> None:
    assert redis_url == redis_server.url
    Crossed.ended = []
    k = 1
    while True:
        batch = range(k, k + AT_ONCE)
        hits = await asyncio.gather(*(scenario(redis_server, one, how) for one in batch))
        k += AT_ONCE
        if not all(hits):
            break
    assert k - AT_ONCE + hits.index(False) > 15, "the scenario has too few boundaries to be the one that is meant"

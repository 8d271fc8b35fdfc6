"""A process that enqueues and works, with a request to Redis at each turn: what `tests/faults/test_kill_points.py` kills."""

from __future__ import annotations

import asyncio
import logging

import anyio

from aiojobs_rt import Job, RedisAdapter, Worker, retry_on
from tests.support.ledger import Ledger
from tests.support.waiting import wait_until

LEASE = 1.0
HERE, THERE = "here", "there"
"""The queues; a job goes from one to the other."""


@retry_on(KeyError, queue=THERE, wait=0, attempts=5, jitter=0)
@retry_on(ValueError, wait=0.05, attempts=5, jitter=0)
class MortalJob(Job):
    """Ends; `once` it fails first, here or so that it goes there."""

    queue = HERE

    async def perform(self, path: str, once: str = "") -> None:
        if self.executions == 1 and once:
            raise KeyError if once == THERE else ValueError
        ledger = Ledger(path)
        ledger.write(self.id, self.executions, "start")
        ledger.write(self.id, self.executions, "end")
        ledger.close()


class LastingJob(Job):
    """Lasts until it is interrupted; elsewhere it ends at once."""

    queue = HERE
    lasts = False

    async def perform(self, path: str) -> None:
        ledger = Ledger(path)
        if self.lasts:
            ledger.write(self.id, self.executions, "note", BEGAN)
            await asyncio.Event().wait()
        ledger.write(self.id, self.executions, "start")
        ledger.write(self.id, self.executions, "end")
        ledger.close()


ATTEMPTED, ACKNOWLEDGED, BEGAN = "attempted", "acknowledged", "began"


def live(url: str, prefix: str, path: str) -> None:
    """The whole life of the process: starts a worker, enqueues, reclaims what a dead one left, stops with a job still running."""
    logging.disable()
    LastingJob.lasts = True
    asyncio.run(_live(url, prefix, path))


async def _live(url: str, prefix: str, path: str) -> None:
    ledger = Ledger(path)
    async with RedisAdapter(url, prefix=prefix) as adapter, anyio.create_task_group() as group:
        worker = Worker(queues=[HERE, THERE], adapter=adapter, lease=LEASE, concurrency=4, shutdown_timeout=0.05)
        await group.start(worker.run)
        expected = 1  # the dead worker's
        for bound in (
            LastingJob.bind(path),
            MortalJob.bind(path),
            MortalJob.set(wait=0.4).bind(path),  # longer than it takes to renew a lease
            MortalJob.bind(path, once=HERE),
            MortalJob.bind(path, once=THERE),
        ):
            envelope = bound.envelope()
            ledger.write(envelope.id, 0, "note", ATTEMPTED)
            await adapter.enqueue([envelope])
            ledger.write(envelope.id, 0, "note", ACKNOWLEDGED)
            expected += bound.job is MortalJob
        await wait_until(lambda: ledger.count("end") >= expected and BEGAN in ledger.read().notes(), what="the jobs")
        worker.stop()

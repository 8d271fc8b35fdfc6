"""Many at once: jobs due in one second, living workers beside a dead one, and clocks that are wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest

from aiojobs_rt import Job, RedisAdapter, Worker
from tests.support.raw_queue import RawQueue
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis_server import RedisServer

SKEW = 3600.0


class Skewed(Job):
    queue = "q"
    started: list[float]

    async def perform(self) -> None:
        self.started.append(time.monotonic())


@pytest.fixture
def queue(redis_url: str) -> Iterator[RawQueue]:
    with RawQueue(redis_url) as queue:
        yield queue


@pytest.mark.fault(36)
def test_jobs_due_in_the_same_second_stall_redis_by_no_more_than_a_batch(own_server: RedisServer) -> None:
    with RawQueue(own_server.url) as queue:
        now = queue.now_ms()
        jobs = 20_000
        for start in range(0, jobs, 2000):
            queue.enqueue_routed(*((f"q.{n}", f"@{now + 60_000 + n % 1000}") for n in range(start, start + 2000)))
        queue.client.zadd(queue.keys.scheduled, {f"q.{n}": now - 1000 + n % 1000 for n in range(jobs)})
        queue.client.config_set("slowlog-log-slower-than", 300)
        queue.client.config_set("slowlog-max-len", 1000)
        queue.client.slowlog_reset()
        moved: list[int] = []
        while count := queue.promote():
            moved.append(count)
        assert moved == [500] * 40
        took = sorted(one["duration"] for one in queue.client.slowlog_get(1000) if b"EVAL" in one["command"])
        print(f"a batch of 500: median {took[20]} us, most {took[-1]} us")  # noqa: T201 - figures for the reader
        assert took[len(took) // 2] < 20_000, "a batch takes so long that others wait"
        ids = [fields[b"id"] for _, fields in queue.client.xrange(queue.keys.stream)]
        assert len(ids) == len(set(ids)) == jobs
        dues = [int(id_[2:]) % 1000 for id_ in ids]
        assert dues == sorted(dues)


@pytest.mark.fault(39)
def test_one_dead_worker_is_found_at_once_behind_999_that_live(queue: RawQueue) -> None:
    queue.register("dead")
    queue.enqueue("q.lost")
    assert queue.read("dead")
    for number in range(999):
        queue.register(f"w{number}")
    queue.enqueue(*(f"q.{number}" for number in range(999)))
    for number in range(999):
        assert queue.read(f"w{number}")
    queue.expire("dead")
    answer = queue.reclaim("w500")
    assert answer[:2] == [b"reclaimed", b"dead"]
    assert answer[3] == b"q.lost"
    assert queue.reclaim("w500")[0] == b"none", "nobody who lives was touched"
    assert queue.pending("w998") == 1


@pytest.mark.fault(38)
@pytest.mark.parametrize("skew", [SKEW, -SKEW])
async def test_due_times_are_kept_by_workers_and_producers_whose_clocks_are_wrong(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + skew)
    Skewed.started = []
    before = after = 0.0
    async with RedisAdapter(redis_url) as adapter:
        monkeypatch.setattr(Skewed, "adapter", adapter)
        worker = Worker(queues=["q"], adapter=adapter, lease=5, concurrency=5, shutdown_timeout=1)
        async with anyio.create_task_group() as group:
            await group.start(worker.run)
            before = time.monotonic()
            await Skewed.set(wait=0.4).perform_later()
            after = time.monotonic()
            await wait_until(lambda: Skewed.started)
            worker.stop()
    (started,) = Skewed.started
    assert before + 0.395 < started < after + 0.4 + 1

"""A retry on another queue: it leaves one, travels, and arrives on the other once. (G1, G2)"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiojobs_rt import Job, JobFailed, JobHandle, Progress, RedisAdapter, Worker, retry_on
from aiojobs_rt.admin import Admin
from aiojobs_rt.errors import JobCancelled, RedisUnavailable
from aiojobs_rt.worker import courier
from tests.support.raw_queue import DEAD_AGE_MS, ERROR, RawQueue, retried, succeeded
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

JOB = "high.x"


@retry_on(ValueError, wait=0.05, attempts=3, jitter=0, queue="low")
class Crossing(Job):
    queue = "high"
    keep_result = 60
    seen: list[tuple[str, int]]

    async def perform(self) -> str:
        self.seen.append((self.queue, self.executions))
        if self.executions < 3:
            raise ValueError(f"run {self.executions}")
        return self.queue


@pytest.fixture
def queues(redis_url: str) -> Iterator[tuple[RawQueue, RawQueue]]:
    Crossing.seen = []
    with RawQueue(redis_url, "high") as high, RawQueue(redis_url, "low") as low:
        yield high, low


def depart(high: RawQueue, *, route: str = "", delay_ms: int = 0) -> dict[bytes, bytes]:
    high.register("w")
    high.enqueue(JOB, route=route)
    (entry,) = high.read("w", lane=f"p{route}" if route else "")
    assert high.settle("w", retried(entry, queue="low", delay_ms=delay_ms)) == b""
    ((_, fields),) = high.client.xrange(high.keys.outgoing)
    result: dict[bytes, bytes] = fields
    return result


def test_it_arrives_once_however_often_it_is_carried(queues: tuple[RawQueue, RawQueue]) -> None:
    high, low = queues
    fields = depart(high, route="5")
    assert high.client.hlen(high.keys.index) == 0
    assert [low.arrive(fields, "1-1"), low.arrive(fields, "1-1")] == [1, 0]
    low.register("w")
    (entry,) = low.read("w", lane="p5")
    assert entry.id == JOB
    assert b"boom" in low.client.lindex(low.keys.errors + JOB, 0)
    low.settle("w", succeeded(entry))
    assert low.arrive(fields, "1-1") == 0  # also after it has run
    assert low.read("w", lane="p5") == []
    low.arrive(fields, "2-1")  # another hop of the same job is another one
    assert len(low.read("w", lane="p5")) == 1


def test_a_delay_travels(queues: tuple[RawQueue, RawQueue]) -> None:
    high, low = queues
    low.arrive(depart(high, delay_ms=60_000), "1-1")
    assert low.look(JOB) == "retries"
    assert low.client.zscore(low.keys.retries, JOB) > low.now_ms() + 50_000


def test_the_error_history_travels_and_stays_in_order(queues: tuple[RawQueue, RawQueue]) -> None:
    high, low = queues
    high.register("w")
    high.enqueue(JOB)
    for n in range(3):
        (entry,) = high.read("w")
        error = f'{{"error":"E{n}","message":"m"}}'
        high.settle("w", (entry, "retried", (0, entry.meta, error, "low" if n == 2 else "")))
    ((_, fields),) = high.client.xrange(high.keys.outgoing)
    low.arrive(fields, "1-1")
    assert not high.client.exists(high.keys.errors + JOB)
    kept = low.client.lrange(low.keys.errors + JOB, 0, -1)
    assert [record[10:12] for record in kept] == [b"E2", b"E1", b"E0"]
    assert low.client.pttl(low.keys.errors + JOB) > 0


def test_a_message_that_can_not_be_read_does_not_count_as_arrived(queues: tuple[RawQueue, RawQueue]) -> None:
    high, low = queues
    fields = depart(high)
    with pytest.raises(Exception, match=r"Bad data format"):
        low.arrive({**fields, b"message": b"\xc1"}, "1-1")
    assert low.arrive(fields, "1-1") == 1


async def test_status_result_and_errors_follow_it(queues: tuple[RawQueue, RawQueue], redis_url: str) -> None:
    high, low = queues
    envelope = Crossing.bind().envelope()
    async with RedisAdapter(redis_url) as adapter, anyio.create_task_group() as group:
        worker = Worker(queues=["high", "low"], adapter=adapter, lease=3, concurrency=2)
        await group.start(worker.run)
        await adapter.enqueue([envelope])
        ended = await adapter.wait_ended(envelope.id, timeout_ms=5000)
        assert (ended.outcome, ended.result) == ("succeeded", b'"low"')
        assert await adapter.status(envelope.id) == "succeeded"
        assert await adapter.cancel(envelope.id) is False
        worker.stop()
    assert Crossing.seen == [("high", 1), ("low", 2), ("low", 3)]
    assert low.leftovers() == {}
    high.client.delete(high.keys.moved + envelope.id)
    assert high.leftovers() == {}


async def test_its_progress_is_told_wherever_it_is(queues: tuple[RawQueue, RawQueue], redis_url: str) -> None:
    high, low = queues
    reached = Progress(completed=("a",))
    high.register("w")
    high.enqueue(JOB)
    (entry,) = high.read("w")
    meta = entry.meta[:-1] + b',"steps":{"moves":1,"completed":["a"]}}'
    async with RedisAdapter(redis_url) as adapter:
        high.settle("w", (entry, "retried", (0, meta, ERROR, "low")))
        assert await adapter.progress(JOB) == reached, "on its way"
        ((_, fields),) = high.client.xrange(high.keys.outgoing)
        low.arrive(fields, "1-1")
        high.client.delete(high.keys.outgoing)
        assert await adapter.progress(JOB) == reached, "waiting there"
        low.register("w")
        (entry,) = low.read("w")
        low.client.set(low.keys.progress + JOB, '2 {"moves":2,"completed":["a","b"]}')
        assert await adapter.progress(JOB) == Progress(completed=("a", "b")), "running: what was saved is further"
        low.client.delete(low.keys.progress + JOB)
        low.settle("w", (entry, "retried", (60_000, meta, ERROR, "")))
        assert await adapter.progress(JOB) == reached, "waiting for a retry"


async def test_a_job_that_crosses_is_retrying_and_is_cancelled_when_it_has_arrived(
    queues: tuple[RawQueue, RawQueue], redis_url: str
) -> None:
    high, low = queues
    fields = depart(high)
    async with RedisAdapter(redis_url, enqueue_timeout=5) as adapter:
        assert await adapter.status(JOB) == "retrying"
        waiting = asyncio.create_task(adapter.wait_ended(JOB, timeout_ms=5000))
        cancelling = asyncio.create_task(adapter.cancel(JOB))
        await asyncio.sleep(0)
        low.arrive(fields, "1-1")
        high.client.delete(high.keys.outgoing)
        assert await cancelling is True
        assert (await waiting).outcome == "cancelled"
        assert await adapter.status(JOB) == "cancelled"
    assert low.leftovers() == {}


async def test_cancel_says_so_when_nobody_carries_the_job(queues: tuple[RawQueue, RawQueue], redis_url: str) -> None:
    depart(queues[0])
    async with RedisAdapter(redis_url, enqueue_timeout=0.2) as adapter:
        with pytest.raises(RedisUnavailable, match="no worker of high carries it"):
            await adapter.cancel(JOB)


async def test_a_job_that_comes_back_is_found_on_its_first_queue(
    queues: tuple[RawQueue, RawQueue], redis_url: str
) -> None:
    high, low = queues
    low.arrive(depart(high), "1-1")
    high.client.delete(high.keys.outgoing)
    low.register("w")
    (entry,) = low.read("w")
    low.settle("w", (entry, "retried", (0, entry.meta, "", "high")))
    ((_, fields),) = low.client.xrange(low.keys.outgoing)
    high.arrive(fields, "9-9")
    low.client.delete(low.keys.outgoing)
    async with RedisAdapter(redis_url) as adapter:
        assert await adapter.status(JOB) == "queued"
        (entry,) = high.read("w")
        high.settle("w", succeeded(entry))
        assert await adapter.status(JOB) == "succeeded"


async def test_a_courier_that_dies_after_arrival_and_strange_entries_hold_nothing_up(
    queues: tuple[RawQueue, RawQueue], redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The outgoing entries that a dead courier left, behind one that nobody can carry."""
    high, low = queues
    high.client.xadd(high.keys.outgoing, {"who": "knows"})
    high.client.xadd(high.keys.outgoing, {"queue": "no queue!", "id": "i", "delay": "0", "message": "m", "errors": "e"})
    high.register("w")
    high.enqueue(JOB)
    (entry,) = high.read("w")
    high.settle("w", retried(entry, queue="low"))
    id_, fields = high.client.xrange(high.keys.outgoing)[-1]
    low.arrive(fields, id_.decode())  # and there the courier died
    high.leave("w")
    carried: Any = None
    async with RedisAdapter(redis_url) as adapter, anyio.create_task_group() as group:
        worker = Worker(queues=["high"], adapter=adapter, lease=3)
        await group.start(worker.run)
        carried = await wait_until(lambda: high.client.xlen(high.keys.outgoing) == 2)
        arrived = f"{low.keys.arrived}{JOB}:{id_.decode()}"
        await wait_until(lambda: low.client.pttl(arrived) <= courier.ARRIVED_MS, what="the key not to be needed long")
        assert low.client.pttl(arrived) > courier.ARRIVED_MS / 2
        worker.stop()
    assert carried
    assert low.client.xlen(low.keys.stream) == 1
    assert "can't be carried" in caplog.text
    high.client.flushall()


@pytest.mark.parametrize("delay", ["soon", "", "nan", "inf", "-inf", "1e300", "-1"])
async def test_a_delay_that_is_no_number_is_a_dead_job_and_nothing_is_lost(
    queues: tuple[RawQueue, RawQueue], redis_url: str, caplog: pytest.LogCaptureFixture, delay: str
) -> None:
    high, _ = queues
    fields = {**depart(high, delay_ms=5000), b"delay": delay.encode()}
    high.client.delete(high.keys.outgoing)
    high.client.xadd(high.keys.outgoing, fields)
    async with RedisAdapter(redis_url) as adapter, Admin(adapter) as admin, anyio.create_task_group() as group:
        on_its_way = await admin.job(JOB)
        assert on_its_way is not None
        assert on_its_way.state == "retrying"
        worker = Worker(queues=["high"], adapter=adapter, lease=3)
        await group.start(worker.run)
        await wait_until(lambda: high.client.xlen(high.keys.outgoing) == 0)
        worker.stop()
        found = await admin.job(JOB)
        assert found is not None
        assert (found.state, found.queue, found.job, found.args) == ("dead", "low", "Job", b"{}")
        assert [attempt.error for attempt in found.attempts] == ["MalformedMessage", "ValueError"]
        assert f"is no count of ms: {delay!r}" in found.attempts[0].message
        assert f"job {JOB} is dead on queue low" in caplog.text
        with pytest.raises(JobFailed, match="is no count of ms"):
            await JobHandle.of(JOB, adapter=adapter).result(timeout=5)
        assert await admin.retry(JOB) == "retried"
        assert await adapter.status(JOB) == "queued"


def test_where_it_went_is_known_for_as_long_as_it_may_be_there(queues: tuple[RawQueue, RawQueue]) -> None:
    high, _ = queues
    day_ms = 86_400_000
    depart(high, delay_ms=200 * day_ms)
    known_ms = high.client.pttl(high.keys.moved + JOB)
    assert known_ms > 200 * day_ms + 17 * day_ms + DEAD_AGE_MS, (
        "the wait, the default retries, the time in the dead set"
    )


async def test_a_courier_that_slept_reads_again_what_others_may_have_carried(
    queues: tuple[RawQueue, RawQueue], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    high, low = queues
    high.register("w")
    high.enqueue("high.a", "high.b", "high.c")
    high.settle("w", *(retried(entry, queue="low") for entry in high.read("w", count=3)))
    high.leave("w")
    _, (other, _), _ = high.client.xrange(high.keys.outgoing)
    slept = 0.0
    carried: list[bytes] = []
    hand_over = courier.Courier._hand_over

    async def falls_asleep(self: courier.Courier, entry: bytes, fields: list[bytes]) -> tuple[str, str]:
        nonlocal slept
        answer = await hand_over(self, entry, fields)
        if not carried:
            high.client.xdel(high.keys.outgoing, other)  # carried by another meanwhile
            slept = 3600
        carried.append(fields[3])
        return answer

    monkeypatch.setattr(courier.Courier, "_hand_over", falls_asleep)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + slept)
    async with RedisAdapter(redis_url) as adapter, anyio.create_task_group() as group:
        worker = Worker(queues=["high"], adapter=adapter, lease=3)
        await group.start(worker.run)
        await wait_until(lambda: high.client.xlen(high.keys.outgoing) == 0)
        worker.stop()
    assert carried == [b"high.a", b"high.c"]
    low.client.flushall()


async def test_a_cancelled_job_that_crossed_raises_at_result(queues: tuple[RawQueue, RawQueue], redis_url: str) -> None:
    high, low = queues
    low.arrive(depart(high), "1-1")
    high.client.delete(high.keys.outgoing)
    async with RedisAdapter(redis_url) as adapter:
        handle = JobHandle.of(JOB, adapter=adapter)
        waiting = asyncio.create_task(handle.result(timeout=5))
        await wait_until(lambda: low.client.pubsub_numsub(low.keys.result + JOB)[0][1])  # it listens where the job is
        assert await handle.cancel()
        with pytest.raises(JobCancelled):
            await waiting

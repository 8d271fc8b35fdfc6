"""The worker inside this process: order, sharing, limits of concurrency, shutdown by the application, burst, lifespans."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiojobs_rt import ConfigurationError, Job, JobFailed, RedisAdapter, Worker, perform_all_later, retry_on
from aiojobs_rt.adapters.redis.batching import MAX_JOBS
from aiojobs_rt.adapters.redis.connection import Wire
from aiojobs_rt.adapters.redis.keys import queue_keys
from aiojobs_rt.core import registry
from aiojobs_rt.core.continuation import FIELD
from aiojobs_rt.core.message import JobMessage
from aiojobs_rt.worker import promoter, settler
from aiojobs_rt.worker.served import Served
from tests.support.outcomes import all_are, becomes
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence


class WorkJob(Job):
    """The base of the jobs of these tests, which set its adapter."""


KEYS = queue_keys("aiojobs", "default")


@pytest.fixture(autouse=True)
async def adapter(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisAdapter]:
    monkeypatch.setattr(registry, "_classes", {})
    async with RedisAdapter(redis_url) as adapter:
        monkeypatch.setattr(WorkJob, "adapter", adapter)
        yield adapter


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis_server.client() as client:
        yield client


@asynccontextmanager
async def running(
    *, queues: Sequence[str] | dict[str, int] = ("default",), concurrency: int = 10, lease: float = 5.0
) -> AsyncGenerator[Worker]:
    """A worker for the length of a block; it is stopped at the end."""
    carrier: Any = WorkJob.adapter
    worker = Worker(queues=queues, adapter=carrier, concurrency=concurrency, lease=lease, shutdown_timeout=1)
    async with anyio.create_task_group() as group:
        await group.start(worker.run)
        yield worker
        worker.stop()


@pytest.mark.acceptance(4)
async def test_never_more_at_once_than_its_concurrency() -> None:
    now = most = done = 0

    class Counted(WorkJob):
        async def perform(self) -> None:
            nonlocal now, most, done
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.01)
            now -= 1
            done += 1

    await perform_all_later([Counted.bind() for _ in range(120)])
    async with running(concurrency=7):
        await wait_until(lambda: done == 120)
    assert most == 7


@pytest.mark.parametrize("prefetch", [0, 5])
async def test_reads_as_far_ahead_as_told(prefetch: int, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiojobs_rt.worker.read_ahead.STALE", 60.0)  # else what was read ahead goes back
    gate = asyncio.Event()
    begun = 0

    class Gated(WorkJob):
        async def perform(self) -> None:
            nonlocal begun
            begun += 1
            await gate.wait()

    await perform_all_later([Gated.bind() for _ in range(20)])
    carrier: Any = WorkJob.adapter
    worker = Worker(adapter=carrier, concurrency=3, prefetch=prefetch, shutdown_timeout=1)
    async with anyio.create_task_group() as group:
        await group.start(worker.run)
        await wait_until(lambda: begun == 3 and worker._buffer.idle == 0 and len(worker._buffer) == prefetch)
        assert client.xpending(KEYS.stream, "workers")["pending"] == 3 + prefetch
        gate.set()
        await wait_until(lambda: begun == 20)
        worker.stop()


def test_prefetch_below_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"prefetch must be .auto. or a number of jobs from 0, got -1"):
        Worker(prefetch=-1)


# -- order ---------------------------------------------------------------------------------------


def ordered() -> tuple[list[str], type[WorkJob]]:
    order: list[str] = []

    class Ordered(WorkJob):
        async def perform(self, label: str) -> None:
            order.append(label)

    return order, Ordered


async def test_priorities_are_strict_and_fifo_within_one() -> None:
    order, job = ordered()
    enqueued = [(priority, f"{priority}/{number}") for number in range(15) for priority in (5, 0, -5)]
    await perform_all_later([job.set(priority=priority).bind(label) for priority, label in enqueued])
    async with running(concurrency=1):
        await wait_until(lambda: len(order) == 45)
    assert order == [label for _, label in sorted(enqueued, key=lambda pair: pair[0])]


@pytest.mark.acceptance(22)
async def test_queues_in_strict_order() -> None:
    order, job = ordered()
    await perform_all_later(
        [job.set(queue=queue).bind(f"{queue}/{n}") for n in range(20) for queue in ("default", "critical", "other")]
    )
    async with running(queues=["critical", "default"], concurrency=1):
        await wait_until(lambda: len(order) == 40)
    assert order == [f"critical/{n}" for n in range(20)] + [f"default/{n}" for n in range(20)]


async def test_weighted_queues_share_by_weight() -> None:
    order: list[str] = []

    class Weighted(WorkJob):
        async def perform(self) -> None:
            order.append(self.queue)
            await asyncio.sleep(0.002)

    await perform_all_later([Weighted.set(queue=q).bind() for q in ("critical", "default") for _ in range(300)])
    async with running(queues={"critical": 5, "default": 1}, concurrency=1):
        await wait_until(lambda: len(order) >= 240)
    counts = Counter(order[:240])
    assert 18 <= counts["default"] <= 62, f"about 40 of 240 expected, got {counts}"  # by a lottery


async def test_a_job_that_was_put_back_runs_before_all_others() -> None:
    order, job = ordered()
    begun = asyncio.Event()

    class Interrupted(WorkJob):
        async def perform(self) -> None:
            order.append("interrupted")
            if not begun.is_set():
                begun.set()
                await asyncio.sleep(60)

    await Interrupted.perform_later()
    worker = Worker(queues=["default"], concurrency=1, shutdown_timeout=0)
    async with anyio.create_task_group() as group:
        await group.start(worker.run)
        await begun.wait()
        await perform_all_later([job.set(priority=-9).bind("urgent"), job.bind("waiting")])
        worker.stop()
    async with running(concurrency=1):
        await wait_until(lambda: len(order) == 4)
    assert order == ["interrupted", "interrupted", "urgent", "waiting"]


async def test_the_first_job_on_a_new_lane_starts_at_once() -> None:
    order, job = ordered()
    async with running(queues=[*(f"q{n}" for n in range(15)), "default"], lease=30):
        for priority in range(1, 17, 2):
            sent = time.monotonic()
            for one in (priority, priority + 1):
                await job.set(priority=one).perform_later(str(one))
            await wait_until(lambda p=priority: {str(p), str(p + 1)} <= set(order))  # type: ignore[misc] # a lambda's default
            assert time.monotonic() - sent < 1.0, "it waited for the next beat"


async def test_no_reply_of_a_read_over_several_lanes_is_dropped(client: Any) -> None:
    order: list[int] = []

    class Steady(WorkJob):
        async def perform(self, number: int) -> None:
            order.append(number)
            await asyncio.sleep(0.005)

    client.zadd(KEYS.lanes, {"p-1": -1})
    await perform_all_later([Steady.bind(number) for number in range(300)])
    async with running(concurrency=2, lease=30):  # so long that a phantom would not be found in time
        for urgent in range(5):
            await wait_until(lambda u=urgent: len(order) >= 60 * u)  # type: ignore[misc] # a lambda's default
            await perform_all_later([Steady.set(priority=-1).bind(1000 + 20 * urgent + n) for n in range(20)])
        await wait_until(lambda: len(order) == 400, timeout=5)
    assert len(set(order)) == 400


async def test_what_is_asked_for_during_a_look_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(lease=60) as worker:
        reclaimer = worker._reclaimer
        beats = 0
        beat = reclaimer.beat

        async def interrupted(served: Served) -> None:
            nonlocal beats
            beats += 1
            await beat(served)
            if beats == 1:
                reclaimer.soon.set()

        await wait_until(lambda: worker._fetcher.blocked_on)
        monkeypatch.setattr(reclaimer, "beat", interrupted)
        reclaimer.soon.set()
        await wait_until(lambda: beats == 2, timeout=2)


async def test_a_job_that_ends_a_blocking_read_starts_before_anything_else_is_asked_of_redis(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []

    class Prompt(WorkJob):
        async def perform(self) -> None:
            order.append("perform")

    async with running() as worker:
        await wait_until(lambda: worker._fetcher.blocked_on)
        want = worker._fetcher._ahead.want

        def note() -> int:
            order.append("fetcher")
            return want()

        monkeypatch.setattr(worker._fetcher._ahead, "want", note)
        await Prompt.perform_later()
        await wait_until(lambda: len(order) > 1)
    assert order[:2] == ["perform", "fetcher"]


async def test_after_a_lost_lease_the_queues_are_waited_for_at_the_same_time(client: Any) -> None:
    """Their consumers have different names from then on, and one blocking read is about one consumer."""
    ran: list[str] = []

    class Either(WorkJob):
        async def perform(self) -> None:
            ran.append(self.queue)

    def connections() -> int:
        return sum(line["name"] == "aiojobs_rt:wait" for line in client.client_list())

    async with running(queues=("default", "other"), lease=60) as worker:
        fetcher, (first, second) = worker._fetcher, worker._state.queues.values()
        fetcher.block_ms = 50
        await wait_until(lambda: fetcher.blocked_on)
        worker._leases.note_lost(second, second.consumer, forgotten=False)
        await wait_until(lambda: second.registered)
        assert first.consumer != second.consumer
        await wait_until(lambda: client.info("clients")["blocked_clients"] == 2, what="two reads at the same time")
        fetcher.block_ms = 2_000
        for queue in ("default", "other", "default", "other"):
            await wait_until(lambda: fetcher.blocked_on == {"default", "other"})
            ran.clear()
            await Either.set(queue=queue).perform_later()
            await wait_until(lambda queue=queue: ran == [queue])  # type: ignore[misc] # a lambda's default
        assert connections() == 2
        worker._leases.note_lost(first, first.consumer, forgotten=False)
        await wait_until(lambda: first.registered)
        assert first.consumer == second.consumer
        for queue in ("default", "other"):
            await Either.set(queue=queue).perform_later()  # ends the reads of before
        await wait_until(lambda: connections() == 1, what="the connection of the name that is gone to be closed")
        await wait_until(lambda: fetcher.blocked_on == {"default", "other"})


# -- sharing -------------------------------------------------------------------------------------


async def test_slow_jobs_are_shared_and_not_hoarded() -> None:
    fast = 0
    starts: list[float] = []

    class Fast(WorkJob):
        async def perform(self) -> None:
            nonlocal fast
            fast += 1

    class Slow(WorkJob):
        async def perform(self) -> None:
            starts.append(time.monotonic())
            await asyncio.sleep(1.5)

    async with running(concurrency=2):
        await perform_all_later([Fast.bind() for _ in range(3000)] + [Slow.bind() for _ in range(4)])
        await wait_until(lambda: len(starts) == 2)
        async with running(concurrency=2):
            began = time.monotonic()
            await wait_until(lambda: len(starts) == 4, timeout=5)
            assert time.monotonic() - began < 1.2, "the first worker kept what it could not run"
            await wait_until(lambda: fast == 3000)


async def test_suspects_run_one_at_a_time(client: Any) -> None:
    now = most = done = 0

    class Suspect(WorkJob):
        async def perform(self) -> None:
            nonlocal now, most, done
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.05)
            now -= 1
            done += 1

    async with running(lease=1) as reclaimer:
        reclaimer.quiet()
        await perform_all_later([Suspect.bind() for _ in range(6)])
        for lane, next_lane in (("", "returned"), ("returned", "suspects")):  # two workers die with all of them
            client.xreadgroup("workers", f"dead-{lane}.0", {KEYS.lane(lane): ">"}, count=10)
            client.zadd(KEYS.workers, {f"dead-{lane}.0": 1})
            await wait_until(lambda lane=next_lane: client.xlen(KEYS.lane(lane)) == 6)  # type: ignore[misc] # a lambda's default
        async with running(concurrency=100, lease=1):
            await wait_until(lambda: done == 6)
    assert most == 1


async def test_the_end_of_a_suspect_ends_the_blocking_read(client: Any) -> None:
    """Meanwhile it waits as long as ever; then the next suspect is read at once."""
    starts: list[float] = []
    ends: list[float] = []
    may_end = asyncio.Event()

    class Long(WorkJob):
        async def perform(self) -> None:
            starts.append(time.monotonic())
            await may_end.wait()
            ends.append(time.monotonic())

    client.zadd(KEYS.lanes, {"suspects": -1999999})
    async with running(lease=60) as worker:
        handles = await perform_all_later([Long.set(wait=60).bind() for _ in range(2)])
        for handle in handles:
            fields = {"id": handle.id, "job": "Long", "args": "{}", "meta": '{"v":1,"at":1,"crashes":2}'}
            client.xadd(KEYS.lane("suspects"), fields)
        await wait_until(lambda: starts and worker._fetcher.blocked_on)
        client.config_resetstat()
        until = time.monotonic() + 0.2
        await wait_until(lambda: time.monotonic() > until)
        assert client.info("commandstats").get("cmdstat_xreadgroup", {"calls": 0})["calls"] <= 2
        may_end.set()
        await wait_until(lambda: len(starts) == 2)
        assert starts[1] - ends[0] < 1.2, "it was read when the blocking read had run out"


async def test_suspects_that_come_to_a_waiting_worker_run_one_at_a_time(client: Any) -> None:
    now = most = done = 0

    class Suspicious(WorkJob):
        async def perform(self) -> None:
            nonlocal now, most, done
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.05)
            now -= 1
            done += 1

    client.zadd(KEYS.lanes, {"suspects": -1999999})
    async with running(concurrency=100, lease=1) as worker:
        await wait_until(lambda: worker._fetcher.blocked_on)
        handles = await perform_all_later([Suspicious.set(wait=60).bind() for _ in range(6)])
        pipeline = client.pipeline(transaction=True)
        for handle in handles:
            fields = {"id": handle.id, "job": "Suspicious", "args": "{}", "meta": '{"v":1,"at":1,"crashes":2}'}
            pipeline.xadd(KEYS.lane("suspects"), fields)
        pipeline.execute()
        await wait_until(lambda: done == 6)
    assert most == 1


async def test_a_queue_whose_lease_was_lost_holds_up_no_other(client: Any) -> None:
    order, job = ordered()
    async with running(queues=["default", "other"], lease=1):
        (consumer,) = client.zrange(KEYS.workers, 0, -1)
        client.zadd(KEYS.workers, {consumer: 0})
        await wait_until(lambda: client.zcard(KEYS.workers) == 2, what="the worker to register again")
        for number, queue in enumerate(["other"] * 4 + ["default"] * 4):
            sent = time.monotonic()
            await job.set(queue=queue).perform_later(str(number))
            await wait_until(lambda n=number: str(n) in order)  # type: ignore[misc] # a lambda's default
            assert time.monotonic() - sent < 1.0


# -- start and end -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["workers", "stream", "lane", "index"])
async def test_a_queue_whose_keys_are_broken_holds_up_no_other(
    client: Any, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    order, job = ordered()
    bad, good = queue_keys("aiojobs", "bad"), queue_keys("aiojobs", "default")
    async with running(queues=["bad", "default"], lease=0.5) as worker:
        consumer = worker._state.queues["default"].consumer
        if key == "lane":
            client.zadd(bad.lanes, {"p5": 5})
        name = bad.lane("p5") if key == "lane" else getattr(bad, key)
        client.delete(name)
        client.set(name, "broken")
        lease = client.zscore(good.workers, consumer)
        await wait_until(lambda: client.zscore(good.workers, consumer) > lease + 1500)  # three leases later
        await job.perform_later("runs")
        await wait_until(lambda: order, timeout=2)
        assert client.zscore(good.workers, consumer) > lease + 1500
        client.delete(name)
        await job.set(queue="bad").perform_later("runs there again")
        await wait_until(lambda: len(order) == 2)
    assert worker._state.queues["default"].epoch == 0
    assert len(caplog.records) < 25, f"too much was said: {caplog.text}"


@pytest.mark.parametrize("key", ["workers", "lanes", "cancelled"])
async def test_bytes_that_are_no_text_in_a_key_end_no_worker(client: Any, key: str) -> None:
    order, job = ordered()
    name, beats = getattr(KEYS, key), 0
    async with running(lease=0.5) as worker:
        if key == "cancelled":
            client.hset(name, b"\xff\xfe", 1)
        else:
            client.zadd(name, {b"\xff\xfe": 1})
        beat = worker._reclaimer.beat

        async def counted(served: Served) -> None:
            nonlocal beats
            await beat(served)
            beats += 1

        worker._reclaimer.beat = counted  # type: ignore[method-assign] # it is watched
        worker._reclaimer.soon.set()
        await wait_until(lambda: beats >= 2)
        if key == "lanes":
            await worker._leases.register(worker._state.queues["default"])
        await job.perform_later("runs")
        await wait_until(lambda: order, timeout=2)
    if key == "workers":
        assert client.zcard(name) == 0
    else:
        client.delete(name, KEYS.stream.encode() + b":\xff\xfe")


async def test_a_lease_that_is_reclaimed_during_a_blocking_read_is_noticed_as_lost(client: Any) -> None:
    ends: list[str] = []

    class Overtaken(WorkJob):
        async def perform(self) -> None:
            if self.executions == 1:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    ends.append("cancelled")
                    raise
            ends.append("run elsewhere")

    async with running(lease=60) as worker:
        served = worker._state.queues["default"]
        handle = await Overtaken.perform_later()
        await becomes("running", handle)
        await wait_until(lambda: "default" in worker._fetcher.blocked_on)
        async with running(lease=60) as other:
            client.zadd(KEYS.workers, {served.consumer: 1})
            other._reclaimer.soon.set()
            await wait_until(lambda: len(ends) == 2, timeout=5)
            await becomes("succeeded", handle)
    assert served.epoch == 1
    assert sorted(ends) == ["cancelled", "run elsewhere"]


async def test_of_a_job_that_ends_while_anothers_progress_is_saved_nothing_is_left(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered()
    async with running() as worker:
        progress = worker._progress
        first, second = (
            JobMessage(f"default.{name * 22}", "Steps", b"{}", "default", extra={FIELD: {"moves": 1}}) for name in "AB"
        )

        async def save_first(*_: object) -> int:
            if second.id not in progress._saved:
                progress.ended(second)
            return 1

        monkeypatch.setattr(Wire, "run", save_first)
        progress._moved |= {first.id: first, second.id: second}
        await progress._flush()
        monkeypatch.undo()
        assert progress._saved == {first.id}
        progress.ended(first)
        await wait_until(lambda: not progress._ended)


async def test_after_a_silence_of_redis_nobody_is_taken_for_dead_at_once(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease of who comes back a moment later than this worker may have passed meanwhile."""
    ordered()
    async with running(lease=60) as worker:
        served = worker._state.queues["default"]
        monkeypatch.setattr(served, "grace_ms", lambda: 300)
        await wait_until(lambda: served.registered)
        client.zadd(KEYS.workers, {"late.0": 1})
        served.asked_at = time.monotonic() - 31  # as after an outage of half a lease
        worker._reclaimer.soon.set()
        await wait_until(lambda: served.asked_at == 0)
        assert client.zscore(KEYS.workers, "late.0") == 1
        await wait_until(served.may_reclaim)
        worker._reclaimer.soon.set()
        await wait_until(lambda: client.zscore(KEYS.workers, "late.0") is None, timeout=3)


async def test_a_lease_that_a_leap_of_redis_clock_has_ended_is_renewed_by_the_next_beat(client: Any) -> None:
    ordered()
    async with running(lease=60) as worker:
        consumer = worker._state.queues["default"].consumer
        client.zadd(KEYS.workers, {consumer: 1})
        worker._reclaimer.soon.set()
        await wait_until(lambda: client.zscore(KEYS.workers, consumer) > 1, timeout=3)


@pytest.mark.parametrize(
    "due", ["\u00b2", "9" * 400, "9" * 5000, "-1", ""], ids=["no digit", "400 digits", "5000 digits", "-1", "none"]
)
async def test_a_due_time_that_is_none_is_passed_over(client: Any, due: str) -> None:
    order, job = ordered()
    async with running(lease=60) as worker:
        client.publish("aiojobs:control", f"due default {due}")
        client.publish("aiojobs:control", f"quiet {worker.name}")
        await wait_until(lambda: worker._state.quiet, what="the worker to hear what came after")
        assert not order
    await job.perform_later("runs")
    async with running():
        await wait_until(lambda: order, timeout=2)


async def test_between_two_beats_a_queue_that_can_not_be_read_holds_up_no_other(client: Any) -> None:
    order, job = ordered()
    bad = queue_keys("aiojobs", "bad")
    async with running(queues=["bad", "default"], lease=60):
        await job.set(queue="bad", priority=5).perform_later("makes the lane known")
        await wait_until(lambda: order)
        client.delete(bad.lane("p5"))
        client.set(bad.lane("p5"), "broken")
        for name in ("one", "two"):
            await job.perform_later(name)
            await wait_until(lambda name=name: name in order, timeout=2)  # type: ignore[misc] # a lambda's default


async def test_where_leases_are_broken_those_on_other_queues_are_kept_and_looked_after(client: Any) -> None:
    ordered()
    bad, good = queue_keys("aiojobs", "bad"), queue_keys("aiojobs", "default")
    async with running(queues=["bad", "default"], lease=60) as worker:
        assert worker._heartbeat is not None
        consumer = worker._state.queues["default"].consumer
        client.delete(bad.workers)
        client.set(bad.workers, "broken")
        lease = client.zscore(good.workers, consumer)
        assert worker._heartbeat._renew_all()
        assert client.zscore(good.workers, consumer) > lease
        client.zadd(good.workers, {"dead": 1})
        worker._reclaimer.soon.set()
        await wait_until(lambda: client.zscore(good.workers, "dead") is None, timeout=3)


async def test_who_has_left_takes_no_lease_again(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A beat may come while the leases are given up."""
    ordered()  # a job class, whose adapter is the worker's
    async with running() as worker:
        withdraw = worker._reclaimer.withdraw

        async def beat_and_withdraw() -> None:
            await worker._reclaimer.beat(worker._state.queues["default"])
            await withdraw()

        monkeypatch.setattr(worker._reclaimer, "withdraw", beat_and_withdraw)
        assert client.zcard(KEYS.workers) == 1
    assert client.zcard(KEYS.workers) == 0


async def test_the_next_attempt_runs_by_the_priority_that_its_declaration_names(client: Any) -> None:
    order, job = ordered()

    @retry_on(ValueError, wait=0, attempts=2, jitter=0, priority=7)
    class Yielding(WorkJob):
        async def perform(self) -> None:
            order.append(f"attempt {self.executions}")
            if self.executions == 1:
                await job.perform_later("common")
                raise ValueError

    await Yielding.perform_later()
    async with running(concurrency=1):
        await wait_until(lambda: len(order) == 3)
    assert order == ["attempt 1", "common", "attempt 2"]
    assert client.zrange(KEYS.lanes, 0, -1) == [b"p7"]


async def test_what_a_blocked_worker_may_have_put_back_runs_once(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heartbeat puts the buffer back while the loop stands still, and the reply is lost. (G2)"""
    order, job = ordered()
    gate = asyncio.Event()

    class Gated(WorkJob):
        async def perform(self) -> None:
            await gate.wait()

    async with running(concurrency=1) as worker:
        await Gated.perform_later()
        await wait_until(lambda: worker._slots.running)
        await job.perform_later("one")
        await worker._fetcher._read(worker._state.queues["default"], 1)
        heartbeat = worker._heartbeat
        assert heartbeat is not None
        evaluate = heartbeat._evaluate

        def done_and_lost(*arguments: Any) -> Any:
            evaluate(*arguments)
            raise ConnectionResetError

        monkeypatch.setattr(heartbeat, "_evaluate", done_and_lost)
        heartbeat._put_back_buffer()
        monkeypatch.setattr(heartbeat, "_evaluate", evaluate)
        gate.set()
        await job.perform_later("two")
        await wait_until(lambda: "two" in order and not client.hlen(KEYS.index))
    assert sorted(order) == ["one", "two"]


async def test_nothing_goes_on_after_the_end_when_redis_is_away(caplog: pytest.LogCaptureFixture) -> None:
    ran = asyncio.Event()

    class Unsettled(WorkJob):
        async def perform(self) -> None:
            ran.set()
            await asyncio.sleep(60)

    with RedisServer() as server:
        async with RedisAdapter(server.url) as adapter:
            await adapter.enqueue([Unsettled.bind().envelope()])
            worker = Worker(queues=["default"], adapter=adapter, lease=5, shutdown_timeout=0)
            async with anyio.create_task_group() as group:
                await group.start(worker.run)
                await ran.wait()
                server.kill()
                worker.stop()
        server.start()
        left = [task for task in asyncio.all_tasks() if task.get_name() == "aiojobs_rt batcher"]
    assert not left
    assert "1 job(s) could not be settled or put back" in caplog.text


async def test_an_outcome_that_can_not_be_sent_is_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of the package's own must not lose it without a word."""
    order, job = ordered()
    async with running(lease=1) as worker:
        queue = worker._settler._queue(worker._state.queues["default"])

        def wrong(*_: object) -> Any:
            monkeypatch.undo()
            raise RuntimeError("wrong")

        monkeypatch.setattr(queue, "_pack", wrong)
        handle = await job.perform_later("one")
        await wait_until(lambda: order)

        await becomes("succeeded", handle)
    assert order == ["one"]
    assert "can't be sent; they are kept" in caplog.text


async def test_lifespan_is_entered_once_and_left_at_the_end() -> None:
    events: list[str] = []
    seen: list[str] = []

    class Base(WorkJob):
        state: str

        @staticmethod
        @asynccontextmanager
        async def lifespan() -> AsyncGenerator[str]:
            events.append("enter")
            yield "pool"
            events.append("leave")

    class One(Base):
        async def perform(self) -> None:
            seen.append(self.state)

    class Two(Base):
        async def perform(self) -> None:
            seen.append(self.state)

    async with running():
        await One.perform_later()
        await Two.perform_later()
        await wait_until(lambda: len(seen) == 2)
        assert events == ["enter"]
    assert seen == ["pool", "pool"]
    assert events == ["enter", "leave"]


async def test_cancelled_from_outside_puts_its_jobs_back_at_no_charge(client: Any) -> None:
    runs: list[int] = []
    tidied = 0

    class Long(WorkJob):
        async def perform(self, seconds: float) -> None:
            nonlocal tidied
            runs.append(self.executions)
            try:
                await asyncio.sleep(seconds if len(runs) <= 3 else 0)
            finally:
                tidied += 1

    handles = await perform_all_later([Long.bind(60.0) for _ in range(8)])
    task = asyncio.create_task(Worker(queues=["default"], concurrency=3).run())
    await wait_until(lambda: len(runs) == 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tidied == 3
    assert client.xpending(KEYS.stream, "workers")["pending"] == 0
    assert client.zcard(KEYS.workers) == 0
    began = time.monotonic()
    async with running(concurrency=8):
        await wait_until(lambda: len(runs) == 11)
    assert time.monotonic() - began < 2
    assert runs == [1] * 11
    assert [await handle.status() for handle in handles] == ["succeeded"] * 8


async def test_burst_drains_and_ends() -> None:
    done: list[int] = []

    @retry_on(ValueError, wait=0, attempts=3, jitter=0)
    class Drained(WorkJob):
        async def perform(self, number: int) -> None:
            if number == 3 and self.executions < 3:
                raise ValueError("again")
            if number == 4:
                await Drained.perform_later(100)
            await asyncio.sleep(0.02 if number else 0.6)
            done.append(number)

    await perform_all_later([Drained.bind(number) for number in range(30)])
    later = await Drained.set(wait=600).perform_later(999)
    with anyio.fail_after(10):
        await Worker(queues=["default"], concurrency=4, burst=True).run()
    assert sorted(done) == [*range(30), 100]
    assert await later.status() == "scheduled"
    began = time.monotonic()
    with anyio.fail_after(5):
        await Worker(queues=["default"], concurrency=4, burst=True).run()
    assert time.monotonic() - began < 1.5


async def test_stop_waits_for_running_jobs_on_any_queue() -> None:
    done: list[str] = []

    class Short(WorkJob):
        async def perform(self) -> None:
            await asyncio.sleep(0.2)
            done.append(self.queue)

    queues = [f"q{n}" for n in range(5)]
    handles = await perform_all_later([Short.set(queue=queue, keep_result=60).bind() for queue in queues])
    worker = Worker(queues=queues, concurrency=10)
    async with anyio.create_task_group() as group:
        await group.start(worker.run)
        await asyncio.sleep(0)
        await wait_until(lambda: worker._slots.running and len(worker._slots.running) == 5)
        worker.stop()
    assert sorted(done) == queues
    assert [await handle.status() for handle in handles] == ["succeeded"] * 5


async def test_stop_puts_back_what_waits_for_a_slot() -> None:
    ran: list[int] = []
    begun = asyncio.Event()

    class Blocking(WorkJob):
        async def perform(self, number: int) -> None:
            ran.append(number)
            if number == 2000:
                begun.set()
                await asyncio.sleep(0.2)

    handles = await perform_all_later([Blocking.bind(number) for number in range(2030)])
    worker = Worker(queues=["default"], concurrency=1, lease=5)
    async with anyio.create_task_group() as group:
        await group.start(worker.run)
        await begun.wait()
        assert len(worker._buffer), "nothing waits: no test"
        worker.stop()
    assert ran == list(range(2001))
    assert {await handle.status() for handle in handles[2001:]} == {"queued"}
    async with running():
        await wait_until(lambda: len(ran) == 2030)
    assert sorted(ran) == list(range(2030))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"concurrency": 0}, "concurrency must be at least 1, got 0"),
        ({"lease": 0.1}, r"lease must be at least 0\.5"),
        ({"queues": ["no such name"]}, "'no such name' is not a queue name"),
        ({"queues": {"default": 0}}, "queue default: the weight must be at least 1, got 0"),
        ({"queues": []}, "no queue to serve: queues is empty"),
    ],
)
async def test_wrong_options_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        Worker(**options)


# -- single jobs ---------------------------------------------------------------------------------


async def test_cancel_reaches_a_running_job_at_once() -> None:
    begun = asyncio.Event()
    cancelled_at = 0.0

    class Endless(WorkJob):
        keep_result = 60

        async def perform(self) -> None:
            nonlocal cancelled_at
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled_at = time.monotonic()
                raise

    async with running(lease=30):
        handle = await Endless.perform_later()
        await begun.wait()
        asked = time.monotonic()
        assert await handle.cancel()
        await wait_until(lambda: cancelled_at)
        print(f"cancelled after {1000 * (cancelled_at - asked):.1f} ms")  # noqa: T201 - figures for the reader
        assert cancelled_at - asked < 0.5
        await becomes("cancelled", handle)
        assert not await handle.cancel()


async def test_a_job_that_starts_too_late_is_discarded() -> None:
    ran: list[str] = []

    class Fresh(WorkJob):
        keep_result = 60

        async def perform(self, label: str) -> None:
            ran.append(label)

    stale = await Fresh.set(expires_in=0.05).perform_later("stale")
    fresh = await Fresh.set(expires_in=60).perform_later("fresh")
    await asyncio.sleep(0.1)
    async with running():
        with pytest.raises(JobFailed, match=r"expired: not started within 0\.05 s"):
            await stale.result(timeout=5)
        await fresh.result(timeout=5)
    assert ran == ["fresh"]
    assert await stale.status() == "discarded"


async def test_delayed_jobs_never_start_early_by_redis_clock(client: Any) -> None:
    late: list[float] = []

    class Due(WorkJob):
        async def perform(self, delay_ms: int) -> None:
            seconds, micros = client.time()
            enqueued_ms = self.enqueued_at.timestamp() * 1000
            late.append(seconds * 1000 + micros / 1000 - enqueued_ms - delay_ms)

    async with running():
        delays = [100 + 17 * number for number in range(80)]
        await perform_all_later([Due.set(wait=delay / 1000).bind(delay) for delay in delays])
        await wait_until(lambda: len(late) == 80)
    late.sort()
    print(f"lateness: median {late[40]:.1f} ms, p99 {late[79]:.1f} ms")  # noqa: T201 - figures for the reader
    assert late[0] >= 0
    assert late[79] < 1000


@pytest.mark.fault(40)
async def test_a_message_of_a_newer_version_waits_for_a_worker_that_knows_it_and_dies_after_a_day(client: Any) -> None:
    class Known(WorkJob):
        async def perform(self) -> None: ...

    assert registry.resolve("Known") is Known
    now = int(time.time() * 1000)
    for job_id, head in (
        ("default.fresh", f'"at":{now}'),
        ("default.hours", f'"at":{now},"unread":{now - 3_600_000}'),
        ("default.old", f'"at":{now},"crashes":1,"unread":{now - 86_500_000}'),
    ):
        meta = f'{{"v":3,{head},"priority":3,"novel":[]}}'
        client.xadd(KEYS.stream, {"id": job_id, "job": "Later", "args": "{}", "meta": meta})
    async with running():
        await wait_until(lambda: client.zcard(KEYS.retries) == 2 and client.zcard(KEYS.dead) == 1)
    assert client.zrange(KEYS.dead, 0, -1) == [b"default.old"]
    due = {job_id: at - now for job_id, at in client.zrange(KEYS.retries, 0, -1, withscores=True)}
    assert due[b"default.fresh"] < 30_000
    assert due[b"default.hours"] > 890_000
    fresh = client.hget(KEYS.parked, "default.fresh")
    assert b'"v":3,' in fresh
    assert b'"novel":[]' in fresh, "the rest is as it came"
    assert b'"unread":' in fresh


async def test_a_condemned_worker_that_registers_again_does_so_under_its_next_epoch(client: Any) -> None:
    begun = asyncio.Event()

    class Endless(WorkJob):
        async def perform(self) -> None:
            begun.set()
            await asyncio.sleep(60)

    async with running(lease=30) as worker:
        await Endless.perform_later()
        await begun.wait()
        (served,) = worker._state.queues.values()
        client.zadd(KEYS.workers, {served.consumer: 0})
        await worker._leases.register(served)
        assert served.consumer.endswith(".1")
        await wait_until(lambda: not worker._slots.running)
        assert client.zscore(KEYS.workers, served.consumer) > 0
        # the condemned one's job comes back, and runs as the new one's
        client.delete(KEYS.grace)
        begun.clear()
        worker._reclaimer.soon.set()
        await begun.wait()


async def test_while_more_fall_due_than_a_call_promotes_outcomes_are_settled_in_small_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, job = ordered()
    monkeypatch.setattr(promoter, "LIMIT", 4)
    async with running() as worker:
        served = worker._state.queues["default"]
        told: list[tuple[bool, int]] = []
        queue = worker._settler._queue(served)

        def note(self: Served, promoting: bool) -> None:
            vars(self)["promoting"] = promoting
            told.append((promoting, queue._most()))

        def look(self: Served) -> bool:
            return bool(vars(self)["promoting"])

        monkeypatch.setattr(Served, "promoting", property(look, note), raising=False)
        handles = await perform_all_later([job.set(wait=0.2).bind(str(number)) for number in range(10)])
        await all_are("succeeded", handles)
    assert (True, settler.MOST_WHILE_PROMOTING) in told
    assert told[-1] == (False, MAX_JOBS)

"""The k-th await of enqueuer, fetcher, settler, promoter and of the whole worker, its ending included, is cancelled, for k = 1, 2, 3 ... until there is no k-th. (G1, G5)

Twice each: while it waits, and when the answer has come but nobody has looked at it. After each: no job is lost or there twice, every
entry that was delivered is held or will be put back, the connections and tasks are those of before, and the next call works.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from aiojobs_rt import Job, RedisAdapter, Worker
from aiojobs_rt.adapters.base import Envelope
from aiojobs_rt.core.outcome import SUCCEEDED, Snoozed
from aiojobs_rt.worker.buffer import Buffer
from tests.support.cancelling import Cancelling
from tests.support.raw_queue import RawQueue
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

    from aiojobs_rt.worker.served import Delivery

    Scenario = Callable[[str, RawQueue, Cancelling], Awaitable[None]]

JOBS = ("q.a", "q.b", "q.c")
MODES = pytest.mark.parametrize("late", [False, True], ids=["waiting", "answered"])


async def sweep(url: str, scenario: Scenario, *, late: bool, least: int) -> None:
    """Run the scenario with k = 1, 2, ... until it is through before its k-th await."""
    k = 0
    with RawQueue(url) as queue:
        queue.client.ping()
        while True:
            k += 1
            queue.client.flushall()
            before = there(queue)
            cancelling = Cancelling(k, late=late)
            await scenario(url, queue, cancelling)
            await wait_until(partial(back_to, before, queue), what=f"{before} of before {k}", timeout=3)
            if not cancelling.done:
                break
    assert k > least, "the scenario awaits too little to be the one that is meant"


def there(queue: RawQueue) -> tuple[int, int, int]:
    """Connections, tasks, and threads but those of the loop's own pool."""
    threads = [thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")]
    return len(queue.client.client_list()), len(asyncio.all_tasks()), len(threads)


def back_to(before: tuple[int, int, int], queue: RawQueue) -> bool:
    return all(now <= then for now, then in zip(there(queue), before, strict=True))


def cut_batcher(batcher: Any, cancelling: Cancelling) -> None:
    """Its sending task is the one that is cancelled."""
    drain = batcher._drain

    def cut(items: list[Any]) -> Any:
        return cancelling.over(drain(items))

    batcher._drain = cut


@asynccontextmanager
async def parts_of_a_worker(url: str, **options: Any) -> AsyncGenerator[Any]:
    """A worker with its leases, of which nothing runs by itself."""
    async with RedisAdapter(url) as adapter:
        worker: Any = Worker(queues=["q"], adapter=adapter, lease=30, **options)
        await worker._leases.take_all(asyncio.Event())
        try:
            yield worker
        finally:
            await worker._close()


class Taken(Buffer):
    """Keeps what is put, and has room for five."""

    __slots__ = ("taken",)

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Delivery] = []

    @property
    def idle(self) -> int:
        return 5

    def put(self, deliveries: Iterable[Delivery]) -> None:
        self.taken.extend(deliveries)


# -- enqueuer --------------------------------------------------------------------------------------


async def enqueue(url: str, queue: RawQueue, cancelling: Cancelling, *, whole: bool, warm: bool = False) -> None:
    one, two, first = (Envelope(f"q.{name}", "q", "Job", b"{}", b"}") for name in ("one", "two", "first"))
    async with RedisAdapter(url) as adapter:
        if warm:  # from the second one on, a call is begun without a task
            await adapter.enqueue([first])
            if not whole:
                queue.client.script_flush()  # then one takes it over
        if whole:
            calling = asyncio.create_task(cancelling.over(adapter.enqueue([one])))
        else:
            cut_batcher((await adapter._session()).enqueuer._batcher("q"), cancelling)
            calling = asyncio.create_task(adapter.enqueue([one]))
        (result,) = await asyncio.gather(calling, return_exceptions=True)
        cancelling.armed = False
        assert result == [True] or isinstance(result, asyncio.CancelledError)
        assert await adapter.enqueue([two]) == [True]
    found = [fields[b"id"].decode() for _, fields in queue.client.xrange(queue.keys.stream)]
    if warm:
        assert found.pop(0) == first.id
    assert found in ([one.id, two.id], [two.id] if result != [True] else [])


@MODES
@pytest.mark.parametrize("warm", [False, True], ids=["first", "second"])
async def test_the_caller_of_an_enqueue(redis_url: str, late: bool, warm: bool) -> None:
    await sweep(redis_url, partial(enqueue, whole=True, warm=warm), late=late, least=1)


@MODES
@pytest.mark.parametrize("warm", [False, True], ids=["first", "second"])
async def test_the_task_that_sends_enqueues(redis_url: str, late: bool, warm: bool) -> None:
    await sweep(redis_url, partial(enqueue, whole=False, warm=warm), late=late, least=2 if warm else 5)


# -- fetcher ---------------------------------------------------------------------------------------


async def fetch(url: str, queue: RawQueue, cancelling: Cancelling) -> None:
    """Two jobs wait, one comes while the fetcher blocks; it also finds what an earlier reply would have brought, and an entry that wakes it."""
    async with parts_of_a_worker(url, prefetch=0) as worker:
        (served,) = worker._state.queues.values()
        fetcher = worker._fetcher
        fetcher.block_ms = 20
        fetcher._buffer = fetcher._ahead._buffer = Taken()
        queue.enqueue("q.lost")
        queue.read(served.consumer)
        queue.enqueue("q.a", "q.b")
        queue.client.xadd(queue.keys.wake + served.consumer, {"w": "1"})
        late_ones = ["q.c"]
        turns = 0

        async def on_empty() -> None:
            nonlocal turns
            turns += 1
            if late_ones:
                queue.enqueue(late_ones.pop())
            worker._state.quiet = turns >= 3

        fetcher._on_empty = on_empty
        fetching = asyncio.create_task(cancelling.over(fetcher.run()))
        await asyncio.gather(fetching, return_exceptions=True)
        cancelling.armed = False
        assert fetching.cancelled() == cancelling.done
        held = set(served.held[""])
        assert [delivery.entry for delivery in fetcher._buffer.taken] == list(served.held[""])
        pending = pending_of(queue, served.consumer)
        assert held <= pending
        for _ in range(2):
            await worker._reclaimer.beat(served)
        assert served.look_for_phantoms or held == pending, "an entry is here, and nobody knows"
        turns, worker._state.quiet = 0, False
        await fetcher.run()
        assert set(served.held[""]) == pending_of(queue, served.consumer)
        ids = [delivery.read().id for delivery in fetcher._buffer.taken]
        assert sorted(ids) == ["q.a", "q.b", "q.c", "q.lost"]


def pending_of(queue: RawQueue, consumer: str) -> set[bytes]:
    found = queue.client.xpending_range(
        queue.keys.stream, "workers", min="-", max="+", count=100, consumername=consumer
    )
    return {item["message_id"] for item in found}


@MODES
async def test_the_fetcher(redis_url: str, late: bool) -> None:
    await sweep(redis_url, fetch, late=late, least=8)


# -- settler ---------------------------------------------------------------------------------------


async def settle(url: str, queue: RawQueue, cancelling: Cancelling) -> None:
    async with parts_of_a_worker(url, prefetch=0) as worker:
        (served,) = worker._state.queues.values()
        settler, taken = worker._settler, Taken()
        worker._fetcher._buffer = taken
        queue.enqueue(*JOBS)
        await worker._fetcher._read(served, 3)
        succeeding, snoozing, releasing = taken.taken
        batcher = settler._queue(served).batcher
        cut_batcher(batcher, cancelling)
        succeeding.read()
        settler.put(succeeding, SUCCEEDED, 0.0, 0.0)
        settler.put(snoozing, Snoozed(snoozing.read(), 60_000), 0.0, 0.0)
        settler.release(releasing)
        await batcher.aclose()
        cancelling.armed = False
        assert pending_of(queue, served.consumer) <= set(served.held[""]), "an entry is here, and nobody knows"
        queue.enqueue("q.next")
        await worker._fetcher._read(served, 2)
        following = taken.taken[-1]
        for delivery in taken.taken[3:]:
            delivery.read()
            settler.put(delivery, SUCCEEDED, 0.0, 0.0)
        await settler.flush()
        assert following.entry not in pending_of(queue, served.consumer), "the next call does not work"
        await worker._leases.give_up_all()
    queue.register("another")
    while queue.reclaim("another")[0] == b"reclaimed":
        pass
    places = {job_id: queue.look(job_id) for job_id in JOBS}
    again = {"queued"} if cancelling.done else set[str]()
    assert places["q.a"] in {"ended", *again}
    assert places["q.b"] in {"scheduled", *again}
    assert places["q.c"] in {"queued", "ended"}
    index = {job_id.decode() for job_id in queue.client.hkeys(queue.keys.index)}
    assert index == {job_id for job_id in JOBS if places[job_id] != "ended"}
    lines = [fields[b"r"].split(b'"')[1].decode() for _, fields in queue.client.xrange(queue.keys.recent)]
    assert len(lines) == len(set(lines)), "a job was settled twice"


@MODES
async def test_the_settler(redis_url: str, late: bool) -> None:
    await sweep(redis_url, settle, late=late, least=4)


# -- promoter --------------------------------------------------------------------------------------


async def promote(url: str, queue: RawQueue, cancelling: Cancelling) -> None:
    async with parts_of_a_worker(url) as worker:
        (served,) = worker._state.queues.values()
        queue.enqueue(*JOBS, route="+60000")
        queue.client.zadd(queue.keys.scheduled, {JOBS[0]: 1, JOBS[1]: 2})
        worker._promoter.note_due("q", 1)
        promoting = asyncio.create_task(cancelling.over(worker._promoter.run()))
        await wait_until(
            lambda: promoting.done() or (queue.client.xlen(queue.keys.stream) == 2 and worker._promoter._due),
            interval=0.001,
        )
        promoting.cancel()
        await asyncio.gather(promoting, return_exceptions=True)
        cancelling.armed = False
        assert queue.client.hlen(queue.keys.index) == 3
        assert queue.client.xlen(queue.keys.stream) + queue.client.zcard(queue.keys.scheduled) == 3
        queue.client.zadd(queue.keys.scheduled, {JOBS[2]: 3})
        await worker._promoter.promote(served)
        found = [fields[b"id"].decode() for _, fields in queue.client.xrange(queue.keys.stream)]
        assert found == list(JOBS)
        assert queue.client.zcard(queue.keys.scheduled) == queue.client.hlen(queue.keys.parked) == 0


@MODES
async def test_the_promoter(redis_url: str, late: bool) -> None:
    await sweep(redis_url, promote, late=late, least=3)


# -- the worker ------------------------------------------------------------------------------------


class Swept(Job):
    queue = "q"
    ended: list[str]

    async def perform(self) -> None:
        self.ended.append(self.id)


async def work(url: str, queue: RawQueue, cancelling: Cancelling) -> None:
    Swept.ended = []
    async with RedisAdapter(url) as adapter:
        envelopes = [Swept.bind().envelope() for _ in range(3)]
        await adapter.enqueue(envelopes)
        ids = {envelope.id for envelope in envelopes}
        worker: Any = Worker(queues=["q"], adapter=adapter, lease=30, concurrency=2, shutdown_timeout=1)
        working = asyncio.create_task(cancelling.over(worker.run()))
        await wait_until(lambda: working.done() or set(Swept.ended) == ids, interval=0.001)
        worker.stop()
        await asyncio.wait([working])
        assert working.cancelled() or working.exception() is None
        cancelling.armed = False
        queue.client.zrem(queue.keys.workers, *(queue.client.zrange(queue.keys.workers, 0, -1) or [b"-"]))
        last = Worker(queues=["q"], adapter=adapter, lease=30, concurrency=2, burst=True)
        await last.run()
    assert set(Swept.ended) == ids
    assert queue.leftovers() == {}


@MODES
async def test_the_worker(redis_url: str, late: bool) -> None:
    await sweep(redis_url, work, late=late, least=6)


class Endless(Job):
    queue = "q"
    running = 0

    async def perform(self) -> None:
        if Endless.running >= 2:
            return  # the next worker's
        Endless.running += 1
        await asyncio.Event().wait()


async def end(url: str, queue: RawQueue, cancelling: Cancelling) -> None:
    """The worker is cancelled while it works, and once more at the k-th await of its ending."""
    Endless.running = 0
    cancelling.armed = False
    async with RedisAdapter(url) as adapter:
        await adapter.enqueue([Endless.bind().envelope() for _ in range(3)])
        worker: Any = Worker(queues=["q"], adapter=adapter, lease=30, concurrency=2, shutdown_timeout=1)
        working = asyncio.create_task(cancelling.over(worker.run()))
        await wait_until(lambda: Endless.running == 2, interval=0.001)
        cancelling.awaits, cancelling.armed = 0, True
        working.cancel()
        await asyncio.wait([working])
        assert working.cancelled()
        cancelling.armed = False
        queue.client.zrem(queue.keys.workers, *(queue.client.zrange(queue.keys.workers, 0, -1) or [b"-"]))
        last = Worker(queues=["q"], adapter=adapter, lease=30, concurrency=2, burst=True)
        await last.run()
    assert queue.leftovers() == {}


@MODES
async def test_the_end_of_a_cancelled_worker(redis_url: str, late: bool) -> None:
    await sweep(redis_url, end, late=late, least=4)

"""Numbered calls (G4): a call that is sent again, whatever was lost, is done once."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
import redis

from aiojobs_rt.adapters.base import Envelope
from aiojobs_rt.adapters.redis.adapter import RedisAdapter
from aiojobs_rt.core.message import new_job_id
from aiojobs_rt.errors import EnqueueError, QueueFullError
from tests.support.proxy import Proxy
from tests.support.raw_queue import RawQueue, retried, succeeded
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis_server import RedisServer


@pytest.fixture
def queue(any_redis: str) -> Iterator[RawQueue]:
    with RawQueue(any_redis) as queue:
        yield queue


@pytest.fixture
def plain(redis_url: str) -> Iterator[RawQueue]:
    with RawQueue(redis_url) as queue:
        yield queue


def envelope(queue: str = "q", **options: Any) -> Envelope:
    return Envelope(new_job_id(queue), queue, "Job", b"{}", b"}", **options)


# -- the scripts -----------------------------------------------------------------------------------


def test_an_enqueue_sent_again_after_its_job_has_ended_makes_no_second_job(queue: RawQueue) -> None:
    queue.register("w")
    assert queue.enqueue("q.a", number=1) == b""
    queue.settle("w", succeeded(queue.read("w")[0]))
    assert queue.enqueue("q.a", number=1) == b""
    assert queue.leftovers() == {}
    assert 0 < queue.client.ttl(queue.keys.call + "producer") <= 600


def test_a_lower_number_is_refused(queue: RawQueue) -> None:
    queue.register("w")
    queue.enqueue("q.b", number=2)
    before = queue.snapshot()
    with pytest.raises(redis.ResponseError, match="STALE"):
        queue.enqueue("q.a", number=1)
    assert queue.snapshot() == before
    queue.enqueue("q.a", number=1, by="another")


def test_a_settle_sent_again_gets_its_first_answer(queue: RawQueue) -> None:
    queue.register("w")
    queue.enqueue("q.lost", "q.a", "q.b")
    lost, a, b = queue.read("w", count=3)
    queue.client.xack(queue.keys.stream, "workers", lost.entry)
    items = (succeeded(lost), retried(a), succeeded(b))
    assert queue.settle("w", *items, number=7) == b"011"
    before = {key: value for key, value in queue.snapshot().items() if b":call:" not in key}
    assert queue.settle("w", *items, number=7) == b"011"
    assert {key: value for key, value in queue.snapshot().items() if b":call:" not in key} == before
    with pytest.raises(redis.ResponseError, match="STALE"):
        queue.settle("w", *items, number=6)


# -- the enqueuer ----------------------------------------------------------------------------------


async def test_a_lost_reply_makes_no_second_job_even_when_the_first_has_run(
    plain: RawQueue, redis_server: RedisServer
) -> None:
    plain.register("w")
    async with Proxy(redis_server.port) as proxy, RedisAdapter(proxy.url) as adapter:
        assert await adapter.enqueue([envelope()]) == [True]  # connected, and the script is known
        plain.settle("w", succeeded(plain.read("w")[0]))
        proxy.eat_reply(b"EVALSHA")
        proxy.latency_ms = 30
        enqueueing = asyncio.create_task(adapter.enqueue([envelope()]))
        entries = await wait_until(lambda: plain.read("w"), interval=0.001)
        plain.settle("w", succeeded(entries[0]))  # over before its producer sends the call again
        assert await enqueueing == [True]
        assert proxy.eaten == 1
    assert plain.leftovers() == {}


async def hurt(how: str, proxy: Proxy, queue: RawQueue) -> None:
    match how:
        case "eaten":
            proxy.eat_reply(b"EVALSHA", count=3)
        case "silent":
            proxy.eat_reply_silently(b"EVALSHA")
        case "flush":
            queue.client.script_flush()
        case "flush and eaten":
            queue.client.script_flush()
            proxy.eat_reply(b"EVAL ")
        case "reset":
            proxy.reset_all()
        case "half close":
            proxy.half_close()
        case "kill":
            queue.client.client_kill_filter(_type="normal", skipme=True)
        case "refuse":
            await proxy.refuse()
            proxy.reset_all()
            asyncio.get_running_loop().call_later(0.1, lambda: asyncio.ensure_future(proxy.accept()))
        case _:
            raise AssertionError(how)


@pytest.mark.parametrize(
    "how", ["eaten", "silent", "flush", "flush and eaten", "reset", "half close", "kill", "refuse"]
)
@pytest.mark.fault(14)
async def test_whatever_happens_to_the_connection_each_job_is_enqueued_once(
    plain: RawQueue, redis_server: RedisServer, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiojobs_rt.adapters.redis.enqueuer.CALL_TIMEOUT", 0.3)
    async with Proxy(redis_server.port) as proxy, RedisAdapter(proxy.url) as adapter:
        await adapter.enqueue([envelope()])
        await hurt(how, proxy, plain)
        envelopes = [envelope() for _ in range(50)]
        answers = await asyncio.gather(*(adapter.enqueue([one]) for one in envelopes))
        assert answers == [[True]] * 50
    found = [fields[b"id"].decode() for _, fields in plain.client.xrange(plain.keys.stream)]
    assert found[1:] == [one.id for one in envelopes]


async def test_a_black_hole_that_passes_is_survived(
    plain: RawQueue, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiojobs_rt.adapters.redis.enqueuer.CALL_TIMEOUT", 0.2)
    async with Proxy(redis_server.port) as proxy, RedisAdapter(proxy.url) as adapter:
        await adapter.enqueue([envelope()])
        proxy.blackhole = True
        enqueueing = asyncio.create_task(adapter.enqueue([envelope()]))
        await wait_until(lambda: proxy.swallowed)
        proxy.blackhole = False
        assert await enqueueing == [True]
    assert plain.client.xlen(plain.keys.stream) == 2


@pytest.mark.parametrize(
    ("how", "fate"),
    [("blackhole", "whether the job was enqueued is not known"), ("refused", "the job was not enqueued")],
)
async def test_retries_are_bounded_and_end_in_an_error_that_says_what_is_known(
    plain: RawQueue, redis_server: RedisServer, how: str, fate: str
) -> None:
    loop = asyncio.get_running_loop()
    async with Proxy(redis_server.port) as proxy, RedisAdapter(proxy.url, enqueue_timeout=0.5) as adapter:
        if how == "blackhole":
            await adapter.enqueue([envelope()])
            plain.client.flushall()
            proxy.blackhole = True
        else:
            await proxy.refuse()
        began = loop.time()
        with pytest.raises(EnqueueError, match=fate) as raised:
            await adapter.enqueue([envelope()])
        assert loop.time() - began < 2
        assert not isinstance(raised.value, QueueFullError)
        assert ("Is Redis running there? AIOJOBS_RT_REDIS_URL, redis_url in" in str(raised.value)) == (how == "refused")
        proxy.blackhole = False
        await proxy.accept()
        assert await adapter.enqueue([envelope()]) == [True]
    assert plain.client.xlen(plain.keys.stream) == 1


async def test_a_full_redis_is_its_own_error_and_nothing_is_enqueued(queue: RawQueue, any_redis: str) -> None:
    async with RedisAdapter(any_redis) as adapter:
        await adapter.enqueue([envelope()])
        queue.client.config_set("maxmemory", 1)
        try:
            for batch in ([envelope()], [envelope(delay_ms=1000)], [envelope(priority=5)], [envelope(), envelope()]):
                with pytest.raises(QueueFullError, match="nothing was enqueued"):
                    await adapter.enqueue(batch)
        finally:
            queue.client.config_set("maxmemory", 0)
        assert await adapter.enqueue([envelope()]) == [True]
    assert queue.client.xlen(queue.keys.stream) == 2
    assert queue.client.zcard(queue.keys.scheduled) == 0


async def test_what_redis_refuses_of_one_caller_is_no_matter_of_the_others(plain: RawQueue, redis_url: str) -> None:
    plain.client.zadd(plain.keys.lanes, {f"p{n}": n for n in range(1, 67)})
    async with RedisAdapter(redis_url) as adapter:
        await adapter.enqueue([envelope()])
        results = await asyncio.gather(
            *(adapter.enqueue([envelope(priority=500 if n == 3 else 0)]) for n in range(6)), return_exceptions=True
        )
    assert [result for result in results if result != [True]] == [results[3]]
    assert isinstance(results[3], EnqueueError)
    assert "64 priorities" in str(results[3])
    assert plain.client.xlen(plain.keys.stream) == 6


# -- cancelled callers (G5) ------------------------------------------------------------------------


async def test_cancelled_callers_leave_everything_sound(plain: RawQueue, redis_server: RedisServer) -> None:
    chance = random.Random(5)
    baseline = len(asyncio.all_tasks())
    async with Proxy(redis_server.port) as proxy, RedisAdapter(proxy.url) as adapter:
        proxy.latency_ms, proxy.jitter_ms = 2, 2
        envelopes = [envelope() for _ in range(200)]
        callers = [asyncio.create_task(adapter.enqueue([one])) for one in envelopes]
        loop = asyncio.get_running_loop()
        for caller in chance.sample(callers, 150):
            loop.call_later(chance.uniform(0, 0.02), caller.cancel)
        results = await asyncio.gather(*callers, return_exceptions=True)
        assert await adapter.enqueue([last := envelope()]) == [True]
        accepted = proxy.accepted
    found = [fields[b"id"].decode() for _, fields in plain.client.xrange(plain.keys.stream)]
    assert len(found) == len(set(found))
    answered = [one.id for one, result in zip(envelopes, results, strict=True) if result == [True]]
    assert {*answered, last.id} <= set(found) <= {*(one.id for one in envelopes), last.id}
    assert sum(isinstance(result, asyncio.CancelledError) for result in results) > 10
    assert accepted == 1, "a cancelled caller cost a connection"
    await wait_until(lambda: len(asyncio.all_tasks()) <= baseline + 0)


async def test_a_caller_cancelled_at_any_await_leaves_its_job_enqueued_or_not(plain: RawQueue, redis_url: str) -> None:
    """Step by step through the loop's turns: the first use connects, loads the script, sends."""
    for turns in range(30):
        plain.client.flushall()
        adapter = RedisAdapter(redis_url)
        caller = asyncio.create_task(adapter.enqueue([one := envelope()]))
        for _ in range(turns):
            await asyncio.sleep(0)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        assert await adapter.enqueue([two := envelope()]) == [True]
        await adapter.aclose()
        found = [fields[b"id"].decode() for _, fields in plain.client.xrange(plain.keys.stream)]
        assert found in ([one.id, two.id], [two.id])

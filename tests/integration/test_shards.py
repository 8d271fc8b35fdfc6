"""Sharded queues: one queue by name, several streams behind it; and enqueues that wait for replicas."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from aiojobs_rt import EnqueueError, JobHandle, RedisAdapter, after_enqueue, perform_all_later
from aiojobs_rt.admin import Admin
from aiojobs_rt.errors import ConfigurationError
from aiojobs_rt.settings import settings
from tests.support.jobs import Fails, FaultEcho, FaultJob, Moves, Nap
from tests.support.outcomes import all_are, becomes
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for
from tests.support.worker_process import Fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import redis

SHARDS = {"bulk": 4}
ENVIRONMENT = {"AIOJOBS_RT_SHARDS": "bulk=4"}


@pytest.fixture
async def adapter(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisAdapter]:
    async with RedisAdapter(redis_url, shards=SHARDS) as adapter:
        monkeypatch.setattr(FaultJob, "adapter", adapter)
        yield adapter


@pytest.fixture
async def fleet(redis_url: str, adapter: RedisAdapter, tmp_path: Path) -> AsyncIterator[Fleet]:
    assert adapter.shards
    fleet = Fleet(redis_url, tmp_path)
    try:
        yield fleet
    finally:
        fleet.close()


def shard_of(handle: JobHandle[Any]) -> str:
    return handle.id.partition(".")[0]


async def test_jobs_spread_over_the_shards_and_run(fleet: Fleet) -> None:
    worker = await fleet.start(queues=["bulk"], environment=ENVIRONMENT)
    handles = await perform_all_later([Nap.set(queue="bulk").bind(n) for n in range(400)])
    assert Counter(map(shard_of, handles)) == {"bulk": 100, "bulk~1": 100, "bulk~2": 100, "bulk~3": 100}
    await fleet.all_ended(400)
    fleet.ledger.read().check_exact([handle.id for handle in handles])
    single = [await FaultEcho.set(queue="bulk").perform_later(str(n)) for n in range(8)]
    assert Counter(map(shard_of, single)) == {"bulk": 2, "bulk~1": 2, "bulk~2": 2, "bulk~3": 2}
    assert [await handle.result(timeout=10) for handle in single] == [str(n) for n in range(8)]
    assert single[1].queue == "bulk"
    found = JobHandle.of(single[3].id, adapter=FaultJob.adapter)
    assert await found.status() == "succeeded"
    moved = await Moves.set(queue="bulk").perform_later()
    await fleet.start(queues=["low"])
    await becomes("succeeded", moved)
    assert "queues bulk," in worker.log


class Announced(FaultJob):
    @after_enqueue
    def announce(self) -> None:
        announced.append(self.id)

    async def perform(self) -> None: ...


announced: list[str] = []


async def test_a_handle_knows_its_job_also_with_callbacks_and_when_its_id_was_told_before(
    adapter: RedisAdapter,
) -> None:
    announced.clear()
    handles = [await Announced.set(queue="bulk").perform_later() for _ in range(4)]
    assert {shard_of(handle) for handle in handles} == {"bulk", "bulk~1", "bulk~2", "bulk~3"}
    assert announced == [handle.id for handle in handles]
    told = [Nap.set(queue="bulk").bind(n).identified() for n in range(4)]
    await adapter.enqueue([bound.envelope() for bound in told])
    handles += [bound.handle() for bound in told]
    assert [await handle.status() for handle in handles] == ["queued"] * 8


async def test_delays_cancels_and_the_dead_of_all_shards(fleet: Fleet, adapter: RedisAdapter) -> None:
    later = await perform_all_later([Nap.set(queue="bulk", wait=60).bind(n) for n in range(8)])
    waiting = await perform_all_later([Nap.set(queue="bulk").bind(n) for n in range(8)])
    async with Admin(adapter) as admin:
        assert await admin.queue_names() == ["bulk"]
        (summary,) = await admin.queues()
        assert (summary.name, summary.waiting, summary.scheduled) == ("bulk", 8, 8)
        pages: list[str] = []
        after = ""
        while True:
            page = await admin.jobs("bulk", "waiting", limit=3, after=after)
            pages += [job.id for job in page.jobs]
            after = page.next
            if not after:
                break
        assert sorted(pages) == sorted(handle.id for handle in waiting)
        assert [await handle.cancel() for handle in later] == [True] * 8
        assert await admin.pause("bulk")
        await fleet.start(queues=["bulk"], environment=ENVIRONMENT)
        assert (await admin.queue("bulk")).waiting == 8
        assert await admin.resume("bulk")
        await all_are("succeeded", waiting)
        dead = await perform_all_later([Fails.set(queue="bulk").bind("error") for _ in range(8)])
        await all_are("dead", dead)
        details = await admin.job(dead[5].id)
        assert details is not None
        assert details.queue == "bulk"
        assert await admin.retry_dead("bulk") == 8
        await fleet.written("start", 8 + 16)
        await all_are("dead", dead)
        assert await admin.discard_dead("bulk") == 8
        (worker,) = await admin.workers()
        assert worker.queues == ("bulk",)


async def test_fewer_shards_are_drained_and_more_begin_empty(fleet: Fleet, redis_url: str) -> None:
    handles = await perform_all_later([Nap.set(queue="bulk").bind(n) for n in range(40)])
    await fleet.start(queues=["bulk"])  # it knows of no shards but by the registry
    await fleet.all_ended(40)
    await all_are("succeeded", handles)
    async with RedisAdapter(redis_url) as plain:
        assert await plain.status(handles[-1].id) == "succeeded"


async def test_the_shards_of_one_queue_take_turns(fleet: Fleet) -> None:
    """A shard that always has jobs holds up no other."""
    handles = await perform_all_later([Nap.set(queue="bulk").bind(n, 0.005) for n in range(400)])
    await fleet.start(queues=["bulk"], concurrency=2, environment=ENVIRONMENT)
    await fleet.written("end", 60)
    counted = Counter(job_id.partition(".")[0] for job_id in fleet.ledger.read().ids("end"))
    assert min(counted[part] for part in ("bulk", "bulk~1", "bulk~2", "bulk~3")) > 0, counted
    await fleet.all_ended(len(handles))


@pytest.mark.parametrize("wrong", [{"bulk": 0}, {"bulk": 1001}, {"no queue": 2}, {"bulk~1": 2}])
def test_wrong_shards_are_refused(redis_url: str, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="shards"):
        RedisAdapter(redis_url, shards=wrong)


def test_shards_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings.cache_clear()
    monkeypatch.setenv("AIOJOBS_RT_SHARDS", "bulk=8, mail=2")
    assert settings().shards == {"bulk": 8, "mail": 2}
    settings.cache_clear()
    monkeypatch.setenv("AIOJOBS_RT_SHARDS", "bulk:8")
    with pytest.raises(ConfigurationError, match="AIOJOBS_RT_SHARDS"):
        settings()
    monkeypatch.delenv("AIOJOBS_RT_SHARDS")
    settings.cache_clear()


# -- wait_replicas -----------------------------------------------------------------------------------


async def test_an_enqueue_waits_for_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    with RedisServer() as master, RedisServer(arguments=("--replicaof", "127.0.0.1", str(master.port))) as replica:
        with master.client() as client:
            wait_for(lambda: _online(client) == 1, timeout=15, what="the replica")
        async with RedisAdapter(master.url, wait_replicas=1, wait_timeout=1.0) as adapter:
            monkeypatch.setattr(FaultJob, "adapter", adapter)
            first = await Nap.perform_later(1)
            with replica.client() as client:
                assert client.hexists("aiojobs:{default}:index", first.id)
            replica.pause()
            began = time.monotonic()
            with pytest.raises(EnqueueError, match="in the master, but only 0 of 1 replica"):
                await Nap.perform_later(2)
            assert 0.9 < time.monotonic() - began < 4
            replica.resume()
            with master.client() as client:
                assert client.xlen("aiojobs:{default}:stream") == 2
                client.script_flush()
                wait_for(lambda: client.wait(1, 500) == 1, what="the replica to have caught up")
            await Nap.perform_later(3)


def _online(client: redis.Redis) -> int:
    told: Any = client.info("replication")
    return int(told["connected_slaves"]) if told.get("slave0", {}).get("state") == "online" else 0

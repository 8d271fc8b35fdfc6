"""After a drain everything is as it was: Redis' memory and keys, the worker's memory, files, tasks and internals. (G12)"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiojobs_rt import RedisAdapter, Worker, perform_all_later
from aiojobs_rt.adapters.redis.keys import is_permanent
from tests.support.jobs import FaultMixed, Weighs
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.worker_process import Fleet

KEY = "aiojobs:{default}:"
MIB = 1 << 20


async def drain(client: Any, *, jobs: int) -> None:
    before = _ended(client)
    for start in range(0, jobs, 5000):
        await perform_all_later(
            [FaultMixed.bind(number, "x" * 100) for number in range(start, min(start + 5000, jobs))]
        )
    await wait_until(lambda: _ended(client) == before + jobs, timeout=50, interval=0.05, what="the drain")


def _ended(client: Any) -> int:
    counts = client.hgetall(KEY + "stats")
    return int(counts.get(b"succeeded", 0)) + int(counts.get(b"discarded", 0))


def at_rest(client: Any) -> set[bytes]:
    """The keys there are, after asserting that nothing of any job is left."""
    for stream in (KEY + "stream", KEY + "stream:returned"):
        assert client.xlen(stream) == 0
        if client.exists(stream):
            assert client.xpending(stream, "workers")["pending"] == 0
    for key in ("index", "parked", "scheduled", "retries", "dead", "cancelled"):
        assert not client.exists(KEY + key), f"{key} is not empty"
    keys = set(client.scan_iter(count=1000))
    assert not {key for key in keys if key.startswith((KEY + "errors:").encode()) or b":result:" in key}
    for key in keys:
        assert is_permanent(key.decode()) or client.ttl(key) > 0, key
    return {key for key in keys if b":call:" not in key}


@dataclass(frozen=True, slots=True)
class Weight:
    """What a worker and its Redis hold after a drain."""

    blocks: int
    resident: int
    redis: int
    files: int
    keys: frozenset[bytes]


async def soak(fleet: Fleet, *, drains: int, jobs: int) -> list[Weight]:
    """Drain so many times; the weight after each.

    The worker weighs itself at rest and has given spare memory back: what stays resident otherwise follows the largest backlog of outcomes
    that there ever was, so it depends on what else the machine does.
    """
    worker = await fleet.start(concurrency=20, lease=2)  # what each slot makes at first use is soon there
    weights: list[Weight] = []
    with fleet.client() as client:
        for _ in range(drains):
            await drain(client, jobs=jobs)
            await Weighs.perform_later()
            await wait_until(lambda: fleet.ledger.count("note") > len(weights), what="the worker to weigh itself")
            await wait_until(lambda: not client.exists(KEY + "index"), what="its settling")
            blocks, resident = map(int, fleet.ledger.read().notes()[-1].split())
            keys = at_rest(client)
            assert len(client.xinfo_consumers(KEY + "stream", "workers")) == 1
            client.memory_purge()
            used = client.info("memory")["used_memory_dataset"]
            weights.append(Weight(blocks, resident, used, worker.files(), frozenset(keys)))
    for name in ("blocks", "resident", "redis", "files"):
        print(name, [getattr(weight, name) for weight in weights])  # noqa: T201 - figures for the reader
    return weights


def check_flat(weights: list[Weight]) -> None:
    """The last quarter holds no more than the second one, each at its least: what is made at first use is there by then."""
    quarter = max(1, len(weights) // 4)
    before, after = weights[quarter : 2 * quarter], weights[-quarter:]
    assert _growth(before, after, "blocks") < 500  # Python objects, or their tables
    assert _growth(before, after, "resident") < MIB
    assert _growth(before, after, "redis") < MIB // 4
    assert max(weight.files for weight in weights) - min(weight.files for weight in weights) <= 2
    assert weights[-1].keys == weights[0].keys


def _growth(before: list[Weight], after: list[Weight], name: str) -> int:
    lowest: int = min(getattr(weight, name) for weight in after)
    return lowest - int(min(getattr(weight, name) for weight in before))


@pytest.mark.fault(35)
async def test_six_drains_leave_no_trace(own_fleet: Fleet) -> None:
    """The soak, short: the million jobs below with `-m long`."""
    check_flat(await soak(own_fleet, drains=6, jobs=8_000))


async def test_nothing_is_left_inside_the_worker(own_fleet: Fleet) -> None:
    worker: Any = Worker(queues=["default"], adapter=RedisAdapter(own_fleet.url), concurrency=50, lease=5)
    async with anyio.create_task_group() as group:
        await group.start(worker.run)
        tasks: list[int] = []
        with own_fleet.client() as client:
            for _ in range(3):
                await drain(client, jobs=5000)
                await wait_until(lambda: not worker._settler.unsettled)
                served = worker._state.queues["default"]
                assert {lane: len(held) for lane, held in served.held.items() if held} == {}
                assert len(worker._buffer) == 0
                assert worker._slots.running == []
                assert len(worker._slots._slots) == 50
                await wait_until(lambda: worker._buffer.idle == 50)
                tasks.append(len(asyncio.all_tasks()))
                at_rest(client)
        assert max(tasks) - min(tasks) <= 2
        worker.stop()


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.fault(35)
async def test_a_soak_of_a_million_jobs(own_fleet: Fleet) -> None:
    check_flat(await soak(own_fleet, drains=50, jobs=20_000))

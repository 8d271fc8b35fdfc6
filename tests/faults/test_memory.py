"""After a drain everything is as it was: Redis' memory and keys, the worker's memory, files, tasks and internals. (G12)"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiojobs_rt import RedisAdapter, Worker, perform_all_later
from aiojobs_rt.adapters.redis.keys import is_permanent
from tests.support.jobs import FaultMixed
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.worker_process import Fleet

KEY = "aiojobs:{default}:"
JOBS = 20_000
MIB = 1 << 20


async def drain(client: Any, *, jobs: int) -> None:
    before = _ended(client)
    for start in range(0, jobs, 5000):
        await perform_all_later([FaultMixed.bind(number, "x" * 100) for number in range(start, start + 5000)])
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


@pytest.mark.fault(35)
async def test_six_drains_leave_no_trace(own_fleet: Fleet) -> None:
    """The soak, short: the million jobs below with `-m long`."""
    worker = await own_fleet.start(concurrency=100, lease=2)
    resident: list[int] = []
    used: list[int] = []
    files: list[int] = []
    keys: list[set[bytes]] = []
    with own_fleet.client() as client:
        for _ in range(6):
            await drain(client, jobs=JOBS)
            keys.append(at_rest(client))
            resident.append(worker.memory())
            files.append(worker.files())
            assert len(client.xinfo_consumers(KEY + "stream", "workers")) == 1
            client.memory_purge()
            used.append(client.info("memory")["used_memory_dataset"])
    print(  # noqa: T201 - figures for the reader
        f"worker MiB {[round(size / MIB, 1) for size in resident]}, Redis KiB {[size >> 10 for size in used]}, files {files}"
    )
    # an allocator grows by whole arenas; a leak of 100 bytes a job would be 8 MiB in these four drains, and in Redis too
    assert resident[5] - resident[1] < 6 * MIB
    assert used[5] - used[1] < MIB // 4
    assert max(files) - min(files) <= 2, "connections are made at first use, and no more"
    assert keys[5] == keys[0]


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
    worker = await own_fleet.start(concurrency=100, lease=2)
    resident: list[int] = []
    used: list[int] = []
    files: list[int] = []
    with own_fleet.client() as client:
        for _ in range(50):
            await drain(client, jobs=JOBS)
            resident.append(worker.memory())
            files.append(worker.files())
            client.memory_purge()
            used.append(client.info("memory")["used_memory_dataset"])
        at_rest(client)
        assert len(client.xinfo_consumers(KEY + "stream", "workers")) == 1
    print(  # noqa: T201 - figures for the reader
        f"worker MiB {[round(size / MIB, 1) for size in resident]}, Redis KiB {[size >> 10 for size in used]}, files {files}"
    )
    assert resident[-1] - resident[9] < 4 * MIB, resident
    assert used[-1] - used[9] < MIB // 4, used
    assert max(files) - min(files) <= 2, files

"""`redis+cluster://`: everything works with queues on three nodes, and goes on when a node fails over, is killed, or gives a slot away."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest
from redis.crc import key_slot

from aiojobs_rt import RedisAdapter, perform_all_later
from aiojobs_rt.errors import ConfigurationError, RedisUnavailable
from tests.support.behaviours import QUEUES, Behaviours, Writers, check_no_loss
from tests.support.jobs import FaultEcho, FaultJob
from tests.support.redis_server import RedisServer, binaries
from tests.support.replicated import NODE_TIMEOUT_MS, ClusterSetup
from tests.support.waiting import wait_until
from tests.support.worker_process import Fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


RESUMED = 2 * NODE_TIMEOUT_MS / 1000 + 3


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClusterSetup]:
    if not binaries():
        pytest.skip("there is no redis-server on this machine")
    with ClusterSetup() as setup:
        yield setup


@pytest.fixture
async def adapter(cluster: ClusterSetup) -> AsyncIterator[RedisAdapter]:
    cluster.settle()
    for master in cluster.masters():
        with master.client() as client:
            client.flushall()
    async with RedisAdapter(cluster.url) as adapter:
        yield adapter


@pytest.fixture
async def fleet(
    cluster: ClusterSetup, adapter: RedisAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Fleet]:
    monkeypatch.setattr(FaultJob, "adapter", adapter)
    fleet = Fleet(cluster.url, tmp_path)
    try:
        yield fleet
    finally:
        fleet.close()


class TestCluster(Behaviours):
    def test_the_queues_are_on_three_nodes(self, cluster: ClusterSetup) -> None:
        assert len({cluster.master_of(queue).port for queue in QUEUES}) == 3

    @pytest.mark.parametrize("how", ["failover", "kill"])
    async def test_jobs_go_on_with_another_master(self, cluster: ClusterSetup, fleet: Fleet, how: str) -> None:
        worker = await fleet.start(queues=QUEUES, lease=3)
        old = cluster.master_of("low")
        replica = cluster.replica_of(old)
        writers = Writers(*QUEUES)
        await fleet.written("end", 50)
        if how == "kill":
            old.kill()
        else:
            with replica.client() as client:
                client.execute_command("CLUSTER", "FAILOVER")
        began = time.monotonic()
        await wait_until(lambda: _of_queue(fleet, "low", since=began) >= 20, what="jobs of the queue to run again")
        resumed = time.monotonic()
        await writers.stop()
        assert cluster.master_of("low") is replica
        assert not writers.failed, writers.failed[:3]
        assert resumed - began < RESUMED
        others = [_longest_gap(fleet, queue, began) for queue in QUEUES if queue != "low"]
        assert max(others) < 1.5, f"the other queues had to wait {max(others):.1f} s"
        history = fleet.ledger.read()
        assert set(history.ids("end")) <= set(writers.ids)
        assert "MOVED" not in worker.log
        assert "READONLY" not in "".join(line for line in worker.log.splitlines() if " is away" not in line)
        if how == "kill":  # the other nodes were there: not a line of their queues, and none that comes and goes
            said = [line for line in worker.log.splitlines() if " is away" in line or " is back" in line]
            assert sum(" for queue low is away" in line for line in said) == 1, said
            assert not any(f" for queue {queue} " in line for queue in QUEUES if queue != "low" for line in said), said

    async def test_nothing_acknowledged_by_a_replica_is_lost(
        self, cluster: ClusterSetup, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fleet.launch(queues=QUEUES, lease=3)
        old = cluster.master_of("low")
        async with RedisAdapter(cluster.url, wait_replicas=1, wait_timeout=0.3) as adapter:
            monkeypatch.setattr(FaultJob, "adapter", adapter)
            await check_no_loss(
                fleet,
                old,
                Writers("low"),
                moved=lambda: cluster.master_of("low") is not old,
                start_again=RedisServer.start,
            )

    async def test_a_sharded_queue_lies_on_all_nodes(
        self, cluster: ClusterSetup, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with RedisAdapter(cluster.url, shards={"bulk": 8}) as adapter:
            monkeypatch.setattr(FaultJob, "adapter", adapter)
            assert len({cluster.master_of(part).port for part in adapter.shards.parts("bulk")}) == 3
            await fleet.start(queues=["bulk"], environment={"AIOJOBS_RT_SHARDS": "bulk=8"})
            handles = await perform_all_later([FaultEcho.set(queue="bulk").bind(str(n)) for n in range(80)])
            assert [await handle.result(timeout=10) for handle in handles] == [str(n) for n in range(80)]

    async def test_an_idle_worker_asks_little(self, cluster: ClusterSetup, fleet: Fleet) -> None:
        """At most 2 requests a second for one queue, and 1 more for each further one."""
        await fleet.start(queues=QUEUES, lease=30)
        await asyncio.sleep(1)  # nothing to wait for: it comes to rest
        before, began = _commands(cluster), time.monotonic()
        await asyncio.sleep(4)  # what is measured
        rate = (_commands(cluster) - before) / (time.monotonic() - began)
        assert rate < 2 + (len(QUEUES) - 1), f"{rate:.1f} requests a second"

    async def test_a_slot_moves_while_jobs_run(self, cluster: ClusterSetup, fleet: Fleet) -> None:
        await fleet.start(queues=QUEUES, lease=3)
        source = cluster.master_of("low")
        target = next(master for master in cluster.masters() if master is not source)
        writers = Writers("low")
        await fleet.written("end", 30)
        _move_slot("low", source, target)
        done = fleet.ledger.count("end")
        await fleet.written("end", done + 30)
        await writers.stop()
        await fleet.all_ended(len(writers.ids))
        assert not writers.failed, writers.failed[:3]
        fleet.ledger.read().check_exact(writers.ids)
        _move_slot("low", target, source)
        handle = await FaultEcho.set(queue="low").perform_later("back")
        assert await handle.result(timeout=10) == "back"


async def test_a_server_that_is_no_cluster_is_named(redis_url: str) -> None:
    async with RedisAdapter(redis_url.replace("redis://", "redis+cluster://")) as adapter:
        with pytest.raises(ConfigurationError, match="no node of a cluster"):
            await adapter.status("default.unknown")


async def test_nobody_there() -> None:
    async with RedisAdapter("redis+cluster://127.0.0.1:1,127.0.0.1:2", enqueue_timeout=0.2) as adapter:
        with pytest.raises(RedisUnavailable):
            await adapter.status("default.unknown")


def test_a_database_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no databases but 0"):
        RedisAdapter("redis+cluster://localhost/1")


def _of_queue(fleet: Fleet, queue: str, *, since: float) -> int:
    return sum(1 for line in fleet.ledger.read().of("start") if line.at > since and line.job_id.startswith(f"{queue}."))


def _longest_gap(fleet: Fleet, queue: str, since: float) -> float:
    times = [since] + [
        line.at for line in fleet.ledger.read().of("start") if line.at > since and line.job_id.startswith(f"{queue}.")
    ]
    return max(after - before for before, after in itertools.pairwise(times))


def _commands(cluster: ClusterSetup) -> int:
    """How many commands clients have sent, as far as a worker at rest sends them, without what its scripts do."""
    counted = ("evalsha", "eval", "xreadgroup", "cluster|slots", "subscribe")
    total = 0
    for master in cluster.masters():
        with master.client() as client:
            told: Any = client.info("commandstats")
        total += sum(told.get(f"cmdstat_{name}", {}).get("calls", 0) for name in counted)
    return total


def _move_slot(queue: str, source: RedisServer, target: RedisServer) -> None:
    slot = key_slot(queue.encode())
    with source.client() as here, target.client() as there:
        ids = [client.execute_command("CLUSTER", "MYID") for client in (here, there)]
        there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        while keys := here.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            here.execute_command(
                "MIGRATE", "127.0.0.1", there.connection_pool.connection_kwargs["port"], "", 0, 5000, "KEYS", *keys
            )
        for client in (there, here):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])

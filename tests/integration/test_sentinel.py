"""`redis+sentinel://`: everything works on the master that Sentinels name, and goes on when it is another one. (FAULTS: Sentinel failover)"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from aiojobs_rt import RedisAdapter
from aiojobs_rt.adapters.redis.sentinel import SentinelEndpoint
from aiojobs_rt.adapters.redis.topology import Address, Question
from aiojobs_rt.errors import ConfigurationError, RedisUnavailable
from tests.support.behaviours import QUEUES, Behaviours, Writers, check_no_loss
from tests.support.jobs import FaultJob
from tests.support.redis_server import binaries
from tests.support.replicated import DOWN_AFTER_MS, SentinelSetup
from tests.support.waiting import wait_until
from tests.support.worker_process import Fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

RESUMED = DOWN_AFTER_MS / 1000 + 2


@pytest.fixture(scope="session")
def sentinels() -> Iterator[SentinelSetup]:
    if not binaries():
        pytest.skip("there is no redis-server on this machine")
    with SentinelSetup() as setup:
        yield setup


@pytest.fixture
async def adapter(sentinels: SentinelSetup) -> AsyncIterator[RedisAdapter]:
    sentinels.settle()
    with sentinels.master().client() as client:
        client.flushall()
    async with RedisAdapter(sentinels.url) as adapter:
        yield adapter


@pytest.fixture
async def fleet(
    sentinels: SentinelSetup, adapter: RedisAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Fleet]:
    monkeypatch.setattr(FaultJob, "adapter", adapter)
    fleet = Fleet(sentinels.url, tmp_path)
    try:
        yield fleet
    finally:
        fleet.close()


class TestSentinel(Behaviours):
    @pytest.mark.parametrize("how", ["failover", "kill"])
    @pytest.mark.fault(11)
    async def test_jobs_go_on_with_another_master(self, sentinels: SentinelSetup, fleet: Fleet, how: str) -> None:
        worker = await fleet.start(queues=QUEUES, lease=3)
        old = sentinels.master()
        writers = Writers(*QUEUES)
        await fleet.written("end", 50)
        if how == "kill":
            old.kill()
        else:
            sentinels.ask("SENTINEL", "FAILOVER", sentinels.name)
        began = time.monotonic()
        await wait_until(lambda: sentinels.master() is not old, what="another master")
        moved, done = time.monotonic(), fleet.ledger.count("end")
        await fleet.written("end", done + 100)
        resumed = time.monotonic()
        await writers.stop()
        assert not writers.failed, writers.failed[:3]
        assert resumed - began < RESUMED + 1, f"{moved - began:.1f} s to another master, {resumed - moved:.1f} s more"
        enqueued = set(writers.ids)
        await wait_until(lambda: fleet.ledger.count("end") >= len(enqueued) * 0.9, timeout=10)
        history = fleet.ledger.read()
        assert set(history.ids("end")) <= enqueued
        assert "READONLY" not in "".join(
            line for line in worker.log.splitlines(keepends=True) if " is away" not in line
        )

    @pytest.mark.fault(11)
    async def test_nothing_acknowledged_by_a_replica_is_lost(
        self, sentinels: SentinelSetup, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fleet.launch(queues=QUEUES, lease=3)
        old = sentinels.master()
        async with RedisAdapter(sentinels.url, wait_replicas=1, wait_timeout=0.3) as adapter:
            monkeypatch.setattr(FaultJob, "adapter", adapter)
            await check_no_loss(
                fleet,
                old,
                Writers("low"),
                moved=lambda: sentinels.master() is not old,
                start_again=sentinels.start_again,
            )


async def test_a_password_for_each(sentinels: SentinelSetup) -> None:
    url = sentinels.url.replace("://", "://user:secret@") + "?sentinel_password=hidden"
    adapter = RedisAdapter(url)
    assert "secret" not in repr(adapter)
    assert "hidden" not in repr(adapter)
    with pytest.raises((ConfigurationError, RedisUnavailable)) as refused:
        await adapter.status("default.unknown")
    assert "secret" not in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_the_sentinels_have_a_password_of_their_own() -> None:
    endpoint = SentinelEndpoint(
        "redis+sentinel://user:secret@h1,h2:5/jobs/3?sentinel_password=hidden&socket_keepalive=yes"
    )
    sentinel = endpoint._arguments_for(Question(Address("h1", 26379), ("PING",), of_sentinel=True))
    redis = endpoint._arguments_for(Question(Address("m", 6379), ("ROLE",)))
    assert {key: sentinel.get(key) for key in ("host", "port", "username", "password", "db")} == {
        "host": "h1", "port": 26379, "username": None, "password": "hidden", "db": None,
    }  # fmt: skip
    assert {key: redis.get(key) for key in ("host", "port", "username", "password", "db")} == {
        "host": "m", "port": 6379, "username": "user", "password": "secret", "db": 3,
    }  # fmt: skip
    assert endpoint.display == "redis+sentinel://user:***@h1,h2:5/jobs/3?sentinel_password=***&socket_keepalive=yes"


async def test_an_unknown_name_is_said(sentinels: SentinelSetup) -> None:
    async with RedisAdapter(sentinels.url.replace("/jobs/", "/other/"), enqueue_timeout=0.2) as adapter:
        with pytest.raises(RedisUnavailable, match="no master named 'other'"):
            await adapter.status("default.unknown")


@pytest.mark.parametrize("url", ["redis+sentinel://h", "redis+sentinel://h:x/jobs", "redis+sentinel://h/jobs/one"])
def test_wrong_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        RedisAdapter(url)

"""Replies that are lost between Redis and a worker: what they brought is neither lost nor done twice. (G1, G2)"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from aiojobs_rt import perform_all_later
from tests.support.jobs import Gated, Nap
from tests.support.outcomes import all_are, becomes
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.moments import Moment
    from tests.support.redis_server import RedisServer
    from tests.support.worker_process import Fleet


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    async with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.mark.parametrize("how", ["closed", "silent"])
@pytest.mark.fault(16)
async def test_jobs_of_a_read_whose_reply_was_lost_are_found_by_the_living_worker(
    fleet: Fleet, proxy: Proxy, how: str, moment: Moment
) -> None:
    worker = await fleet.start(url=proxy.url, lease=2)
    await becomes("succeeded", await Nap.perform_later(0))
    eat = proxy.eat_reply if how == "closed" else proxy.eat_reply_silently
    await moment(1)
    eat(b"XREADGROUP")
    sent = time.monotonic()
    handles = await perform_all_later([Nap.bind(number) for number in range(30)])
    await fleet.all_ended(31, timeout=15)
    if how == "closed":
        assert time.monotonic() - sent < 2, "it waited for the lease"
    fleet.ledger.read().check_exact(
        [line.job_id for line in fleet.ledger.read().of("start")][:1] + [h.id for h in handles]
    )
    assert "delivered here in a reply that was lost" in worker.log
    assert {run.executions for run in fleet.ledger.read().runs()} == {1}


@pytest.mark.fault(18)
async def test_a_blocking_read_whose_connection_stays_silent_for_good_is_given_up(fleet: Fleet, proxy: Proxy) -> None:
    """After the 2 s for which it blocks and 2 s more; no beat comes to help. What it brought is run at once then."""
    await fleet.start(url=proxy.url, lease=30)
    await becomes("succeeded", await Nap.perform_later(0))
    proxy.eat_reply_silently(b" BLOCK ")
    await wait_until(lambda: proxy.eaten == 1)
    began = time.monotonic()
    handles = await perform_all_later([Nap.bind(number) for number in range(30)])
    await fleet.all_ended(31, timeout=8)
    assert time.monotonic() - began < 2 + 2 + 1.5
    await all_are("succeeded", handles)


@pytest.mark.fault(17)
async def test_a_settle_whose_reply_was_lost_is_settled_once(fleet: Fleet, proxy: Proxy, moment: Moment) -> None:
    await fleet.start(url=proxy.url, lease=2)
    first = await Nap.set(keep_result=60).perform_later(0)
    await becomes("succeeded", first)
    await moment(1)
    proxy.eat_reply(b":retries", count=2)  # settle names that key; so do promote and beat, which change nothing here
    handles = [first, *await perform_all_later([Nap.bind(number, 0.05) for number in range(30)])]
    await wait_until(lambda: proxy.eaten == 2)
    await all_are("succeeded", handles)
    fleet.ledger.read().check_exact([handle.id for handle in handles])
    with fleet.client() as client:
        assert client.hget("aiojobs:{default}:stats", "succeeded") == b"31"
        recent = [fields[b"r"] for _, fields in client.xrange("aiojobs:{default}:recent")]
    assert len(recent) == 31


@pytest.mark.fault(20)
async def test_a_worker_that_is_cut_off_for_longer_than_its_lease(
    fleet: Fleet, proxy: Proxy, tmp_path: Path, moment: Moment
) -> None:
    gate = tmp_path / "gate"
    cut_off = await fleet.start(url=proxy.url, lease=1, concurrency=2)
    handle = await Gated.perform_later(str(gate))
    await fleet.written("start", 1)
    other = await fleet.start(lease=1)
    await moment(1)
    proxy.blackhole = True
    await fleet.written("start", 2, timeout=5)
    await moment(2)
    proxy.blackhole = False
    await fleet.written("note", 1, timeout=15)  # it hears that its lease is lost, and cancels
    gate.touch()
    await becomes("succeeded", handle)
    history = fleet.ledger.read()
    assert [line.pid for line in history.of("note")] == [cut_off.pid]
    assert [line.pid for line in history.of("end")] == [other.pid]
    other.kill()
    await wait_until(lambda: "is back" in cut_off.log)
    await becomes("succeeded", await Nap.perform_later(1))


@pytest.mark.fault(19)
async def test_a_bad_network_loses_and_doubles_nothing(fleet: Fleet, proxy: Proxy, moment: Moment) -> None:
    await asyncio.gather(*(fleet.start(url=proxy.url, lease=5, concurrency=20) for _ in range(2)))
    proxy.latency_ms, proxy.jitter_ms = 20, 10

    async def hurt() -> None:
        while True:
            await asyncio.sleep(0.3)
            await moment(0.5)
            proxy.reset_all()

    hurting = asyncio.create_task(hurt())
    handles = await perform_all_later([Nap.bind(number, 0.05) for number in range(400)])
    await fleet.all_ended(400, timeout=30)
    hurting.cancel()
    await all_are("succeeded", handles, timeout=15)
    history = fleet.ledger.read()
    history.check_exact([handle.id for handle in handles])
    assert {run.executions for run in history.runs()} == {1}

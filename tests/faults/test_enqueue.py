"""Enqueueing while a worker process runs the jobs: exact when replies are lost, sound when callers are cancelled. (G4, G5)"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from aiojobs_rt import RedisAdapter
from tests.support.jobs import FaultJob, Nap
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.moments import Moment
    from tests.support.redis_server import RedisServer
    from tests.support.worker_process import Fleet


@pytest.mark.fault(15)
async def test_a_job_whose_enqueue_is_sent_again_after_it_has_run_runs_once(
    fleet: Fleet, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, moment: Moment
) -> None:
    await fleet.start()
    async with Proxy(redis_server.port) as proxy, RedisAdapter(proxy.url) as adapter:
        monkeypatch.setattr(FaultJob, "adapter", adapter)
        await Nap.perform_later(0)
        await fleet.all_ended(1)
        for number in range(1, 6):
            await proxy.refuse()  # no second try before the job has run
            proxy.eat_reply(b"EVALSHA")
            enqueueing = asyncio.create_task(Nap.perform_later(number))
            await fleet.all_ended(number + 1)
            assert not enqueueing.done()
            await moment(1)
            await proxy.accept()
            assert (await enqueueing).enqueued
        assert proxy.eaten == 5
    with fleet.client() as client:
        await wait_until(lambda: client.xlen("aiojobs:{default}:stream") == 0)
    history = fleet.ledger.read()
    assert len(history.ids("start")) == len(set(history.ids("start"))) == 6, "none was made twice"


async def test_cancelled_callers_enqueue_a_whole_job_or_none(fleet: Fleet) -> None:
    await fleet.start(concurrency=50)
    chance = random.Random(7)
    acknowledged: list[str] = []

    async def call(number: int) -> None:
        acknowledged.append((await Nap.perform_later(number)).id)

    for _ in range(10):
        calls = [asyncio.create_task(call(number)) for number in range(50)]
        for task in chance.sample(calls, 25):
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    last = await Nap.perform_later(999)
    acknowledged.append(last.id)
    await wait_until(lambda: set(acknowledged) <= set(fleet.ledger.read().ids("end")))
    with fleet.client() as client:
        await wait_until(lambda: client.hlen("aiojobs:{default}:index") == 0)
        assert client.xlen("aiojobs:{default}:stream") == 0
    ended = fleet.ledger.read().ids("end")
    assert len(ended) == len(set(ended)), "none ran twice"
    assert 251 <= len(acknowledged) <= len(ended) <= 501

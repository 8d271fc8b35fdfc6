"""A worker that is told to stop while it starts stops at once, whatever its parts are doing just then."""

from __future__ import annotations

import asyncio

from aiojobs_rt import RedisAdapter, Worker
from tests.support.waiting import wait_until


async def test_a_stop_before_the_fetcher_looks_for_space_is_not_overheard(redis_url: str) -> None:
    async with RedisAdapter(redis_url) as adapter:
        worker = Worker(queues=["default"], adapter=adapter, concurrency=2)
        recover = worker._fetcher._recover

        async def recover_and_stop() -> None:
            await recover()
            worker.stop()
            await wait_until(lambda: not worker._buffer.idle, what="the slots to leave: there is no room for a job")

        worker._fetcher._recover = recover_and_stop  # type: ignore[method-assign] # the moment in question
        async with asyncio.timeout(5):
            await worker.run()

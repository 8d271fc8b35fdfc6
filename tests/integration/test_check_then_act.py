"""Looking first and acting then, `if order_exists(...): return`, races with a second run of the same; a unique column does not."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import anyio
import pytest

from aiojobs_rt import Job, RedisAdapter, Worker, perform_all_later
from tests.support.outcomes import all_are

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class OrderJob(Job):
    """The base of these jobs, which set its adapter. All runs have looked before one of them acts."""

    shop: sqlite3.Connection
    all_have_looked: asyncio.Barrier

    def exists(self, order_id: str) -> bool:
        return self.shop.execute("SELECT 1 FROM orders WHERE order_id = ?", (order_id,)).fetchone() is not None


class LooksFirst(OrderJob):
    async def perform(self, order_id: str) -> None:
        if self.exists(order_id):
            return
        await self.all_have_looked.wait()
        self.shop.execute("INSERT INTO orders VALUES (?, ?)", (order_id, self.id))


class InsertsOnce(OrderJob):
    async def perform(self, order_id: str) -> None:
        if self.exists(order_id):
            return
        await self.all_have_looked.wait()
        key = self.idempotency_key("order_id")
        self.shop.execute("INSERT INTO orders VALUES (?, ?) ON CONFLICT DO NOTHING", (order_id, key))


@pytest.fixture
def shop() -> Iterator[sqlite3.Connection]:
    shop = sqlite3.connect(":memory:", isolation_level=None)
    shop.execute("CREATE TABLE orders (order_id TEXT, key TEXT UNIQUE)")
    yield shop
    shop.close()


@pytest.fixture(autouse=True)
async def adapter(
    redis_url: str, shop: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RedisAdapter]:
    monkeypatch.setattr(OrderJob, "shop", shop, raising=False)
    async with RedisAdapter(redis_url) as adapter:
        monkeypatch.setattr(OrderJob, "adapter", adapter)
        yield adapter


@pytest.mark.acceptance(66, 71)
@pytest.mark.parametrize(("job", "orders"), [(LooksFirst, 5), (InsertsOnce, 1)], ids=["looks first", "unique column"])
async def test_five_runs_at_once_for_one_order(
    job: type[LooksFirst | InsertsOnce],
    orders: int,
    adapter: RedisAdapter,
    shop: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(OrderJob, "all_have_looked", asyncio.Barrier(5), raising=False)
    handles = await perform_all_later([job.bind("A-1") for _ in range(5)])
    worker = Worker(adapter=adapter, concurrency=5, lease=5.0, shutdown_timeout=1)
    async with anyio.create_task_group() as group:
        await group.start(worker.run)
        await all_are("succeeded", handles)
        worker.stop()
    assert shop.execute("SELECT count(*) FROM orders WHERE order_id = 'A-1'").fetchone() == (orders,)

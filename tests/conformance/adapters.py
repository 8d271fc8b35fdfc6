"""The four adapters behind one face: each test of the suite enqueues jobs, lets them run, and asks what became of them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import anyio

from aiojobs_rt import AsyncAdapter, InlineAdapter, RedisAdapter, TestAdapter, Worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiojobs_rt import JobHandle
    from aiojobs_rt.adapters.base import Adapter

Kind = Literal["redis", "async", "inline", "test"]
KINDS: list[Kind] = ["redis", "async", "inline", "test"]
ENDED = {"succeeded", "dead", "discarded", "cancelled", "unknown"}


class Bed:
    """An adapter, and what makes its jobs run.

    Attributes:
        kind: which.
        runs_at_once: jobs run while they are enqueued.
        waits: jobs that are enqueued stay where they are until `settle`.
    """

    def __init__(self, kind: Kind, adapter: Adapter, stack: AsyncExitStack) -> None:
        self.kind = kind
        self.adapter = adapter
        self.runs_at_once = kind == "inline"
        self.waits = kind in ("redis", "test")
        self._stack = stack
        self._serving = False

    async def serve(self) -> None:
        """Let jobs run from now on."""
        if isinstance(self.adapter, RedisAdapter) and not self._serving:
            self._serving = True
            await self._stack.enter_async_context(_worker(self.adapter))

    async def reaches(self, handle: JobHandle[Any], *statuses: str) -> None:
        """Let jobs run until this one is in one of these states."""
        await self.serve()
        if isinstance(self.adapter, TestAdapter):
            await self.adapter.perform_enqueued()
        async with asyncio.timeout(10):
            while (now := await handle.status()) not in statuses:
                assert now not in ENDED, f"{handle} is {now}, not one of {statuses}"
                await asyncio.sleep(0.005)


@asynccontextmanager
async def bed(kind: Kind, redis_url: str) -> AsyncGenerator[Bed]:
    adapters: dict[Kind, Any] = {
        "redis": lambda: RedisAdapter(redis_url),
        "async": lambda: AsyncAdapter(concurrency=1),
        "inline": InlineAdapter,
        "test": TestAdapter,
    }
    async with AsyncExitStack() as stack:
        adapter = adapters[kind]()
        stack.push_async_callback(adapter.aclose)
        yield Bed(kind, adapter, stack)


@asynccontextmanager
async def _worker(adapter: RedisAdapter) -> AsyncGenerator[None]:
    worker = Worker(queues=["default", "other"], adapter=adapter, concurrency=1, lease=5, shutdown_timeout=1)
    started = asyncio.Event()

    class Started:
        def started(self, value: object = None) -> None:
            started.set()

    task = asyncio.create_task(worker.run(task_status=Started()))
    with anyio.fail_after(10):
        await started.wait()
    try:
        yield
    finally:
        worker.stop()
        await task

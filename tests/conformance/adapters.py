"""The four adapters behind one face: each test of the suite enqueues jobs, lets them run, and asks what became of them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import anyio

from aiojobs_rt import AsyncAdapter, InlineAdapter, Job, RedisAdapter, TestAdapter, Worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiojobs_rt import JobHandle
    from aiojobs_rt.adapters.base import Adapter

Kind = Literal["redis", "async", "inline", "test"]
KINDS: list[Kind] = ["redis", "async", "inline", "test"]
ENDED = {"succeeded", "dead", "discarded", "cancelled", "unknown"}


class CarriedJob(Job):
    """The base of the jobs of this suite; the fixture `on` sets its adapter."""

    keep_result = 60


log: list[str] = []
"""What they note, empty before each test."""


class Bed:
    """An adapter, and what makes its jobs run.

    Attributes:
        kind: which.
        runs_at_once: jobs run while they are enqueued.
    """

    def __init__(self, kind: Kind, adapter: Adapter) -> None:
        self.kind = kind
        self.adapter = adapter
        self.runs_at_once = kind == "inline"
        self._worker: Worker | None = None
        self._working: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Let jobs run from now on."""
        if not isinstance(self.adapter, RedisAdapter) or self._worker is not None:
            return
        worker = self._worker = Worker(
            queues=["default", "other"], adapter=self.adapter, concurrency=1, lease=5, shutdown_timeout=1
        )
        started = asyncio.Event()

        class Started:
            def started(self, value: object = None) -> None:
                started.set()

        self._working = asyncio.create_task(worker.run(task_status=Started()))
        with anyio.fail_after(10):
            await started.wait()

    def stop(self) -> None:
        """Have the worker stop, as TERM does."""
        if self._worker is not None:
            self._worker.stop()

    async def stopped(self) -> None:
        """Wait until the worker has stopped; another one may `serve` then."""
        if self._working is not None:
            await self._working
            self._worker = self._working = None

    async def aclose(self) -> None:
        """Stop the worker, and close the adapter."""
        self.stop()
        await self.stopped()
        await self.adapter.aclose()

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
    made = Bed(kind, adapters[kind]())
    try:
        yield made
    finally:
        await made.aclose()

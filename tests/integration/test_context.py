"""Context variables by way of a real worker: there while a job runs, in its retries and children, and gone in the next job of the slot."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiojobs_rt import Job, RedisAdapter, Worker, locale, propagate, retry_on, timezone
from aiojobs_rt.core import propagation, registry
from tests.support.outcomes import becomes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator

    from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.acceptance(33)

tenant: ContextVar[int] = ContextVar("tenant", default=0)


class ContextJob(Job):
    """The base of the jobs of these tests, which set its adapter."""


@pytest.fixture(autouse=True)
async def adapter(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisAdapter]:
    monkeypatch.setattr(registry, "_classes", {})
    monkeypatch.setattr(propagation, "_propagated", propagation._propagated[:])
    propagate(tenant)
    async with RedisAdapter(redis_url) as adapter:
        monkeypatch.setattr(ContextJob, "adapter", adapter)
        yield adapter


@contextmanager
def held(**values: Any) -> Generator[None]:
    """Set variables for the length of a block, as a middleware does."""
    variables: dict[str, ContextVar[Any]] = {"locale": locale, "timezone": timezone, "tenant": tenant}
    tokens = [variables[name].set(value) for name, value in values.items()]
    yield
    for token in reversed(tokens):
        token.var.reset(token)


async def test_the_context_is_that_of_the_enqueue_and_of_no_other_job(
    adapter: RedisAdapter, redis_server: RedisServer
) -> None:
    seen: list[tuple[str, str | None, str | None, int]] = []
    tasks: set[int] = set()
    failed: list[str] = []

    def look(label: str) -> None:
        tasks.add(id(asyncio.current_task()))
        seen.append((label, locale.get(), timezone.get(), tenant.get()))

    class Child(ContextJob):
        async def perform(self) -> None:
            look("child")

    @retry_on(ValueError, wait=0)
    class Parent(ContextJob):
        async def perform(self) -> None:
            look("parent")
            if not failed:
                failed.append(self.id)
                raise ValueError
            handles.append(await Child.perform_later())
            locale.set("set by the job")

    class Plain(ContextJob):
        async def perform(self) -> None:
            look("plain")

    handles: list[Any] = []
    worker = Worker(queues=["default"], adapter=adapter, concurrency=1, shutdown_timeout=1)
    async with anyio.create_task_group() as group:
        await group.start(worker.run)
        with held(locale="de-AT", timezone="Europe/Vienna", tenant=7):
            parent = await Parent.perform_later()
        await becomes("succeeded", parent)
        await becomes("succeeded", handles[0])
        await becomes("succeeded", await Plain.perform_later())
        with held(locale="fr"):
            await becomes("succeeded", await Plain.perform_later())
        await becomes("succeeded", await Plain.perform_later())
        worker.stop()

    there = ("de-AT", "Europe/Vienna", 7)
    assert seen == [
        ("parent", *there),
        ("parent", *there),
        ("child", *there),
        ("plain", None, None, 0),
        ("plain", "fr", None, 0),
        ("plain", None, None, 0),
    ]
    assert len(tasks) == 1, "a context that was restored and undone costs no slot"
    with redis_server.client() as client:
        keys: Any = client.keys("*:errors:*")
    assert keys == [], "the error of the first run went with its job"


async def test_jobs_at_once_have_each_its_own_context(adapter: RedisAdapter) -> None:
    met = asyncio.Barrier(3)
    seen: set[tuple[str, str | None]] = set()

    class Meets(ContextJob):
        async def perform(self, label: str) -> None:
            await met.wait()
            seen.add((label, locale.get()))

    worker = Worker(queues=["default"], adapter=adapter, concurrency=3, shutdown_timeout=1)
    async with anyio.create_task_group() as group:
        with held(locale="of the worker's starter"):
            await group.start(worker.run)
        handles = [await asyncio.create_task(Meets.perform_later("none"), context=Context())]
        for label in ("de", "fr"):
            with held(locale=label):
                handles.append(await Meets.perform_later(label))
        for handle in handles:
            await becomes("succeeded", handle)
        worker.stop()
    assert seen == {("none", None), ("de", "de"), ("fr", "fr")}

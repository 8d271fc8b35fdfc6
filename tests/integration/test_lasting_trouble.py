"""What goes on for long is told once, with its true reason, and asked for seldom: not at each beat."""

from __future__ import annotations

import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiojobs_rt import Job, RedisAdapter, Worker
from aiojobs_rt.adapters.redis.connection import Away
from aiojobs_rt.adapters.redis.keys import queue_keys
from aiojobs_rt.core import registry
from aiojobs_rt.errors import ConfigurationError
from aiojobs_rt.worker.state import Availability
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from tests.support.redis_server import RedisServer

KEYS = queue_keys("aiojobs", "default")
BEATS = 8
CUT = Away("the connection was cut")


class Lasting(Job):
    """Its adapter is set by the fixture."""

    async def perform(self) -> None: ...


@pytest.fixture(autouse=True)
async def _adapter(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(registry, "_classes", {"Lasting": registry._classes["Lasting"]})
    async with RedisAdapter(redis_url) as adapter:
        monkeypatch.setattr(Lasting, "adapter", adapter)
        yield


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis_server.client() as client:
        yield client
        client.delete(KEYS.parked, KEYS.outgoing)


@asynccontextmanager
async def beating() -> AsyncGenerator[tuple[Worker, list[str]]]:
    """A worker whose beats follow each other quickly, and the names of the queues that it has looked at."""
    carrier: Any = Lasting.adapter
    worker = Worker(queues=["default"], adapter=carrier, lease=0.6, shutdown_timeout=1)
    beats: list[str] = []
    beat = worker._reclaimer.beat

    async def counted(served: Any) -> None:
        await beat(served)
        beats.append(served.name)

    worker._reclaimer.beat = counted  # type: ignore[method-assign] # of this one
    async with anyio.create_task_group() as group:
        await group.start(worker.run)
        yield worker, beats
        worker.stop()


def told(caplog: pytest.LogCaptureFixture, what: str) -> int:
    return sum(what in record.getMessage() for record in caplog.records)


async def test_what_can_not_be_promoted_is_told_once_and_promoted_when_it_can(
    client: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiojobs_rt.worker.promoter.REFUSED_FOR_MS", 500)
    handle = await Lasting.set(wait=0.01, keep_result=60).perform_later()
    parked = client.hgetall(KEYS.parked)
    client.delete(KEYS.parked)
    client.set(KEYS.parked, "broken")
    async with beating() as (worker, beats):
        asked: list[float] = []
        promote = worker._promoter.promote

        async def counted(served: Any) -> int:
            asked.append(worker._state.clock.now_ms())
            return await promote(served)

        monkeypatch.setattr(worker._promoter, "promote", counted)
        await wait_until(lambda: len(beats) > 2 * BEATS and len(asked) > 1)
        assert told(caplog, "what is due can't be promoted") == 1
        assert all(later - earlier > 450 for earlier, later in itertools.pairwise(asked))
        client.delete(KEYS.parked)
        client.hset(KEYS.parked, mapping=parked)
        await handle.result(timeout=5)


async def test_what_can_not_be_carried_to_its_queue_is_told_once(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        fields = {"queue": "no queue!", "id": str(number), "delay": "0", "message": "m", "errors": "e"}
        client.xadd(KEYS.outgoing, fields)
    async with beating() as (_, beats):
        await wait_until(lambda: len(beats) > BEATS)
        assert told(caplog, "can't be carried to its queue") == 3
        assert client.xlen(KEYS.outgoing) == 3
        client.delete(KEYS.outgoing)
        client.set(KEYS.outgoing, "broken")
        before = len(beats)
        await wait_until(lambda: len(beats) > before or told(caplog, "the beat failed"))
        assert told(caplog, "the beat failed") == 1


def test_the_reasons_of_an_outage_are_told_each_once_and_a_few_at_most(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("aiojobs_rt.worker.state.time.monotonic", lambda: now)
    redis = Availability("redis://h:1/0")
    refused = ConfigurationError("redis://h:1/0: invalid username-password pair or user is disabled.")
    for _ in range(2):
        caplog.clear()
        redis.note(CUT)
        redis.note(refused)
        assert told(caplog, "") == 1, "a second reason within seconds"
        for _ in range(20):
            now += 1
            redis.note(CUT)
            redis.note(refused)
        (first, second) = [record.getMessage() for record in caplog.records]
        assert "the connection was cut" in first
        assert second == f"Redis at redis://h:1/0 is still away after 3.0 s: {refused}"
        redis.succeeded()
        now += 10
    caplog.clear()
    for number in range(100):
        redis.note(Away(f"another reason {number}"))
        now += 5
    assert told(caplog, "another reason") == 4

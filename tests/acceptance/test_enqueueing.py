"""Rows about what an enqueue leaves in Redis, and how it is read back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel, BeforeValidator, PlainSerializer

from aiojobs_rt import EnqueueError, Job, RedisAdapter, TestAdapter, perform_all_later
from aiojobs_rt.core import registry
from aiojobs_rt.core.message import parse
from aiojobs_rt.testing import recording_jobs
from tests.support.raw_queue import RawQueue
from tests.support.redis_server import SUITE_UNDER_ACL

if TYPE_CHECKING:
    from collections.abc import Iterator


class Parcel(BaseModel):
    """What a job takes."""

    to: str
    grams: int


class SendParcel(Job):
    queue = "parcels"

    async def perform(self, parcel: Parcel, *notes: str, express: bool = False) -> None: ...


@pytest.fixture
def queue(redis_url: str) -> Iterator[RawQueue]:
    with RawQueue(redis_url, "parcels") as queue:
        yield queue


@pytest.mark.acceptance(1)
async def test_an_enqueue_leaves_one_entry_that_reads_as_the_same_call(
    queue: RawQueue, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RedisAdapter(redis_url) as adapter:
        monkeypatch.setattr(SendParcel, "adapter", adapter)
        handle = await SendParcel.perform_later(Parcel(to="ada", grams=5), "fragile", "blue", express=True)
    ((_, entry),) = queue.client.xrange(queue.keys.stream)
    message = parse(entry[b"id"], entry[b"job"], entry[b"args"], entry[b"meta"], queue="parcels")
    assert message.id == handle.id
    job_class = registry.resolve(message.job)
    assert job_class is SendParcel
    args, kwargs = job_class.signature().load(message.args)
    assert (args, kwargs) == ((Parcel(to="ada", grams=5), "fragile", "blue"), {"express": True})


@pytest.mark.acceptance(16)
async def test_a_queue_that_is_not_there_is_an_error_after_bounded_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    async with RedisAdapter("redis://127.0.0.1:1/0", enqueue_timeout=0.3) as adapter:
        monkeypatch.setattr(SendParcel, "adapter", adapter)
        began = time.monotonic()
        with pytest.raises(EnqueueError, match=r"127\.0\.0\.1:1") as caught:
            await SendParcel.perform_later(Parcel(to="ada", grams=5))
        with pytest.raises(EnqueueError):
            await perform_all_later([SendParcel.bind(Parcel(to="ada", grams=n)) for n in range(3)])
        assert 0.1 <= (time.monotonic() - began) / 2 < 5, "two calls, each tried again for a while, and not for ever"
        assert "the job was not enqueued" in str(caught.value)


@pytest.mark.skipif(SUITE_UNDER_ACL, reason="it counts commands with CONFIG and INFO, which no role may")
@pytest.mark.acceptance(63)
async def test_many_jobs_take_one_round_trip_a_thousand(
    queue: RawQueue, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RedisAdapter(redis_url) as adapter:
        monkeypatch.setattr(SendParcel, "adapter", adapter)
        await SendParcel.perform_later(Parcel(to="ada", grams=5))  # the script is loaded, the queue registered
        queue.client.config_resetstat()
        handles = await perform_all_later([SendParcel.bind(Parcel(to="ada", grams=n)) for n in range(2500)])
        calls = queue.client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert calls == 3
    assert sum(handle.enqueued for handle in handles) == 2500
    assert queue.client.xlen(queue.keys.stream) == 2501


@pytest.mark.acceptance(35)
async def test_recorded_jobs_reach_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: Any) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr("socket.socket.connect", connect)
    monkeypatch.setattr("asyncio.open_connection", connect)
    monkeypatch.setattr("asyncio.open_unix_connection", connect)
    monkeypatch.setattr(SendParcel, "adapter", RedisAdapter("redis://127.0.0.1:1/0"))
    with recording_jobs() as jobs:
        handle = await SendParcel.perform_later(Parcel(to="ada", grams=5))
        assert [job.id for job in jobs.enqueued] == [handle.id]
        assert await handle.status() == "queued"
        await jobs.perform_enqueued()
    assert [job.id for job in jobs.performed] == [handle.id]


# -- custom serialisers ---------------------------------------------------------------------------


class Point:
    """A class that pydantic knows nothing of."""

    def __init__(self, x: int, y: int, z: int = 0) -> None:
        self.x, self.y, self.z = x, y, z


def written_flat(point: Point) -> list[int]:
    return [point.x, point.y]


def written_in_space(point: Point) -> dict[str, int]:
    return {"x": point.x, "y": point.y, "z": point.z}


def read(value: Any) -> Any:
    """A point as it is, or as any version has written it."""
    return Point(*value) if isinstance(value, list) else Point(**value) if isinstance(value, dict) else value


@pytest.mark.acceptance(30)
async def test_a_type_brings_its_own_serialiser_and_old_payloads_load_after_it_has_changed() -> None:
    """A newer deploy writes another form and reads both: jobs of the older one still wait."""
    drawn: list[tuple[int, int, int]] = []
    adapter = TestAdapter()

    def define(write: Any) -> Any:
        annotation = Annotated[Any, BeforeValidator(read), PlainSerializer(write)]

        async def perform(self: Job, points: Any) -> None:
            drawn.extend((point.x, point.y, point.z) for point in points)

        perform.__annotations__["points"] = list[annotation]
        return type(
            "DrawPoints", (Job,), {"perform": perform, "adapter": adapter, "__qualname__": "<locals>.DrawPoints"}
        )

    await define(written_flat).perform_later([Point(1, 2)])
    await define(written_in_space).perform_later([Point(3, 4, 5)])
    assert [job.arguments.keys() for job in adapter.enqueued] == [{"points"}] * 2
    await adapter.perform_enqueued()
    assert drawn == [(1, 2, 0), (3, 4, 5)]
    assert [run.outcome for run in adapter.performed] == ["succeeded"] * 2

"""`not_at_rest` sees each thing that a queue can have left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.history import not_at_rest
from tests.support.raw_queue import RawQueue, retried, succeeded

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def queue(redis_url: str) -> Iterator[RawQueue]:
    with RawQueue(redis_url) as queue:
        yield queue


def seen(queue: RawQueue, *, workers: int = 1) -> str:
    return "; ".join(not_at_rest(queue.client, "q", workers=workers))


def test_a_job_on_its_way_is_seen_in_each_place_and_nothing_when_it_has_ended(queue: RawQueue) -> None:
    queue.register("w")
    queue.enqueue("q.a")
    assert "stream: 1 entries" in seen(queue)
    assert "index: 1 fields" in seen(queue)
    (entry,) = queue.read("w")
    assert "stream: 1 pending" in seen(queue)
    queue.cancel("q.a")
    assert "cancelled: 1 fields" in seen(queue)
    queue.client.delete(queue.keys.cancelled)
    queue.settle("w", retried(entry, delay_ms=60_000))
    assert "retries: 1 due" in seen(queue)
    assert "parked: 1 fields" in seen(queue)
    queue.client.zadd(queue.keys.retries, {"q.a": 1})
    queue.promote()
    queue.settle("w", succeeded(queue.read("w")[0]))
    assert seen(queue) == ""
    queue.enqueue("q.b", route="+60000")
    assert "scheduled: 1 due" in seen(queue)


def test_leases_consumers_and_keys_that_stay_are_seen(queue: RawQueue) -> None:
    queue.register("w")
    queue.enqueue("q.a")
    queue.settle("w", succeeded(queue.read("w")[0]))
    assert "workers: 1 leases" in seen(queue, workers=0)
    assert "stream: 1 consumers" in seen(queue, workers=0)
    queue.client.set(queue.keys.call + "forever", 1)
    assert "call:forever: no TTL" in seen(queue)
    queue.client.delete(queue.keys.call + "forever")
    queue.leave("w")
    assert seen(queue, workers=0) == ""

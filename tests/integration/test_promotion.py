"""Delays: never early by Redis' clock, in order, at most 500 a call. (G8)"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.raw_queue import CHANNEL, RawQueue, retried

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def queue(any_redis: str) -> Iterator[RawQueue]:
    with RawQueue(any_redis) as queue:
        yield queue


def test_a_job_is_promoted_at_its_time_and_never_before(queue: RawQueue) -> None:
    queue.enqueue("q.x", route="+120")
    due = int(queue.client.zscore(queue.keys.scheduled, "q.x") or 0)
    polls = 0
    while not queue.promote():
        polls += 1
    assert queue.now_ms() >= due
    assert polls > 5
    ((entry, _),) = queue.client.xrange(queue.keys.stream)
    assert int(entry.split(b"-")[0]) >= due  # the entry's id is Redis' time


@pytest.mark.fault(36)
def test_due_jobs_go_in_order_of_their_times_and_at_most_the_limit(queue: RawQueue) -> None:
    now = queue.now_ms()
    order = [(f"q.{n}", f"@{now - 10_000 + (n * 7919) % 1201}") for n in range(1200)]
    for id_, route in order:
        queue.client.zadd(queue.keys.scheduled, {id_: int(route[1:])})
    queue.enqueue_routed(*((id_, f"@{now + 60_000}") for id_, _ in order))
    for id_, route in order:
        queue.client.zadd(queue.keys.scheduled, {id_: int(route[1:])})
    assert [queue.promote() for _ in range(4)] == [500, 500, 200, 0]
    ids = [fields[b"id"].decode() for _, fields in queue.client.xrange(queue.keys.stream)]
    assert ids == [id_ for id_, _ in sorted(order, key=lambda one: (int(one[1][1:]), one[0]))]
    assert queue.client.hlen(queue.keys.parked) == 0


def test_a_time_in_the_past_is_now(queue: RawQueue) -> None:
    queue.enqueue("q.x", route=f"@{queue.now_ms() - 5}")
    assert queue.look("q.x") == "queued"


def test_a_retry_and_a_scheduled_job_share_the_limit(queue: RawQueue) -> None:
    queue.register("w")
    queue.enqueue("q.r")
    (entry,) = queue.read("w")
    queue.settle("w", retried(entry, delay_ms=1))
    queue.enqueue("q.s", route="+1")
    queue.client.zadd(queue.keys.retries, {"q.r": 1})
    queue.client.zadd(queue.keys.scheduled, {"q.s": 1})
    assert queue.look("q.r") == "retries"
    assert [queue.promote(limit=1), queue.promote(limit=1), queue.promote(limit=1)] == [1, 1, 0]


def test_an_earlier_due_time_is_published_and_a_later_one_is_not(queue: RawQueue) -> None:
    channel = queue.client.pubsub(ignore_subscribe_messages=True)
    channel.subscribe(CHANNEL)
    channel.get_message(timeout=5)

    def said() -> list[bytes]:
        return [message["data"] for message in iter(lambda: channel.get_message(timeout=0.1), None)]

    due = queue.now_ms() + 60_000
    queue.enqueue("q.a", route=f"@{due}")
    assert said() == [f"due q {due}".encode()]
    queue.enqueue("q.b", route=f"@{due + 1000}")
    assert said() == []
    queue.enqueue("q.c", route=f"@{due - 1000}")
    assert said() == [f"due q {due - 1000}".encode()]
    channel.close()


def test_a_scheduled_job_keeps_its_priority(queue: RawQueue) -> None:
    queue.register("w")
    queue.enqueue("q.x", route="-3+1")
    queue.client.zadd(queue.keys.scheduled, {"q.x": 1})
    assert queue.client.zrange(queue.keys.lanes, 0, -1) == []
    queue.promote()
    (entry,) = queue.read("w", lane="p-3")
    assert entry.id == "q.x"
    queue.settle("w", retried(entry, delay_ms=60_000))
    queue.client.zadd(queue.keys.retries, {"q.x": 1})
    queue.promote()
    (entry,) = queue.read("w", lane="p-3")
    queue.settle("w", (entry, "kept", (0, "", "1", "")))  # as the settler says of a job that had failed
    assert queue.leftovers() == {}

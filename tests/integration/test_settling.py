"""An enqueue or settle call of many jobs: what goes together goes as it would one by one. (G3, G10)"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.raw_queue import CANCELLED, DISCARDED, RawQueue, retried, succeeded

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 1_000


@pytest.fixture
def queue(any_redis: str) -> Iterator[RawQueue]:
    with RawQueue(any_redis, recent=2 * MANY) as queue:
        yield queue


def test_a_thousand_jobs_of_one_call_leave_nothing_behind(queue: RawQueue) -> None:
    queue.register("w")
    queue.enqueue(*(f"q.{n}" for n in range(MANY)))
    assert queue.client.hlen(queue.keys.index) == MANY
    assert queue.settle("w", *map(succeeded, queue.read("w", count=MANY))) == b""
    assert not queue.leftovers()
    assert queue.pending("w") == 0
    assert queue.client.hget(queue.keys.stats, "succeeded") == str(MANY).encode()
    assert queue.client.xlen(queue.keys.recent) == MANY


def test_what_is_lost_among_many_stays_where_it_is(queue: RawQueue) -> None:
    for worker in ("w", "gone"):
        queue.register(worker)
    queue.enqueue(*(f"q.{n}" for n in range(7)))
    assert queue.client.hlen(queue.keys.index) == 7
    mine, lost, rest = queue.read("w", count=3), queue.read("gone", count=2), queue.read("w", count=2)
    queue.expire("gone")
    queue.reclaim("w")
    assert queue.settle("w", *map(succeeded, (*mine, *lost, *rest))) == b"1110011"
    assert [queue.look(entry.id) for entry in lost] == ["queued", "queued"]
    assert queue.client.hget(queue.keys.stats, "succeeded") == b"5"
    again = queue.read("w", count=7, lane="returned")
    assert [entry.id for entry in again] == [entry.id for entry in lost]
    assert queue.settle("w", *((entry, "kept", (0, "", "1", "")) for entry in again)) == b""
    assert not queue.leftovers()


def test_verbs_and_lanes_in_turns(queue: RawQueue) -> None:
    queue.register("w")
    queue.enqueue_routed(*((f"q.{n}", "5" if n % 2 else "") for n in range(12)))
    plain, urgent = queue.read("w", count=6), queue.read("w", count=6, lane="p5")
    for one in (plain[0], urgent[0]):
        assert queue.cancel(one.id) == b"marked"
    items = []
    for one, two in zip(plain, urgent, strict=True):
        items += [succeeded(one), succeeded(two)]
    items[4] = plain[2], *DISCARDED
    items[7] = retried(urgent[3])
    items[9] = urgent[4], *CANCELLED
    assert queue.settle("w", *items) == b""
    assert queue.client.hlen(queue.keys.cancelled) == 0
    (again,) = queue.read("w", lane="p5")
    assert again.id == urgent[3].id
    queue.settle("w", (again, "kept", (0, "", "1", "")))
    assert not queue.leftovers()
    counted = queue.client.hgetall(queue.keys.stats)
    assert {verb: int(counted[verb]) for verb in (b"succeeded", b"discarded", b"retried", b"cancelled")} == {
        b"succeeded": 10,
        b"discarded": 1,
        b"retried": 1,
        b"cancelled": 1,
    }

"""Leases, fence and reclaim, script by script: who may run what, and what becomes of a dead worker's jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis

from tests.support.raw_queue import GRACE_MS, LEASE_MS, RawQueue, dead, released, retried, succeeded

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def queue(any_redis: str) -> Iterator[RawQueue]:
    with RawQueue(any_redis) as queue:
        yield queue


def die(queue: RawQueue, *consumers: str) -> None:
    """Their leases pass while somebody else's holds."""
    queue.expire(*consumers)


def lease_of(queue: RawQueue, consumer: str) -> float | None:
    score: float | None = queue.client.zscore(queue.keys.workers, consumer)
    return score


# -- renewal ---------------------------------------------------------------------------------------


def test_a_lease_runs_by_redis_time(queue: RawQueue) -> None:
    before = queue.now_ms()
    queue.register("a")
    assert before + LEASE_MS <= (lease_of(queue, "a") or 0) <= queue.now_ms() + LEASE_MS


def test_an_expired_lease_that_nobody_reclaimed_is_renewed(queue: RawQueue) -> None:
    queue.register("a")
    queue.register("b")
    queue.expire("a")
    assert queue.renew("a") == "held"
    assert (lease_of(queue, "a") or 0) > queue.now_ms()
    assert not queue.client.exists(queue.keys.grace)  # b's lease held: Redis was not away


def test_after_an_outage_nobody_reclaims_and_all_go_on(queue: RawQueue) -> None:
    queue.register("a")
    queue.register("b")
    queue.enqueue("q.a", "q.b")
    (of_a,), (of_b,) = queue.read("a"), queue.read("b")
    queue.expire("a", "b")
    assert queue.renew("a") == "held"
    assert 0 < queue.client.pttl(queue.keys.grace) <= GRACE_MS
    assert queue.reclaim("a") == [b"grace", b"", 0]
    assert queue.renew("b") == "held"
    assert queue.settle("a", succeeded(of_a)) == queue.settle("b", succeeded(of_b)) == b""
    queue.client.delete(queue.keys.grace)
    assert queue.reclaim("a")[0] == b"none"


def test_a_registration_that_finds_every_lease_expired_sets_the_grace(queue: RawQueue) -> None:
    assert queue.register("a")[1] == 0
    queue.expire("a")
    assert queue.register("b")[1] == 1
    assert queue.reclaim("b") == [b"grace", b"", 0]
    assert queue.renew("a") == "held"


def test_a_worker_without_a_valid_lease_reclaims_nobody(queue: RawQueue) -> None:
    queue.register("a")
    queue.register("b")
    queue.expire("a", "b")
    assert queue.reclaim("a") == [b"invalid", b"", 0]
    assert queue.reclaim("stranger") == [b"invalid", b"", 0]
    assert lease_of(queue, "b") is not None


def test_flushed_data_is_forgotten_and_a_reclaimed_lease_is_lost(queue: RawQueue) -> None:
    born = queue.register("a")[2]
    queue.register("b")
    queue.expire("a")
    queue.reclaim("b")
    assert queue.renew("a", born=born) == "lost"
    queue.client.flushall()
    assert queue.renew("b", born=born) == "forgotten"


def test_leases_are_renewed_at_maxmemory(queue: RawQueue) -> None:
    queue.register("a")
    queue.expire("a")
    queue.client.config_set("maxmemory", 1)
    try:
        assert queue.renew("a") == "held"
        assert queue.renew("a") == "held"
    finally:
        queue.client.config_set("maxmemory", 0)
    assert (lease_of(queue, "a") or 0) > queue.now_ms()


# -- reclaim ---------------------------------------------------------------------------------------


def test_a_dead_workers_jobs_go_back_and_its_consumer_goes(queue: RawQueue) -> None:
    queue.register("a")
    queue.register("b")
    queue.enqueue("q.1", "q.2", "q.3")
    queue.enqueue("q.4", route="5")
    taken = [*queue.read("a", count=3), *queue.read("a", lane="p5")]
    die(queue, "a")
    state, victim, more, *jobs = queue.reclaim("b")
    assert (state, victim, more) == (b"reclaimed", b"a", 0)
    assert jobs[::4] == [b"q.1", b"q.2", b"q.3", b"q.4"]
    assert set(jobs[2::4]) == {1}
    assert set(jobs[3::4]) == {b"returned"}
    assert lease_of(queue, "a") is None
    for lane in ("", "p5", "returned"):
        assert queue.pending("a", lane=lane) == 0
        consumers = queue.client.xinfo_consumers(queue.keys.lane(lane), "workers")
        assert b"a" not in [consumer["name"] for consumer in consumers]
    assert not queue.client.exists(queue.keys.wake + "a", queue.keys.call + "a")
    again = queue.read("b", count=10, lane="returned")
    assert [entry.id for entry in again] == [entry.id for entry in taken]
    assert not {entry.entry for entry in again} & {entry.entry for entry in taken if entry.lane == "returned"}
    assert queue.settle("b", *map(succeeded, again)) == b""
    assert queue.leftovers() == {}


def test_crashes_are_counted_and_the_rest_of_meta_stays_byte_for_byte(queue: RawQueue) -> None:
    tail = ',"priority":5,"failures":2,"executions":{"a\\"b":1},"crashes_of_others":7,"x":"\u00fc \\u0000"}'
    queue.register("a")
    meta = f'{{"v":1,"at":1795314296123{tail}'.encode()
    queue.client.xadd(queue.keys.stream, {"id": "q.x", "job": "Job", "args": b'{"b":"\xff"}', "meta": meta})
    lane = ""
    for crashes in (1, 2):
        queue.register("victim")
        (entry,) = queue.read("victim", lane=lane)
        die(queue, "victim")
        queue.reclaim("a")
        lane = "returned" if crashes == 1 else "suspects"
        ((_, fields),) = queue.client.xrange(queue.keys.lane(lane))
        assert fields[b"meta"] == f'{{"v":1,"at":1795314296123,"crashes":{crashes}{tail}'.encode()
        assert fields[b"args"] == b'{"b":"\xff"}'
        assert (entry.id, fields[b"id"], fields[b"job"]) == ("q.x", b"q.x", b"Job")


def test_the_third_crash_is_death_with_reason_and_payload(queue: RawQueue) -> None:
    queue.register("a")
    queue.enqueue("q.poison", args='{"n":1}')
    became = []
    for lane in ("", "returned", "suspects"):
        queue.register("victim")
        assert len(queue.read("victim", lane=lane)) == 1
        die(queue, "victim")
        became.append(queue.reclaim("a")[6])
    assert became == [b"returned", b"suspects", b"dead"]
    assert queue.look("q.poison") == "dead"
    error = queue.client.lindex(queue.keys.errors + "q.poison", 0)
    assert b"WorkerCrashed" in error
    assert b"3 workers died" in error
    assert b'{"n":1}' in queue.client.hget(queue.keys.parked, "q.poison")
    assert queue.client.zrange(queue.keys.dead, 0, -1) == [b"q.poison"]


def test_a_release_costs_no_crash_and_forgets_none(queue: RawQueue) -> None:
    queue.register("a")
    queue.enqueue("q.x")
    for lane in ("", "returned"):
        queue.register("victim")
        (entry,) = queue.read("victim", lane=lane)
        die(queue, "victim")
        queue.reclaim("a")
    (entry,) = queue.read("a", lane="suspects")
    assert queue.settle("a", released(entry)) == b""
    (again,) = queue.read("a", lane="suspects")  # a suspect stays one
    assert again.meta == entry.meta
    assert b'"crashes":2' in again.meta


@pytest.mark.parametrize("delay_ms", [0, 1])
def test_a_suspect_that_is_retried_stays_one(queue: RawQueue, delay_ms: int) -> None:
    """G10: on a common lane it would run beside other suspects, and the next crash would be death for all of them."""
    queue.register("a")
    queue.enqueue("q.x", route="5")
    for lane in ("p5", "returned"):
        queue.register("victim")
        queue.read("victim", lane=lane)
        die(queue, "victim")
        queue.reclaim("a")
    (entry,) = queue.read("a", lane="suspects")
    assert queue.settle("a", retried(entry, delay_ms=delay_ms)) == b""
    while delay_ms and not queue.promote():
        pass
    assert [again.id for again in queue.read("a", lane="suspects")] == ["q.x"]


def test_a_queue_with_a_lane_that_is_no_stream_is_not_served(queue: RawQueue) -> None:
    queue.enqueue("q.x", route="5")
    queue.client.set(queue.keys.lane("p5"), "no stream")
    before = queue.snapshot()
    with pytest.raises(redis.ResponseError, match=r"WRONGTYPE .*p5"):
        queue.register("a")
    assert queue.snapshot() == before


def test_reclaim_goes_page_by_page_over_all_lanes_and_the_victim_stays_condemned_meanwhile(queue: RawQueue) -> None:
    queue.register("a")
    queue.register("victim")
    queue.enqueue(*(f"q.{n}" for n in range(7)))
    queue.enqueue(*(f"q.p{n}" for n in range(6)), route="5")
    queue.read("victim", count=7)
    queue.read("victim", count=6, lane="p5")
    die(queue, "victim")
    seen, calls = [], 0
    while True:
        _, victim, more, *jobs = queue.reclaim("a", limit=4)
        calls += 1
        seen += jobs[::4]
        assert (victim, len(jobs) // 4 <= 4) == (b"victim", True)
        assert queue.client.xlen(queue.keys.lane("returned")) == len(seen)
        if not more:
            break
        assert lease_of(queue, "victim") == 0
        assert queue.renew("victim") == "lost"
        assert queue.pending("victim") + queue.pending("victim", lane="p5") == 13 - len(seen)
    assert (calls, len(set(seen))) == (4, 13)
    assert lease_of(queue, "victim") is None
    assert queue.reclaim("a")[0] == b"none"


def test_what_a_condemned_worker_settles_is_dropped(queue: RawQueue) -> None:
    """G3: the fence."""
    queue.register("a")
    queue.register("zombie")
    queue.enqueue("q.1", "q.2", "q.3")
    one, two, three = queue.read("zombie", count=3)
    die(queue, "zombie")
    queue.reclaim("a", limit=2)
    before = {key: value for key, value in queue.snapshot().items() if b":call:" not in key}
    assert queue.settle("zombie", succeeded(one), dead(two)) == b"00"
    assert {key: value for key, value in queue.snapshot().items() if b":call:" not in key} == before
    queue.reclaim("a")
    assert queue.settle("zombie", retried(three)) == b"0"
    again = queue.read("a", count=10, lane="returned")
    assert [entry.id for entry in again] == ["q.1", "q.2", "q.3"]
    assert queue.settle("a", *map(succeeded, again)) == b""
    assert queue.leftovers() == {}


def test_a_marked_job_is_cancelled_when_it_is_reclaimed(queue: RawQueue) -> None:
    queue.register("a")
    queue.register("victim")
    queue.enqueue("q.x")
    queue.read("victim")
    assert queue.cancel("q.x") == b"marked"
    die(queue, "victim")
    assert queue.reclaim("a")[3:] == [b"q.x", b"Job", 1, b"cancelled"]
    assert queue.look("q.x") == "ended"
    assert queue.leftovers() == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"x": "1"},
        {"id": "q.x", "job": "J"},
        {"id": "q.x", "job": "J", "args": "\x00", "meta": "no json"},
        {b"\xff": b"\xfe"},
    ],
    ids=["strange", "short", "meta", "bytes"],
)
def test_a_malformed_entry_survives_reclaim_and_release(queue: RawQueue, fields: dict[str, str]) -> None:
    queue.register("a")
    queue.register("victim")
    queue.client.xadd(queue.keys.stream, fields)
    queue.read("victim")
    die(queue, "victim")
    queue.reclaim("a")
    (entry,) = queue.read("a", lane="returned")
    for value in fields.values():
        raw = value if isinstance(value, bytes) else value.encode()
        assert raw in b"".join(entry.fields)
    assert entry.id.startswith("q.")
    assert queue.settle("a", released(entry)) == b""
    (again,) = queue.read("a", lane="returned")
    assert again.fields == entry.fields
    assert queue.settle("a", dead(again)) == b""
    assert queue.client.hlen(queue.keys.index) == queue.client.hlen(queue.keys.parked) == 1


def test_an_entry_deleted_by_hand_is_passed_over(queue: RawQueue) -> None:
    queue.register("a")
    queue.register("victim")
    queue.enqueue("q.gone", "q.x")
    gone, _ = queue.read("victim", count=2)
    queue.client.xdel(queue.keys.stream, gone.entry)
    die(queue, "victim")
    assert queue.reclaim("a")[3::4] == [b"q.x"]
    assert queue.pending("victim") == 0


def test_settle_of_an_entry_deleted_by_hand_is_lost_and_disturbs_no_other(queue: RawQueue) -> None:
    queue.register("a")
    queue.enqueue("q.gone", "q.x", "q.y")
    entries = queue.read("a", count=3)
    queue.client.xdel(queue.keys.stream, entries[0].entry)
    assert queue.settle("a", retried(entries[0]), succeeded(entries[1]), released(entries[2])) == b"011"
    (again,) = queue.read("a", lane="returned")
    assert again.id == "q.y"
    queue.settle("a", succeeded(again))
    assert queue.leftovers() == {}


# -- entries that no lease answers for -------------------------------------------------------------


def test_a_read_that_reached_redis_after_its_consumer_was_gone_is_reclaimed(queue: RawQueue) -> None:
    """G1: such an entry is pending for a consumer of which no lease is known; nobody else would ever look at it."""
    queue.register("a")
    queue.register("late")
    queue.enqueue("q.x", route="5")
    die(queue, "late")
    queue.reclaim("a")
    assert len(queue.read("late", lane="p5")) == 1
    assert queue.beat("a")[2] == 1
    assert queue.reclaim("a")[:3] == [b"reclaimed", b"late", 0]
    assert queue.beat("a")[2] == 0
    assert [entry.id for entry in queue.read("a", lane="returned")] == ["q.x"]


def test_a_consumer_that_a_late_read_has_made_and_that_holds_nothing_goes_with_the_next_reclaim(
    queue: RawQueue,
) -> None:
    for consumer in ("a", "late", "next", "waiting"):
        queue.register(consumer)
    queue.enqueue("q.x", "q.y", route="5")
    die(queue, "late")
    queue.reclaim("a")
    for consumer in ("late", "waiting"):
        queue.client.xgroup_createconsumer(queue.keys.stream, "workers", consumer)  # as a read does that waits
    (entry,) = queue.read("late", lane="p5", count=1)
    queue.client.xack(queue.keys.lane("p5"), "workers", entry.entry)
    queue.read("a", lane="p5", count=1)
    assert consumers(queue) == {"late", "waiting", "a"}
    die(queue, "next")
    assert queue.reclaim("a")[:2] == [b"reclaimed", b"next"]
    assert consumers(queue) == {"waiting", "a"}


def consumers(queue: RawQueue) -> set[str]:
    return {
        found["name"].decode()
        for lane in ("", "p5")
        for found in queue.client.xinfo_consumers(queue.keys.lane(lane), "workers")
    }


def test_what_is_pending_is_reclaimed_when_the_leases_are_deleted_by_hand(queue: RawQueue) -> None:
    queue.register("a")
    queue.enqueue("q.x")
    queue.read("a")
    queue.client.delete(queue.keys.workers)
    assert queue.renew("a") == "lost"
    queue.register("a.1")
    assert queue.reclaim("a.1")[1] == b"a"
    assert [entry.id for entry in queue.read("a.1", lane="returned")] == ["q.x"]


# -- leaving ---------------------------------------------------------------------------------------


def test_who_leaves_with_nothing_pending_is_gone(queue: RawQueue) -> None:
    queue.register("a")
    assert queue.leave("a") == 0
    assert lease_of(queue, "a") is None
    assert queue.client.xinfo_consumers(queue.keys.stream, "workers") == []
    assert not queue.client.exists(queue.keys.wake + "a")


def test_what_who_leaves_still_holds_is_reclaimed_at_once(queue: RawQueue) -> None:
    queue.register("a")
    queue.register("b")
    queue.enqueue("q.x", route="-5")
    queue.read("a", lane="p-5")
    assert queue.leave("a") == 1
    assert lease_of(queue, "a") == 0
    assert queue.renew("a") == "lost"
    assert queue.reclaim("b")[1] == b"a"
    assert [entry.id for entry in queue.read("b", lane="returned")] == ["q.x"]


def test_the_last_to_leave_is_no_outage(queue: RawQueue) -> None:
    queue.register("a")
    queue.leave("a")
    assert queue.register("b")[1] == 0
    assert not queue.client.exists(queue.keys.grace)

"""What every script does at maxmemory, and when a key is of another type: all of it, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis

from aiojobs_rt.adapters.redis import scripts
from tests.support.raw_queue import KEPT, RawQueue, dead, released, retried, snoozed, succeeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JOB = "q.job-a"
REFUSED = {"enqueue", "register", "admit", "arrive", "progress"}
ELSEWHERE = {"revive", "remove", "inspect", "page", "survey"}
"""Scripts of the administration: its own tests run them at maxmemory."""


@pytest.fixture
def queue(any_redis: str) -> Iterator[RawQueue]:
    with RawQueue(any_redis) as queue:
        yield queue


def delivered(queue: RawQueue, *ids: str, consumer: str = "w") -> list[Any]:
    queue.register(consumer)
    queue.enqueue(*ids)
    return queue.read(consumer, count=len(ids))


def outgoing(queue: RawQueue) -> dict[bytes, bytes]:
    (entry,) = delivered(queue, JOB)
    queue.settle("w", retried(entry, queue="other"))
    ((_, fields),) = queue.client.xrange(queue.keys.outgoing)
    queue.client.delete(queue.keys.outgoing)
    result: dict[bytes, bytes] = fields
    return result


def prepare(queue: RawQueue, name: str) -> Callable[[], Any]:
    """Bring the queue to where the script has something to do; how to call it."""
    match name:
        case "enqueue":
            return lambda: queue.enqueue(JOB)
        case "register":
            return lambda: queue.register("w")
        case "arrive":
            fields = outgoing(queue)
            return lambda: queue.arrive(fields, "1-1")
        case "admit":
            return lambda: queue.admit(JOB)
        case "progress":
            return lambda: queue.progress(JOB, 1)
        case "renew":
            queue.register("w")
            queue.expire("w")
            return lambda: queue.renew("w")
        case "settle":
            entries = delivered(queue, *(f"q.{n}" for n in range(6)))
            return lambda: queue.settle(
                "w",
                succeeded(entries[0]),
                retried(entries[1], delay_ms=60_000),
                snoozed(entries[2]),
                dead(entries[3]),
                released(entries[4]),
                (entries[5], *KEPT),
            )
        case "promote":
            queue.enqueue(JOB, route="5+1")
            while queue.now_ms() < int(queue.client.zscore(queue.keys.scheduled, JOB) or 0):
                pass
            return queue.promote
        case "reclaim":
            delivered(queue, JOB, consumer="dead")
            queue.register("w")
            queue.expire("dead")
            return lambda: queue.reclaim("w")
        case "leave":
            queue.register("w")
            return lambda: queue.leave("w")
        case "cancel":
            queue.enqueue(JOB)
            return lambda: queue.cancel(JOB)
        case "pause":
            return queue.pause
        case "beat":
            queue.register("w")
            return lambda: queue.beat("w")
        case "look":
            queue.enqueue(JOB)
            return lambda: queue.look(JOB)
        case "reached":
            queue.enqueue(JOB)
            return lambda: queue.reached(JOB)
        case _:
            raise AssertionError(f"the script {name} is not in this table")


@pytest.mark.parametrize("name", sorted(set(scripts.names()) - ELSEWHERE))
def test_at_maxmemory_each_script_is_done_or_refused_as_the_table_says(queue: RawQueue, name: str) -> None:
    call = prepare(queue, name)
    rows = [line.strip("| ").split("|") for line in (scripts.__doc__ or "").splitlines() if line.startswith("|")]
    (documented,) = [row[2] for row in rows if name in [one.strip() for one in row[0].split(",")]]
    assert ("refused" in documented) == (name in REFUSED)
    before = queue.snapshot()
    queue.client.config_set("maxmemory", 1)
    try:
        if name in REFUSED:
            with pytest.raises(redis.RedisError, match="maxmemory"):
                call()
            assert queue.snapshot() == before
        else:
            call()
    finally:
        queue.client.config_set("maxmemory", 0)
    if name not in REFUSED | {"beat", "look", "reached"}:
        assert queue.snapshot() != before


@pytest.mark.parametrize("name", sorted(set(scripts.names()) - ELSEWHERE))
def test_a_user_without_channels_gets_all_of_it_done(queue: RawQueue, name: str) -> None:
    """From Redis 7 on, a new user may use no channel unless he is given some."""
    call = prepare(queue, name)
    master = queue.client
    master.execute_command("ACL", "SETUSER", "mute", "on", ">hunter2", "~*", "+@all", "resetchannels")
    port = master.connection_pool.connection_kwargs["port"]
    queue.client = redis.Redis(port=port, username="mute", password="hunter2")  # noqa: S106 - a user of this test
    try:
        with pytest.raises(redis.RedisError, match="permission"):
            queue.client.publish("aiojobs:control", "x")
        call()
    finally:
        queue.client.close()
        queue.client = master
        master.execute_command("ACL", "DELUSER", "mute")


def test_a_refused_enqueue_is_done_when_it_is_sent_again(queue: RawQueue) -> None:
    queue.client.config_set("maxmemory", 1)
    with pytest.raises(redis.RedisError):
        queue.enqueue(JOB, number=1)
    queue.client.config_set("maxmemory", 0)
    assert queue.enqueue(JOB, number=1) == b""
    assert queue.client.xlen(queue.keys.stream) == 1


def test_cancel_of_a_delivered_and_of_a_parked_job_goes_on_at_maxmemory(queue: RawQueue) -> None:
    delivered(queue, JOB)
    queue.enqueue("q.later", route="+60000")
    queue.client.config_set("maxmemory", 1)
    try:
        assert queue.cancel(JOB) == b"marked"
        assert queue.cancel("q.later") == b"gone"
    finally:
        queue.client.config_set("maxmemory", 0)


def keys_of(queue: RawQueue, name: str) -> list[str]:
    """All keys that the prepared script may touch, those it makes from prefixes too."""
    k = queue.keys
    day = queue.now_ms() // 86_400_000
    return [
        k.stream, k.lanes, k.scheduled, k.retries, k.dead, k.parked, k.index, k.workers, k.cancelled, k.recent, k.stats,
        k.outgoing, k.grace, k.lane("returned"), k.lane("p5"), f"{k.stats}:{day}", k.errors + JOB, k.wake + "w",
        k.call + "w", k.call + "producer", k.result + JOB, k.moved + JOB,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["enqueue", "register", "arrive", "renew", "promote", "reclaim", "leave", "cancel"])
def test_a_key_of_another_type_leaves_nothing_half_done(redis_url: str, name: str) -> None:
    """Either the call is refused and nothing has changed, or it is done and the job is there."""
    with RawQueue(redis_url) as queue:
        for position in range(22):
            queue.client.flushall()
            queue._numbers.clear()
            call = prepare(queue, name)
            key = keys_of(queue, name)[position]
            wrong_type(queue, key)
            before = queue.snapshot()
            try:
                call()
            except redis.ResponseError:
                assert queue.snapshot() == before, f"{name} refused {key}, after it had written"
            else:
                if name in {"enqueue", "arrive", "promote", "reclaim"}:
                    assert jobs_on_streams(queue) == [JOB], f"{name} with {key} of another type lost the job"
        queue.client.flushall()


def wrong_type(queue: RawQueue, key: str) -> None:
    kind = queue.client.type(key)
    queue.client.delete(key)
    if (
        kind == b"string"
        or key in (queue.keys.grace, queue.keys.result + JOB, queue.keys.moved + JOB)
        or ":call:" in key
    ):
        queue.client.rpush(key, "x")
    else:
        queue.client.set(key, "x")


def jobs_on_streams(queue: RawQueue) -> list[str]:
    found: list[str] = []
    for key in queue.client.scan_iter(queue.keys.stream.replace("{", "\\{") + "*", _type="stream"):
        found += [fields[b"id"].decode() for _, fields in queue.client.xrange(key)]
    if queue.client.type(queue.keys.index) == b"hash":
        place = queue.client.hget(queue.keys.index, JOB)
        assert place is not None
    return found


@pytest.mark.parametrize("verb", ["succeeded", "retried", "later", "snoozed", "dead", "released", "elsewhere", "kept"])
def test_a_settle_with_a_key_of_another_type_loses_no_job(redis_url: str, verb: str) -> None:
    with RawQueue(redis_url) as queue:
        for position in range(22):
            queue.client.flushall()
            queue._numbers.clear()
            queue.register("w")
            queue.enqueue(JOB, "q.other", route="5")
            entry, other = queue.read("w", count=2, lane="p5")
            key = keys_of(queue, "settle")[position]
            if key == queue.keys.lane("p5"):
                continue  # then the entry itself is gone
            wrong_type(queue, key)
            before = queue.snapshot()
            item = {
                "succeeded": succeeded(entry),
                "retried": retried(entry),
                "later": retried(entry, delay_ms=60_000),
                "snoozed": snoozed(entry),
                "dead": dead(entry),
                "released": released(entry),
                "elsewhere": retried(entry, queue="other"),
                "kept": (entry, *KEPT),
            }[verb]
            try:
                queue.settle("w", succeeded(other), item)
            except redis.ResponseError:
                assert queue.snapshot() == before, f"settle refused {key}, after it had written"
                assert queue.pending("w", lane="p5") == 2
            else:
                assert queue.pending("w", lane="p5") == 0
                assert whereabouts(queue) == {
                    "succeeded": "", "kept": "", "retried": "stream", "released": "stream", "later": "retries",
                    "snoozed": "scheduled", "dead": "dead", "elsewhere": "outgoing",
                }[verb], key  # fmt: skip
        queue.client.flushall()


def test_a_settle_with_one_lane_of_another_type_settles_nothing_of_the_others(redis_url: str) -> None:
    with RawQueue(redis_url) as queue:
        queue.register("w")
        queue.enqueue("q.a")
        queue.enqueue("q.b", route="5")
        (one,), (two,) = queue.read("w"), queue.read("w", lane="p5")
        wrong_type(queue, queue.keys.lane("p5"))
        before = queue.snapshot()
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            queue.settle("w", succeeded(one), succeeded(two))
        assert queue.snapshot() == before
        queue.client.flushall()


def whereabouts(queue: RawQueue) -> str:
    k = queue.keys
    for name, key in (("retries", k.retries), ("scheduled", k.scheduled), ("dead", k.dead)):
        if queue.client.type(key) == b"zset" and queue.client.zscore(key, JOB) is not None:
            assert queue.client.hexists(k.parked, JOB)
            return name
    if queue.client.type(k.outgoing) == b"stream" and any(
        f[b"id"] == JOB.encode() for _, f in queue.client.xrange(k.outgoing)
    ):
        return "outgoing"
    place = queue.client.hget(k.index, JOB)
    if place is None:
        return ""
    entry, _, lane = place.decode().partition("/")
    ((_, fields),) = queue.client.xrange(k.lane(lane), entry, entry)
    assert fields[b"id"] == JOB.encode()
    return "stream"


def test_a_refused_enqueue_of_a_lane_of_another_type_enqueues_none_of_its_jobs(redis_url: str) -> None:
    with RawQueue(redis_url) as queue:
        queue.client.set(queue.keys.lane("p5"), "x")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            queue.enqueue_routed(("q.a", ""), ("q.b", "5"))
        assert queue.leftovers() == {}
        queue.client.flushall()


def test_a_parked_message_that_nobody_can_read_is_promoted_with_its_payload(redis_url: str) -> None:
    with RawQueue(redis_url) as queue:
        queue.enqueue(JOB, route="+1")
        queue.client.hset(queue.keys.parked, JOB, b"\xc1 garbage")
        while not queue.promote():
            pass
        queue.register("w")
        (entry,) = queue.read("w")
        assert (entry.id, entry.args) == (JOB, b"\xc1 garbage")

"""Admin against a real Redis: what it sees in every state, and what retry, discard and cancel leave behind."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import orjson
import pytest
from redis.exceptions import ResponseError

from aiojobs_rt import Job, RedisAdapter, Worker
from aiojobs_rt.admin import Admin, examine, examine_server
from aiojobs_rt.errors import RedisUnavailable
from tests.support.outcomes import all_are
from tests.support.raw_queue import CHANNEL, ERROR, KEPT, RawQueue, dead, retried, succeeded
from tests.support.redis_server import SUITE_UNDER_ACL, RedisServer
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiojobs_rt.admin.records import ListedState

JOB = "q.job-a"
META = '{"v":1,"at":1000,"crashes":1,"priority":5,"failures":3,"executions":{"k":3},"options":{"timeout":9},"failed_at":1,"dead":"x"}'


@pytest.fixture
def queue(any_redis: str) -> Iterator[RawQueue]:
    with RawQueue(any_redis) as queue:
        queue.client.sadd("aiojobs:queues", "q")
        yield queue


@pytest.fixture
async def admin(any_redis: str) -> AsyncIterator[Admin]:
    async with RedisAdapter(any_redis) as adapter, Admin(adapter) as admin:
        yield admin


def deliver(queue: RawQueue, *ids: str, consumer: str = "w-1.0") -> list[Any]:
    queue.register(consumer)
    queue.enqueue(*ids)
    return queue.read(consumer, count=len(ids))


def kill(queue: RawQueue, job_id: str, *, meta: str = META, route: str = "") -> None:
    """A dead job with this meta."""
    queue.register("w-1.0")
    queue.enqueue(job_id, route=route)
    (entry,) = queue.read("w-1.0", lane=f"p{route}" if route else "")
    queue.settle("w-1.0", (entry, "dead", (meta, ERROR, 60_000, b'{"outcome":"dead","error":"boom"}')))


async def ids(admin: Admin, state: ListedState, **options: Any) -> list[str]:
    return [job.id for job in (await admin.jobs("q", state, **options)).jobs]


def fill(queue: RawQueue) -> None:
    """A job in each state, and one that a dead worker holds."""
    deliver(queue, "q.stranded", consumer="w-2.7")
    first, second, third, _ = deliver(queue, "q.done", "q.dead", "q.retrying", "q.running")
    queue.settle("w-1.0", succeeded(first), dead(second), retried(third, delay_ms=60_000))
    queue.enqueue("q.waiting")
    queue.enqueue("q.urgent", route="-5")
    queue.enqueue("q.late", route="5")
    queue.enqueue("q.scheduled", route="+60000")
    queue.expire("w-2.7")


@pytest.mark.acceptance(5)
async def test_a_queue_in_numbers(queue: RawQueue, admin: Admin) -> None:
    fill(queue)
    (found,) = await admin.queues()
    assert (found.waiting, found.running, found.scheduled, found.retrying, found.dead) == (4, 1, 1, 1, 1)
    assert found.workers == ("w-1",)
    assert found.dead_workers == ("w-2",)
    assert found.stranded == 1
    assert found.latency is not None
    assert 0 <= found.latency < 10
    assert not found.paused


async def test_latency_is_that_of_the_oldest_job_that_waits(queue: RawQueue, admin: Admin) -> None:
    queue.client.xadd(queue.keys.stream, {"id": "q.old", "job": "Job", "args": "{}", "meta": "{}"}, id="1000-0")
    queue.enqueue(JOB)
    age = (await admin.queue("q")).latency
    assert age is not None
    assert abs(age - (queue.now_ms() - 1000) / 1000) < 10
    queue.register("w-1.0")
    queue.read("w-1.0", count=2)
    assert (await admin.queue("q")).latency is None


async def test_a_queue_that_does_not_exist_is_empty(queue: RawQueue, admin: Admin) -> None:
    found = await admin.queue("nowhere")
    assert (found.waiting, found.running, found.latency, found.workers) == (0, 0, None, ())
    assert await admin.job("nowhere.job") is None


async def test_a_paused_queue_says_so(queue: RawQueue, admin: Admin) -> None:
    queue.client.hset(queue.keys.paused, "queue", "1")
    assert (await admin.queue("q")).paused


@pytest.mark.acceptance(5)
async def test_jobs_are_listed_by_state_in_the_order_in_which_they_run(queue: RawQueue, admin: Admin) -> None:
    fill(queue)
    assert await ids(admin, "waiting") == ["q.urgent", "q.stranded", "q.waiting", "q.late"]
    assert await ids(admin, "running") == ["q.running"]
    assert await ids(admin, "scheduled") == ["q.scheduled"]
    assert await ids(admin, "retrying") == ["q.retrying"]
    assert await ids(admin, "dead") == ["q.dead"]
    assert await ids(admin, "finished") == ["q.dead", "q.done"]
    (running,) = (await admin.jobs("q", "running")).jobs
    assert (running.worker, running.job, running.state) == ("w-1", "Job", "running")


@pytest.mark.parametrize("state", ["waiting", "scheduled", "finished", "dead"])
async def test_pages_follow_each_other_without_gap_or_twin(queue: RawQueue, admin: Admin, state: ListedState) -> None:
    queue.recent = 10_000
    wanted = [f"q.{number:04}" for number in range(1200)]
    if state == "scheduled":
        queue.enqueue(*wanted, route="+60000")
    elif state == "waiting":
        queue.enqueue(*wanted[:600], route="-5")
        queue.enqueue(*wanted[600:])
    else:
        queue.dead_jobs = 5000
        entries = deliver(queue, *wanted)
        queue.settle("w-1.0", *((dead(e) if state == "dead" else succeeded(e)) for e in entries))
        wanted.reverse()
    found: list[str] = []
    after = ""
    while True:
        page = await admin.jobs("q", state, limit=500, after=after)
        found += [job.id for job in page.jobs]
        after = page.next
        if not after:
            break
    assert found == wanted


async def test_a_list_by_job_name_looks_past_the_others(queue: RawQueue, admin: Admin) -> None:
    queue.enqueue(*(f"q.{number}" for number in range(1100)))
    queue.client.xadd(queue.keys.stream, {"id": "q.rare", "job": "Rare", "args": "{}", "meta": "{}"})
    page = await admin.jobs("q", "waiting", job="Rare", limit=1)
    assert [job.id for job in page.jobs] == ["q.rare"]


async def test_an_entry_that_is_no_job_is_listed_and_shown_raw_when_it_is_dead(queue: RawQueue, admin: Admin) -> None:
    queue.client.xadd(queue.keys.stream, {b"\xff": b"\x00"})
    (found,) = (await admin.jobs("q", "waiting")).jobs
    assert (found.id, found.job) == ("", "(malformed)")
    queue.register("w-1.0")
    reply: Any = queue.client.xreadgroup("workers", "w-1.0", {queue.keys.stream: ">"})
    entry = reply[0][1][0][0] if isinstance(reply, list) else next(iter(reply.values()))[0][0][0]
    job_id = "q.malformed-1"
    k = queue.keys
    names = (
        k.stream, k.index, k.call + "w-1.0", k.recent, k.stats, k.retries, k.parked, k.dead, k.cancelled, k.lanes,
        k.outgoing, k.scheduled, k.result, k.errors, k.moved,
    )  # fmt: skip
    queue.run(
        "settle", names, (9, CHANNEL, "q", 0, 10, 60_000, 1, "", "", "dead", 1, entry, job_id, "", "", ERROR, 0, "")
    )
    shown = await admin.job(job_id)
    assert shown is not None
    assert (shown.state, shown.job) == ("dead", "(malformed)")
    assert b"\xff" in shown.args
    assert await admin.retry(job_id) == "malformed"
    assert await admin.retry_dead("q") == 0
    assert await admin.discard(job_id) == "discarded"
    assert not queue.leftovers()


async def test_a_job_is_shown_with_all_that_is_kept(queue: RawQueue, admin: Admin) -> None:
    kill(queue, JOB)
    found = await admin.job(JOB)
    assert found is not None
    assert (found.job, found.queue, found.state, found.args) == ("Job", "q", "dead", b"{}")
    assert (found.failures, found.crashes, found.priority, found.reason) == (3, 1, 5, "x")
    assert found.enqueued_at == datetime.fromtimestamp(1, tz=UTC)
    assert found.meta["options"] == {"timeout": 9}
    (attempt,) = found.attempts
    assert (attempt.error, attempt.message, attempt.worker) == ("ValueError", "boom", "w")


async def test_a_job_that_has_ended_is_shown_while_it_is_remembered(queue: RawQueue, admin: Admin) -> None:
    done, kept = deliver(queue, JOB, "q.kept")
    queue.settle("w-1.0", succeeded(done), (kept, *KEPT))
    found = await admin.job(JOB)
    assert found is not None
    assert (found.state, found.job, found.result) == ("succeeded", "Job", None)
    found = await admin.job("q.kept")
    assert found is not None
    assert (found.state, found.result) == ("succeeded", b"1")
    assert await admin.retry(JOB) == "ended"
    assert await admin.discard(JOB) == "ended"


async def test_a_job_that_went_to_another_queue_is_found_there(queue: RawQueue, admin: Admin, any_redis: str) -> None:
    (entry,) = deliver(queue, JOB)
    queue.settle("w-1.0", retried(entry, queue="other", delay_ms=60_000))
    crossing = await admin.job(JOB)
    assert crossing is not None
    assert (crossing.state, crossing.job) == ("retrying", "Job")
    ((hop, fields),) = queue.client.xrange(queue.keys.outgoing)
    with RawQueue(any_redis, "other") as other:
        other.arrive(fields, hop.decode())
        queue.client.delete(queue.keys.outgoing)
        found = await admin.job(JOB)
        assert found is not None
        assert (found.state, found.queue, len(found.attempts)) == ("retrying", "other", 1)
        assert await admin.retry(JOB) == "retried"
        assert other.client.xlen(other.keys.stream) == 1


# -- retry ---------------------------------------------------------------------------------------


async def test_a_dead_job_runs_anew_with_its_counts_reset_and_its_history_kept(queue: RawQueue, admin: Admin) -> None:
    kill(queue, JOB, route="5")
    before = queue.now_ms()
    assert await admin.retry(JOB) == "retried"
    (entry,) = queue.read("w-1.0", lane="p5")
    meta = orjson.loads(entry.meta)
    assert meta.pop("due") >= before
    assert meta == {"v": 1, "at": 1000, "priority": 5, "options": {"timeout": 9}, "revived": 1}
    assert queue.client.llen(queue.keys.errors + JOB) == 1
    assert not queue.client.exists(queue.keys.result + JOB), "its handle would still say dead"
    assert await ids(admin, "dead") == []
    assert not queue.client.hexists(queue.keys.parked, JOB)


async def test_a_retrying_and_a_scheduled_job_run_now_with_their_counts(queue: RawQueue, admin: Admin) -> None:
    (entry,) = deliver(queue, JOB)
    meta = '{"v":1,"at":5,"failures":2}'
    queue.settle("w-1.0", (entry, "retried", (60_000, meta, ERROR, "")))
    queue.enqueue("q.later", route="+60000")
    assert await admin.retry(JOB) == "retried"
    assert await admin.retry("q.later") == "retried"
    first, second = queue.read("w-1.0", count=2)
    assert (first.id, first.meta.decode(), second.id) == (JOB, meta, "q.later")
    assert not queue.client.zcard(queue.keys.retries) + queue.client.zcard(queue.keys.scheduled)


async def test_a_job_that_waits_or_runs_is_left_alone(queue: RawQueue, admin: Admin) -> None:
    deliver(queue, "q.running")
    queue.enqueue(JOB)
    before = queue.snapshot()
    assert await admin.retry("q.running") == "queued"
    assert await admin.retry(JOB) == "queued"
    assert await admin.retry("q.nobody") == "unknown"
    assert queue.snapshot() == before


def revive(queue: RawQueue, job_id: str, meta: str, fresh: str = '{"v":1,"at":1}') -> bytes:
    k = queue.keys
    keys = (k.stream, k.index, k.scheduled, k.retries, k.dead, k.parked, k.lanes, k.result)
    answer: bytes = queue.run("revive", keys, (CHANNEL, "q", job_id, meta, fresh))[0]
    return answer


def test_a_repeated_revive_does_nothing_to_a_job_that_has_died_again(queue: RawQueue) -> None:
    kill(queue, JOB)
    assert revive(queue, JOB, META) == b"revived"
    assert revive(queue, JOB, META) == b"queued"
    (entry,) = queue.read("w-1.0")
    queue.settle("w-1.0", (entry, "dead", ('{"v":1,"at":1,"failures":1}', ERROR, 0, "")))
    assert revive(queue, JOB, META) == b"changed"
    assert queue.client.zcard(queue.keys.dead) == 1


async def test_a_dead_job_that_succeeds_in_the_end_leaves_no_history(queue: RawQueue, admin: Admin) -> None:
    class Mended(Job):
        adapter = admin.adapter
        queue = "q"
        max_attempts = 1

        async def perform(self) -> None:
            if broken:
                raise ValueError("not yet")

    async def work() -> None:
        async with asyncio.timeout(20):
            await Worker(queues=["q"], adapter=admin.adapter, burst=True).run()

    broken = True
    handle = await Mended.perform_later()
    await work()
    assert await handle.status() == "dead"
    broken = False
    assert await admin.retry(handle.id) == "retried"
    assert queue.client.exists(queue.keys.errors + handle.id)
    await work()
    assert await handle.status() == "succeeded"
    assert not queue.leftovers()


async def test_all_dead_jobs_of_a_queue_run_anew(queue: RawQueue, admin: Admin) -> None:
    entries = deliver(queue, *(f"q.{number}" for number in range(1100)))
    queue.dead_jobs = 5000
    queue.settle("w-1.0", *map(dead, entries))
    assert await admin.retry_dead("q") == 1100
    assert (await admin.queue("q")).waiting == 1100
    assert await admin.retry_dead("q") == 0


# -- discard -------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["waiting", "urgent", "scheduled", "retrying", "dead"])
async def test_a_job_that_does_not_run_goes_for_good(queue: RawQueue, admin: Admin, state: str) -> None:
    if state in ("waiting", "urgent"):
        queue.enqueue(JOB, route="-5" if state == "urgent" else "")
    elif state == "scheduled":
        queue.enqueue(JOB, route="+60000")
    elif state == "dead":
        kill(queue, JOB)
    else:
        (entry,) = deliver(queue, JOB)
        queue.settle("w-1.0", retried(entry, delay_ms=60_000))
    assert await admin.discard(JOB) == "discarded"
    assert not queue.leftovers()
    assert not queue.client.exists(queue.keys.result + JOB)
    (line, *_) = (await admin.jobs("q", "finished")).jobs
    assert (line.id, line.job, line.state) == (JOB, "Job", "discarded")
    assert queue.client.hget(queue.keys.stats, "discarded") == b"1"
    assert await admin.discard(JOB) == "ended"


async def test_a_running_job_is_not_discarded(queue: RawQueue, admin: Admin) -> None:
    deliver(queue, JOB)
    before = queue.snapshot()
    assert await admin.discard(JOB) == "running"
    assert await admin.discard("q.nobody") == "unknown"
    assert queue.snapshot() == before


async def test_all_dead_jobs_are_discarded_and_nothing_else(queue: RawQueue, admin: Admin) -> None:
    kill(queue, JOB)
    kill(queue, "q.job-b")
    queue.enqueue("q.waiting")
    assert await admin.discard_dead("q") == 2
    assert await ids(admin, "waiting") == ["q.waiting"]
    assert await ids(admin, "dead") == []


def remove(queue: RawQueue, *ids: str, only: str = "") -> list[bytes]:
    k = queue.keys
    keys = (k.index, k.stream, k.scheduled, k.retries, k.dead, k.parked, k.recent, k.stats, k.errors, k.result)
    answers: list[bytes] = queue.run("remove", keys, (10, only, *ids))
    return answers


def test_a_job_that_was_revived_meanwhile_is_not_discarded_with_the_dead(queue: RawQueue) -> None:
    kill(queue, JOB)
    kill(queue, "q.job-b")
    revive(queue, JOB, META)
    assert remove(queue, JOB, "q.job-b", "q.nobody", only="dead") == [b"kept", b"removed", b"unknown"]
    assert queue.client.xlen(queue.keys.stream) == 1


async def test_cancel_goes_to_the_adapter(queue: RawQueue, admin: Admin) -> None:
    queue.enqueue(JOB)
    assert await admin.cancel(JOB)
    assert not await admin.cancel(JOB)
    deliver(queue, "q.running")
    assert await admin.cancel("q.running")
    found = await admin.job("q.running")
    assert found is not None
    assert found.cancelled


# -- the rules of scripts ------------------------------------------------------------------------


def test_revive_and_remove_go_on_at_maxmemory(queue: RawQueue) -> None:
    kill(queue, JOB)
    kill(queue, "q.job-b")
    queue.enqueue("q.waiting", "q.scheduled", route="+60000")
    queue.enqueue("q.queued")
    queue.client.config_set("maxmemory", 1)
    try:
        assert revive(queue, JOB, META) == b"revived"
        assert remove(queue, "q.job-b") == [b"removed"]
        assert remove(queue, "q.queued", "q.scheduled") == [b"removed", b"removed"]
    finally:
        queue.client.config_set("maxmemory", 0)
    assert queue.client.xlen(queue.keys.stream) == 1


@pytest.mark.parametrize(
    "key", ["stream", "index", "scheduled", "retries", "dead", "parked", "lanes", "recent", "stats"]
)
def test_revive_and_remove_do_nothing_when_a_key_is_of_another_type(queue: RawQueue, key: str) -> None:
    kill(queue, JOB)
    name = getattr(queue.keys, key)
    queue.client.delete(name)
    queue.client.set(name, "x", px=60_000)
    before = queue.snapshot()
    if key != "lanes":
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            remove(queue, JOB)
    if key not in ("recent", "stats"):
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            revive(queue, JOB, META)
    assert queue.snapshot() == before


# -- workers, doctor -----------------------------------------------------------------------------


async def test_workers_are_shown_with_what_they_said_last(queue: RawQueue, admin: Admin) -> None:
    fill(queue)
    told = {
        "host": "h",
        "pid": 7,
        "concurrency": 10,
        "running": 1,
        "quiet": 1,
        "finished": 3,
        "started": 1000,
        "beat": 2000,
    }
    queue.client.hset("aiojobs:worker:w-1", mapping=told)
    queue.client.pexpire("aiojobs:worker:w-1", 60_000)
    alive, gone = await admin.workers()
    assert (alive.name, alive.state, alive.queues, alive.jobs) == ("w-1", "quiet", ("q",), 1)
    assert (alive.host, alive.pid, alive.concurrency, alive.running, alive.finished) == ("h", 7, 10, 1, 3)
    assert alive.started_at == datetime.fromtimestamp(1, tz=UTC)
    assert (gone.name, gone.state, gone.jobs, gone.seen) == ("w-2", "dead", 1, None)


async def findings(admin: Admin) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in await examine(admin):
        found.setdefault(finding.subject, []).append(finding.level)
        assert finding.level == "OK" or finding.advice
    return found


@pytest.mark.acceptance(74)
async def test_the_doctor_finds_what_is_wrong_with_queues(queue: RawQueue, admin: Admin) -> None:
    queue.client.sadd("aiojobs:queues", "late", "fine")
    fill(queue)
    with RawQueue(admin.adapter.endpoint.url, "late") as late, RawQueue(admin.adapter.endpoint.url, "fine") as fine:
        late.enqueue("late.job", route="+60000")
        fine.register("w-9.0")
        found = await findings(admin)
        assert found["queue q"] == ["WARN", "WARN"], "a dead worker, and a dead job"
        assert found["queue late"] == ["WARN"]
        assert found["queue fine"] == ["OK"]
        late.enqueue("late.now")
        assert (await findings(admin))["queue late"] == ["ERROR"]
        late.register("w-8.0")
        late.client.xadd(late.keys.stream, {"id": "late.old"}, id="9999999999999-1")
        assert (await findings(admin))["queue late"] == ["OK"]
    with RawQueue(admin.adapter.endpoint.url, "slow") as slow:
        slow.client.sadd("aiojobs:queues", "slow")
        slow.register("w-7.0")
        seconds, _ = slow.client.time()
        slow.client.xadd(slow.keys.stream, {"id": "slow.old"}, id=f"{(seconds - 50) * 1000}-1")
        assert (await findings(admin))["queue slow"] == ["OK"]
        slow.client.delete(slow.keys.stream)
        slow.register("w-7.0")
        slow.client.xadd(slow.keys.stream, {"id": "slow.old"}, id=f"{(seconds - 90) * 1000}-1")
        assert (await findings(admin))["queue slow"] == ["WARN"], "it waits for longer than a minute"


@pytest.mark.acceptance(74)
@pytest.mark.parametrize(("ahead", "said"), [(30, "behind"), (-30, "ahead of")])
async def test_the_doctor_compares_the_clocks(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, ahead: int, said: str
) -> None:
    monkeypatch.setattr("aiojobs_rt.admin.doctor.time", SimpleNamespace(time=lambda: time.time() + ahead))
    (clock,) = [finding for finding in await examine(admin) if finding.subject == "clock"]
    assert clock.level == "WARN"
    assert re.search(rf"Redis' clock is (29|30)\.\d s {said} this machine's", clock.text)


@pytest.mark.acceptance(74)
@pytest.mark.skipif(SUITE_UNDER_ACL, reason="it looks at CONFIG and INFO, which no role may")
@pytest.mark.fault(24)
async def test_the_doctor_finds_what_is_wrong_with_the_server(queue: RawQueue, admin: Admin) -> None:
    found = await findings(admin)
    assert (found["eviction"], found["version"], found["clock"]) == (["OK"], ["OK"], ["OK"])
    assert found["persistence"] == ["WARN"]
    client = queue.client
    try:
        client.config_set("save", "3600 1")
        assert (await findings(admin))["persistence"] == ["WARN"]
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert (await findings(admin))["eviction"] == ["WARN"], "there is no limit yet"
        client.config_set("maxmemory", "100mb")
        assert (await findings(admin))["eviction"] == ["ERROR"]
        client.config_set("maxmemory-policy", "noeviction")
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", int(used * 1.05))
        assert (await findings(admin))["memory"] == ["WARN"]
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 0)
        client.config_set("save", "")


async def test_what_the_user_may_not_read_is_said_to_be_unknown_and_passed_over_at_start(queue: RawQueue) -> None:
    queue.client.execute_command("ACL", "SETUSER", "meek", "on", ">hunter2", "~*", "&*", "+@all", "-config", "-info")
    url = f"redis://meek:hunter2@127.0.0.1:{queue.client.connection_pool.connection_kwargs['port']}/0"
    try:
        async with RedisAdapter(url) as adapter, Admin(adapter) as admin:
            found = await findings(admin)
            assert (found["eviction"], found["persistence"]) == (["WARN"], ["WARN"])
            assert await examine_server(admin) == []
    finally:
        queue.client.execute_command("ACL", "DELUSER", "meek")


async def test_a_connection_that_died_of_old_age_is_made_again(queue: RawQueue, admin: Admin) -> None:
    await admin.queues()
    queue.client.client_kill_filter(_type="normal", skipme=True)
    assert await admin.queue_names() == ["q"]
    queue.client.client_kill_filter(_type="normal", skipme=True)
    assert (await admin.queue("q")).waiting == 0


async def test_without_redis_every_query_says_so() -> None:
    with RedisServer() as server:
        url = server.url
    async with RedisAdapter(url) as adapter, Admin(adapter) as admin:
        with pytest.raises(RedisUnavailable):
            await admin.queues()
        with pytest.raises(RedisUnavailable):
            await admin.retry(JOB)


async def test_a_paused_queue_is_not_read_until_it_is_resumed(redis_url: str) -> None:
    ran = asyncio.Event()
    async with RedisAdapter(redis_url) as carrier, Admin(carrier) as admin:

        class Paused(Job):
            adapter = carrier
            queue = "paused"

            async def perform(self) -> None:
                ran.set()

        worker = Worker(queues=["paused"], adapter=carrier, concurrency=2)
        async with anyio.create_task_group() as group:
            await group.start(worker.run)
            assert await admin.pause("paused")
            assert not await admin.pause("paused")
            assert (await admin.queue("paused")).paused
            # a read that was under way ends with the first job; what comes after it stays
            first = await Paused.perform_later()
            await wait_until(lambda: not worker._fetcher.blocked_on, what="the worker to stop reading")
            ran.clear()
            second = await Paused.perform_later()
            await asyncio.sleep(0.3)  # waits: nothing may happen
            assert not ran.is_set()
            assert await second.status() == "queued"
            assert await admin.resume("paused")
            await asyncio.wait_for(ran.wait(), 5)
            await all_are("succeeded", (first, second))
            worker.stop()

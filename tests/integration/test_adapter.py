"""RedisAdapter as an application meets it: any loop, any transport, status, result and cancel."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import TypeAdapter

from aiojobs_rt import Job, JobHandle, RedisAdapter
from aiojobs_rt.adapters.base import Envelope
from aiojobs_rt.adapters.redis.connection import Wire
from aiojobs_rt.adapters.redis.endpoint import Endpoint
from aiojobs_rt.core.message import new_job_id
from aiojobs_rt.errors import ConfigurationError, EnqueueError, JobCancelled, JobFailed, ResultNotKept
from tests.support.proxy import Proxy
from tests.support.raw_queue import KEPT, RawQueue, dead, released, retried, snoozed, succeeded
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
JOB = "q.x"


@pytest.fixture
def queue(redis_url: str) -> Iterator[RawQueue]:
    with RawQueue(redis_url) as queue:
        queue.register("w")
        yield queue


def envelope(queue: str = "q") -> Envelope:
    return Envelope(new_job_id(queue), queue, "Job", b"{}", b"}")


def connections(queue: RawQueue) -> int:
    return len([line for line in queue.client.client_list() if line["name"].startswith("aiojobs_rt")])


# -- loops and processes -----------------------------------------------------------------------------


def test_an_adapter_outlives_its_loops_and_leaks_no_connection(queue: RawQueue, redis_url: str) -> None:
    """No set-up, no closing: warnings are errors here."""
    adapter = RedisAdapter(redis_url)

    async def use() -> None:
        sent = envelope()
        await adapter.enqueue([sent])
        assert await adapter.status(sent.id) == "queued"
        with pytest.raises(TimeoutError):
            await adapter.wait_ended(sent.id, timeout_ms=300)
        assert connections(queue) == 3

    for _ in range(3):
        asyncio.run(use())
        wait_for(lambda: connections(queue) == 0)
    assert len(adapter._sessions) == 0
    assert queue.client.xlen(queue.keys.stream) == 3


def test_a_program_without_any_closing_warns_of_nothing(queue: RawQueue, redis_url: str) -> None:
    program = """
        import asyncio, sys
        from aiojobs_rt import Job, RedisAdapter

        class Hello(Job):
            queue = "q"
            adapter = RedisAdapter(sys.argv[1])
            async def perform(self, n: int) -> None: ...

        async def main():
            handle = await Hello.perform_later(1)
            try:
                await handle.result(timeout=0.05)
            except TimeoutError:
                pass
            asyncio.get_running_loop().create_task(Hello.perform_later(2))  # left behind

        for _ in range(2):
            asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program), redis_url],
        cwd=ROOT, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert queue.client.xlen(queue.keys.stream) >= 2
    wait_for(lambda: connections(queue) == 0)


async def test_async_with_and_aclose_release_everything_and_it_may_be_used_again(
    queue: RawQueue, redis_url: str
) -> None:
    async with RedisAdapter(redis_url) as adapter:
        await adapter.enqueue([envelope()])
    await wait_until(lambda: connections(queue) == 0)
    await adapter.enqueue([envelope()])
    await adapter.aclose()
    await adapter.aclose()
    await wait_until(lambda: connections(queue) == 0)


async def test_aclose_waits_for_what_is_being_enqueued(queue: RawQueue, redis_server: RedisServer) -> None:
    async with Proxy(redis_server.port) as proxy:
        proxy.latency_ms = 20
        adapter = RedisAdapter(proxy.url)
        callers = [asyncio.create_task(adapter.enqueue([envelope()])) for _ in range(5)]
        await wait_until(lambda: adapter._sessions)
        await asyncio.sleep(0)
        await adapter.aclose()
        assert await asyncio.gather(*callers) == [[True]] * 5


def test_after_a_fork_the_child_has_connections_of_its_own(queue: RawQueue, redis_url: str) -> None:
    """The child neither speaks on the parent's connection nor closes it."""
    program = """
        import asyncio, os, sys
        from aiojobs_rt.adapters.base import Envelope
        from aiojobs_rt import RedisAdapter

        adapter = RedisAdapter(sys.argv[1])
        def sent(name): return Envelope("q." + name, "q", "Job", b"{}", b"}")

        async def main():
            await adapter.enqueue([sent("before")])
            loop = asyncio.get_running_loop()
            child = os.fork()
            if not child:
                asyncio._set_running_loop(None)
                async def inside():
                    await adapter.enqueue([sent("child")])
                asyncio.run(inside())
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert status == 0, status
            await adapter.enqueue([sent("after")])

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "default:This process:DeprecationWarning", "-c", textwrap.dedent(program), redis_url],
        cwd=ROOT, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = [fields[b"id"] for _, fields in queue.client.xrange(queue.keys.stream)]
    assert found == [b"q.before", b"q.child", b"q.after"]
    clients = {key.rsplit(b":", 1)[-1] for key in queue.client.scan_iter("*:call:*")}
    assert len(clients) == 2


# -- transports --------------------------------------------------------------------------------------


async def use(url: str) -> None:
    async with RedisAdapter(url, enqueue_timeout=2) as adapter:
        sent = envelope()
        assert await adapter.enqueue([sent]) == [True]
        assert await adapter.status(sent.id) == "queued"
        waiting = asyncio.create_task(adapter.wait_ended(sent.id, timeout_ms=5000))
        await asyncio.sleep(0)
        assert await adapter.cancel(sent.id)
        assert (await waiting).outcome == "cancelled"


async def test_by_unix_socket(queue: RawQueue, redis_server: RedisServer) -> None:
    await use(redis_server.unix_url)


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        with server.client() as client:
            client.execute_command(
                "ACL",
                "SETUSER",
                "app",
                "on",
                ">hunter2",
                "~aiojobs:*",
                "resetchannels",
                "&aiojobs:*",
                "+@all",
                "-@dangerous",
                "+client|setname",
            )
            client.execute_command(
                "ACL",
                "SETUSER",
                "reader",
                "on",
                ">hunter2",
                "~aiojobs:*",
                "resetchannels",
                "&aiojobs:*",
                "+@read",
                "+@connection",
            )
        yield server
        with server.client() as client:
            client.execute_command("ACL", "DELUSER", "app", "reader")


async def test_with_user_and_password(guarded_server: RedisServer) -> None:
    await use(f"redis://app:hunter2@127.0.0.1:{guarded_server.port}/0")


@pytest.mark.acceptance(16)
@pytest.mark.parametrize("user", ["app:hunter3", "nobody:hunter3", ":hunter3"])
async def test_a_wrong_password_is_a_clear_error_at_once_that_does_not_show_it(
    guarded_server: RedisServer, user: str
) -> None:
    url = f"redis://{user}@127.0.0.1:{guarded_server.port}/0"
    with pytest.raises(EnqueueError, match=r"password|AUTH|username") as raised:
        await use(url)
    assert "hunter3" not in str(raised.value)
    assert "***" in str(raised.value)
    adapter = RedisAdapter(url)
    assert "hunter3" not in repr(adapter)
    with pytest.raises(ConfigurationError) as refused:
        await adapter.status(JOB)
    assert "hunter3" not in str(refused.value)
    await adapter.aclose()


async def test_a_user_who_may_not_is_a_clear_error(guarded_server: RedisServer) -> None:
    with pytest.raises(EnqueueError, match=r"permission"):
        await use(f"redis://reader:hunter2@127.0.0.1:{guarded_server.port}/0")


@pytest.mark.parametrize("url", ["http://x", "localhost:6379", "", "redis://localhost:port/0"])
def test_a_wrong_url_is_refused_when_it_is_given(url: str) -> None:
    with pytest.raises(ConfigurationError):
        RedisAdapter(url)


# -- batching ----------------------------------------------------------------------------------------


async def test_a_thousand_concurrent_callers_take_few_round_trips_in_order(queue: RawQueue, redis_url: str) -> None:
    async with RedisAdapter(redis_url) as adapter:
        await adapter.enqueue([envelope()])
        queue.client.config_resetstat()
        sent = [envelope() for _ in range(1000)]
        await asyncio.gather(*(adapter.enqueue([one]) for one in sent))
    calls = queue.client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert calls <= 3
    found = [fields[b"id"].decode() for _, fields in queue.client.xrange(queue.keys.stream)]
    assert found[1:] == [one.id for one in sent]


async def test_an_idle_enqueuer_sends_one_command_a_job(queue: RawQueue, redis_url: str) -> None:
    async with RedisAdapter(redis_url) as adapter:
        await adapter.enqueue([envelope()])
        queue.client.config_resetstat()
        for _ in range(5):
            await adapter.enqueue([envelope()])
        stats = queue.client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 5
    assert not {"cmdstat_sadd", "cmdstat_eval", "cmdstat_client|setname"} & set(stats)


# -- status, result, cancel ----------------------------------------------------------------------------


def states() -> dict[str, tuple[str, bool]]:
    """What happened to a job, its status, and what cancel says."""
    return {
        "queued": ("queued", True),
        "scheduled": ("scheduled", True),
        "running": ("running", True),
        "held by a dead worker": ("queued", True),
        "retrying": ("retrying", True),
        "snoozed": ("scheduled", True),
        "released": ("queued", True),
        "succeeded": ("succeeded", False),
        "kept": ("succeeded", False),
        "dead": ("dead", False),
        "discarded": ("discarded", False),
        "cancelled": ("cancelled", False),
        "never": ("unknown", False),
        "flushed": ("unknown", False),
    }


@pytest.mark.parametrize("state", states())
async def test_status_and_cancel_in_every_state(queue: RawQueue, redis_url: str, state: str) -> None:
    if state != "never":
        queue.enqueue(JOB, route="+60000" if state == "scheduled" else "")
    outcome: dict[str, Callable[[Any], Any]] = {
        "retrying": lambda entry: retried(entry, delay_ms=60_000),
        "snoozed": snoozed,
        "released": released,
        "succeeded": succeeded,
        "kept": lambda entry: (entry, *KEPT),
        "dead": dead,
        "discarded": lambda entry: (entry, "discarded", (0, "", "", "")),
        "cancelled": lambda entry: (entry, "cancelled", (0, "", "", "")),
    }
    if state in {"running", "held by a dead worker", "flushed", *outcome}:
        (entry,) = queue.read("w")
        if state in outcome:
            queue.settle("w", outcome[state](entry))
    if state == "held by a dead worker":
        queue.expire("w")
    if state == "flushed":
        queue.client.flushall()
    expected, cancels = states()[state]
    async with RedisAdapter(redis_url) as adapter:
        handle = JobHandle.of(JOB, adapter=adapter)
        assert await handle.status() == expected
        assert await handle.cancel() is cancels
        if cancels and state not in {"running", "held by a dead worker"}:
            assert await handle.status() == "cancelled"
            assert await handle.cancel() is False


async def test_cancel_whose_reply_was_lost_is_still_true(queue: RawQueue, redis_server: RedisServer) -> None:
    queue.enqueue(JOB)
    async with Proxy(redis_server.port) as proxy, RedisAdapter(proxy.url) as adapter:
        assert await adapter.status(JOB) == "queued"
        proxy.eat_reply(b":cancelled")
        assert await adapter.cancel(JOB) is True
        assert proxy.eaten == 1
        assert await adapter.cancel(JOB) is False


async def test_status_survives_a_connection_that_was_cut_while_idle(queue: RawQueue, redis_url: str) -> None:
    async with RedisAdapter(redis_url) as adapter:
        queue.enqueue(JOB)
        assert await adapter.status(JOB) == "queued"
        queue.client.client_kill_filter(_type="normal", skipme=True)
        assert await adapter.status(JOB) == "queued"


async def test_a_connection_that_was_closed_while_idle_costs_no_call(queue: RawQueue, redis_url: str) -> None:
    """A Wire sends nothing twice: it has to notice before."""
    wire = Wire(Endpoint(redis_url), "aiojobs_rt:test")
    for kill in range(3):
        assert await wire.call("TYPE", "aiojobs:nothing") == b"none"
        queue.client.client_kill_filter(_type="normal", skipme=True)
        await wait_until(lambda: not wire.connected, what=f"the end of connection {kill}")
    await wire.close()


async def test_result_waits_for_a_message_and_does_not_poll(queue: RawQueue, redis_url: str) -> None:
    queue.enqueue(JOB)
    (entry,) = queue.read("w")
    async with RedisAdapter(redis_url) as adapter:
        queue.client.config_resetstat()
        waiting = asyncio.create_task(JobHandle.of(JOB, adapter=adapter).result(timeout=10))
        await wait_until(lambda: queue.client.pubsub_numsub(queue.keys.result + JOB)[0][1])
        await wait_until(lambda: queue.client.info("commandstats").get("cmdstat_evalsha"))  # it looks once it listens
        queue.client.config_resetstat()
        loop = asyncio.get_running_loop()
        until = loop.time() + 0.5
        await wait_until(lambda: loop.time() > until)
        stats = queue.client.info("commandstats")
        assert sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval", "get")) <= 1
        began = loop.time()
        queue.settle("w", (entry, *KEPT))
        assert await waiting == 1
        assert loop.time() - began < 1  # sooner than it would have looked again
        calls = queue.client.info("commandstats")["cmdstat_evalsha"]["calls"]
        assert calls == 1  # that of the settling: it was told the result


async def test_a_long_result_is_fetched(queue: RawQueue, redis_url: str) -> None:
    text = "x" * 70_000
    queue.enqueue(JOB)
    (entry,) = queue.read("w")
    async with RedisAdapter(redis_url) as adapter:
        waiting = asyncio.create_task(JobHandle.of(JOB, adapter=adapter).result(timeout=10))
        await wait_until(lambda: queue.client.pubsub_numsub(queue.keys.result + JOB)[0][1])
        with queue.client.pubsub() as listener:
            listener.subscribe(queue.keys.result + JOB)
            assert listener.get_message(timeout=5)["type"] == "subscribe"
            queue.settle("w", (entry, "kept", (60_000, f'{{"outcome":"succeeded","result":"{text}"}}', "", "")))
            assert await waiting == text
            assert listener.get_message(timeout=5)["data"] == b"1"


async def test_a_result_is_found_though_its_message_was_lost(
    queue: RawQueue, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiojobs_rt.adapters.redis.adapter.LOOK_AGAIN", 0.1)
    queue.enqueue(JOB)
    (entry,) = queue.read("w")
    async with RedisAdapter(redis_url) as adapter:
        waiting = asyncio.create_task(adapter.wait_ended(JOB, timeout_ms=5000))
        await wait_until(lambda: queue.client.pubsub_numsub(queue.keys.result + JOB)[0][1])
        queue.client.client_kill_filter(_type="pubsub")
        queue.settle("w", (entry, *KEPT))
        assert (await waiting).outcome == "succeeded"


async def test_what_result_raises(queue: RawQueue, redis_url: str) -> None:
    ids = ["q.waiting", "q.plain", "q.dead", "q.discarded", "q.cancelled", "q.kept-dead"]
    queue.enqueue(*ids)
    entries = {entry.id: entry for entry in queue.read("w", count=10)}
    kept_dead = (60_000, '{"outcome":"dead","error":"ValueError: boom"}')
    queue.settle(
        "w",
        succeeded(entries["q.plain"]),
        dead(entries["q.dead"]),
        (entries["q.discarded"], "discarded", (60_000, '{"outcome":"discarded","error":"expired"}', "", "")),
        (entries["q.cancelled"], "cancelled", (60_000, '{"outcome":"cancelled","error":""}', "", "")),
        (
            entries["q.kept-dead"],
            "dead",
            (entries["q.kept-dead"].meta, '{"error":"ValueError","message":"boom"}', *kept_dead),
        ),
    )
    async with RedisAdapter(redis_url) as adapter:

        async def result(id_: str) -> Any:
            return await JobHandle.of(id_, adapter=adapter).result(timeout=0.05)

        with pytest.raises(TimeoutError, match=r"q\.waiting has not ended within 0\.05 s"):
            await result("q.waiting")
        with pytest.raises(ResultNotKept, match="keep_result"):
            await result("q.plain")
        with pytest.raises(JobFailed, match="ValueError: boom") as failed:
            await result("q.dead")
        assert (failed.value.outcome, failed.value.job_id) == ("dead", "q.dead")
        with pytest.raises(JobFailed, match="expired"):
            await result("q.discarded")
        with pytest.raises(JobCancelled):
            await result("q.cancelled")
        with pytest.raises(JobFailed, match="boom"):
            await result("q.kept-dead")
        with pytest.raises(ResultNotKept, match="nothing is known"):
            await result("q.unknown")


@pytest.mark.parametrize("value", [2**63, -(2**64) - 1, 10**400], ids=["u64", "beyond", "huge"])
async def test_integers_of_any_size_survive(queue: RawQueue, redis_url: str, value: int) -> None:
    queue.enqueue(JOB)
    (entry,) = queue.read("w")
    queue.settle("w", (entry, "kept", (60_000, f'{{"outcome":"succeeded","result":{value}}}', "", "")))
    async with RedisAdapter(redis_url) as adapter:
        handle: JobHandle[int] = JobHandle(JOB, adapter=adapter, load=TypeAdapter(int).validate_json)
        assert await handle.result(timeout=5) == value
        assert await handle.status() == "succeeded"


async def test_a_cancelled_wait_leaves_the_job_and_nothing_else(queue: RawQueue, redis_url: str) -> None:
    queue.enqueue(JOB)
    async with RedisAdapter(redis_url) as adapter:
        waiting = [asyncio.create_task(adapter.wait_ended(JOB, timeout_ms=None)) for _ in range(5)]
        await wait_until(lambda: queue.client.pubsub_numsub(queue.keys.result + JOB)[0][1])
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await wait_until(lambda: not queue.client.pubsub_numsub(queue.keys.result + JOB)[0][1])
        assert await adapter.status(JOB) == "queued"


def test_adapters_are_made_without_a_loop_and_named_without_a_secret() -> None:
    class Local(Job):
        adapter = RedisAdapter("redis://user:secret@localhost:6379/3")

        async def perform(self) -> None: ...

    assert repr(Local.adapter) == "RedisAdapter('redis://user:***@localhost:6379/3')"


@pytest.mark.parametrize("url", ["redis://localhost/zero", "redis://localhost:6379/0/1", "rediss://localhost/x"])
def test_a_database_that_is_no_number_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="must be the number of a database"):
        RedisAdapter(url)


@pytest.mark.parametrize("prefix", ["", "a{b}", "a b", "x" * 65])
def test_a_prefix_that_would_break_the_keys_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="prefix must be"):
        RedisAdapter("redis://localhost:6379/0", prefix=prefix)


def test_a_url_that_is_no_text_is_refused() -> None:
    url: Any = None
    with pytest.raises(ConfigurationError, match="a Redis URL is text"):
        RedisAdapter(url)

"""docs/security.md gives a Redis user to producers, workers and operators: each does all that it should, and nothing else."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.exceptions import NoPermissionError, RedisError

from aiojobs_rt import JobCancelled, JobFailed, Progress, RedisAdapter, perform_all_later
from aiojobs_rt.adapters.redis import scripts
from aiojobs_rt.admin import Admin, examine
from tests.support import acl
from tests.support.jobs import Fails, FaultEcho, FaultJob, FlakyTwice, Gated, Moves, Nap
from tests.support.outcomes import all_are, becomes
from tests.support.redis_server import NO_RETRY, RedisServer, binaries
from tests.support.waiting import wait_until
from tests.support.worker_process import JOBS, ROOT, Fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

KEY = "aiojobs:{default}:"
ROLES = ("producer", "worker", "operator")
SECRET_ARGUMENT = "the-argument-of-another"  # noqa: S105 - to be looked for


class Guarded:
    """A server with the document's users."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        with server.client() as client:
            for user, rules in acl.roles(server.binary.version).items():
                client.execute_command("ACL", "SETUSER", user, *rules)

    @property
    def selective(self) -> bool:
        """Whether rules may hold for some keys only."""
        return self.server.binary.version >= (7, 0)

    def url(self, role: str) -> str:
        return f"redis://{role}:{acl.PASSWORD}@127.0.0.1:{self.server.port}/0"

    def default(self) -> Any:
        """A client that may do everything; its replies are not typed."""
        return self.server.client()

    def client(self, role: str) -> Any:
        return redis.Redis.from_url(self.url(role), retry=NO_RETRY, socket_timeout=5)


@pytest.fixture(scope="module", params=binaries(), ids=lambda binary: binary.name)
def guarded(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    with RedisServer(binary=request.param) as server:
        yield Guarded(server)


@pytest.fixture
async def fleet(guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    """Workers under the worker's user; what the test enqueues, asks and cancels goes under the producer's."""
    with guarded.default() as client:
        client.flushall()
    fleet = Fleet(guarded.url("worker"), tmp_path)
    async with RedisAdapter(guarded.url("producer")) as adapter:
        monkeypatch.setattr(FaultJob, "adapter", adapter)
        monkeypatch.setattr(fleet, "client", guarded.default)
        try:
            yield fleet
        finally:
            fleet.close()
    for worker in fleet.workers:
        assert not re.search(r"NOPERM|permission|ACL", worker.log), worker.log


async def test_a_producer_enqueues_asks_waits_and_cancels(guarded: Guarded, fleet: Fleet, tmp_path: Path) -> None:
    waiting = await Nap.perform_later(1)
    scheduled = await Nap.set(wait=3600).perform_later(1)
    urgent = await Nap.set(priority=-5, queue="low").perform_later(1)
    many = await perform_all_later([Nap.set(wait=3600).bind(n) for n in range(20)])
    assert [await handle.status() for handle in (waiting, scheduled, urgent)] == ["queued", "scheduled", "queued"]
    for handle in (waiting, scheduled, urgent, *many):
        assert await handle.cancel()
    assert await waiting.status() == "cancelled"
    assert not await waiting.cancel()
    in_steps = await Nap.perform_later(1)
    assert await in_steps.progress() is None
    with guarded.default() as client:
        client.set(KEY + "progress:" + in_steps.id, '1 {"moves":1,"completed":["a"]}', px=60_000)
    assert await in_steps.progress() == Progress(completed=("a",))
    assert await in_steps.cancel()

    gate = tmp_path / "gate"
    await fleet.start(queues=["default", "low"], lease=30)
    running, dies, echo = (
        await Gated.set(keep_result=60).perform_later(str(gate)),
        await Fails.set(keep_result=60).perform_later("error"),
        await FaultEcho.perform_later("hello"),
    )
    assert await echo.result(timeout=10) == "hello"
    with pytest.raises(JobFailed):
        await dies.result(timeout=10)
    await wait_until(lambda: fleet.ledger.count("start") >= 1)
    await becomes("running", running)
    assert await running.cancel()
    with pytest.raises(JobCancelled):
        await running.result(timeout=10)


async def test_a_worker_runs_retries_moves_and_buries_jobs(fleet: Fleet) -> None:
    first = await fleet.start(queues=["default", "low"], lease=1)
    flaky, moves = await FlakyTwice.perform_later(), await Moves.perform_later()
    later = await FaultEcho.set(wait=0.3, priority=3).perform_later("later")
    dead = await Fails.perform_later("error")
    with fleet.client() as client:
        client.xadd(KEY + "stream", {"rubbish": "1"})
    await all_are("succeeded", [flaky, moves])
    assert await later.result(timeout=10) == "later"
    await becomes("dead", dead)
    second = await fleet.start(queues=["default", "low"], lease=1)
    first.pause()  # its lease passes
    await Nap.perform_later(1)
    await wait_until(lambda: "is dead" in second.log, what="the reclaim of the other's lease")
    first.resume()
    second.terminate()
    assert await second.ended() == 0


async def test_an_operator_looks_and_acts(guarded: Guarded, fleet: Fleet) -> None:
    worker = await fleet.start(queues=["default", "low"], lease=30)
    dead, other = await Fails.perform_later("error"), await Fails.perform_later("error")
    await all_are("dead", [dead, other])
    waits = await Nap.set(wait=3600).perform_later(7)
    async with RedisAdapter(guarded.url("operator")) as adapter, Admin(adapter) as admin:
        found = {finding.subject: finding for finding in await examine(admin)}
        assert found["version"].level == "OK"
        assert found["eviction"].text == "This user may not read maxmemory-policy."
        assert found["persistence"].text == "This user may not read appendonly."
        assert (await admin.queue("default")).dead == 2
        assert len(await admin.workers()) == 1
        details = await admin.job(waits.id)
        assert details is not None
        assert b"7" in details.args
        for state in ("waiting", "running", "scheduled", "retrying", "dead", "finished"):
            await admin.jobs("default", state)
        assert await admin.retry(waits.id) == "retried"
        await becomes("succeeded", waits)
        assert await admin.retry(dead.id) == "retried"
        await becomes("dead", dead)
        assert await admin.discard(dead.id) == "discarded"
        assert await admin.discard_dead("default") == 1
        assert await admin.pause("low")
        paused = await Nap.set(queue="low").perform_later(1)
        assert await admin.cancel(paused.id)
        assert await admin.resume("low")
    for arguments in (
        ("queues",),
        ("workers",),
        ("jobs", "list", "--state", "finished"),
        ("doctor",),
        ("enqueue", f"{JOBS}:Nap", "[5]"),
    ):
        done = await asyncio.to_thread(command, guarded.url("operator"), *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    await fleet.written("end", 2)
    worker.terminate()
    assert await worker.ended() == 0


def command(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aiojobs_rt", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "AIOJOBS_RT_REDIS_URL": url, "COLUMNS": "200"},
    )  # fmt: skip


REFUSED = r"(?i)permissions? to|executing the script can't (run|access|publish)"
FOREIGN: list[tuple[Any, ...]] = [
    ("FLUSHALL",), ("FLUSHDB",), ("KEYS", "*"), ("SCAN", 0), ("CONFIG", "GET", "*"), ("CONFIG", "SET", "save", ""), ("INFO",),
    ("SCRIPT", "FLUSH"), ("SCRIPT", "KILL"), ("SCRIPT", "LOAD", "return 1"), ("DEBUG", "SLEEP", 0), ("SHUTDOWN",), ("MONITOR",), ("ACL", "LIST"),
    ("ACL", "SETUSER", "x"), ("CLIENT", "LIST"), ("CLIENT", "KILL", "TYPE", "normal"), ("REPLICAOF", "NO", "ONE"), ("MODULE", "LIST"),
    ("SAVE",), ("SWAPDB", 0, 1), ("MIGRATE", "h", 1, "k", 0, 1), ("DUMP", KEY + "parked"), ("RENAME", KEY + "stream", KEY + "x"),
    ("GET", "foreign"), ("SET", "foreign", 1), ("DEL", "foreign"), ("XADD", "foreign", "*", "a", 1), ("HGET", "foreign", "a"),
    ("SADD", "foreign", 1), ("PUBLISH", "foreign", "x"), ("SUBSCRIBE", "foreign"), ("PSUBSCRIBE", "*"),
    ("EVAL", "return redis.call('GET', 'foreign')", 0), ("EVAL", "return redis.call('GET', KEYS[1])", 1, "foreign"),
    ("EVAL", "return redis.call('SET', 'foreign', '1')", 0), ("EVAL", "return redis.call('FLUSHALL')", 0),
    ("EVAL", "return redis.call('KEYS', '*')", 0), ("EVAL", "return redis.call('PUBLISH', 'foreign', 'x')", 0),
]  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
def test_what_no_role_may(guarded: Guarded, role: str) -> None:
    with guarded.default() as client:
        client.set("foreign", "kept")
        client.hset(KEY + "parked", "x", "y")
    try:
        with guarded.client(role) as client:
            for words in FOREIGN:
                with pytest.raises(RedisError, match=REFUSED):
                    client.execute_command(*words)
                client.connection_pool.disconnect()
        with guarded.default() as client:
            assert client.get("foreign") == b"kept"
    finally:
        with guarded.default() as client:
            client.flushall()


READS: list[tuple[Any, ...]] = [
    ("XRANGE", "{key}stream", "-", "+"), ("XREVRANGE", "{key}stream", "+", "-"), ("XREAD", "STREAMS", "{key}stream", "0"),
    ("XREADGROUP", "GROUP", "workers", "me", "STREAMS", "{key}stream", ">"), ("XREADGROUP", "GROUP", "workers", "me", "STREAMS", "{key}stream", "0"),
    ("XCLAIM", "{key}stream", "workers", "me", 0, "1-1"), ("XAUTOCLAIM", "{key}stream", "workers", "me", 0, "0"), ("XINFO", "STREAM", "{key}stream"),
    ("XINFO", "STREAM", "{key}stream", "FULL"), ("XRANGE", "{key}outgoing", "-", "+"), ("XREVRANGE", "{key}outgoing", "+", "-"),
    ("XRANGE", "{key}stream:p5", "-", "+"), ("HGETALL", "{key}parked"), ("HGET", "{key}parked", "{id}"), ("HMGET", "{key}parked", "{id}"),
    ("HVALS", "{key}parked"), ("HSCAN", "{key}parked", 0), ("HRANDFIELD", "{key}parked", 1, "WITHVALUES"), ("DUMP", "{key}parked"),
    ("COPY", "{key}stream", "{key}call:x"), ("SORT", "{key}scheduled", "BY", "nosort", "GET", "{key}parked->*"), ("RENAME", "{key}parked", "{key}index"),
    ("GETDEL", "{key}parked"), ("SET", "{key}parked", "x", "GET"), ("RESTORE", "{key}index", 0, "x"), ("OBJECT", "ENCODING", "{key}parked"),
]  # fmt: skip


async def test_a_producer_reads_no_arguments(guarded: Guarded, fleet: Fleet) -> None:
    """Neither by a command, nor by a script; also not those of its own jobs."""
    if not guarded.selective:
        pytest.skip("on Redis 6.2 a user has the same commands for all keys")
    for wait, priority in ((None, 0), (3600, 0), (None, 5)):
        await FaultEcho.set(wait=wait, priority=priority).perform_later(SECRET_ARGUMENT)
    with guarded.default() as client:
        (scheduled,) = client.zrange(KEY + "scheduled", 0, -1)
        assert SECRET_ARGUMENT.encode() in (client.hget(KEY + "parked", scheduled) or b"")
        assert SECRET_ARGUMENT in str(client.xrange(KEY + "stream"))
        assert SECRET_ARGUMENT in str(client.xrange(KEY + "stream:p5"))
    with guarded.client("producer") as client:
        for words in READS:
            asked = [word.format(key=KEY, id=scheduled.decode()) if isinstance(word, str) else word for word in words]
            with pytest.raises(NoPermissionError):
                client.execute_command(*asked)
            call = ", ".join(f"ARGV[{n}]" for n in range(1, len(asked) + 1))
            with pytest.raises(RedisError, match=REFUSED):
                client.execute_command("EVAL", f"return redis.call({call})", 0, *asked)


def used_commands() -> set[str]:
    """Every command that the scripts and the package's own code name."""
    sources = [scripts.script(name).source for name in scripts.names()]
    found: set[str] = set()
    for source in sources:
        for word, sub in re.findall(r"'([A-Z]+)'(?:, '([A-Z]+)')?", source):
            found |= {word.lower(), f"{word}|{sub}".lower()}
    for path in (ROOT / "aiojobs_rt").rglob("*.py"):
        found |= {word.lower() for word in re.findall(r'"([A-Z]+)"', path.read_text())}
    # SELECT is redis-py's
    return found | {"client|setname", "select"}


@pytest.mark.parametrize("version", [(6, 2), (7, 0)])
@pytest.mark.parametrize("role", ROLES)
def test_no_role_has_a_command_that_is_never_used(version: tuple[int, int], role: str) -> None:
    granted = acl.commands_of(acl.roles(version)[role])
    assert len(granted) > 20
    assert granted <= used_commands()


def test_a_worker_may_run_every_command_of_every_script_of_its() -> None:
    """Those of the admin's looks apart."""
    granted = acl.commands_of(acl.roles((7, 0))["worker"])
    for name in set(scripts.names()) - {"page", "inspect"}:
        source = scripts.script(name).source
        for word, sub in re.findall(r"redis\.p?call\('([A-Z]+)'(?:, '([A-Z]+)')?", source):
            assert word.lower() in granted or f"{word}|{sub}".lower() in granted, f"{name}.lua calls {word} {sub}"
    assert not granted & {"info", "config", "script", "script|load", "keys", "flushall", "client", "acl"}


@pytest.mark.parametrize("missing", ["+zadd", "+eval", "+xgroup|create"])
async def test_a_worker_without_a_right_ends_at_once_and_says_so(
    guarded: Guarded, tmp_path: Path, missing: str
) -> None:
    rules = acl.roles(guarded.server.binary.version)["worker"]
    with guarded.default() as client:
        client.flushall()
        client.execute_command("ACL", "SETUSER", "poor", *(rule for rule in rules if rule != missing))
        client.script_flush()
    fleet = Fleet(guarded.url("poor"), tmp_path)
    try:
        worker = fleet.launch()
        assert await worker.ended() == 1
        assert re.search(
            r"^Error: queue default: .*(permissions|executing the script can't)", worker.log, re.MULTILINE
        ), worker.log
    finally:
        fleet.close()


async def test_a_user_who_may_not_name_its_connections_is_served(guarded: Guarded, tmp_path: Path) -> None:
    rules = acl.roles(guarded.server.binary.version)["worker"]
    with guarded.default() as client:
        client.flushall()
        client.execute_command("ACL", "SETUSER", "nameless", *(rule for rule in rules if "setname" not in rule))
    url = guarded.url("nameless")
    fleet = Fleet(url, tmp_path)
    try:
        worker = await fleet.start(lease=0.5)
        with guarded.default() as client:
            (consumer,) = client.zrange(KEY + "workers", 0, -1)
            before = client.zscore(KEY + "workers", consumer) or 0
            await wait_until(
                lambda: (client.zscore(KEY + "workers", consumer) or 0) > before + 400, what="two renewals"
            )
        worker.terminate()
        assert await worker.ended() == 0
    finally:
        fleet.close()

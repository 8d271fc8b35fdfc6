"""Encrypted jobs on a real Redis: their arguments and results are nowhere in it, and nothing is lost where a key is missing."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from typer.testing import CliRunner

from aiojobs_rt import (
    AesGcmCipher,
    Discard,
    Job,
    JobHandle,
    MissingKey,
    RedisAdapter,
    Retry,
    Snooze,
    Worker,
    blocking,
    perform_all_later,
    retry_on,
    subscribe,
    use_cipher,
)
from aiojobs_rt.adapters.redis.keys import queue_keys
from aiojobs_rt.admin import Admin
from aiojobs_rt.cli.app import app
from aiojobs_rt.core import registry
from aiojobs_rt.encryption import seal_arguments
from aiojobs_rt.integrations.sqlalchemy import Outbox, enqueue_after_commit
from tests.support.outcomes import all_are, becomes
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
    from pathlib import Path

    from aiojobs_rt import Event
    from tests.support.redis_server import RedisServer

KEYS = queue_keys("aiojobs", "default")
CARD = "hunter2-hunter3-hunter4"
OLD, NEW = AesGcmCipher.generate_key(), AesGcmCipher.generate_key()


class SealedJob(Job):
    """The base of the jobs of these tests, which set its adapter."""

    encrypted = True
    keep_result = 60


class Gives(SealedJob):
    async def perform(self, card: str) -> dict[str, str]:
        return {"card": card}


@retry_on(ConnectionError, wait=0, attempts=2, queue="other")
@retry_on(LookupError, attempts=1)
class Behaves(SealedJob):
    """Ends as it is told."""

    log_arguments = True

    async def perform(self, how: str, card: str) -> str:
        if self.executions == 1:
            match how:
                case "crosses":
                    raise ConnectionError
                case "retries":
                    raise Retry(wait=0)
                case "waits":
                    raise Retry(wait=600)
                case "dies":
                    raise LookupError
                case "is discarded":
                    raise Discard
                case "snoozes" if not snoozed:
                    snoozed.append(1)
                    raise Snooze(0)
                case _:
                    pass
        return card


snoozed: list[int] = []


@pytest.fixture(autouse=True)
async def adapter(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisAdapter]:
    monkeypatch.setattr(registry, "_classes", {"Gives": Gives, "Behaves": Behaves})
    use_cipher(AesGcmCipher([OLD]))
    snoozed.clear()
    async with RedisAdapter(redis_url, shards={"bulk": 3}) as adapter:
        monkeypatch.setattr(SealedJob, "adapter", adapter)
        yield adapter
    use_cipher(None)


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis_server.client() as client:
        yield client


@asynccontextmanager
async def working() -> AsyncGenerator[None]:
    carrier: Any = SealedJob.adapter
    worker = Worker(queues=["default", "other", "bulk"], adapter=carrier, concurrency=4, lease=5.0, shutdown_timeout=1)
    async with anyio.create_task_group() as group:
        await group.start(worker.run)
        yield
        worker.stop()


def everything(client: Any) -> bytes:
    """All that Redis holds, as it was written."""
    readers: dict[bytes, Callable[[Any], Any]] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"list": lambda key: client.lrange(key, 0, -1),
        b"stream": client.xrange,
    }
    found: list[bytes] = []

    def gather(value: Any) -> None:
        if isinstance(value, bytes):
            found.append(value)
        elif isinstance(value, dict):
            gather(list(value.items()))
        elif isinstance(value, (list, tuple, set)):
            for item in value:
                gather(item)

    for key in client.scan_iter():
        gather((key, readers[client.type(key)](key)))
    return b"\n".join(found)


async def test_nothing_of_it_is_in_redis_nor_told_by_anybody(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Event] = []
    unsubscribe = subscribe(told.append)
    caplog.set_level(logging.DEBUG)
    dumps: list[bytes] = []
    ends = {
        "ends well": "succeeded", "crosses": "succeeded", "retries": "succeeded", "snoozes": "succeeded",
        "waits": "retrying", "dies": "dead", "is discarded": "discarded",
    }  # fmt: skip
    handles = {how: await Behaves.perform_later(how, CARD) for how in ends}
    later = await Gives.set(wait=600).perform_later(CARD)
    (first,) = await perform_all_later([Gives.set(priority=5).bind(CARD)])
    dumps.append(everything(client))
    async with working():
        for how, handle in handles.items():
            await becomes(ends[how], handle)
        assert await first.result(timeout=10) == {"card": CARD}
        assert await Gives.handle(first.id).result(timeout=1) == {"card": CARD}
        for how in ("ends well", "crosses", "retries", "snoozes"):
            assert await handles[how].result(timeout=1) == CARD
        dumps.append(everything(client))
    unsubscribe()
    assert await later.status() == "scheduled"
    assert all(len(dump) > 1000 for dump in dumps)
    assert not any(CARD.encode() in dump for dump in dumps)
    assert b'"encrypted":"' in dumps[1], "results are kept"
    assert {event.kind for event in told} >= {"enqueued", "started", "succeeded", "retrying", "dead", "discarded"}
    assert CARD not in repr(told)
    assert "begins with [encrypted]" in caplog.text
    assert CARD not in caplog.text


async def test_a_worker_without_the_key_leaves_it_and_one_with_it_runs_it(
    client: Any, caplog: pytest.LogCaptureFixture, adapter: RedisAdapter
) -> None:
    handle = await Gives.perform_later(CARD)
    old = await Gives.perform_later(CARD)
    (entry, fields) = client.xrange(KEYS.stream, count=2)[1]
    since = int(time.time() * 1000) - 86_500_000
    client.xdel(KEYS.stream, entry)
    meta = fields[b"meta"].replace(b',"encrypted"', b',"unread":%d,"encrypted"' % since)
    client.hset(KEYS.index, old.id, client.xadd(KEYS.stream, {**fields, b"meta": meta}))
    use_cipher(None)
    async with working():
        await becomes("retrying", handle)
        await becomes("dead", old)  # nobody could read it for a day
    why = "its arguments can't be decrypted here: this process has no key: set AIOJOBS_RT_ENCRYPTION_KEYS, or encryption_keys in aiojobs_rt.toml"
    assert f"job {handle.id} (Gives) is tried again in 1.0 s: MissingKey: {why}" in caplog.text
    assert "Behaves, Gives: encrypted jobs can't run here" in caplog.text
    async with Admin(adapter) as admin:
        shown = await admin.job(handle.id)
        assert shown is not None
        assert shown.attempts[0].message.startswith(why)
        assert (shown.encrypted, shown.args, shown.failures) == (True, b"[encrypted]", 0)
        dead = await admin.job(old.id)
        assert dead is not None
        assert dead.attempts[0].error == "MissingKey"
        use_cipher(AesGcmCipher([OLD]))
        assert [await admin.retry(one.id) for one in (handle, old)] == ["retried", "retried"]
    async with working():
        assert [await one.result(timeout=10) for one in (handle, old)] == [{"card": CARD}] * 2
    use_cipher(AesGcmCipher([NEW]))
    with pytest.raises(MissingKey, match=f"the result of job {handle.id} can't be decrypted here: its key"):
        await handle.result(timeout=1)


async def test_older_workers_are_told_by_the_version(client: Any) -> None:
    await Gives.perform_later(CARD)
    await perform_all_later([Gives.set(priority=3).bind(CARD), Gives.set(wait=60).bind(CARD)])
    metas = [fields[b"meta"] for lane in ("", ":p3") for _, fields in client.xrange(KEYS.stream + lane)]
    assert [meta[:12] for meta in metas] == [b'{"v":2,"at":'] * 2
    (parked,) = client.hvals(KEYS.parked)
    assert b'{"v":2,"at":' in parked


async def test_keys_rotate_while_jobs_wait() -> None:
    before = [await Gives.perform_later(CARD), await Gives.set(wait=0.05).perform_later(CARD)]
    use_cipher(AesGcmCipher([NEW, OLD]))
    after = await Gives.perform_later(CARD)
    async with working():
        await all_are("succeeded", [*before, after])
    assert await before[0].result(timeout=1) == {"card": CARD}
    use_cipher(AesGcmCipher([NEW]))
    assert await after.result(timeout=1) == {"card": CARD}
    assert await before[0].result(timeout=1) == {"card": CARD}, "what ended since is of the new key"
    use_cipher(AesGcmCipher([OLD]))
    with pytest.raises(MissingKey):
        await after.result(timeout=1)


async def test_shards_and_blocking_calls(client: Any, adapter: RedisAdapter) -> None:
    handles = [await Gives.set(queue="bulk").perform_later(CARD) for _ in range(3)]
    assert {handle.id.partition(".")[0] for handle in handles} == {"bulk", "bulk~1", "bulk~2"}
    sync = await asyncio.to_thread(blocking.perform_later, Gives.bind(CARD))
    handles.append(Gives.handle(sync.id))
    await asyncio.to_thread(blocking.call, adapter.aclose, "")
    assert CARD.encode() not in everything(client)
    async with working():
        assert [await handle.result(timeout=10) for handle in handles] == [{"card": CARD}] * 4
        assert await JobHandle.of(handles[1].id, adapter=SealedJob.adapter).result(timeout=1) == {"card": CARD}


async def test_arguments_put_into_another_job_are_not_run(client: Any) -> None:
    mine, other = await Gives.perform_later(CARD), await Gives.perform_later("other")
    sealed = [fields[b"args"] for _, fields in client.xrange(KEYS.stream)]
    client.delete(KEYS.stream)
    client.xgroup_create(KEYS.stream, "workers", id="0", mkstream=True)
    for job_id, job, args in (
        (mine.id, "Gives", sealed[1]),
        (other.id, "Behaves", sealed[1]),
        ("default.made-up", "Gives", seal_arguments("default.made", "Gives", b"{}")),
    ):
        fields = {"id": job_id, "job": job, "args": args, "meta": '{"v":2,"at":1,"encrypted":1}'}
        client.hset(KEYS.index, job_id, client.xadd(KEYS.stream, fields))
    async with working():
        await wait_until(lambda: client.zcard(KEYS.dead) == 3)
    (record,) = client.lrange(KEYS.errors + mine.id, 0, -1)
    assert json.loads(record)["error"] == "DecryptionError"
    assert json.loads(record)["message"] == "its arguments can't be decrypted: changed since, or another job's"


async def test_a_result_that_cannot_be_encrypted_is_not_kept_and_the_job_has_succeeded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Breaks:
        """Encrypts arguments only."""

        def encrypt(self, data: bytes, associated: bytes, /) -> bytes:
            if b" result " in associated:
                raise OSError("the vault is away")
            return data[::-1]

        def decrypt(self, data: bytes, associated: bytes, /) -> bytes:
            return data[::-1]

    use_cipher(Breaks())
    handle = await Gives.perform_later("x")
    async with working():
        await becomes("succeeded", handle)
    assert "its result can't be encrypted, and is not kept" in caplog.text


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_an_outbox_holds_it_encrypted_and_so_does_an_enqueue_after_commit(
    database: str, request: pytest.FixtureRequest, tmp_path: Path, client: Any
) -> None:
    outbox = Outbox()
    if database == "sqlite":
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
    else:
        engine = create_async_engine(
            f"postgresql+asyncpg://postgres@/postgres?host={request.getfixturevalue('postgres')}"
        )
    async with engine.begin() as connection:
        await connection.run_sync(outbox.table.metadata.create_all)
    async with AsyncSession(engine) as session:
        handles = [outbox.add(session, Gives.bind(CARD)), enqueue_after_commit(session, Gives.bind(CARD))]
        await session.commit()
    async with engine.connect() as connection:
        (row,) = await connection.execute(outbox.table.select())
    assert handles[0].id in repr(row)
    assert CARD not in repr(row)
    if database == "sqlite":
        assert CARD.encode() not in (tmp_path / "shop.db").read_bytes()
    assert await outbox.relay_once(engine) == 1
    async with engine.begin() as connection:
        await connection.run_sync(outbox.table.metadata.drop_all)
    await engine.dispose()
    assert CARD.encode() not in everything(client)
    async with working():
        assert [await handle.result(timeout=10) for handle in handles] == [{"card": CARD}] * 2


async def test_the_command_line_shows_that_it_is_encrypted(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, dead = await Gives.set(wait=600).perform_later(CARD), await Behaves.perform_later("dies", CARD)
    ended = await Gives.perform_later(CARD)
    async with working():
        await becomes("dead", dead)
        await becomes("succeeded", ended)
    monkeypatch.setenv("AIOJOBS_RT_REDIS_URL", redis_url)
    for handle in (waiting, dead, ended):
        for options in ([], ["--args"], ["--json"], ["--json", "--args"]):
            result = await asyncio.to_thread(
                CliRunner().invoke, app, ["jobs", "show", handle.id, "--redis-url", redis_url, *options]
            )
            assert result.exit_code == 0, result.output
            assert "[encrypted]" in result.output
            assert "hunter" not in result.output


def test_a_key_is_made_by_a_command() -> None:
    made = [CliRunner().invoke(app, ["generate", "key"]).output for _ in range(2)]
    assert made[0] != made[1]
    AesGcmCipher([key.strip() for key in made])

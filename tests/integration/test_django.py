"""Jobs and Django's transactions: after the commit, never after a rollback."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import django
import pytest
from django.conf import settings
from django.db import connection, connections, transaction

from aiojobs_rt import AesGcmCipher, EnqueueError, Job, RedisAdapter, Worker, blocking, use_cipher
from aiojobs_rt.adapters.redis.keys import queue_keys
from aiojobs_rt.integrations.django import enqueue_after_commit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.acceptance(40)

KEYS = queue_keys("aiojobs", "default")
atomic: Any = transaction.atomic  # untyped in Django


class DjangoReceipt(Job):
    async def perform(self, n: int) -> None: ...


class DjangoSealed(Job):
    encrypted = True
    keep_result = 60

    async def perform(self, card: str) -> str:
        return card


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder: Path = tmp_path_factory.mktemp("django")
    settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "shop.db")}})
    django.setup()
    yield
    connections.close_all()


@pytest.fixture(autouse=True)
def adapter(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisAdapter]:
    adapter = RedisAdapter(redis_url, enqueue_timeout=5)
    monkeypatch.setattr(DjangoReceipt, "adapter", adapter)
    yield adapter
    blocking.call(adapter.aclose, "adapter.aclose()")


def enqueued(server: RedisServer) -> list[bytes]:
    with server.client() as client:
        entries: Any = client.xrange(KEYS.stream)
        return [fields[b"args"] for _, fields in entries]


def test_a_job_is_enqueued_when_the_block_has_committed(redis_server: RedisServer) -> None:
    with atomic():
        connection.cursor().execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER)")
        first = enqueue_after_commit(DjangoReceipt.bind(1))
        with atomic():
            enqueue_after_commit(DjangoReceipt.set(priority=2).bind(2))
        assert enqueued(redis_server) == []

    assert enqueued(redis_server) == [b'{"n":1}']
    assert first.id.startswith("default.")
    with redis_server.client() as client:
        assert client.xlen(KEYS.lane("p2")) == 1
    enqueue_after_commit(DjangoReceipt.bind(3))
    assert enqueued(redis_server) == [b'{"n":1}', b'{"n":3}']


def test_a_rollback_drops_it_of_a_savepoint_too(redis_server: RedisServer) -> None:
    def fail(n: int) -> None:
        with atomic():
            enqueue_after_commit(DjangoReceipt.bind(n))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail(1)
    with atomic():
        with pytest.raises(ZeroDivisionError):
            fail(2)
        enqueue_after_commit(DjangoReceipt.bind(3))

    assert enqueued(redis_server) == [b'{"n":3}']


def test_without_redis_the_end_of_the_block_raises_unless_it_is_robust(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(DjangoReceipt, "adapter", RedisAdapter("redis://127.0.0.1:1/0", enqueue_timeout=0.1))
    with pytest.raises(EnqueueError), atomic():
        enqueue_after_commit(DjangoReceipt.bind(1))
    with atomic():
        enqueue_after_commit(DjangoReceipt.bind(1), robust=True)
    assert "on_commit" in caplog.text


async def test_in_asynchronous_code_it_is_called_where_the_models_are(redis_server: RedisServer) -> None:
    with pytest.raises(RuntimeError, match="inside `sync_to_async`"):
        enqueue_after_commit(DjangoReceipt.bind(1))

    def save() -> None:
        with atomic():
            enqueue_after_commit(DjangoReceipt.bind(2))
        connections.close_all()

    await asyncio.to_thread(save)
    assert enqueued(redis_server) == [b'{"n":2}']


def test_an_encrypted_job_is_sealed_when_it_is_given_and_opened_by_its_worker(
    redis_server: RedisServer, adapter: RedisAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DjangoSealed, "adapter", adapter)
    use_cipher(AesGcmCipher([AesGcmCipher.generate_key()]))
    try:
        with atomic():
            handle = enqueue_after_commit(DjangoSealed.bind("hunter2"))
        (args,) = enqueued(redis_server)
        assert b"hunter2" not in args
        worker = Worker(adapter=adapter, concurrency=1, burst=True)
        blocking.call(worker.run, "worker.run()")
        assert blocking.BlockingHandle(handle).result(timeout=5) == "hunter2"
    finally:
        use_cipher(None)

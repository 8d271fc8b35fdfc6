"""Jobs and Django's transactions: after the commit, never after a rollback."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any

import django
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection, connections, transaction
from django.utils import timezone as zones
from django.utils import translation

from aiojobs_rt import (
    AesGcmCipher,
    EnqueueError,
    Job,
    JobFailed,
    RedisAdapter,
    Worker,
    blocking,
    locale,
    timezone,
    use_cipher,
)
from aiojobs_rt.adapters.redis.keys import queue_keys
from aiojobs_rt.core import propagation
from aiojobs_rt.integrations.django import enqueue_after_commit, propagate_locale

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


class DjangoSpeaks(Job):
    keep_result = 60

    async def perform(self) -> list[str | None]:
        inside = await sync_to_async(translation.get_language)()
        assert inside == translation.get_language()
        return [inside, zones.get_current_timezone_name(), locale.get(), timezone.get()]


@pytest.mark.acceptance(33)
def test_the_language_and_the_time_zone_travel_and_are_active_for_the_one_job(
    adapter: RedisAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DjangoSpeaks, "adapter", adapter)
    monkeypatch.setattr(propagation, "_propagated", propagation._propagated[:])
    propagate_locale()
    default = ["en-us", "America/Chicago", None, None]
    with translation.override("de"), zones.override("Asia/Tokyo"):
        here = blocking.perform_later(DjangoSpeaks.bind())
        with atomic():
            committed = blocking.BlockingHandle(enqueue_after_commit(DjangoSpeaks.bind()))
        token = locale.set("fr")
        chosen = blocking.perform_later(DjangoSpeaks.bind())
        locale.reset(token)
    with zones.override(dt.timezone(dt.timedelta(hours=5))):
        offset = blocking.perform_later(DjangoSpeaks.bind())
    with zones.override(dt.UTC):
        utc = blocking.perform_later(DjangoSpeaks.bind())
    with translation.override("en-us"):
        same = blocking.perform_later(DjangoSpeaks.bind())
    plain = blocking.perform_later(DjangoSpeaks.bind())
    token = timezone.set("Nowhere/Land")
    lost = blocking.perform_later(DjangoSpeaks.set(max_attempts=1).bind())
    timezone.reset(token)
    last = blocking.perform_later(DjangoSpeaks.bind())

    blocking.call(Worker(adapter=adapter, concurrency=1, burst=True).run, "worker.run()")

    assert here.result(timeout=5) == committed.result(timeout=5) == ["de", "Asia/Tokyo", "de", "Asia/Tokyo"]
    assert chosen.result(timeout=5) == ["fr", "Asia/Tokyo", "fr", "Asia/Tokyo"]
    assert utc.result(timeout=5) == ["en-us", "UTC", None, "UTC"]
    for other in (offset, same, plain, last):
        assert other.result(timeout=5) == default
    with pytest.raises(JobFailed, match="'timezone' could not be loaded"):
        lost.result(timeout=5)
    assert translation.get_language() == "en-us"


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

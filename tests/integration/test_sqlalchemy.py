"""Jobs and transactions of SQLAlchemy: after the commit, never after a rollback; and the outbox, in order, once, as durable as its rows."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from aiojobs_rt import AiojobsError, EnqueueError, Job, RedisAdapter, Worker, blocking, subscribe
from aiojobs_rt.adapters.redis.keys import queue_keys
from aiojobs_rt.integrations.sqlalchemy import Outbox, enqueue_after_commit
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from aiojobs_rt import Event
    from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.acceptance(40)

KEYS = queue_keys("aiojobs", "default")


class Base(DeclarativeBase): ...


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]


outbox = Outbox(Base.metadata)


class Receipt(Job):
    async def perform(self, n: int) -> None: ...


@pytest.fixture(autouse=True)
async def adapter(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisAdapter]:
    async with RedisAdapter(redis_url, enqueue_timeout=5) as adapter:
        monkeypatch.setattr(Receipt, "adapter", adapter)
        yield adapter


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    await engine.dispose()


def enqueued(server: RedisServer) -> list[int]:
    """The arguments of the jobs on the stream, in order."""
    with server.client() as client:
        entries: Any = client.xrange(KEYS.stream)
        return [orjson.loads(fields[b"args"])["n"] for _, fields in entries]


# -- after the commit --------------------------------------------------------------------------


async def test_a_job_is_enqueued_when_the_transaction_has_committed(
    engine: AsyncEngine, redis_server: RedisServer
) -> None:
    async with AsyncSession(engine) as session:
        session.add(Order(item="tea"))
        handle = enqueue_after_commit(session, Receipt.bind(1))
        delayed = enqueue_after_commit(session, Receipt.set(wait=600).bind(2))
        await session.flush()
        assert await handle.status() == "unknown"
        assert enqueued(redis_server) == []

        await session.commit()

        assert enqueued(redis_server) == [1]
        assert [await handle.status(), await delayed.status()] == ["queued", "scheduled"]
        await session.commit()
    assert enqueued(redis_server) == [1]


async def test_a_rollback_drops_it_and_so_does_a_session_that_is_only_closed(
    engine: AsyncEngine, redis_server: RedisServer
) -> None:
    async with AsyncSession(engine) as session:
        enqueue_after_commit(session, Receipt.bind(1))
        await session.rollback()
        session.add(Order(item="tea"))
        await session.commit()

        session.add(Order(item="cake"))
        await session.flush()
        enqueue_after_commit(session, Receipt.bind(2))
        await session.close()
        enqueue_after_commit(session, Receipt.bind(3))
        await session.commit()
    with suppress(ZeroDivisionError):
        async with AsyncSession(engine) as session, session.begin():
            enqueue_after_commit(session, Receipt.bind(4))
            raise ZeroDivisionError

    assert enqueued(redis_server) == [3]


async def test_savepoints(engine: AsyncEngine, redis_server: RedisServer) -> None:
    async with AsyncSession(engine) as session, session.begin():
        enqueue_after_commit(session, Receipt.bind(1))
        async with session.begin_nested():
            enqueue_after_commit(session, Receipt.bind(2))
            with suppress(ZeroDivisionError):
                async with session.begin_nested():
                    session.add(Order(item="tea"))
                    enqueue_after_commit(session, Receipt.bind(3))
                    raise ZeroDivisionError
        with suppress(ZeroDivisionError):
            async with session.begin_nested():
                async with session.begin_nested():
                    enqueue_after_commit(session, Receipt.bind(4))
                raise ZeroDivisionError
        enqueue_after_commit(session, Receipt.bind(5))
        assert enqueued(redis_server) == []

    assert enqueued(redis_server) == [1, 2, 5]


async def test_what_was_bound_is_a_snapshot(engine: AsyncEngine, redis_server: RedisServer) -> None:
    bound = Receipt.set(priority=3).bind(1)
    async with AsyncSession(engine) as session, session.begin():
        first = enqueue_after_commit(session, bound)
        second = enqueue_after_commit(session, bound)
        bound.args, bound.priority = b'{"n":9}', 0

    assert first.id != second.id
    with redis_server.client() as client:
        entries: Any = client.xrange(KEYS.lane("p3"))
        assert [fields[b"args"] for _, fields in entries] == [b'{"n":1}', b'{"n":1}']


async def test_a_commit_whose_jobs_cannot_be_enqueued_says_so_and_has_committed(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Receipt, "adapter", RedisAdapter("redis://127.0.0.1:1/0", enqueue_timeout=0.1))
    async with AsyncSession(engine) as session:
        session.add(Order(item="tea"))
        enqueue_after_commit(session, Receipt.bind(1))
        with pytest.raises(EnqueueError, match="has committed, but 1 of 1"):
            await session.commit()

        assert await session.scalar(select(func.count()).select_from(Order)) == 1
        await session.commit()


async def test_a_plain_session_in_a_thread(
    database_url: str, engine: AsyncEngine, redis_server: RedisServer, adapter: RedisAdapter
) -> None:
    plain = create_engine(database_url.replace("+aiosqlite", "").replace("+asyncpg", "+psycopg"))

    def shop() -> None:
        with Session(plain) as session:
            with session.begin():
                session.add(Order(item="tea"))
                enqueue_after_commit(session, Receipt.bind(1))
            with session.begin():
                enqueue_after_commit(session, Receipt.bind(2))
                session.rollback()
        assert enqueued(redis_server) == [1]

    await asyncio.to_thread(shop)
    with pytest.raises(RuntimeError, match="use an AsyncSession"), Session(plain) as session:
        enqueue_after_commit(session, Receipt.bind(3))
    plain.dispose()
    await asyncio.to_thread(blocking.call, adapter.aclose, "adapter.aclose()")
    assert engine.url.database


@pytest.mark.acceptance(41)
async def test_the_session_inside_an_async_one_and_a_scoped_one(engine: AsyncEngine, redis_server: RedisServer) -> None:
    async with AsyncSession(engine) as session:
        await session.run_sync(lambda inner: enqueue_after_commit(inner, Receipt.bind(1)))
        await session.commit()
    scoped = async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)
    async with scoped.begin():
        enqueue_after_commit(scoped, Receipt.bind(2))
        with suppress(ZeroDivisionError):
            async with scoped.begin_nested():
                enqueue_after_commit(scoped, Receipt.bind(3))
                raise ZeroDivisionError
    await scoped.remove()

    assert enqueued(redis_server) == [1, 2]


async def test_a_plain_scoped_session_in_a_thread(
    database_url: str, engine: AsyncEngine, redis_server: RedisServer, adapter: RedisAdapter
) -> None:
    plain = create_engine(database_url.replace("+aiosqlite", "").replace("+asyncpg", "+psycopg"))

    def shop() -> None:
        scoped = scoped_session(sessionmaker(plain))
        enqueue_after_commit(scoped, Receipt.bind(1))
        scoped.rollback()
        enqueue_after_commit(scoped, Receipt.bind(2))
        scoped.commit()
        scoped.remove()

    await asyncio.to_thread(shop)
    assert enqueued(redis_server) == [2]
    plain.dispose()
    await asyncio.to_thread(blocking.call, adapter.aclose, "adapter.aclose()")
    assert engine.url.database


# -- the outbox --------------------------------------------------------------------------------


async def write(engine: AsyncEngine, *numbers: int) -> None:
    async with AsyncSession(engine) as session, session.begin():
        for n in numbers:
            outbox.add(session, Receipt.bind(n))


async def waiting(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int(await connection.scalar(select(func.count()).select_from(outbox.table)) or 0)


async def test_what_has_committed_is_relayed_in_order_and_what_was_rolled_back_is_not(
    engine: AsyncEngine, redis_server: RedisServer
) -> None:
    async with AsyncSession(engine) as session:
        outbox.add(session, Receipt.bind(1))
        await session.flush()
        await session.rollback()
    async with AsyncSession(engine) as session, session.begin():
        handle = outbox.add(session, Receipt.bind(2))
        later = outbox.add(session, Receipt.set(wait=600).bind(3))
        urgent = outbox.add(session, Receipt.set(priority=-1, max_attempts=3).bind(4))
    await write(engine, *range(5, 1_200))
    assert enqueued(redis_server) == []

    taken = [await outbox.relay_once(engine) for _ in range(4)]

    assert taken == [500, 500, 198, 0]
    assert await waiting(engine) == 0
    assert enqueued(redis_server) == [2, *range(5, 1_200)]
    assert [await each.status() for each in (handle, later, urgent)] == ["queued", "scheduled", "queued"]


async def test_a_relay_that_dies_before_it_deletes_enqueues_nothing_twice(
    engine: AsyncEngine, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(engine, 1, 2, 3)
    adapter: Any = Receipt.adapter
    enqueue_once = adapter.enqueue_once

    async def dies(envelopes: Any) -> None:
        assert await enqueue_once(envelopes) == [True, True, True]
        raise AiojobsError("killed here")

    monkeypatch.setattr(adapter, "enqueue_once", dies)
    with pytest.raises(AiojobsError, match="killed here"):
        await outbox.relay_once(engine)
    assert await waiting(engine) == 3
    monkeypatch.undo()
    monkeypatch.setattr(Receipt, "adapter", adapter)
    await Worker(
        queues=["default"], adapter=adapter, burst=True
    ).run()  # they run and are gone before they are sent again
    assert enqueued(redis_server) == []

    assert await outbox.relay_once(engine) == 3

    assert enqueued(redis_server) == []
    assert await waiting(engine) == 0


async def test_what_is_relayed_is_told_once_as_enqueued(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    heard: list[Event] = []
    unsubscribe = subscribe(heard.append, "enqueued")
    async with AsyncSession(engine) as session, session.begin():
        handles = [outbox.add(session, job) for job in (Receipt.bind(1), Receipt.set(wait=600, priority=3).bind(2))]
    adapter: Any = Receipt.adapter
    enqueue_once = adapter.enqueue_once

    async def dies(envelopes: Any) -> list[bool]:
        monkeypatch.setattr(adapter, "enqueue_once", enqueue_once)
        await enqueue_once(envelopes[:1])
        raise AiojobsError("killed here")

    try:
        assert heard == []
        monkeypatch.setattr(adapter, "enqueue_once", dies)
        with pytest.raises(AiojobsError, match="killed here"):
            await outbox.relay_once(engine)
        assert await outbox.relay_once(engine) == 2
    finally:
        unsubscribe()
    assert enqueued(redis_server) == [1]
    (event,) = heard  # the first was in Redis before: by a process that is gone
    assert (event.kind, event.job_id, event.job, event.details["priority"]) == ("enqueued", handles[1].id, "Receipt", 3)
    assert event.details["due"] > event.at


async def test_no_later_commit_slips_in_before_what_was_sent(postgres: Path, redis_server: RedisServer) -> None:
    """On PostgreSQL a transaction that began to write first and commits last holds up those behind it."""
    engine = create_async_engine(f"postgresql+asyncpg://postgres@/postgres?host={postgres}")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as slow, slow.begin():
        outbox.add(slow, Receipt.bind(1))
        await slow.flush()
        await write(engine, 2)
        assert await outbox.relay_once(engine) == 0
        outbox.add(slow, Receipt.bind(3))

    assert await outbox.relay_once(engine) == 3
    assert enqueued(redis_server) == [1, 3, 2]
    await engine.dispose()


async def test_several_relays_keep_the_order(engine: AsyncEngine, redis_server: RedisServer) -> None:
    async with outbox.relay(engine, poll=0.01), outbox.relay(engine, poll=0.01), outbox.relay(engine, poll=0.01):
        for start in range(0, 200, 10):
            await write(engine, *range(start, start + 10))
        await wait_until(lambda: len(enqueued(redis_server)) >= 200)

    assert enqueued(redis_server) == list(range(200))


async def test_a_relay_that_comes_late_deletes_nothing_that_was_not_sent(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite no relay locks the rows it has read, and a table made without AUTOINCREMENT numbers anew once it is empty."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        made = str(await connection.scalar(text("select sql from sqlite_master where name = 'aiojobs_outbox'")))
        assert "AUTOINCREMENT" in made
        await connection.execute(text("drop table aiojobs_outbox"))
        await connection.execute(text(made.replace("AUTOINCREMENT", "")))
    await write(engine, 1, 2, 3)
    adapter: Any = Receipt.adapter
    enqueue_once = adapter.enqueue_once

    async def is_slow(envelopes: Any) -> Any:
        monkeypatch.setattr(adapter, "enqueue_once", enqueue_once)
        answers = await enqueue_once(envelopes)
        assert await outbox.relay_once(engine) == 3
        await write(engine, 4, 5, 6)
        return answers

    monkeypatch.setattr(adapter, "enqueue_once", is_slow)

    assert await outbox.relay_once(engine) == 3
    assert await waiting(engine) == 3
    assert await outbox.relay_once(engine) == 3
    assert enqueued(redis_server) == [1, 2, 3, 4, 5, 6]
    await engine.dispose()


async def test_a_worker_relays_and_goes_on_after_an_outage(
    engine: AsyncEngine, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[int] = []
    carrier = RedisAdapter(redis_url)

    class Relayed(Job):
        adapter = carrier

        @staticmethod
        @asynccontextmanager
        async def lifespan() -> AsyncGenerator[None]:
            async with outbox.relay(engine, poll=0.01):
                yield

        async def perform(self, n: int) -> None:
            ran.append(n)

    async with engine.begin() as connection:
        await connection.run_sync(outbox.table.drop)
    worker = Worker(queues=["default"], adapter=carrier)
    running = asyncio.create_task(worker.run())
    await wait_until(lambda: "can't be relayed" in caplog.text)
    async with engine.begin() as connection:
        await connection.run_sync(outbox.table.create)
    async with AsyncSession(engine) as session, session.begin():
        for n in range(3):
            outbox.add(session, Relayed.bind(n))

    await wait_until(lambda: ran == [0, 1, 2] and "is relayed again" in caplog.text)
    worker.stop()
    await running
    await carrier.aclose()
    assert caplog.text.count("can't be relayed") == 1


async def test_a_table_that_is_not_there_is_an_error_of_the_database(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("DROP TABLE aiojobs_outbox"))
    with pytest.raises(Exception, match="aiojobs_outbox") as caught:
        await outbox.relay_once(engine)
    assert isinstance(caught.value, OperationalError) or "does not exist" in str(caught.value)

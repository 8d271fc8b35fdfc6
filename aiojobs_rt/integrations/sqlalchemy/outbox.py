"""A transactional outbox: the enqueue is as durable as the rows of its transaction.

1. `outbox.add(session, SendReceipt.bind(42))` writes the job into a table, in the session's transaction.
2. `outbox.relay(engine)`, entered by a worker's `lifespan`, reads what has committed, in order, enqueues it in Redis, and deletes it.
3. A relay that dies in between sends the same rows again; the script that takes them knows the ids. (at least once, each job once)

The order is that of the rows: exact within a transaction. Across transactions PostgreSQL numbers them as they begin to write, and the relay
takes only those below the oldest that still runs, so that no later commit can slip in before what was sent. On a database with a single
writer (SQLite) it is that of the commits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import registry
from sqlalchemy.sql.functions import GenericFunction

from aiojobs_rt.adapters.base import Envelope
from aiojobs_rt.adapters.default import adapter_of, default_adapter
from aiojobs_rt.core import events
from aiojobs_rt.core import registry as job_classes
from aiojobs_rt.encryption import is_sealed
from aiojobs_rt.enqueue import tell_enqueued
from aiojobs_rt.errors import AiojobsError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
    from sqlalchemy.orm import Session

    from aiojobs_rt.adapters.base import Adapter
    from aiojobs_rt.enqueue import Bound
    from aiojobs_rt.handle import JobHandle

logger = logging.getLogger("aiojobs_rt.outbox")

R = TypeVar("R")

PAGE = 500
LONGEST_PAUSE = 5.0
STOP_WITHIN = 5.0


class Outbox:
    """The table of jobs that wait to be enqueued, and its relay.

    `outbox.table` is an ordinary SQLAlchemy table: create it with your migrations, or with `outbox.table.metadata.create_all`.

    Args:
        metadata: where the table is declared; default: one of its own. Give your models' (`Base.metadata`) for migrations to see it.
        name: the table's name.
        schema: its schema; default: the connection's.
    """

    def __init__(
        self, metadata: MetaData | None = None, *, name: str = "aiojobs_outbox", schema: str | None = None
    ) -> None:
        self.table = Table(
            name,
            MetaData() if metadata is None else metadata,
            Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
            Column("transaction_id", BigInteger, nullable=False, default=_current_transaction()),
            Column("id", String(255), nullable=False),
            Column("queue", String(64), nullable=False),
            Column("job", String(200), nullable=False),
            Column("args", LargeBinary, nullable=False),
            Column("meta", LargeBinary, nullable=False),
            Column("priority", Integer, nullable=False),
            Column("due_ms", BigInteger, nullable=False),
            Index(f"ix_{name}_order", "transaction_id", "position"),
            schema=schema,
            sqlite_autoincrement=True,  # a position is never given twice
        )

        class Waiting:
            """A row, as sessions take it."""

        self._row: Any = Waiting
        registry(metadata=self.table.metadata).map_imperatively(Waiting, self.table)

    def add(self, session: AsyncSession | Session, job: Bound[R]) -> JobHandle[R]:
        """Have a job enqueued once the session's transaction has committed; a rollback drops it with everything else.

        Arguments and options are those of now, a delay counts from now. Does no I/O: the row is written when the session flushes.

        Args:
            session: whose transaction it belongs to.
            job: from `Job.bind(...)` or `Job.set(...).bind(...)`. Encrypted in the table too, if its class says so.

        Returns:
            The handle of the job to be; until it is relayed its status is "unknown". Enqueue callbacks do not run.
        """
        job = job.identified()
        envelope = job.envelope(leaves=True)
        row = self._row()
        row.id, row.queue, row.job, row.priority = envelope.id, envelope.queue, envelope.job, envelope.priority
        row.args, row.meta = envelope.args, envelope.meta
        row.due_ms = envelope.due_ms or (envelope.delay_ms and int(time.time() * 1000) + envelope.delay_ms)
        session.add(row)
        return job.handle()

    @asynccontextmanager
    async def relay(
        self, engine: AsyncEngine, *, adapter: Adapter | None = None, poll: float = 0.25
    ) -> AsyncGenerator[None]:
        """Relay for the length of a block: what has committed is enqueued, in order, within about `poll` seconds.

        Any number of relays may run, in as many workers: on PostgreSQL one works at a time and the others wait for it. Redis or the
        database may be away for a while: it is tried again, with one line in the log per change.

        Args:
            engine: of the database with the table.
            adapter: where jobs go whose class is not loaded here; default: the default adapter.
            poll: seconds between two looks at an empty table.
        """
        stopping = asyncio.Event()
        relaying = asyncio.create_task(
            self._relay_until(stopping, engine, adapter, poll), name="aiojobs_rt outbox relay"
        )
        try:
            yield
        finally:
            stopping.set()
            # not cancelled in the middle of a transaction, which costs the database's connection, unless it hangs
            await asyncio.wait([relaying], timeout=STOP_WITHIN)
            relaying.cancel()
            with suppress(asyncio.CancelledError):
                await relaying

    async def relay_once(self, engine: AsyncEngine, *, adapter: Adapter | None = None) -> int:
        """Enqueue what has committed, at most 500 jobs, in order; how many rows were taken.

        Cancelling it leaves the rows where they are; those that Redis has by then are not enqueued a second time.

        Raises:
            AiojobsError: Redis is away, or refuses.
            sqlalchemy.exc.SQLAlchemyError: the database is away, or has no such table.
        """
        table = self.table
        async with engine.begin() as connection:
            waiting = (
                select(table)
                .where(table.c.transaction_id < _oldest_running_transaction())
                .order_by(table.c.transaction_id, table.c.position)
                .limit(PAGE)
                .with_for_update()
            )
            rows = (await connection.execute(waiting)).all()
            if rows:
                await _hand_over(rows, adapter)
                # by the id too: where rows are not locked (SQLite), another relay may have deleted these by now, and their positions
                # may have been given to jobs that nobody has sent
                same = table.c.position.in_([row.position for row in rows]) & table.c.id.in_([row.id for row in rows])
                await connection.execute(delete(table).where(same))
        return len(rows)

    async def _relay_until(
        self, stopping: asyncio.Event, engine: AsyncEngine, adapter: Adapter | None, poll: float
    ) -> None:
        pause, failing = poll, False
        while not stopping.is_set():
            try:
                taken = await self.relay_once(engine, adapter=adapter)
            except (AiojobsError, SQLAlchemyError, OSError) as error:
                if not failing:
                    logger.warning(
                        "the outbox %s can't be relayed: %s; it is tried again", self.table.name, _first_line(error)
                    )
                failing, pause = True, min(max(pause * 2, 0.1), LONGEST_PAUSE)
            else:
                if failing:
                    logger.warning("the outbox %s is relayed again", self.table.name)
                failing, pause = False, 0 if taken == PAGE else poll
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stopping.wait()


async def _hand_over(rows: Any, adapter: Adapter | None) -> None:
    """Enqueue rows, each with the adapter of its class; in order for each adapter."""
    by_adapter: dict[int, tuple[Any, list[Envelope]]] = {}
    for row in rows:
        job_class = job_classes.resolve(row.job)
        carrier = adapter or default_adapter() if job_class is None else adapter_of(job_class)
        envelope = Envelope(
            row.id, row.queue, row.job, row.args, row.meta, row.priority, 0, row.due_ms, encrypted=is_sealed(row.args)
        )
        by_adapter.setdefault(id(carrier), (carrier, []))[1].append(envelope)
    for carrier, envelopes in by_adapter.values():
        enqueued: list[bool] = await carrier.enqueue_once(envelopes)
        if events.subscribed:
            for envelope, is_new in zip(envelopes, enqueued, strict=True):
                if is_new:
                    tell_enqueued(envelope)


def _first_line(error: Exception) -> str:
    """Without the statement and its parameters, which SQLAlchemy appends."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


class _current_transaction(GenericFunction[int]):  # noqa: N801 - an SQL function
    type = BigInteger()
    inherit_cache = True


class _oldest_running_transaction(GenericFunction[int]):  # noqa: N801 - an SQL function
    type = BigInteger()
    inherit_cache = True


@compiles(_current_transaction)
def _(_element: Any, _compiler: Any, **_kw: Any) -> str:
    return "0"


@compiles(_current_transaction, "postgresql")
def _(_element: Any, _compiler: Any, **_kw: Any) -> str:
    return "pg_current_xact_id()::text::bigint"


@compiles(_oldest_running_transaction)
def _(_element: Any, _compiler: Any, **_kw: Any) -> str:
    return "1"


@compiles(_oldest_running_transaction, "postgresql")
def _(_element: Any, _compiler: Any, **_kw: Any) -> str:
    return "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"

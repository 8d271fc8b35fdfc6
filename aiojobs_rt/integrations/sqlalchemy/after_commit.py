"""Enqueueing after the commit of a SQLAlchemy transaction.

1. `enqueue_after_commit(session, SendReceipt.bind(42))` notes the bound job with the transaction, or savepoint, that the session is in.
2. A savepoint that is released hands its jobs to what surrounds it; one that is rolled back drops them.
3. When the outermost transaction has committed, its jobs are enqueued, before `commit()` returns. A rollback drops them.

Between the commit and the enqueue the process may die: then the rows are there and the job is not. Where that matters, use the `Outbox`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_session
from sqlalchemy.orm import scoped_session
from sqlalchemy.util import await_only

from aiojobs_rt import blocking
from aiojobs_rt.enqueue import deliver
from aiojobs_rt.errors import EnqueueError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, SessionTransaction

    from aiojobs_rt.enqueue import Bound
    from aiojobs_rt.handle import JobHandle

R = TypeVar("R")

_INFO = "aiojobs_rt.after_commit"


def enqueue_after_commit(
    session: AsyncSession | Session | async_scoped_session[Any] | scoped_session[Any], job: Bound[R]
) -> JobHandle[R]:
    """Enqueue a job when the session's transaction commits, and not when it is rolled back.

    Arguments and options are those of now. Joins the transaction that the session is in, else begins it. Does no I/O.

    Args:
        session: an AsyncSession, also by the Session inside it (`run_sync`, a model's callbacks), or a Session in a thread without an
            event loop. Of a scoped one, the session that it stands for here.
        job: from `Job.bind(...)` or `Job.set(...).bind(...)`.

    Returns:
        The handle of the job to be; until the commit its status is "unknown".

    Raises:
        RuntimeError: a Session in a thread in which an event loop runs.

    `session.commit()` raises EnqueueError when the transaction has committed and the job could not be enqueued.
    """
    here: AsyncSession | Session = session() if isinstance(session, async_scoped_session | scoped_session) else session
    plain = here.sync_session if isinstance(here, AsyncSession) else here
    is_async = here is not plain or async_session(plain) is not None
    if not is_async:
        blocking.refuse_in_loop("`enqueue_after_commit` with a Session; use an AsyncSession, or run this in a thread")
    job = job.identified()
    pending: _Pending | None = plain.info.get(_INFO)
    if pending is None:
        pending = plain.info[_INFO] = _Pending(plain, is_async=is_async)
    pending.add(job)
    return job.handle()


class _Pending:
    """The jobs of one session, each with the transaction or savepoint in which it was noted."""

    def __init__(self, session: Session, *, is_async: bool) -> None:
        self._session = session
        self._is_async = is_async
        self._noted: list[tuple[SessionTransaction, Bound[Any]]] = []
        self._committed: list[Bound[Any]] = []
        event.listen(session, "after_commit", self._on_commit)
        event.listen(session, "after_soft_rollback", self._on_rollback)
        event.listen(session, "after_transaction_end", self._on_end)

    def add(self, job: Bound[Any]) -> None:
        session = self._session
        inside = session.get_nested_transaction() or session.get_transaction() or session.begin()
        self._noted.append((inside, job))

    def _on_commit(self, session: Session) -> None:
        nested = session.get_nested_transaction()
        if nested is None:
            self._committed += [job for _, job in self._noted]
            self._noted.clear()
        elif (outer := nested.parent) is not None:
            self._noted = [(outer if inside is nested else inside, job) for inside, job in self._noted]

    def _on_rollback(self, _session: Session, ended: SessionTransaction) -> None:
        self._noted = [(inside, job) for inside, job in self._noted if not _is_within(inside, ended)]

    def _on_end(self, _session: Session, ended: SessionTransaction) -> None:
        # one that ended without commit or rollback was closed: what it held is gone
        self._noted = [(inside, job) for inside, job in self._noted if inside is not ended]
        if ended.parent is None and self._committed:
            jobs, self._committed = self._committed, []
            if self._is_async:
                await_only(_deliver(jobs))
            else:
                blocking.call(lambda: _deliver(jobs), "enqueue_after_commit(...)")


async def _deliver(jobs: list[Bound[Any]]) -> None:
    results = await asyncio.gather(*(deliver(job) for job in jobs), return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors:
        raise EnqueueError(
            f"the transaction has committed, but {len(errors)} of {len(jobs)} job(s) are not known to be enqueued: {errors[0]}"
        ) from errors[0]


def _is_within(inside: SessionTransaction, ended: SessionTransaction) -> bool:
    transaction: SessionTransaction | None = inside
    while transaction is not None:
        if transaction is ended:
            return True
        transaction = transaction.parent
    return False

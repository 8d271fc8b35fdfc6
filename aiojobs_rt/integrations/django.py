"""Django: jobs that are enqueued when a transaction commits.

    from aiojobs_rt.integrations.django import enqueue_after_commit

    with transaction.atomic():
        order.save()
        enqueue_after_commit(SendReceipt.bind(order.pk))

Django's transactions belong to threads, also in asynchronous views (`sync_to_async`), so this is a plain function: it is called where
the models are, and enqueues through `aiojobs_rt.blocking`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from django.db import transaction

from aiojobs_rt import blocking

if TYPE_CHECKING:
    from aiojobs_rt.enqueue import Bound
    from aiojobs_rt.handle import JobHandle

R = TypeVar("R")


def enqueue_after_commit(job: Bound[R], *, using: str | None = None, robust: bool = False) -> JobHandle[R]:
    """Enqueue a job when the surrounding `atomic` block commits, and not when it, or a savepoint around this call, is rolled back.

    Outside a transaction it is enqueued at once. Arguments and options are those of now.

    Args:
        job: from `Job.bind(...)` or `Job.set(...).bind(...)`.
        using: the alias of the database; default: Django's default one.
        robust: as of Django's `on_commit`: an EnqueueError is logged instead of raised from where the block ends.

    Returns:
        The handle of the job to be; until the commit its status is "unknown".

    Raises:
        EnqueueError: Redis could not be reached, or refused; raised at once outside a transaction, else where the block ends.
        RuntimeError: an event loop runs in this thread.
    """
    blocking.refuse_in_loop("`enqueue_after_commit`; call it where the models are saved, inside `sync_to_async`")
    job = job.identified()

    def enqueue() -> None:
        blocking.perform_later(job)

    transaction.on_commit(enqueue, using=using, robust=robust)
    return job.handle()

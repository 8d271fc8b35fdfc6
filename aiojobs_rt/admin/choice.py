"""The admin of an adapter: the same questions and actions whatever carries the jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aiojobs_rt.adapters.in_process.base import InProcessAdapter
from aiojobs_rt.adapters.redis.adapter import RedisAdapter
from aiojobs_rt.admin.admin import Admin
from aiojobs_rt.admin.in_process import InProcessAdmin
from aiojobs_rt.errors import ConfigurationError

if TYPE_CHECKING:
    from aiojobs_rt.adapters.base import Adapter
    from aiojobs_rt.admin.records import (
        Discarded,
        JobDetails,
        JobPage,
        ListedState,
        QueueSummary,
        Retried,
        WorkerSummary,
    )


class Administers(Protocol):
    """What `Admin` and `InProcessAdmin` have in common; each method is described at `Admin`."""

    async def queue_names(self) -> list[str]:
        """See `Admin.queue_names`."""
        ...

    async def queues(self) -> list[QueueSummary]:
        """See `Admin.queues`."""
        ...

    async def queue(self, name: str) -> QueueSummary:
        """See `Admin.queue`."""
        ...

    async def jobs(self, queue: str, state: ListedState, *, job: str = "", limit: int = 50, after: str = "") -> JobPage:
        """See `Admin.jobs`."""
        ...

    async def job(self, job_id: str) -> JobDetails | None:
        """See `Admin.job`."""
        ...

    async def workers(self) -> list[WorkerSummary]:
        """See `Admin.workers`."""
        ...

    async def pause(self, queue: str) -> bool:
        """See `Admin.pause`."""
        ...

    async def resume(self, queue: str) -> bool:
        """See `Admin.resume`."""
        ...

    async def retry(self, job_id: str) -> Retried:
        """See `Admin.retry`."""
        ...

    async def retry_dead(self, queue: str) -> int:
        """See `Admin.retry_dead`."""
        ...

    async def discard(self, job_id: str) -> Discarded:
        """See `Admin.discard`."""
        ...

    async def discard_dead(self, queue: str) -> int:
        """See `Admin.discard_dead`."""
        ...

    async def cancel(self, job_id: str) -> bool:
        """See `Admin.cancel`."""
        ...

    async def aclose(self) -> None:
        """See `Admin.aclose`."""
        ...


def admin_of(adapter: Adapter) -> Administers:
    """The admin of an adapter of this package; close it after use.

    Raises:
        ConfigurationError: it is another's adapter.
    """
    if isinstance(adapter, InProcessAdapter):
        return InProcessAdmin(adapter)
    if isinstance(adapter, RedisAdapter):
        return Admin(adapter)
    raise ConfigurationError(f"no admin is known for {adapter!r}: it is not an adapter of this package")

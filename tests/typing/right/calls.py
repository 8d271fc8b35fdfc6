"""Calls that every checker accepts, and what they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, assert_type

from aiojobs_rt import Bound, Event, Job, JobHandle, Progress, blocking, perform_all_later, subscribe
from aiojobs_rt.blocking import BlockingHandle

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence


class SendWelcome(Job):
    queue = "mailers"

    async def perform(self, user_id: int, template: str = "welcome") -> bool:
        return bool(user_id) and bool(template)


class Variadic(Job):
    async def perform(self, first: int, /, *rest: float, key: str, **more: bytes) -> dict[str, int]:
        return {key: first, "rest": len(rest), **{name: len(value) for name, value in more.items()}}


class Nothing(Job):
    async def perform(self) -> None:
        return None


async def enqueue() -> None:
    assert_type(await SendWelcome.perform_later(42), JobHandle[bool])
    assert_type(await SendWelcome.perform_later(42, "again"), JobHandle[bool])
    assert_type(await SendWelcome.perform_later(user_id=42, template="again"), JobHandle[bool])
    assert_type(await SendWelcome.set(wait=10).perform_later(42), JobHandle[bool])
    assert_type(await Variadic.perform_later(1, 2.0, 3, key="k", more=b"m"), JobHandle[dict[str, int]])
    assert_type(await Nothing.perform_later(), JobHandle[None])


async def options() -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    await SendWelcome.set(wait_until=at, queue="low", priority=-5).perform_later(42)
    await SendWelcome.set(wait=timedelta(hours=1), timeout=30, max_attempts=3).perform_later(42)
    await SendWelcome.set(keep_result=timedelta(days=1), expires_in=1.5).perform_later(42)
    mailers = SendWelcome.set(queue="mailers")
    for user_id in range(3):
        assert_type(await mailers.perform_later(user_id), JobHandle[bool])


async def run_here() -> None:
    assert_type(await SendWelcome.perform_now(42), bool)
    assert_type(await SendWelcome.set(timeout=1).perform_now(42, template="now"), bool)
    assert_type(await SendWelcome().perform(42), bool)
    assert_type(await Nothing.perform_now(), None)


async def bind() -> None:
    assert_type(SendWelcome.bind(1), Bound[bool])
    assert_type(SendWelcome.set(wait=5).bind(2, template="later"), Bound[bool])
    assert_type(await perform_all_later([SendWelcome.bind(1), Nothing.bind()]), list[JobHandle[Any]])
    await perform_all_later(SendWelcome.bind(user_id) for user_id in range(3))
    mixed: list[Bound[Any]] = [SendWelcome.bind(1), Variadic.bind(1, key="k")]
    fixed: Sequence[Bound[Any]] = (SendWelcome.bind(1), Nothing.bind())
    wider: Bound[int] = SendWelcome.bind(1)  # covariant: a bool is an int
    await perform_all_later(mixed)
    await perform_all_later(fixed)
    await perform_all_later([wider])
    await perform_all_later([])
    await perform_all_later([SendWelcome.bind(1)], spread=60)


async def handles() -> None:
    handle = SendWelcome.handle("mailers.abc")
    assert_type(handle, JobHandle[bool])
    assert_type(await handle.result(), bool)
    assert_type(await handle.result(timeout=5), bool)
    assert_type(await handle.result(timedelta(seconds=5)), bool)
    assert_type(handle.id, str)
    assert_type(handle.enqueued, bool)
    assert_type(await handle.cancel(), bool)
    assert_type(await handle.progress(), Progress | None)
    known: JobHandle[Any] = JobHandle.of("mailers.abc")
    wider: JobHandle[int] = handle
    if await known.status() == "dead" and await wider.status() != "running":
        assert_type(await JobHandle.of("mailers.abc").result(), Any)


async def classes_as_values(known: type[Job], name: str) -> None:
    jobs: dict[str, type[Job]] = {"welcome": SendWelcome, "nothing": Nothing}
    await known.perform_later(1, anything="goes")
    await jobs[name].set(wait=1).perform_later()
    later: Callable[..., Coroutine[Any, Any, JobHandle[Any]]] = known.perform_later
    await later(1)


def parts_of_calls() -> Callable[[int], Coroutine[Any, Any, JobHandle[bool]]]:
    return SendWelcome.perform_later


async def inside(job: SendWelcome) -> None:
    assert_type(job.id, str)
    assert_type(job.executions, int)
    assert_type(job.queue, str)
    assert_type(job.enqueued_at, datetime)
    job.logger.info("run %d", job.executions)
    assert_type(await job.perform_later(1), JobHandle[bool])


def enqueue_blocking() -> None:
    assert_type(blocking.perform_later(SendWelcome.bind(42)), BlockingHandle[bool])
    assert_type(blocking.perform_later(SendWelcome.set(wait=5).bind(42)).result(timeout=5), bool)
    assert_type(blocking.perform_all_later([SendWelcome.bind(1), Nothing.bind()]), list[BlockingHandle[Any]])


def hear() -> None:
    def count(event: Event) -> int:
        assert_type(event.at, datetime)
        assert_type(event.duration, float | None)
        assert_type(event.details, Mapping[str, Any])
        return len(event.kind)

    unsubscribe = subscribe(count, "succeeded", "dead")
    assert_type(unsubscribe, Callable[[], None])
    assert_type(subscribe(print), Callable[[], None])

"""Test helpers, adapters and references as every checker accepts them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, assert_type

from aiojobs_rt import AsyncAdapter, InlineAdapter, Job, RedisAdapter, TestAdapter, register_reference
from aiojobs_rt.admin import Administers, admin_of
from aiojobs_rt.testing import Jobs, PerformedJob, RecordedJob, recording_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aiojobs_rt.adapters.base import Adapter


class SendWelcome(Job):
    adapter: Adapter | None = AsyncAdapter(concurrency=3, shutdown_timeout=1.5)  # for mypy: subclasses choose others

    async def perform(self, user_id: int) -> bool:
        return bool(user_id)


class SendNow(SendWelcome):
    adapter = InlineAdapter()


async def recorded(jobs: Jobs) -> None:
    assert_type(jobs.enqueued, list[RecordedJob])
    assert_type(jobs.performed, list[PerformedJob])
    assert_type(jobs.now, datetime)
    assert_type(jobs.adapter, TestAdapter)
    assert_type(jobs.assert_enqueued(SendWelcome), RecordedJob)
    jobs.assert_enqueued(SendWelcome, args=(42,), at=timedelta(days=3), queue="low", priority=5, count=1)
    jobs.assert_enqueued(SendWelcome, args=[42], kwargs={"template": "tips"}, at=datetime(2030, 1, 1, tzinfo=UTC))
    assert_type(jobs.assert_performed(SendWelcome, outcome=None), PerformedJob)
    jobs.assert_none()
    jobs.assert_none(SendWelcome)


async def run(jobs: Jobs) -> None:
    assert_type(await jobs.perform_enqueued(), list[PerformedJob])
    await jobs.perform_enqueued(only=SendWelcome, queue="low", at=timedelta(hours=1))
    await jobs.perform_enqueued(only=[SendWelcome, SendNow], except_={SendNow})
    assert_type(await jobs.advance(hours=1, minutes=0.5), list[PerformedJob])
    await jobs.advance(timedelta(days=1))
    async with jobs.performing():
        await SendWelcome.perform_later(42)
    with jobs.interrupt_during_step(SendWelcome, "rows"):
        await jobs.perform_enqueued()
    with jobs.interrupt_during_step(SendWelcome, "rows", cursor={"page": [1, None]}):
        await jobs.perform_enqueued()
    with jobs.interrupt_after_step(SendWelcome, "rows"):
        await jobs.perform_enqueued()


def found(one: PerformedJob) -> None:
    assert_type(one.arguments, dict[str, Any])
    assert_type(one.at, datetime | None)
    assert_type(one.job, type[Job] | None)
    assert_type(one.outcome, str)
    wider: RecordedJob = one
    assert wider


async def without_pytest() -> None:
    with recording_jobs() as jobs:
        assert_type(jobs, Jobs)
    with recording_jobs(everywhere=True):
        pass


async def adapters() -> None:
    carriers: list[Adapter] = [RedisAdapter("redis://localhost"), AsyncAdapter(), InlineAdapter(), TestAdapter()]
    for adapter in carriers:
        assert_type(admin_of(adapter), Administers)
        await adapter.aclose()
    async with AsyncAdapter() as mine:
        assert_type(mine, AsyncAdapter)


@dataclass
class User:
    id: int
    name: str


@dataclass
class Page:
    slug: str


async def find_user(user_id: int) -> User | None:
    return User(user_id, "Ada")


def find_page(slug: str) -> Page:
    return Page(slug)


async def find_users(ids: list[int]) -> Mapping[int, User | None]:
    return {id_: await find_user(id_) for id_ in ids}


def find_pages(slugs: list[str]) -> Sequence[Page | None]:
    return [find_page(slug) for slug in slugs]


def references(locate: Callable[[int], User]) -> None:
    register_reference(User, identify=lambda user: user.id, locate=find_user)
    register_reference(User, identify=lambda user: user.id, locate=locate, locate_many=find_users, name="person")
    register_reference(Page, identify=lambda page: page.slug, locate=find_page)
    register_reference(Page, identify=lambda page: page.slug, locate_many=find_pages)


class Greets(Job):
    async def perform(self, user: User, pages: list[Page]) -> None: ...


async def enqueue() -> None:
    await Greets.perform_later(User(1, "Ada"), [Page("a")])

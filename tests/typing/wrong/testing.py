"""Test helpers, adapters and references that no checker may accept: each line with the mark is reported by all of them."""

from __future__ import annotations

from dataclasses import dataclass

from aiojobs_rt import AsyncAdapter, InlineAdapter, Job, TestAdapter, register_reference
from aiojobs_rt.testing import Jobs, recording_jobs


class SendWelcome(Job):
    async def perform(self, user_id: int) -> bool:
        return bool(user_id)


class Misplaced(Job):
    adapter = "redis://localhost"  # error: an adapter

    async def perform(self) -> None: ...


async def recorded(jobs: Jobs) -> None:
    jobs.assert_enqueued()  # error: of which class
    jobs.assert_enqueued("SendWelcome")  # error: the class itself
    jobs.assert_enqueued(SendWelcome())  # error: the class, not a job
    jobs.assert_enqueued(SendWelcome, (42,))  # error: args by keyword
    jobs.assert_enqueued(SendWelcome, args=42)  # error: a sequence
    jobs.assert_enqueued(SendWelcome, at=3600)  # error: a datetime or timedelta
    jobs.assert_enqueued(SendWelcome, queue=1)  # error: a str
    jobs.assert_enqueued(SendWelcome, times=2)  # error: count
    jobs.assert_performed(SendWelcome, outcome=True)  # error: a str
    jobs.assert_none("SendWelcome")  # error: the class itself
    jobs.enqueued.first  # error: a list
    jobs.performed = []  # error: read-only


async def run(jobs: Jobs) -> None:
    jobs.perform_enqueued()  # error: not awaited
    await jobs.perform_enqueued(SendWelcome)  # error: only= by keyword
    await jobs.perform_enqueued(only="SendWelcome")  # error: a class
    await jobs.advance(3600)  # error: a timedelta, or seconds=
    await jobs.advance(weeks=1)  # error: no such unit
    with jobs.performing():  # error: async with
        pass
    with jobs.interrupt_during_step(SendWelcome):  # error: which step
        pass
    with jobs.interrupt_during_step(SendWelcome, 3):  # error: its name
        pass
    with jobs.interrupt_after_step(SendWelcome, "rows", cursor=1):  # error: that is of interrupt_during_step
        pass
    with recording_jobs(True):  # error: by keyword
        pass


def adapters() -> None:
    AsyncAdapter(10)  # error: by keyword
    AsyncAdapter(concurrency="10")  # error: an int
    InlineAdapter(concurrency=10)  # error: it runs one
    TestAdapter().advance("1h")  # error: a timedelta


@dataclass
class User:
    id: int


async def find_user(id: int) -> User | None:
    return User(id)


async def find_text(id: int) -> str:
    return str(id)


def references() -> None:
    register_reference(User, locate=find_user)  # error: identify is missing
    register_reference(User, lambda user: user.id, find_user)  # error: by keyword
    register_reference(User, identify=lambda user: user.key, locate=find_user)  # error: no such attribute
    register_reference(User, identify=lambda user: 1.5, locate=find_user)  # error: an int or a str
    register_reference(User, identify=lambda user: user.id, locate=find_text)  # error: finds another thing
    register_reference(User(1), identify=lambda user: 1, locate=find_user)  # error: the class

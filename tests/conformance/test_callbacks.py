"""Callbacks on every adapter: their order, what halts them, and what a job that ends without success calls."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest

from aiojobs_rt import (
    Abort,
    Discard,
    JobFailed,
    after_discard,
    after_enqueue,
    after_perform,
    around_enqueue,
    around_perform,
    before_enqueue,
    before_perform,
    discard_on,
    perform_all_later,
    retry_on,
)
from tests.conformance.adapters import CarriedJob, log

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.conformance.adapters import Bed

pytestmark = pytest.mark.acceptance(10, 26)


class CarriedCallbacks(CarriedJob):
    """All callbacks; those of the subclass run inside."""

    @before_enqueue
    async def enqueue_first(self) -> None:
        log.append("enqueue: before")

    @around_enqueue
    async def enqueue_around(self) -> AsyncGenerator[None]:
        log.append("enqueue: in")
        yield
        log.append("enqueue: out")

    @after_enqueue
    def enqueue_last(self) -> None:
        log.append("enqueue: after")

    @before_perform
    async def perform_first(self) -> None:
        log.append("perform: before")

    @around_perform
    async def perform_around(self) -> AsyncGenerator[None]:
        log.append("perform: in")
        yield
        log.append("perform: out")

    @after_perform
    def perform_last(self) -> None:
        log.append("perform: after")

    @after_discard
    async def discarded(self, error: BaseException) -> None:
        log.append(f"discard: {type(error).__name__}")

    async def perform(self, text: str = "") -> str:
        log.append("perform: itself")
        return text


class CarriedCallbacksInside(CarriedCallbacks):
    @before_perform
    def perform_second(self) -> None:
        log.append(f"perform: before {self.arguments['text']}")

    @after_perform
    async def perform_early(self) -> None:
        log.append("perform: after inside")


def logged(of: str) -> list[str]:
    return [line.removeprefix(f"{of}: ") for line in log if line.startswith(of)]


async def test_callbacks_run_in_their_order(on: Bed) -> None:
    handle = await CarriedCallbacksInside.perform_later("tea")
    await on.reaches(handle, "succeeded")
    assert await handle.result(timeout=5) == "tea"
    assert logged("enqueue") == ["before", "in", "after", "out"]
    assert logged("perform") == ["before", "in", "before tea", "itself", "after inside", "after", "out"]
    assert logged("discard") == []


async def test_jobs_enqueued_together_run_no_enqueue_callbacks(on: Bed) -> None:
    (handle,) = await perform_all_later([CarriedCallbacks.bind()])
    await on.reaches(handle, "succeeded")
    assert logged("enqueue") == []
    assert logged("perform") == ["before", "in", "itself", "after", "out"]


class CarriedHalts(CarriedCallbacks):
    @before_enqueue
    def enqueue_may_halt(self) -> None:
        if self.arguments.get("text") == "enqueue":
            raise Abort("not today")

    @before_perform
    def perform_may_halt(self) -> None:
        if self.arguments.get("text") == "perform":
            raise Abort("not today")

    @around_perform
    async def perform_may_not_yield(self) -> AsyncGenerator[None]:
        if self.arguments.get("text") != "around":
            yield


async def test_a_halted_enqueue_enqueues_nothing(on: Bed) -> None:
    handle = await CarriedHalts.perform_later("enqueue")
    assert not handle.enqueued
    assert await handle.status() == "unknown"
    assert log == ["enqueue: before", "enqueue: in", "enqueue: out"]


@pytest.mark.parametrize("where", ["perform", "around"])
async def test_a_halted_perform_discards_the_job(on: Bed, where: str) -> None:
    handle = await CarriedHalts.perform_later(where)
    assert handle.enqueued
    await on.reaches(handle, "discarded")
    assert logged("perform") == ["before", "in", "out"], "one around that has yielded goes on, those after are skipped"
    with pytest.raises(JobFailed, match="not today" if where == "perform" else "perform_may_not_yield"):
        await handle.result(timeout=5)


@retry_on(ConnectionError, wait=0, attempts=2)
class CarriedAgain(CarriedCallbacks):
    async def perform(self, text: str = "") -> str:
        log.append(f"perform: run {self.executions}")
        if self.executions == 1:
            raise ConnectionError("down")
        return text


class CarriedNotAgain(CarriedAgain):
    @before_enqueue
    def only_once(self) -> None:
        if self.executions > 1 or logged("perform"):
            raise Abort("once is enough")


async def test_a_retry_is_an_enqueue(on: Bed) -> None:
    handle = await CarriedAgain.perform_later()
    await on.reaches(handle, "succeeded")
    assert sorted(logged("enqueue")) == sorted(["before", "in", "after", "out"] * 2)
    assert logged("perform") == ["before", "in", "run 1", "before", "in", "run 2", "after", "out"]
    assert logged("discard") == []


async def test_a_retry_may_be_halted(on: Bed) -> None:
    handle = await CarriedNotAgain.perform_later()
    await on.reaches(handle, "discarded")
    with pytest.raises(JobFailed, match="once is enough"):
        await handle.result(timeout=5)
    assert logged("perform") == ["before", "in", "run 1"]


@discard_on(LookupError)
@retry_on(ConnectionError, wait=0, attempts=2)
class CarriedEnds(CarriedCallbacks):
    async def perform(self, text: str = "") -> str:
        raise {"discard_on": KeyError("gone"), "Discard": Discard("no"), "exhausted": ConnectionError("down")}.get(
            text, ValueError("broken")
        )


@pytest.mark.parametrize(
    ("how", "state", "error"),
    [
        ("discard_on", "discarded", "KeyError"),
        ("Discard", "discarded", "Discard"),
        ("exhausted", "dead", "ConnectionError"),
        ("dead", "dead", "ValueError"),
    ],
)
@pytest.mark.acceptance(25)
async def test_a_job_that_ends_without_success_calls_after_discard_once(
    on: Bed, how: str, state: str, error: str
) -> None:
    handle = await CarriedEnds.set(max_attempts=1).perform_later(how)
    await on.reaches(handle, state)
    assert logged("discard") == [error]


seen: ContextVar[str] = ContextVar("seen", default="nothing")


class CarriedSeen(CarriedJob):
    @before_perform
    async def note(self) -> None:
        seen.set(self.id)

    @after_perform
    async def look(self) -> None:
        log.append(seen.get())

    async def perform(self) -> str:
        return seen.get()


@pytest.mark.acceptance(27)
async def test_callbacks_share_the_context_of_perform(on: Bed) -> None:
    handle = await CarriedSeen.perform_later()
    await on.reaches(handle, "succeeded")
    assert await handle.result(timeout=5) == handle.id
    assert log == [handle.id]
    assert seen.get() == "nothing"


@retry_on(ConnectionError, wait=0, attempts=2)
class CarriedBrokenCallback(CarriedJob):
    @before_perform
    def break_once(self) -> None:
        log.append(f"run {self.executions}")
        if self.executions == 1:
            raise ConnectionError("down")

    async def perform(self) -> int:
        return self.executions


async def test_what_a_callback_raises_is_the_failure_of_the_job(on: Bed) -> None:
    handle = await CarriedBrokenCallback.perform_later()
    await on.reaches(handle, "succeeded")
    assert log == ["run 1", "run 2"]


class CarriedBrokenEnqueue(CarriedJob):
    @before_enqueue
    def refuse(self) -> None:
        raise RuntimeError("not connected")

    async def perform(self) -> None: ...


async def test_what_an_enqueue_callback_raises_is_raised_to_the_caller(on: Bed) -> None:
    with pytest.raises(RuntimeError, match="not connected"):
        await CarriedBrokenEnqueue.perform_later()

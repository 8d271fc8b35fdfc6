"""One suite for every adapter: the same job classes, the same answers.

What an adapter can't do by its nature is said where it is left out: InlineAdapter runs a job while it is enqueued, so nothing waits there
and nothing can be cancelled or paused before it runs, and it never runs what is due later.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from pydantic import SecretStr

from aiojobs_rt import (
    AesGcmCipher,
    Discard,
    InvalidArguments,
    JobCancelled,
    JobFailed,
    JobHandle,
    ResultNotKept,
    Retry,
    Snooze,
    TestAdapter,
    discard_on,
    locale,
    perform_all_later,
    rescue_from,
    retry_on,
    use_cipher,
)
from tests.conformance.adapters import CarriedJob, log
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from aiojobs_rt.admin import Administers
    from tests.conformance.adapters import Bed

pytestmark = pytest.mark.acceptance(10, 50)


class Note(CarriedJob):
    async def perform(self, label: str) -> str:
        log.append(label)
        return label


class FailsAlways(CarriedJob):
    async def perform(self, text: str = "it broke") -> None:
        log.append(f"run {self.executions}")
        raise ValueError(text)


class Flaky(Exception):  # noqa: N818 - as applications name theirs
    """What is declared."""


@retry_on(Flaky, wait=0, attempts=3)
class TriesThrice(CarriedJob):
    async def perform(self, good: int) -> int:
        log.append(f"run {self.executions}")
        if self.executions < good:
            raise Flaky
        return self.executions


@discard_on(Flaky)
class DropsFlaky(CarriedJob):
    async def perform(self) -> None:
        raise Flaky("gone")


class Rescued(CarriedJob):
    async def perform(self) -> str:
        raise Flaky

    @rescue_from(Flaky)
    async def saved(self, _: Flaky) -> str:
        return "saved"


@retry_on(Flaky, wait=0, attempts=2, queue="other")
class MovesOn(CarriedJob):
    async def perform(self) -> str:
        if self.executions == 1:
            raise Flaky
        return self.queue


class Directs(CarriedJob):
    async def perform(self, what: str) -> str:
        log.append(f"run {self.executions}")
        if len(log) == 1:
            raise {"discard": Discard("enough"), "retry": Retry(0), "snooze": Snooze(0), "later": Snooze(60)}[what]
        return what


class Slow(CarriedJob):
    timeout = 0.05
    max_attempts = 1

    async def perform(self) -> None:
        await asyncio.sleep(30)


class Hangs(CarriedJob):
    async def perform(self) -> None:
        log.append("began")
        try:
            await asyncio.sleep(30)
        finally:
            log.append("left")


class Types(CarriedJob):
    async def perform(
        self, raw: bytes, when: datetime, amount: Decimal, key: UUID, names: set[str], *, pair: tuple[int, float]
    ) -> bool:
        given = (raw, when, amount, key, names, pair)
        return given == TYPED and [type(one) for one in given] == [type(one) for one in TYPED]


TYPED = (b"\x00\xff", datetime(2026, 3, 1, 12, tzinfo=UTC), Decimal("1.10"), UUID(int=7), {"a", "b"}, (1, 2.5))


class Called(CarriedJob):
    async def perform(self, first: int, /, second: str = "2", *rest: float, key: bool, **more: int) -> list[str]:
        return [repr(first), second, repr(rest), repr(key), repr(more)]


leak: ContextVar[str] = ContextVar("leak", default="clean")


class Sealed(CarriedJob):
    encrypted = True

    async def perform(self, card: str) -> str:
        if self.executions == 1:
            raise Retry(wait=0)
        return card


class Leaks(CarriedJob):
    async def perform(self) -> str:
        before = leak.get()
        leak.set("dirty")
        return before


class Speaks(CarriedJob):
    async def perform(self) -> str | None:
        return locale.get()


@pytest.mark.acceptance(33)
async def test_the_context_of_the_caller_is_there_inside_perform(on: Bed) -> None:
    token = locale.set("de-AT")
    handle = await Speaks.perform_later()
    locale.reset(token)
    await on.reaches(handle, "succeeded")
    assert await handle.result(timeout=5) == "de-AT"
    handle = await Speaks.perform_later()
    await on.reaches(handle, "succeeded")
    assert await handle.result(timeout=5) is None


async def test_a_result_comes_back_as_perform_gave_it(on: Bed) -> None:
    handle = await Note.perform_later("a")
    assert handle.enqueued
    await on.reaches(handle, "succeeded")
    assert await handle.result(timeout=5) == "a"
    assert await Note.handle(handle.id).result(timeout=5) == "a"
    assert await JobHandle.of(handle.id, adapter=on.adapter).status() == "succeeded"


class Issues(CarriedJob):
    async def perform(self, user: str) -> dict[str, SecretStr]:
        return {user: SecretStr("hunter2")}


async def test_a_secret_result_arrives_and_is_shown_as_stars(on: Bed, admin: Administers) -> None:
    handle = await Issues.perform_later("ada")
    await on.reaches(handle, "succeeded")
    assert (await handle.result(timeout=5))["ada"].get_secret_value() == "hunter2"
    shown = await admin.job(handle.id)
    assert shown is not None
    assert shown.result == b'"**********"'
    assert "hunter2" not in repr(shown)


async def test_jobs_run_in_the_order_of_enqueueing(on: Bed) -> None:
    handles = await perform_all_later([Note.bind(str(number)) for number in range(20)])
    await on.reaches(handles[-1], "succeeded")
    assert log == [str(number) for number in range(20)]


async def test_lower_priorities_run_first(on: Bed) -> None:
    jobs = [Note.set(priority=priority).bind(f"{priority}") for priority in (5, 0, -5)]
    handles = await perform_all_later(jobs)
    await on.reaches(handles[0], "succeeded")
    await on.reaches(handles[1], "succeeded")
    assert log == (["5", "0", "-5"] if on.runs_at_once else ["-5", "0", "5"])  # inline: nothing waits to be ordered


async def test_a_job_that_waits_is_queued(on: Bed, admin: Administers) -> None:
    await admin.pause("default")
    handle = await Note.perform_later("a")
    assert await handle.status() == "queued"
    assert await handle.cancel()
    assert await handle.status() == "cancelled"
    assert not await handle.cancel()
    await admin.resume("default")
    await on.reaches(await Note.perform_later("b"), "succeeded")
    assert log == ["b"]


@pytest.mark.acceptance(18)
async def test_a_delayed_job_is_scheduled_and_can_be_cancelled(on: Bed) -> None:
    handle = await Note.set(wait=3600).perform_later("later")
    await on.reaches(await Note.perform_later("now"), "succeeded")
    assert await handle.status() == "scheduled"
    assert await handle.cancel()
    assert await handle.status() == "cancelled"
    assert log == ["now"]


async def test_a_delayed_job_runs_when_it_is_due(on: Bed) -> None:
    if on.runs_at_once:
        pytest.skip("InlineAdapter runs only what is due at once")
    handle = await Note.set(wait=0.05).perform_later("later")
    assert await handle.status() == "scheduled"
    if isinstance(on.adapter, TestAdapter):
        await on.adapter.advance(seconds=1)
    await on.reaches(handle, "succeeded")


@pytest.mark.acceptance(19)
async def test_a_due_time_in_the_past_means_now(on: Bed) -> None:
    handle = await Note.set(wait_until=datetime.now(tz=UTC) - timedelta(days=1)).perform_later("a")
    await on.reaches(handle, "succeeded")


async def test_options_of_set_hold_for_the_one_job(on: Bed) -> None:
    handle = await Note.set(queue="other", keep_result=0).perform_later("a")
    assert handle.queue == "other"
    await on.reaches(handle, "succeeded")
    with pytest.raises(ResultNotKept):
        await handle.result(timeout=5)


async def test_attempts_are_counted_until_the_job_is_dead(on: Bed) -> None:
    handle = await TriesThrice.perform_later(9)
    await on.reaches(handle, "dead")
    assert log == ["run 1", "run 2", "run 3"]
    with pytest.raises(JobFailed, match="Flaky"):
        await handle.result(timeout=5)
    assert not await handle.cancel()


async def test_a_retry_may_succeed(on: Bed) -> None:
    handle = await TriesThrice.perform_later(3)
    await on.reaches(handle, "succeeded")
    assert await handle.result(timeout=5) == 3


async def test_an_encrypted_job_runs_and_runs_again(on: Bed, admin: Administers) -> None:
    use_cipher(AesGcmCipher([AesGcmCipher.generate_key()]) if on.kind == "redis" else None)
    handle = await Sealed.perform_later("hunter2")
    await on.reaches(handle, "succeeded")
    assert await handle.result(timeout=5) == "hunter2"
    shown = await admin.job(handle.id)
    assert shown is not None
    assert (shown.encrypted, shown.result) == (True, b"[encrypted]")
    waiting = await admin.job((await Sealed.set(wait=60).perform_later("hunter2")).id)
    assert waiting is not None
    assert (waiting.encrypted, waiting.args) == (True, b"[encrypted]")
    use_cipher(None)


async def test_a_default_retry_waits(on: Bed) -> None:
    handle = await FailsAlways.perform_later()
    await on.reaches(handle, "retrying")
    assert log == ["run 1"]
    assert await handle.cancel()
    assert await handle.status() == "cancelled"


async def test_max_attempts_of_one_makes_it_dead_at_once(on: Bed) -> None:
    handle = await FailsAlways.set(max_attempts=1).perform_later("no")
    await on.reaches(handle, "dead")
    with pytest.raises(JobFailed, match="ValueError: no") as caught:
        await handle.result(timeout=5)
    assert caught.value.outcome == "dead"


async def test_discards(on: Bed) -> None:
    for handle in (await DropsFlaky.perform_later(), await Directs.perform_later("discard")):
        await on.reaches(handle, "discarded")
        with pytest.raises(JobFailed) as caught:
            await handle.result(timeout=5)
        assert caught.value.outcome == "discarded"


async def test_a_rescued_job_gives_what_the_handler_gave(on: Bed) -> None:
    handle = await Rescued.perform_later()
    await on.reaches(handle, "succeeded")
    assert await handle.result(timeout=5) == "saved"


async def test_a_retry_on_another_queue(on: Bed) -> None:
    handle = await MovesOn.perform_later()
    await on.reaches(handle, "succeeded")
    assert await handle.result(timeout=5) == "other"


@pytest.mark.parametrize(("what", "second"), [("retry", "run 2"), ("snooze", "run 1")])
async def test_a_job_directs_its_outcome(on: Bed, what: str, second: str) -> None:
    handle = await Directs.perform_later(what)
    await on.reaches(handle, "succeeded")
    assert log == ["run 1", second]


async def test_a_snoozed_job_is_scheduled(on: Bed) -> None:
    handle = await Directs.perform_later("later")
    await on.reaches(handle, "scheduled")


async def test_a_timeout_is_a_failure(on: Bed) -> None:
    handle = await Slow.perform_later()
    await on.reaches(handle, "dead")
    with pytest.raises(JobFailed, match=r"TimeoutError: ran longer than its timeout of 0\.05 s"):
        await handle.result(timeout=5)


async def test_a_job_that_expired_is_discarded(on: Bed, admin: Administers) -> None:
    if on.runs_at_once:
        pytest.skip("InlineAdapter runs a job only while it is enqueued")
    await admin.pause("default")
    handle = await Note.set(expires_in=0.001).perform_later("late")
    await asyncio.sleep(0.01)  # by the clock of Redis, and of the virtual one, which goes with it
    await admin.resume("default")
    await on.reaches(handle, "discarded")
    with pytest.raises(JobFailed, match="expired"):
        await handle.result(timeout=5)
    assert log == []


async def test_a_running_job_is_cancelled(on: Bed) -> None:
    enqueueing = asyncio.create_task(Hangs.perform_later())
    if on.runs_at_once:
        await wait_until(lambda: log, interval=0)
        enqueueing.cancel()  # InlineAdapter: the caller is what can be cancelled
        with pytest.raises(asyncio.CancelledError):
            await enqueueing
        assert log == ["began", "left"]
        return
    handle = await enqueueing
    running = asyncio.create_task(on.reaches(handle, "cancelled"))
    await wait_until(lambda: log, interval=0.001)
    assert await handle.status() == "running"
    assert await handle.cancel()
    await running
    assert log == ["began", "left"]
    with pytest.raises(JobCancelled):
        await handle.result(timeout=5)


async def test_arguments_arrive_as_they_were_sent(on: Bed) -> None:
    handle = await Types.perform_later(*TYPED[:5], pair=TYPED[5])
    await on.reaches(handle, "succeeded")
    assert await handle.result(timeout=5) is True


@pytest.mark.acceptance(15)
async def test_a_call_arrives_as_it_was_made(on: Bed) -> None:
    handle = await Called.perform_later(1, "b", 1.5, 2, key=True, first=4, more=5)
    await on.reaches(handle, "succeeded")
    assert await handle.result(timeout=5) == ["1", "b", "(1.5, 2.0)", "True", "{'first': 4, 'more': 5}"]
    handle = await Called.perform_later(1, key=False)
    await on.reaches(handle, "succeeded")
    assert await handle.result(timeout=5) == ["1", "2", "()", "False", "{}"]


async def test_wrong_arguments_raise_at_the_caller(on: Bed) -> None:
    with pytest.raises(InvalidArguments):
        await Note.perform_later(3)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - what is tested


async def test_nothing_is_known_of_another_id(on: Bed) -> None:
    handle = JobHandle.of("default.neverEnqueued", adapter=on.adapter)
    assert await handle.status() == "unknown"
    assert not await handle.cancel()
    with pytest.raises(ResultNotKept):
        await handle.result(timeout=5)


async def test_what_a_job_sets_is_gone_with_it(on: Bed) -> None:
    for _ in range(2):
        handle = await Leaks.perform_later()
        await on.reaches(handle, "succeeded")
        assert await handle.result(timeout=5) == "clean"
    assert leak.get() == "clean"


async def test_a_wait_for_a_result_ends_in_time(on: Bed) -> None:
    handle = await Note.set(wait=3600).perform_later("later")
    with pytest.raises(TimeoutError, match="has not ended within"):
        await handle.result(timeout=0.01)


# -- queries and actions --------------------------------------------------------------------------


@pytest.mark.acceptance(5, 13)
async def test_a_dead_job_is_found_and_runs_anew(on: Bed, admin: Administers) -> None:
    handle = await TriesThrice.perform_later(9)
    await on.reaches(handle, "dead")
    assert "default" in await admin.queue_names()
    assert (await admin.queue("default")).dead == 1
    (dead,) = (await admin.jobs("default", "dead")).jobs
    assert (dead.id, dead.job, dead.state, dead.failures) == (handle.id, "TriesThrice", "dead", 3)
    details = await admin.job(handle.id)
    assert details is not None
    assert [attempt.error for attempt in details.attempts] == ["Flaky"] * 3
    assert details.args == b'{"good":9}'
    assert "Flaky" in details.attempts[0].traceback
    log.clear()
    assert await admin.retry(handle.id) == "retried"
    if on.runs_at_once:
        assert await handle.status() == "queued"  # nothing runs a job but its enqueueing
    else:
        await on.reaches(handle, "dead")
        await wait_until(lambda: len(log) == 3)
        assert log == ["run 1", "run 2", "run 3"]


@pytest.mark.acceptance(13)
async def test_jobs_are_discarded(on: Bed, admin: Administers) -> None:
    dead = [await FailsAlways.set(max_attempts=1).perform_later() for _ in range(2)]
    for handle in dead:
        await on.reaches(handle, "dead")
    later = await Note.set(wait=3600).perform_later("later")
    assert await admin.discard(later.id) == "discarded"
    assert await later.status() == "discarded"
    assert await admin.discard(later.id) == "ended"
    assert await admin.discard("default.neverEnqueued") == "unknown"
    assert await admin.discard_dead("default") == 2
    assert (await admin.jobs("default", "dead")).jobs == ()
    assert await admin.retry(later.id) == "ended"
    assert await admin.retry("default.neverEnqueued") == "unknown"
    with pytest.raises(ValueError, match="is not a job id"):
        await admin.retry("nonsense")


@pytest.mark.acceptance(13)
async def test_a_scheduled_job_is_run_now_and_listed_as_finished(on: Bed, admin: Administers) -> None:
    if on.runs_at_once:
        pytest.skip("InlineAdapter runs a job only while it is enqueued")
    handle = await Note.set(wait=3600).perform_later("a")
    (listed,) = (await admin.jobs("default", "scheduled")).jobs
    assert listed.id == handle.id
    assert await admin.retry(handle.id) == "retried"
    await on.reaches(handle, "succeeded")
    (finished,) = (await admin.jobs("default", "finished")).jobs
    assert (finished.id, finished.state, finished.job) == (handle.id, "succeeded", "Note")
    details = await admin.job(handle.id)
    assert details is not None
    assert (details.state, details.result) == ("succeeded", b'"a"')


@pytest.mark.acceptance(13)
async def test_a_paused_queue_keeps_its_jobs(on: Bed, admin: Administers) -> None:
    assert await admin.pause("default")
    assert not await admin.pause("default")
    handle = await Note.perform_later("a")
    assert await handle.status() == "queued"
    assert (await admin.queue("default")).waiting == 1
    (listed,) = (await admin.jobs("default", "waiting")).jobs
    assert listed.id == handle.id
    assert await admin.resume("default")
    if not on.runs_at_once:
        await on.reaches(handle, "succeeded")

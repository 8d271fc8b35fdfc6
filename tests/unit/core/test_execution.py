"""The outcomes of runs, decided directly: no adapter, no worker."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from pydantic import BaseModel

from aiojobs_rt import Discard, Job, Retry, Snooze, discard_on, rescue_from, retry_on
from aiojobs_rt.core.attempt import error_record
from aiojobs_rt.core.execution import Halt, execute, interrupted, unknown_class
from aiojobs_rt.core.outcome import SUCCEEDED, Dead, Discarded, Outcome, Retried, Snoozed, Succeeded
from tests.support.recording import NOW_MS, message_of, outcome_of, record_of, runtime

if TYPE_CHECKING:
    from aiojobs_rt.core.message import JobMessage

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _empty() -> None:  # pyright: ignore[reportUnusedFunction]
    RAN.clear()


class RaisesWhatever(Job):
    """Raises what the test put into `error`."""

    error: BaseException | type[BaseException] = ValueError("boom")

    async def perform(self) -> None:
        RAN.append(self.id)
        raise self.error


async def raised(error: BaseException | type[BaseException], **fields: Any) -> Outcome:
    """What becomes of a job that raises this."""
    return await outcome_of(type("RaisesIt", (RaisesWhatever,), {"error": error}), **fields)


# -- success -------------------------------------------------------------------------------------


async def test_a_job_that_returns_has_succeeded_and_keeps_nothing() -> None:
    class Adds(Job):
        async def perform(self, a: int, b: int = 1) -> int:
            RAN.append((a, b))
            return a + b

    assert await outcome_of(Adds, b'{"a":2}') is SUCCEEDED
    assert RAN == [(2, 1)]
    kept = await outcome_of(Adds, b'{"a":2}', options={"keep_result": 500})
    assert kept == Succeeded(b"3", 500)


async def test_a_kept_result_is_written_as_its_annotation_says() -> None:
    class Row(BaseModel):
        at: datetime

    class Kept(Job):
        keep_result = 60

        async def perform(self) -> tuple[Row, ...]:
            return (Row(at=datetime(2030, 1, 1, tzinfo=UTC)),)

    assert await outcome_of(Kept) == Succeeded(b'[{"at":"2030-01-01T00:00:00Z"}]', 60_000)
    assert await outcome_of(Kept, options={"keep_result": 0}) is SUCCEEDED


async def test_a_result_that_does_not_fit_its_annotation_is_dead_at_once() -> None:
    class Lies(Job):
        keep_result = 60

        async def perform(self) -> int:
            return "secret"  # type: ignore[return-value] # pyright: ignore[reportReturnType]

    outcome = await outcome_of(Lies)
    assert isinstance(outcome, Dead)
    assert "result does not fit" in record_of(outcome)["message"]
    assert "secret" not in record_of(outcome)["message"]


async def test_perform_sees_its_job_and_its_state() -> None:
    class Looks(Job):
        async def perform(self) -> None:
            RAN.append((self.id, self.executions, self.queue, self.enqueued_at, self.logger.name, self.state))

    message = message_of(Looks, queue="elsewhere", failures=2, crashes=1, interruptions=4)
    await execute(message, Looks, Halt(), runtime(states={Looks: "the state"}))
    at = datetime.fromtimestamp((NOW_MS - 1000) / 1000, tz=UTC)
    assert [("default.abc", 4, "elsewhere", at, "aiojobs_rt.job.Looks", "the state")] == RAN
    assert Looks.queue == "default"


async def test_each_run_has_an_object_of_its_own_that_is_initialised() -> None:
    class Counts(Job):
        def __init__(self) -> None:
            self.count = 0

        async def perform(self) -> None:
            self.count += 1
            RAN.append(self.count)

    await outcome_of(Counts)
    await outcome_of(Counts)
    assert RAN == [1, 1]


# -- the default ---------------------------------------------------------------------------------


async def test_an_error_that_nobody_declared_is_retried_with_the_default_backoff() -> None:
    outcome = await raised(ValueError("boom"))
    assert isinstance(outcome, Retried)
    assert 15_000 <= outcome.delay_ms <= 25_000
    assert (outcome.message.failures, outcome.queue) == (1, None)
    assert outcome.message.extra["failed_at"] == NOW_MS
    found = record_of(outcome)
    assert (found["error"], found["message"], found["at"], found["worker"]) == ("ValueError", "boom", NOW_MS, "host-1")
    assert "raise self.error" in found["traceback"]


async def test_the_last_attempt_ends_in_the_dead_set_with_its_reason() -> None:
    outcome = await raised(ValueError("boom"), failures=24)
    assert isinstance(outcome, Dead)
    assert outcome.message.failures == 25
    assert outcome.reason == "failed 25 times (max_attempts = 25)"
    assert outcome.message.extra["dead"] == outcome.reason
    once = await raised(ValueError("boom"), options={"max_attempts": 1, "keep_result": 700})
    assert isinstance(once, Dead)
    assert once.keep_ms == 700


async def test_retry_for_bounds_by_the_time_since_the_first_failure() -> None:
    class Patient(RaisesWhatever):
        retry_for = 100

    fields: dict[str, Any] = {"failures": 200, "extra": {"failed_at": NOW_MS}}
    assert isinstance(await outcome_of(Patient, now_ms=NOW_MS + 99_999, **fields), Retried)
    assert isinstance(await outcome_of(Patient, now_ms=NOW_MS + 100_000, **fields), Dead)


# -- declarations and directives -----------------------------------------------------------------


@retry_on(OSError, wait=1, jitter=0, attempts=1, on_exhausted=lambda job, error: RAN.append((job.id, str(error))))
@retry_on(ConnectionError, wait=7, attempts=2, jitter=0, queue="slow", priority=9)
@discard_on(LookupError, callback="note")
class DeclaresMuch(RaisesWhatever):
    def note(self, error: LookupError) -> None:
        RAN.append(f"noted {error!r}")

    @rescue_from(ArithmeticError)
    async def rescue(self, error: ArithmeticError) -> str:
        await asyncio.sleep(0)
        return f"rescued {error}"

    @rescue_from(BufferError)
    def fail(self, error: BufferError) -> None:
        raise RuntimeError("the handler failed")

    async def perform(self) -> str:  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        raise self.error


async def declared(error: BaseException, **fields: Any) -> Outcome:
    return await outcome_of(type("DeclaredIt", (DeclaresMuch,), {"error": error}), **fields)


async def test_retry_on_counts_its_own_executions_and_may_move_the_job() -> None:
    outcome = await declared(ConnectionError("x"), failures=3)
    assert isinstance(outcome, Retried)
    assert (outcome.delay_ms, outcome.queue, outcome.message.priority) == (7000, "slow", 9)
    assert dict(outcome.message.executions) == {"ConnectionError": 1}
    assert outcome.message.failures == 4
    again = await declared(ConnectionError("x"), failures=4, executions={"ConnectionError": 1})
    assert isinstance(again, Dead)
    assert "attempts = 2" in again.reason


async def test_a_retry_on_the_queue_where_the_job_is_crosses_nothing() -> None:
    outcome = await declared(ConnectionError("x"), queue="slow")
    assert isinstance(outcome, Retried)
    assert outcome.queue is None


async def test_exhausted_with_a_callback_is_discarded() -> None:
    outcome = await declared(OSError("down"))
    assert isinstance(outcome, Discarded)
    assert "OSError: down" in outcome.reason
    assert RAN == [("default.abc", "down")]


async def test_discard_on_ends_the_job_after_its_callback() -> None:
    outcome = await declared(KeyError("gone"), options={"keep_result": 5})
    assert outcome == Discarded("discard_on(LookupError): KeyError: 'gone'", 5)
    assert RAN == ["noted KeyError('gone')"]


async def test_a_rescued_job_has_succeeded_with_what_the_handler_returned() -> None:
    assert await declared(ZeroDivisionError("0")) is SUCCEEDED
    assert await declared(ZeroDivisionError("0"), options={"keep_result": 5}) == Succeeded(b'"rescued 0"', 5)


@pytest.mark.acceptance(28)
async def test_a_handler_that_fails_is_reported_and_its_error_is_the_jobs(caplog: pytest.LogCaptureFixture) -> None:
    outcome = await declared(BufferError("first"))
    assert isinstance(outcome, Retried)
    assert (record_of(outcome)["error"], record_of(outcome)["message"]) == ("RuntimeError", "the handler failed")
    assert "first" in record_of(outcome)["traceback"]  # the error that it was to handle is shown too
    assert "its handler for BufferError failed" in caplog.text


@pytest.mark.parametrize(
    ("raised_by_handler", "kind"),
    [
        (Retry(wait=3), Retried),
        (Discard("enough"), Discarded),
        (Snooze(90), Snoozed),
        (BufferError("again"), Retried),  # its own declaration has had its turn
        (ExceptionGroup("several", [BufferError(), ValueError()]), Retried),
        (SystemExit(3), Retried),
    ],
    ids=repr,
)
async def test_a_handler_may_direct_the_job_and_whatever_else_it_raises_is_the_jobs_failure(
    raised_by_handler: BaseException, kind: type
) -> None:
    class HandsOn(RaisesWhatever):
        @rescue_from(BufferError)
        def hand_on(self, error: BufferError) -> None:
            raise raised_by_handler

    HandsOn.error = BufferError("first")
    assert isinstance(await outcome_of(HandsOn), kind)


@pytest.mark.parametrize(
    "declare", [discard_on(BufferError, callback="fail"), retry_on(BufferError, attempts=1, on_exhausted="fail")]
)
async def test_a_callback_that_fails_discards_nothing(declare: Any) -> None:
    class Cautious(RaisesWhatever):
        async def fail(self, error: BufferError) -> None:
            raise ConnectionError("the mail about it was not sent")

    Cautious.error = BufferError("first")
    outcome = await outcome_of(declare(Cautious))
    assert isinstance(outcome, Retried)
    assert record_of(outcome)["error"] == "ConnectionError"
    assert isinstance(await outcome_of(Cautious, failures=24), Dead)


async def test_a_handler_that_raises_its_error_again_passes_it_on_as_it_is() -> None:
    class PassesOn(RaisesWhatever):
        @rescue_from(BufferError)
        def pass_on(self, error: BufferError) -> None:
            raise error

    PassesOn.error = error = BufferError("first")
    error.__context__ = LookupError("before it")
    outcome = await outcome_of(PassesOn)
    assert isinstance(outcome, Retried)
    assert record_of(outcome)["message"] == "first"
    assert isinstance(error.__context__, LookupError)


async def test_directives_say_what_happens() -> None:
    outcome = await declared(Retry(wait=3, reason="rate limited"))
    assert isinstance(outcome, Retried)
    assert (outcome.delay_ms, outcome.message.failures, record_of(outcome)["message"]) == (3000, 1, "rate limited")
    assert isinstance(await declared(Retry(wait=3), failures=24), Dead)
    assert await declared(Discard("enough"), options={"keep_result": 5}) == Discarded("enough", 5)
    snoozed = await declared(Snooze(90), failures=2)
    assert isinstance(snoozed, Snoozed)
    assert (snoozed.delay_ms, snoozed.message.failures, snoozed.message.runs) == (90_000, 2, 3)


# -- expiry --------------------------------------------------------------------------------------


class ExpiresSoon(Job):
    expires_in = 10

    async def perform(self) -> None:
        RAN.append("ran")


async def test_a_job_that_was_not_started_in_time_is_discarded_as_expired() -> None:
    at: dict[str, Any] = {"enqueued_at_ms": NOW_MS}
    assert await outcome_of(ExpiresSoon, now_ms=NOW_MS + 10_000, **at) is SUCCEEDED
    late = await outcome_of(ExpiresSoon, now_ms=NOW_MS + 10_001, options={"keep_result": 5}, **at)
    assert late == Discarded("expired: not started within 10 s of its time", 5)
    own = await outcome_of(ExpiresSoon, now_ms=NOW_MS + 10_001, options={"expires_in": 11_000}, **at)
    assert own is SUCCEEDED
    assert len(RAN) == 2


@pytest.mark.parametrize(
    "started", [{"failures": 1}, {"crashes": 1}, {"interruptions": 1}, {"extra": {"snoozes": 1}}], ids=str
)
async def test_a_job_that_was_started_once_does_not_expire(started: dict[str, Any]) -> None:
    assert await outcome_of(ExpiresSoon, now_ms=NOW_MS + 3_600_000, **started) is SUCCEEDED


async def test_a_snoozed_job_counts_as_started() -> None:
    class Sleepy(Job):
        expires_in = 10

        async def perform(self) -> None:
            raise Snooze(3600)

    outcome = await outcome_of(Sleepy)
    assert isinstance(outcome, Snoozed)
    again = await execute(outcome.message, Sleepy, Halt(), runtime(now_ms=NOW_MS + 3_600_000))
    assert isinstance(again, Snoozed)
    assert again.message.extra["snoozes"] == 2


# -- a class that this worker does not know ------------------------------------------------------


def test_a_job_of_an_unknown_class_is_tried_again_later_and_later() -> None:
    message: JobMessage = replace(message_of(RaisesWhatever), job="Unheard")
    now_ms = NOW_MS
    delays: list[int] = []
    while True:
        outcome = unknown_class(message, runtime(now_ms=now_ms))
        if isinstance(outcome, Dead):
            break
        assert bool(outcome.error) == (not delays)  # recorded once, not a hundred times
        assert outcome.message.failures == 0
        delays.append(outcome.delay_ms)
        message, now_ms = outcome.message, now_ms + outcome.delay_ms
    assert delays[:11] == [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 900_000]
    assert set(delays[11:]) == {900_000}
    assert now_ms - NOW_MS == sum(delays)
    assert 86_400_000 <= sum(delays) < 86_400_000 + 900_000
    assert "knows a job named 'Unheard'; import its module" in outcome.reason
    assert outcome.message.extra["dead"] == outcome.reason
    assert record_of(outcome)["error"] == "UnknownJob"


def test_a_waiter_learns_that_nobody_knew_the_class() -> None:
    message = replace(message_of(RaisesWhatever), extra={"unknown_since": 0}, options={"keep_result": 9})
    outcome = unknown_class(message, runtime())
    assert isinstance(outcome, Dead)
    assert outcome.keep_ms == 9


def test_a_long_or_odd_name_is_not_repeated_whole() -> None:
    message = replace(message_of(RaisesWhatever), job="\n\ud800" + "x" * 100_000, extra={"unknown_since": 0})
    outcome = unknown_class(message, runtime())
    assert isinstance(outcome, Dead)
    assert len(outcome.reason) < 500
    assert outcome.reason.isprintable()


# -- interruptions, records ----------------------------------------------------------------------


def test_an_interruption_costs_nothing_and_is_reported_from_the_tenth_on(caplog: pytest.LogCaptureFixture) -> None:
    message = message_of(RaisesWhatever)
    for _ in range(9):
        message = interrupted(message).message
    assert (message.interruptions, message.runs, caplog.text) == (9, 1, "")
    interrupted(message)
    assert "was interrupted 10 times" in caplog.text


def test_an_error_record_is_json_within_its_bounds() -> None:
    found = orjson.loads(error_record("E" * 500, "ä" * 20_000, "ö" * 20_000, 5, "w"))
    assert (len(found["error"]), len(found["message"]), len(found["traceback"].encode())) == (200, 10_000, 16 * 1024)

"""Whatever a job raises is its own failure, and wrong arguments never reach it. (G10, G13)"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr, TypeAdapter

from aiojobs_rt import Discard, InvalidArguments, Job, discard_on
from aiojobs_rt.core.outcome import Dead, Discarded, Outcome, Retried
from tests.support.recording import outcome_of, record_of

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _empty() -> None:  # pyright: ignore[reportUnusedFunction]
    RAN.clear()


class RaisesAnything(Job):
    """Raises what the test put into `error`."""

    error: BaseException | type[BaseException] = ValueError("boom")

    async def perform(self) -> None:
        RAN.append(self.id)
        raise self.error


async def raised(error: BaseException | type[BaseException], **fields: Any) -> Outcome:
    """What becomes of a job that raises this."""
    return await outcome_of(type("RaisesIt", (RaisesAnything,), {"error": error}), **fields)


# -- whatever a job raises is its own failure (G13) ----------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError("leaked"),
        ExceptionGroup("several", [ValueError("a"), KeyError("b")]),
        BaseExceptionGroup("base", [SystemExit(1), KeyboardInterrupt()]),
        RecursionError(),
        MemoryError(),
        AssertionError(),
        StopAsyncIteration(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_no_exception_is_more_than_a_failure(error: BaseException) -> None:
    outcome = await raised(error)
    assert isinstance(outcome, Retried)
    assert record_of(outcome)["error"] == type(error).__qualname__


async def test_an_error_in_a_group_of_one_is_named_by_itself() -> None:
    outcome = await raised(ExceptionGroup("one", [ExceptionGroup("inner", [ValueError("boom")])]))
    assert (record_of(outcome)["error"], record_of(outcome)["message"]) == ("ValueError", "boom")


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__


async def test_an_error_that_cannot_be_shown_is_a_failure_like_others() -> None:
    outcome = await raised(UnspeakableError("x"))
    assert record_of(outcome)["error"] == "UnspeakableError"
    assert record_of(outcome)["message"] == "<its message can't be made: SystemExit>"
    discarded = await outcome_of(discard_on(UnspeakableError)(RaisesUnspeakable))
    assert isinstance(discarded, Discarded)
    assert "its message can't be made" in discarded.reason


class RaisesUnspeakable(RaisesAnything):
    error = UnspeakableError


async def test_messages_tracebacks_and_reasons_are_capped_and_keep_the_frames() -> None:
    found = record_of(await raised(ValueError("x" * 1_000_000)))
    assert len(found["message"]) == 10_000
    assert len(found["traceback"].encode()) <= 16 * 1024
    assert "raise self.error" in found["traceback"]
    discarded = await raised(Discard("y" * 1_000_000))
    assert isinstance(discarded, Discarded)
    assert len(discarded.reason) <= 1000


def recurse(depth: int) -> None:
    if depth == 0:
        raise ValueError("at the bottom")
    recurse(depth - 1)


async def test_a_deep_traceback_keeps_its_end() -> None:
    class Deep(Job):
        async def perform(self) -> None:
            recurse(500)

    trace = record_of(await outcome_of(Deep))["traceback"]
    assert len(trace.encode()) <= 16 * 1024
    assert 'raise ValueError("at the bottom")' in trace


async def test_deeply_nested_groups_and_long_chains_of_errors_are_failures_like_others() -> None:
    nested: Any = ValueError("inner")
    for _ in range(3000):
        nested = ExceptionGroup("g", [nested, KeyError()])
    assert record_of(await raised(nested))["error"] == "ExceptionGroup"


async def test_lone_surrogates_get_through() -> None:
    found = record_of(await raised(ValueError("a\ud800b")))
    assert found["message"] == "a\\ud800b"
    discarded = await raised(Discard("a\ud800b"))
    assert isinstance(discarded, Discarded)
    assert discarded.reason == "a\\ud800b"
    failed = await outcome_of(
        discard_on(LookupError)(type("DiscardsIt", (RaisesAnything,), {"error": LookupError("\ud800")}))
    )
    assert isinstance(failed, Discarded)
    assert failed.reason.encode()
    dead = await raised(ValueError("\udfff"), failures=24)
    assert isinstance(dead, Dead)
    assert dead.message.meta()


async def test_a_class_that_cannot_be_made_fails_like_its_perform() -> None:
    class NeedsMore(Job):
        def __init__(self) -> None:
            raise TypeError("more")

        async def perform(self) -> None:
            RAN.append("ran")

    class NotMade(Job):
        def __new__(cls) -> Any:
            raise SystemExit("not made")

        async def perform(self) -> None:
            RAN.append("ran")

    assert record_of(await outcome_of(NeedsMore))["error"] == "TypeError"
    assert record_of(await outcome_of(discard_on(SystemExit)(NotMade)))["message"] == "not made"
    assert RAN == []


# -- arguments on the wire -----------------------------------------------------------------------


class TakesUserId(Job):
    async def perform(self, user_id: int, password: SecretStr | None = None) -> None:
        RAN.append(user_id)


class TakesUserIds(Job):
    async def perform(self, user_id: int, *rest: int) -> None:
        RAN.append(user_id)


@pytest.mark.parametrize("job", [TakesUserId, TakesUserIds])
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (b"{}", "missing 1 required positional argument: 'user_id'"),
        (b'{"user_id":"x"}', "user_id: Input should be a valid integer"),
        (b'{"user_id":1,"other":2}', "unexpected keyword argument 'other'"),
        (b"[1]", "arguments that do not fit"),
        (b"", "arguments that do not fit"),
        (b"\xff", "arguments that do not fit"),
        (b'{"user_id":', "arguments that do not fit"),
        (b"[" * 100_000, "arguments that do not fit"),
        (b'{"user_id":' + b'{"a":' * 100_000, "arguments that do not fit"),
    ],
)
async def test_wrong_arguments_are_dead_at_once_and_perform_is_never_called(
    job: type[Job], args: bytes, message: str
) -> None:
    outcome = await outcome_of(job, args)
    assert isinstance(outcome, Dead)
    assert record_of(outcome)["error"] == "InvalidArguments"
    assert f"{job.name}.perform() " in record_of(outcome)["message"]
    assert message in record_of(outcome)["message"]
    assert outcome.message.args == args  # the raw payload goes with it
    assert RAN == []


async def test_wrong_arguments_are_of_the_declarations_too() -> None:
    outcome = await outcome_of(discard_on(InvalidArguments)(TakesUserIdToo), b'{"user_id":"x"}')
    assert isinstance(outcome, Discarded)


class TakesUserIdToo(TakesUserId): ...


async def test_a_secret_argument_is_in_no_error() -> None:
    outcome = await outcome_of(TakesUserId, b'{"user_id":"hunter2","password":["hunter2"]}')
    assert isinstance(outcome, Dead)
    assert b"hunter2" not in outcome.error
    assert "hunter2" not in repr(outcome)


async def test_a_validation_error_inside_perform_is_no_error_of_the_arguments() -> None:
    class Validates(Job):
        async def perform(self) -> None:
            TypeAdapter(int).validate_python("x")

    outcome = await outcome_of(Validates)
    assert isinstance(outcome, Retried)
    assert record_of(outcome)["error"] == "ValidationError"

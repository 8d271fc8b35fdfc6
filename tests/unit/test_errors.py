from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from aiojobs_rt import (
    AiojobsError,
    ConfigurationError,
    DefinitionError,
    DeserializationError,
    Discard,
    DuplicateJob,
    EnqueueError,
    InvalidArguments,
    InvalidJob,
    InvalidResult,
    JobCancelled,
    JobError,
    JobFailed,
    PayloadTooLarge,
    QueueFullError,
    RecordNotFound,
    RedisUnavailable,
    ResultNotKept,
    Retry,
    Snooze,
)
from aiojobs_rt.errors import Directive, unwrap


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (InvalidJob, (DefinitionError, TypeError)),
        (DuplicateJob, (DefinitionError, TypeError)),
        (InvalidArguments, (AiojobsError, TypeError)),
        (InvalidResult, (AiojobsError, TypeError)),
        (PayloadTooLarge, (EnqueueError,)),
        (QueueFullError, (EnqueueError,)),
        (EnqueueError, (AiojobsError,)),
        (JobFailed, (JobError,)),
        (JobCancelled, (JobError,)),
        (ResultNotKept, (JobError,)),
        (JobError, (AiojobsError,)),
        (RecordNotFound, (DeserializationError,)),
        (DeserializationError, (AiojobsError,)),
        (ConfigurationError, (AiojobsError, ValueError)),
        (RedisUnavailable, (AiojobsError,)),
    ],
)
def test_the_tree(error: type[Exception], bases: tuple[type[Exception], ...]) -> None:
    assert all(issubclass(error, base) for base in bases)
    assert issubclass(error, AiojobsError)


def test_directives_are_no_errors_of_this_package() -> None:
    for directive in (Retry, Discard, Snooze):
        assert issubclass(directive, Directive)
        assert not issubclass(directive, AiojobsError)


def test_directives_take_seconds_or_a_timedelta_and_say_what_they_do() -> None:
    assert (Retry().wait, Retry(0).wait, Retry(timedelta(minutes=1)).wait) == (None, 0.0, 60.0)
    assert (str(Retry()), str(Retry(1, "rate limited"))) == ("retry requested", "rate limited")
    assert (Snooze(1.5).wait, str(Snooze(timedelta(minutes=2)))) == (1.5, "snoozed for 120 s")
    assert (str(Discard()), Discard("gone").reason, str(Discard("gone"))) == ("discarded by the job", "gone", "gone")


@pytest.mark.parametrize("wait", ["soon", [1]])
def test_a_directive_refuses_what_is_no_duration(wait: Any) -> None:
    for directive in (Retry, Snooze):
        with pytest.raises(TypeError, match=rf"wait must be seconds or a timedelta, got {re.escape(repr(wait))}"):
            directive(wait)


@pytest.mark.parametrize("wait", [-1, float("nan"), float("inf"), timedelta(seconds=-1)])
def test_a_directive_refuses_a_wait_that_is_none(wait: float | timedelta) -> None:
    for directive in (Retry, Snooze):
        with pytest.raises(ValueError, match="wait must be finite and not negative, got"):
            directive(wait)


def test_unwrap_gives_the_one_exception_inside_groups_of_one() -> None:
    inner = ValueError("x")
    assert unwrap(inner) is inner
    assert unwrap(ExceptionGroup("a", [ExceptionGroup("b", [inner])])) is inner
    several = ExceptionGroup("c", [inner, KeyError()])
    assert unwrap(several) is several
    assert unwrap(BaseExceptionGroup("d", [several])) is several
    assert isinstance(unwrap(BaseExceptionGroup("e", [SystemExit(1)])), SystemExit)

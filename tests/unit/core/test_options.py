from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from aiojobs_rt import InvalidJob, Job
from aiojobs_rt.core.options import MAX_PRIORITY, Options, check_max_attempts, check_priority, overrides


def test_the_defaults_of_a_job() -> None:
    assert Options.of(Job) == Options(
        queue="default",
        priority=0,
        timeout_ms=0,
        max_attempts=25,
        retry_for_ms=None,
        keep_ms=0,
        expires_ms=0,
    )


def test_durations_of_a_class_are_milliseconds() -> None:
    class Timed:
        queue = "q"
        priority = 0
        timeout = 0.0001
        max_attempts = 1
        retry_for = timedelta(days=2)
        keep_result = 60
        expires_in = None
        encrypted = None

    options = Options.of(Timed)
    assert (options.timeout_ms, options.retry_for_ms, options.keep_ms, options.expires_ms) == (
        1,
        172_800_000,
        60_000,
        0,
    )


def test_a_wrong_attribute_is_named_with_its_class() -> None:
    class Wrong:
        queue = "q"
        priority = "1"

    with pytest.raises(InvalidJob, match=r"Wrong: priority must be an int, got '1'") as raised:
        Options.of(Wrong)
    assert raised.value.__suppress_context__


def test_overrides_hold_only_what_was_given() -> None:
    nothing: dict[str, Any] = dict.fromkeys(("timeout", "max_attempts", "keep_result", "expires_in"))
    assert overrides(**nothing) == {}
    assert overrides(**{**nothing, "keep_result": 0}) == {"keep_result": 0}
    assert overrides(timeout=1, max_attempts=2, keep_result=timedelta(seconds=3), expires_in=0.004) == {
        "timeout": 1000,
        "max_attempts": 2,
        "keep_result": 3000,
        "expires_in": 4,
    }


def test_priorities_and_attempts_have_bounds() -> None:
    assert check_priority(-MAX_PRIORITY) == -MAX_PRIORITY
    assert check_max_attempts(1) == 1
    for wrong in (MAX_PRIORITY + 1, -MAX_PRIORITY - 1):
        with pytest.raises(ValueError, match=f"priority must be between -1000000 and 1000000, got {wrong}"):
            check_priority(wrong)
    with pytest.raises(ValueError, match="max_attempts must be at least 1, got -3"):
        check_max_attempts(-3)

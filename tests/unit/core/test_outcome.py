from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from aiojobs_rt.core.message import JobMessage
from aiojobs_rt.core.outcome import SUCCEEDED, Dead, Retried, Succeeded


def test_most_jobs_share_one_outcome_that_keeps_nothing() -> None:
    assert Succeeded() == SUCCEEDED
    assert (SUCCEEDED.result, SUCCEEDED.keep_ms) == (None, 0)


def test_an_outcome_cannot_be_changed_and_shows_neither_arguments_nor_result() -> None:
    message = JobMessage("q.1", "Login", b'{"password":"hunter2"}', "q")
    for outcome in (Succeeded(b'"hunter2"', 1), Retried(message, 5, b""), Dead(message, "why", b"")):
        assert "hunter2" not in repr(outcome)
    with pytest.raises(FrozenInstanceError):
        SUCCEEDED.keep_ms = 5  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]

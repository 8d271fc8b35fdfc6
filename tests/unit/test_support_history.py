"""The history checker can fail, for each thing that it looks for."""

from __future__ import annotations

import pytest

from tests.support.history import Harm, examine
from tests.support.ledger import History, Line


def history(*lines: tuple[float, int, str, int, str]) -> History:
    return History([Line(at, pid, job_id, executions, event, "") for at, pid, job_id, executions, event in lines])


ONCE = ((1.0, 7, "a", 1, "start"), (2.0, 7, "a", 1, "end"))
TWICE = (*ONCE, (3.0, 8, "a", 2, "start"), (4.0, 8, "a", 2, "end"))
AT_ONCE = (
    (1.0, 7, "a", 1, "start"),
    (1.5, 8, "a", 2, "start"),
    (2.0, 7, "a", 1, "end"),
    (4.0, 8, "a", 2, "end"),
)
CUT_OFF = ((1.0, 7, "a", 1, "start"), (3.0, 8, "a", 2, "start"), (4.0, 8, "a", 2, "end"))


def test_a_job_that_ran_once_is_no_violation() -> None:
    found = examine(history(*ONCE), ["a"], due={"a": (1.0, 1.0)}, lateness=0.1)
    assert found.violations == {}
    assert found.explained == {}


def test_lost_unless_it_is_accounted_for() -> None:
    assert examine(history(*ONCE), ["a", "b"]).violations == {"lost": ["b"]}
    assert examine(history(*ONCE), ["a", "b"], accounted=["b"]).violations == {}


def test_unexpected_unless_it_was_attempted() -> None:
    assert examine(history(*ONCE), []).violations == {"unexpected": ["a"]}
    assert examine(history(*ONCE), [], attempted=["a"]).violations == {}


@pytest.mark.parametrize(
    ("lines", "name"),
    [(TWICE, "duplicated"), (AT_ONCE, "overlapping"), (CUT_OFF, "repeated")],
    ids=lambda v: str(v)[:9],
)
def test_a_second_run_is_a_violation_unless_its_worker_was_hurt_meanwhile(
    lines: tuple[tuple[float, int, str, int, str], ...], name: str
) -> None:
    assert list(examine(history(*lines), ["a"]).violations) == [name]
    for harm in (Harm(8, 1.4, "another"), Harm(7, 0.5, "before it began"), Harm(7, 3.5, "after the second began")):
        assert list(examine(history(*lines), ["a"], harms=[harm]).violations) == [name], harm.why
    found = examine(history(*lines), ["a"], harms=[Harm(7, 1.4, "killed")])
    assert found.violations == {}
    assert found.explained == {"a": "killed"}


def test_early_and_late() -> None:
    assert list(examine(history(*ONCE), ["a"], due={"a": (1.1, 1.2)}).violations) == ["early"]
    assert list(examine(history(*ONCE), ["a"], due={"a": (0.1, 0.2)}, lateness=0.5).violations) == ["late"]
    assert examine(history(*ONCE), ["a"], due={"a": (0.1, 0.2)}, lateness=0.9).violations == {}


def test_executions_that_go_down() -> None:
    lines = ((1.0, 7, "a", 2, "start"), (3.0, 8, "a", 1, "start"), (4.0, 8, "a", 1, "end"))
    assert list(examine(history(*lines), ["a"], harms=[Harm(7, 2.0, "killed")]).violations) == ["downward"]


def test_a_stopped_worker_may_begin_what_it_held_until_it_notices() -> None:
    lines = (
        (2.0, 8, "a", 2, "start"),
        (3.0, 7, "a", 1, "start"),
        (4.0, 7, "a", 1, "end"),
        (5.0, 8, "a", 2, "end"),
    )
    stopped = Harm(7, 1.0, "stopped", until=3.5)
    assert examine(history(*lines), ["a"], harms=[stopped]).violations == {}
    found = examine(history(*lines), ["a"], harms=[Harm(7, 1.0, "stopped", until=2.5)])
    assert set(found.violations) == {"downward", "overlapping"}

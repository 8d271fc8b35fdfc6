from __future__ import annotations

import pytest

from aiojobs_rt.worker import served as module
from aiojobs_rt.worker.served import SUCCEEDED, Delivery, Served

FIELDS = [b"id", b"q.x", b"job", b"Job", b"args", b"{}", b"meta", b'{"v":1,"at":1}']


@pytest.fixture
def served() -> Served:
    return Served("q", worker="w", prefix="aiojobs", lease=30.0)


@pytest.mark.parametrize("fields", [[], [b"x", b"1"], [b"x", b"1"] * 4])
def test_what_is_no_job_has_an_id_made_from_its_entry(served: Served, fields: list[bytes]) -> None:
    """As reclaim.lua makes it, so that no index knows it under two names."""
    assert Delivery(served, "", b"5-1", fields, 0.0).job_id == "q.malformed-5-1"


def test_a_job_has_its_own(served: Served) -> None:
    raw, read = (Delivery(served, "", b"5-1", FIELDS, 0.0) for _ in range(2))
    read.read()
    assert (raw.job_id, read.job_id) == (b"q.x", "q.x")


def test_entries_settled_lately_are_remembered_with_their_verdict_for_a_lease(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("aiojobs_rt.worker.served.time.monotonic", lambda: now)
    served.let_go("", [b"1-1", b"2-1"], {b"2-1": ("released", (b"",))})
    served.held["p5"] = {}
    served.let_go("p5", [b"3-1"], {})
    assert served.settled_lately("") == {b"1-1": SUCCEEDED, b"2-1": ("released", (b"",))}
    now += 31.0
    served.let_go("p5", [b"4-1"], {})
    assert served.settled_lately("") == {}
    assert set(served.settled_lately("p5")) == {b"4-1"}
    assert served.remembered_count == 1


def test_many_small_batches_are_all_remembered_up_to_the_cap(served: Served) -> None:
    for n in range(module.REMEMBER_SETTLED + 10):
        served.let_go("", [f"{n}-1".encode()], {})
    assert len(served.settled_lately("")) == module.REMEMBER_SETTLED


def test_cancels_are_remembered_for_a_minute(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later, a dead job may have been revived under its id."""
    now = 100.0
    monkeypatch.setattr("aiojobs_rt.worker.served.time.monotonic", lambda: now)
    served.note_cancel("q.old")
    now += 59.0
    served.note_cancel("q.new")
    served.forget_old_cancels()
    assert set(served.cancels) == {"q.old", "q.new"}
    now += 2.0
    served.forget_old_cancels()
    assert set(served.cancels) == {"q.new"}

"""What subscribers are told of a job, the same on every adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aiojobs_rt import Discard, Event, Snooze, retry_on, subscribe
from aiojobs_rt.core import execution
from tests.conformance.adapters import CarriedJob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.adapters import Bed

pytestmark = pytest.mark.acceptance(10)


@pytest.fixture
def heard() -> Iterator[list[Event]]:
    found: list[Event] = []
    unsubscribe = subscribe(found.append)
    yield found
    unsubscribe()


@retry_on(ConnectionError, wait=0, attempts=2)
class CarriedTold(CarriedJob):
    async def perform(self, what: str) -> None:
        match what:
            case "retry" if self.executions == 1:
                raise ConnectionError("down")
            case "exhaust":
                raise ConnectionError("down")
            case "discard":
                raise Discard("enough")
            case "die":
                raise ValueError("broken")
            case "snooze":
                raise Snooze(60)
            case _:
                pass


RUN = ["enqueued", "started"]


@pytest.mark.parametrize(
    ("what", "state", "kinds"),
    [
        ("succeed", "succeeded", [*RUN, "succeeded"]),
        ("retry", "succeeded", [*RUN, "retrying", "started", "succeeded"]),
        ("exhaust", "dead", [*RUN, "retrying", "started", "exhausted", "dead"]),
        ("discard", "discarded", [*RUN, "discarded"]),
        ("die", "dead", [*RUN, "dead"]),
        ("snooze", "scheduled", [*RUN, "snoozed"]),
    ],
)
async def test_what_happens_to_a_job_is_told(
    on: Bed, heard: list[Event], what: str, state: str, kinds: list[str]
) -> None:
    handle = await CarriedTold.set(max_attempts=1).perform_later(what)
    await on.reaches(handle, state)
    told = [event for event in heard if event.job_id == handle.id]
    if on.runs_at_once:  # its job runs while it is enqueued
        told.sort(key=lambda event: event.kind != "enqueued")
    assert [event.kind for event in told] == kinds
    assert {(event.job, event.queue) for event in told} == {("CarriedTold", "default")}
    durations = [event.duration for event in told if event.kind not in ("enqueued", "started", "exhausted")]
    assert all(duration is not None and duration >= 0 for duration in durations)


class CarriedStepsTold(CarriedJob):
    async def perform(self) -> None:
        await self.step("a", self.work)
        async for step in self.step("b", start=0):
            await step.advance()
            if step.cursor == 1:
                raise ConnectionError("down")

    async def work(self) -> None: ...


async def test_the_steps_of_a_job_are_told(on: Bed, heard: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "RESUME_AFTER_MS", 0)
    handle = await CarriedStepsTold.perform_later()
    await on.reaches(handle, "succeeded")
    told = [(event.kind, event.details.get("step")) for event in heard if event.kind in ("step", "resumed", "retrying")]
    assert told == [("step", "a"), ("retrying", None), ("resumed", "b"), ("step", "b")]

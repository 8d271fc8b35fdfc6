from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from aiojobs_rt import Event, Job, before_enqueue, perform_all_later, retry_on, subscribe
from aiojobs_rt.core import events
from aiojobs_rt.core.attempt import error_record
from aiojobs_rt.core.context import host
from aiojobs_rt.core.outcome import SUCCEEDED, Cancelled, Dead, Discarded, Outcome, Released, Retried, Snoozed
from tests.support.recording import NOW_MS, RecordingAdapter, message_of, outcome_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiojobs_rt.core.continuation import Step
    from aiojobs_rt.core.message import JobMessage


class Told(Job):
    async def perform(self) -> None: ...


@pytest.fixture
def heard() -> Iterator[list[Event]]:
    found: list[Event] = []
    unsubscribe = subscribe(found.append)
    yield found
    unsubscribe()
    assert events.subscribed == ()


def test_only_the_kinds_that_were_asked_for_come() -> None:
    every: list[str] = []
    some: list[str] = []
    unsubscribe_every = subscribe(lambda event: every.append(event.kind))
    unsubscribe_some = subscribe(lambda event: some.append(event.kind), "dead", "started")
    message = message_of(Told)
    for kind in events.KINDS:
        events.tell(kind, message)
    unsubscribe_some()
    events.tell("dead", message)
    unsubscribe_some()
    unsubscribe_every()
    events.tell("dead", message)
    assert every == [*events.KINDS, "dead"]
    assert some == ["started", "dead"]
    assert events.subscribed == ()


def test_an_event_says_which_job_and_when(heard: list[Event]) -> None:
    before = datetime.now(UTC)
    events.tell("step", message_of(Told, failures=1, crashes=1), duration=1.5, details={"step": "a"})
    (event,) = heard
    assert (event.kind, event.job_id, event.job, event.queue) == ("step", "default.abc", "Told", "default")
    assert (event.executions, event.duration, event.error, dict(event.details)) == (3, 1.5, "", {"step": "a"})
    assert before <= event.at <= datetime.now(UTC)
    with pytest.raises(AttributeError):
        event.kind = "dead"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError):
        event.details["step"] = "b"  # type: ignore[index] # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(1), asyncio.CancelledError()])
def test_an_error_in_a_handler_is_logged_once_and_harms_nobody(
    error: BaseException, caplog: pytest.LogCaptureFixture, heard: list[Event]
) -> None:
    calls = 0

    def fails(_event: Event) -> None:
        nonlocal calls
        calls += 1
        raise error

    unsubscribe = subscribe(fails)
    later: list[Event] = []
    unsubscribe_later = subscribe(later.append)
    for _ in range(3):
        events.tell("started", message_of(Told))
    unsubscribe()
    unsubscribe_later()
    assert (calls, len(heard), len(later)) == (3, 3, 3)
    (record,) = [record for record in caplog.records if record.name == "aiojobs_rt.events"]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert "fails" in record.getMessage()
    assert "'started' of job default.abc" in record.getMessage()


def test_what_is_no_handler_or_no_kind_is_refused() -> None:
    async def later(_event: Event) -> None: ...

    class Later:
        async def __call__(self, _event: Event) -> None: ...

    wrong: Any = "print"
    with pytest.raises(TypeError, match="is a function that takes an Event, got str"):
        subscribe(wrong)
    for handler in (later, Later()):
        with pytest.raises(TypeError, match=r"is async; let it put the event into an asyncio\.Queue"):
            subscribe(handler)
    with pytest.raises(ValueError, match=r"there is no event 'died'; there are enqueued, started"):
        subscribe(print, wrong.replace("print", "died"))
    assert events.subscribed == ()


# -- outcomes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "kind", "error", "details"),
    [
        (SUCCEEDED, "succeeded", "", {}),
        (Cancelled(), "cancelled", "", {}),
        (Discarded("expired"), "discarded", "expired", {}),
        (Snoozed(message_of(Told), 1500), "snoozed", "", {"wait": 1.5}),
        (Retried(message_of(Told), 250, b"", "other"), "retrying", "", {"wait": 0.25, "queue": "other"}),
        (
            Retried(message_of(Told), 250, error_record("OSError", "no\nroute", "", NOW_MS, "w")),
            "retrying",
            "OSError: no route",
            {"wait": 0.25, "queue": "default"},
        ),
        (
            Dead(message_of(Told), "used up", error_record("OSError", "x", "", NOW_MS, "w")),
            "dead",
            "OSError: x",
            {"reason": "used up"},
        ),
    ],
)
def test_outcomes_are_told(
    outcome: Outcome, kind: str, error: str, details: dict[str, Any], heard: list[Event]
) -> None:
    events.tell_outcome(message_of(Told), outcome, 2.5)
    (event,) = heard
    assert (event.kind, event.error, dict(event.details), event.duration) == (kind, error, details, 2.5)


def test_of_a_release_it_is_told_where_its_reason_is_known(heard: list[Event]) -> None:
    events.tell_outcome(message_of(Told), Released(message_of(Told)), 1.0)
    assert heard == []


async def test_attempts_that_are_used_up_are_told(heard: list[Event]) -> None:
    async def takes(_job: Any, _error: BaseException) -> None: ...

    class Tries(Job):
        async def perform(self) -> None:
            raise ConnectionError("away")

    class TakesIt(Tries):
        pass

    retry_on(ConnectionError, attempts=1)(Tries)
    retry_on(ConnectionError, attempts=1, on_exhausted=takes)(TakesIt)
    assert isinstance(await outcome_of(Tries), Dead)
    assert isinstance(await outcome_of(TakesIt), Discarded)

    class FailsToTakeIt(Tries):
        def give_up(self, error: Exception) -> None:
            raise OSError("the mail about it was not sent")

    retry_on(ConnectionError, attempts=1, on_exhausted="give_up")(FailsToTakeIt)
    assert isinstance(await outcome_of(FailsToTakeIt), Retried), "so it is not at its end"
    assert [(event.kind, event.job, event.error) for event in heard] == [
        ("exhausted", "Tries", "ConnectionError: away"),
        ("exhausted", "TakesIt", "ConnectionError: away"),
    ]
    assert "attempts = 1" in heard[0].details["reason"]


async def test_what_dies_without_a_retry_on_has_exhausted_none(heard: list[Event]) -> None:
    class Dies(Job):
        max_attempts = 1

        async def perform(self) -> None:
            raise ConnectionError("away")

    assert isinstance(await outcome_of(Dies), Dead)
    assert heard == []


async def test_a_step_that_gets_an_execution_of_its_own_interrupts(heard: list[Event]) -> None:
    class Steps(Job):
        async def perform(self) -> None:
            await self.step("first", self.work)
            await self.step("second", self.work, isolated=True)

        async def work(self) -> None: ...

    class Host:
        def interrupts(self, message: JobMessage, step: Step | None) -> bool:
            return False

        def save(self, message: JobMessage) -> None: ...

        async def restore(self, message: JobMessage) -> bytes | None:
            return None

    token = host.set(Host())
    released = await outcome_of(Steps)
    host.reset(token)
    assert isinstance(released, Released)
    assert [(event.kind, dict(event.details)) for event in heard] == [
        ("step", {"step": "first", "resumed": False}),
        ("interrupted", {"reason": "isolated step"}),
    ]


# -- enqueueing ----------------------------------------------------------------------------------


async def test_what_is_enqueued_is_told_by_each_way(heard: list[Event]) -> None:
    carried = RecordingAdapter()

    class Plain(Job):
        adapter = carried

        async def perform(self, number: int) -> None: ...

    class Hooked(Plain):
        @before_enqueue
        def look(self) -> None: ...

    due = datetime(2030, 1, 1, tzinfo=UTC)
    handles = [
        await Plain.perform_later(1),
        await Hooked.set(wait=1.5, queue="low").perform_later(2),
        *await perform_all_later([Plain.set(priority=3).bind(3), Plain.set(wait_until=due).bind(4)]),
    ]
    assert [(event.kind, event.job_id, event.executions) for event in heard] == [
        ("enqueued", handle.id, 0) for handle in handles
    ]
    assert [(event.job, event.queue) for event in heard] == [
        ("Plain", "default"), ("Hooked", "low"), ("Plain", "default"), ("Plain", "default"),
    ]  # fmt: skip
    assert [dict(event.details) for event in heard] == [
        {"priority": 0},
        {"priority": 0, "wait": 1.5},
        {"priority": 3},
        {"priority": 0, "due": due},
    ]


async def test_what_is_not_enqueued_is_not_told(heard: list[Event]) -> None:
    carried = RecordingAdapter()
    carried.enqueued = False

    class Refused(Job):
        adapter = carried

        async def perform(self) -> None: ...

    await Refused.perform_later()
    await perform_all_later([Refused.bind()])
    assert heard == []

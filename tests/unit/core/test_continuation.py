"""Steps, decided directly: what is skipped, where it goes on, where it is interrupted, and which contradictions are refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiojobs_rt import Discard, InvalidStep, Job, Snooze, discard_on, retry_on
from aiojobs_rt.core.context import host as host_of
from aiojobs_rt.core.continuation import FIELD, RESUME_AFTER_MS, Interruption
from aiojobs_rt.core.execution import Halt, execute
from aiojobs_rt.core.outcome import SUCCEEDED, Discarded, Outcome, Released, Retried, Snoozed
from tests.support.recording import message_of, outcome_of, record_of, runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiojobs_rt.core.continuation import Step
    from aiojobs_rt.core.message import JobMessage

RAN: list[Any] = []

pytestmark = pytest.mark.acceptance(67)


class FakeHost:
    """Stops after so many saves."""

    def __init__(self, *, stop_after: int = 1_000_000, saved: bytes | None = None) -> None:
        self.saves = 0
        self.restored = 0
        self._stop_after = stop_after
        self._saved = saved

    def interrupts(self, message: JobMessage, step: Step | None) -> bool:
        return self.saves >= self._stop_after

    def save(self, message: JobMessage) -> None:
        assert FIELD in message.extra
        self.saves += 1

    async def restore(self, message: JobMessage) -> bytes | None:
        assert message.crashes
        self.restored += 1
        return self._saved


@pytest.fixture
def host() -> Iterator[FakeHost]:
    RAN.clear()
    host = FakeHost()
    token = host_of.set(host)
    yield host
    host_of.reset(token)


async def run(job: type[Job], message: JobMessage) -> Outcome:
    outcome = await execute(message, job, Halt(), runtime())
    assert outcome is not None
    return outcome


async def through(job: type[Job], host: FakeHost, *, every: int) -> list[Outcome]:
    """Run a job to its end on workers that stop after so many moves each."""
    message, outcomes = message_of(job), list[Outcome]()
    while True:
        host.saves, host._stop_after = 0, every
        outcome = await run(job, message)
        outcomes.append(outcome)
        if not isinstance(outcome, Released):
            return outcomes
        message = replace(outcome.message)


class Import(Job):
    async def perform(self) -> None:
        await self.step("validate", self.validate)
        async for step in self.step("rows", start=0):
            for row in range(step.cursor, 5):
                RAN.append(row)
                await step.advance()
        await self.step("notify", self.notify)

    async def validate(self) -> None:
        RAN.append("validate")

    async def notify(self, step: Step) -> None:
        RAN.append(step.name)


@pytest.mark.parametrize("every", [1, 2, 3, 100])
async def test_an_interrupted_job_goes_on_where_it_was(host: FakeHost, every: int) -> None:
    outcomes = await through(Import, host, every=every)

    assert RAN == ["validate", 0, 1, 2, 3, 4, "notify"]
    assert outcomes[-1] is SUCCEEDED
    assert len(outcomes) > 1 or every == 100
    for number, outcome in enumerate(outcomes[:-1], start=1):
        assert isinstance(outcome, Released)
        assert outcome.message.interruptions == number
        assert outcome.message.failures == 0


async def test_progress_travels_in_the_message(host: FakeHost) -> None:
    host._stop_after = 3
    outcome = await run(Import, message_of(Import))

    assert isinstance(outcome, Released)
    assert outcome.message.extra[FIELD] == {"moves": 3, "completed": ["validate"], "open": "rows", "cursor": 2}
    assert b'"steps":' in outcome.message.meta()


async def test_without_a_host_the_steps_just_run() -> None:
    RAN.clear()
    await Import.perform_now()
    await Import().perform()

    assert RAN == ["validate", 0, 1, 2, 3, 4, "notify"] * 2


async def test_what_was_saved_before_a_crash_is_found_unless_the_message_is_ahead(host: FakeHost) -> None:
    host._saved = b'{"moves":3,"completed":["validate"],"open":"rows","cursor":3}'
    assert await outcome_of(Import, crashes=1) is SUCCEEDED
    assert RAN == [3, 4, "notify"]
    RAN.clear()
    ahead = {FIELD: {"moves": 6, "completed": ["validate", "rows"]}}
    assert await outcome_of(Import, crashes=1, extra=ahead) is SUCCEEDED
    assert RAN == ["notify"]
    assert host.restored == 2
    assert await outcome_of(Import) is SUCCEEDED
    assert host.restored == 2


class FailsAt(Job):
    at = 2

    async def perform(self) -> None:
        async for step in self.step("rows", start=0):
            for row in range(step.cursor, 4):
                if row == self.at and not RAN.count("failed"):
                    RAN.append("failed")
                    raise ValueError("row")
                RAN.append(row)
                await step.advance()


async def test_an_error_after_progress_resumes_at_no_charge(host: FakeHost) -> None:
    outcome = await outcome_of(FailsAt)

    assert isinstance(outcome, Retried)
    assert outcome.delay_ms == RESUME_AFTER_MS
    assert (outcome.message.failures, outcome.message.runs) == (0, 1)
    assert record_of(outcome)["message"] == "row"
    assert outcome.message.extra[FIELD]["resumptions"] == 1
    assert await run(FailsAt, replace(outcome.message)) is SUCCEEDED
    assert RAN == [0, 1, "failed", 2, 3]


async def test_an_error_before_any_progress_is_a_failure_and_keeps_what_there_is(host: FakeHost) -> None:
    class AtOnce(FailsAt):
        at = 0

    outcome = await outcome_of(AtOnce)
    assert isinstance(outcome, Retried)
    assert outcome.message.failures == 1

    class Off(FailsAt):
        resume_errors_after_advancing = False

    RAN.clear()
    outcome = await outcome_of(Off)
    assert isinstance(outcome, Retried)
    assert outcome.message.failures == 1
    assert outcome.message.extra[FIELD]["cursor"] == 2
    assert await run(Off, replace(outcome.message)) is SUCCEEDED
    assert RAN == [0, 1, "failed", 2, 3]


async def test_resumptions_may_be_bounded(host: FakeHost) -> None:
    class Stumbles(Job):
        max_resumptions = 2

        async def perform(self) -> None:
            async for step in self.step("rows", start=0):
                await step.advance()
                raise ValueError("again")

    message, failures = message_of(Stumbles), []
    for _ in range(4):
        outcome = await run(Stumbles, message)
        assert isinstance(outcome, Retried)
        message = replace(outcome.message)
        failures.append(message.failures)
    assert failures == [0, 0, 1, 2]


async def test_what_is_declared_or_directed_comes_first(host: FakeHost) -> None:
    @discard_on(KeyError)
    @retry_on(ValueError, attempts=1)
    class Directed(Job):
        async def perform(self, kind: str) -> None:
            async for step in self.step("rows", start=0):
                await step.advance()
                raise {"snooze": Snooze(7), "discard": Discard("enough"), "key": KeyError("gone")}[kind]

    assert isinstance(await outcome_of(Directed, b'{"kind":"key"}'), Discarded)
    assert isinstance(await outcome_of(Directed, b'{"kind":"discard"}'), Discarded)
    snoozed = await outcome_of(Directed, b'{"kind":"snooze"}')
    assert isinstance(snoozed, Snoozed)
    assert snoozed.message.extra[FIELD]["cursor"] == 1


async def test_isolated_steps_get_executions_of_their_own_at_no_charge(host: FakeHost) -> None:
    class Isolated(Job):
        async def perform(self) -> None:
            for name in ("a", "b"):
                await self.step(name, self.work)
            await self.step("alone", self.work, isolated=True)
            await self.step("c", self.work)

        async def work(self, step: Step) -> None:
            RAN.append((self.id, step.name))

    message, outcomes = message_of(Isolated), list[Outcome]()
    for _ in range(3):
        RAN.append("execution")
        outcomes.append(outcome := await run(Isolated, message))
        if isinstance(outcome, Released):
            assert outcome.message.interruptions == 0
            message = replace(outcome.message)

    names = [ran if ran == "execution" else ran[1] for ran in RAN]
    assert names == ["execution", "a", "b", "execution", "alone", "execution", "c"]
    assert outcomes[-1] is SUCCEEDED


async def test_an_interruption_inside_a_task_group_is_one(host: FakeHost) -> None:
    class Grouped(Job):
        async def perform(self) -> None:
            async for step in self.step("rows", start=0):
                async with anyio.create_task_group() as group:
                    group.start_soon(asyncio.sleep, 60)
                    group.start_soon(step.advance)

    host._stop_after = 1
    outcome = await outcome_of(Grouped)
    assert isinstance(outcome, Released)
    assert outcome.message.extra[FIELD]["cursor"] == 1


async def test_except_exception_does_not_swallow_an_interruption() -> None:
    assert not issubclass(Interruption, Exception)


async def test_a_step_that_is_left_by_break_stays_open(host: FakeHost) -> None:
    class Breaks(Job):
        async def perform(self) -> None:
            async for step in self.step("rows", start=0):
                await step.set({"page": [1, None, "x"]})
                break

    message = message_of(Breaks)
    assert await run(Breaks, message) is SUCCEEDED
    assert message.extra[FIELD] == {"moves": 1, "completed": [], "open": "rows", "cursor": {"page": [1, None, "x"]}}


class Prepared(Job):
    async def perform(self) -> None:
        await self.step("a", partial(self.work, rows=3))
        await self.step("b", self.named)
        await self.step("c", partial(self.stepped, rows=4))

    async def work(self, rows: int) -> None:
        RAN.append(rows)

    async def named(self, *, rows: int = 5) -> None:
        RAN.append(rows)

    async def stepped(self, step: Step, rows: int) -> None:
        RAN.append((step.name, rows))


async def test_what_a_function_takes_by_name_alone_is_no_place_for_the_step(host: FakeHost) -> None:
    assert await run(Prepared, message_of(Prepared)) == SUCCEEDED
    assert RAN == [3, 5, ("c", 4)]


# -- contradictions ------------------------------------------------------------------------------


async def nothing() -> None: ...
def three() -> int:
    return 3


class Wrong(Job):
    """Does what the test asks for."""

    async def perform(self, kind: str) -> None:
        match kind:
            case "twice":
                await self.step("a", nothing)
                await self.step("a", nothing)
            case "nested":
                async for _ in self.step("outer"):
                    await self.step("inner", nothing)
            case "left":
                async for _ in self.step("left"):
                    break
                await self.step("next", nothing)
            case "order":
                await self.step("b", nothing)
            case "open":
                await self.step("a", nothing)
                await self.step("c", nothing)
            case "cursor":
                async for step in self.step("a", start=0):
                    await step.advance({1, 2})
            case "large":
                async for step in self.step("a"):
                    await step.set("x" * 70_000)
            case "start":
                await self.step("a", nothing, start=object())
            case "count":
                async for step in self.step("a", start="x"):
                    await step.advance()
            case "over":
                async for step in self.step("a", start=0):
                    kept = step
                await kept.advance()  # pyright: ignore[reportPossiblyUnboundVariable]
            case "no function":
                await self.step("a")
            case "sync":
                await self.step("a", three)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
            case "called":
                await self.step("a", nothing())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
            case "both":
                async for _ in self.step("a", nothing):
                    pass
            case _:
                await self.step("", nothing)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("twice", "'a' is there twice"),
        ("nested", "'inner' begins while step 'outer' is open"),
        ("left", "'next' begins while step 'left' is open"),
        ("order", "'b' stands where step 'a' was completed before"),
        ("open", "'c' stands where step 'b' was begun before"),
        ("cursor", "a cursor is a JSON value .* got a set"),
        ("large", "its cursor takes 70,002 bytes, more than 65,536"),
        ("start", "a cursor is a JSON value .* got a object"),
        ("count", "the cursor is str; begin with start=0"),
        ("over", "'a' is over"),
        ("no function", "'a' has nothing to await"),
        ("sync", "'a': its function must be `async def`, it returned a int"),
        ("called", r"'a' takes the function itself, which it calls: self.step\('a', self.a\); got a coroutine"),
        ("both", "'a' has a function: await it"),
        ("", "a text of 1 to 200 characters, got ''"),
    ],
)
async def test_contradictions_are_refused(kind: str, said: str) -> None:
    job = Wrong()
    if kind in ("order", "open"):
        job._message = message_of(Wrong, extra={FIELD: {"moves": 2, "completed": ["a"], "open": "b", "cursor": 1}})
    with pytest.raises(InvalidStep, match=said):
        await job.perform(kind)


class ForgetsToAwait(Job):
    async def perform(self) -> None:
        self.step("send", self.send)
        self.step("rows", start=0)

    async def send(self) -> None: ...


async def test_a_step_that_is_neither_awaited_nor_iterated_over_is_warned_of() -> None:
    with pytest.warns(RuntimeWarning) as warned:
        await ForgetsToAwait.perform_now()
    assert [str(one.message) for one in warned] == [
        "step 'send' was not run: write `await self.step(...)`",
        "step 'rows' was not run: write `async for step in self.step(...)`",
    ]

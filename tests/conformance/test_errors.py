"""What is declared of errors, on every adapter: the order of the search, the counts, and handlers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from aiojobs_rt import InvalidArguments, InvalidResult, Job, JobFailed, JobHandle, discard_on, rescue_from, retry_on
from aiojobs_rt.adapters.base import Envelope
from tests.conformance.adapters import CarriedJob, log

if TYPE_CHECKING:
    from aiojobs_rt.admin import Administers
    from tests.conformance.adapters import Bed

pytestmark = pytest.mark.acceptance(10)


@discard_on(OSError)
class CarriedBase(CarriedJob):
    @rescue_from(KeyError)
    async def found(self, error: KeyError) -> str:
        return f"rescued {error}"


@retry_on(Exception, wait=0, attempts=2)
@retry_on(ConnectionError, wait=0, attempts=3)
class CarriedPolicies(CarriedBase):
    async def perform(self, *errors: str) -> str:
        """Raise them one after the other, the last one ever again."""
        log.append(f"run {self.executions}")
        kinds: dict[str, type[Exception]] = {
            "connection": ConnectionError, "os": OSError, "key": KeyError, "value": ValueError,
        }  # fmt: skip
        raise kinds[errors[min(self.executions, len(errors)) - 1]]


@pytest.mark.acceptance(14, 23, 24)
@pytest.mark.parametrize(
    ("errors", "runs", "state"),
    [
        (("connection",), 3, "dead"),  # the lower declaration, not the one above it
        (("os",), 2, "dead"),  # the class's own, before its base's discard_on
        (("value", "connection", "connection"), 4, "dead"),  # each declaration counts for itself
        (("connection", "connection", "value"), 4, "dead"),
    ],
)
async def test_the_nearest_declaration_decides_and_each_counts_for_itself(
    on: Bed, errors: tuple[str, ...], runs: int, state: str
) -> None:
    handle = await CarriedPolicies.perform_later(*errors)
    await on.reaches(handle, state)
    assert log == [f"run {number}" for number in range(1, runs + 1)]


class CarriedHeirs(CarriedBase):
    async def perform(self, kind: str) -> str:
        raise {"os": OSError(kind), "key": KeyError(kind)}[kind]


@pytest.mark.acceptance(14, 28)
async def test_declarations_are_inherited(on: Bed) -> None:
    discarded, rescued = await CarriedHeirs.perform_later("os"), await CarriedHeirs.perform_later("key")
    await on.reaches(discarded, "discarded")
    await on.reaches(rescued, "succeeded")
    assert await rescued.result(timeout=5) == "rescued 'key'"


async def _used_up(job: Job, error: ConnectionError) -> None:
    log.append(f"{job.executions}: {error}")


@retry_on(ConnectionError, wait=0, attempts=2, on_exhausted=_used_up)
class CarriedExhausted(CarriedJob):
    async def perform(self) -> None:
        raise ConnectionError("down")


async def test_attempts_that_are_used_up_call_their_handler(on: Bed) -> None:
    handle = await CarriedExhausted.perform_later()
    await on.reaches(handle, "discarded")
    assert log == ["2: down"]


class CarriedBadHandler(CarriedJob):
    max_attempts = 1

    @rescue_from(KeyError)
    async def fails(self, _: KeyError) -> None:
        raise ValueError("the handler is broken")

    async def perform(self) -> None:
        raise KeyError("x")


@pytest.mark.acceptance(28)
async def test_a_handler_that_fails_is_the_failure(on: Bed) -> None:
    handle = await CarriedBadHandler.perform_later()
    await on.reaches(handle, "dead")
    with pytest.raises(JobFailed, match="ValueError: the handler is broken"):
        await handle.result(timeout=5)


@retry_on(ConnectionError, wait=0, attempts=2)
class CarriedGroup(CarriedJob):
    async def perform(self) -> None:
        log.append(f"run {self.executions}")
        async with asyncio.TaskGroup() as group:
            group.create_task(self.fails())

    async def fails(self) -> None:
        raise ConnectionError("down")


async def test_a_declaration_matches_what_is_inside_a_group(on: Bed) -> None:
    handle = await CarriedGroup.perform_later()
    await on.reaches(handle, "dead")
    assert log == ["run 1", "run 2"]


class CarriedExits(CarriedJob):
    max_attempts = 1

    async def perform(self, how: str) -> None:
        raise {"exit": SystemExit(3), "cancelled": asyncio.CancelledError()}[how]


@pytest.mark.parametrize("how", ["exit", "cancelled"])
async def test_what_a_job_raises_is_its_own_failure(on: Bed, how: str) -> None:
    handle = await CarriedExits.perform_later(how)
    await on.reaches(handle, "dead")


# -- results --------------------------------------------------------------------------------------


class CarriedNoInt(CarriedJob):
    async def perform(self) -> int:
        log.append(f"run {self.executions}")
        return "hunter2"  # type: ignore[return-value] # that is the test


@discard_on(InvalidArguments)
@discard_on(InvalidResult)
class CarriedNoIntOrNothing(CarriedNoInt):
    pass


async def test_a_result_that_does_not_fit_is_dead_at_once_unless_declared(on: Bed) -> None:
    dead, discarded = await CarriedNoInt.perform_later(), await CarriedNoIntOrNothing.perform_later()
    await on.reaches(dead, "dead")
    await on.reaches(discarded, "discarded")
    assert log == ["run 1", "run 1"]
    with pytest.raises(JobFailed, match=r"InvalidResult: CarriedNoInt: its result does not fit") as caught:
        await dead.result(timeout=5)
    assert "hunter2" not in str(caught.value)


class CarriedText(CarriedJob):
    async def perform(self) -> str:
        return "many"


class CarriedNumber(CarriedJob):
    async def perform(self) -> int:
        return 1


async def test_a_result_of_another_version_of_the_class_is_refused_and_still_there_as_plain_json(on: Bed) -> None:
    handle = await CarriedText.perform_later()
    await on.reaches(handle, "succeeded")
    with pytest.raises(InvalidResult, match="CarriedNumber: its result, as kept, does not fit"):
        await CarriedNumber.handle(handle.id).result(timeout=5)
    assert await JobHandle.of(handle.id, adapter=on.adapter).result(timeout=5) == "many"


# -- what the wire brings -------------------------------------------------------------------------


class CarriedInt(CarriedJob):
    async def perform(self, number: int) -> None: ...


@discard_on(InvalidArguments)
class CarriedIntOrNothing(CarriedInt):
    async def perform(self, number: int) -> None: ...


async def sent(on: Bed, job_id: str, job: str) -> Any:
    """As an older or newer deploy would send it."""
    envelope = Envelope(job_id, "default", job, b'{"number":"many"}', b"}", placed=True)
    assert await on.adapter.enqueue([envelope]) == [True]
    return CarriedInt.handle(job_id)


async def test_arguments_that_do_not_fit_are_dead_at_once_unless_declared(on: Bed, admin: Administers) -> None:
    dead = await sent(on, "default.badArguments", "CarriedInt")
    discarded = await sent(on, "default.badArguments2", "CarriedIntOrNothing")
    await on.reaches(dead, "dead")
    await on.reaches(discarded, "discarded")
    details = await admin.job(dead.id)
    assert details is not None
    assert [attempt.error for attempt in details.attempts] == ["InvalidArguments"]
    assert details.args == b'{"number":"many"}'


async def test_a_job_of_an_unknown_class_is_put_back(on: Bed, admin: Administers) -> None:
    handle = await sent(on, "default.unknownClass", "CarriedNowhere")
    await on.reaches(handle, "retrying")
    details = await admin.job(handle.id)
    assert details is not None
    assert details.failures == 0
    assert "knows a job named 'CarriedNowhere'" in details.attempts[0].message


@pytest.mark.acceptance(43)
async def test_failures_leave_a_line_in_the_log(on: Bed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="aiojobs_rt")
    exhausted, discarded = await CarriedGroup.perform_later(), await CarriedHeirs.perform_later("os")
    await on.reaches(exhausted, "dead")
    await on.reaches(discarded, "discarded")
    lines = [
        (record.levelname, record.getMessage().partition(") ")[2].partition("\n")[0])
        for record in caplog.records
        if record.getMessage().startswith(f"job {exhausted.id} ")
    ]
    assert lines == [
        ("WARNING", "is tried again in 0.0 s: ConnectionError: down"),
        ("ERROR", "is dead, failed 2 times (retry_on(ConnectionError), attempts = 2): ConnectionError: down"),
    ]
    if on.kind != "redis":  # there the error's history has it
        assert caplog.text.count('in fails\n    raise ConnectionError("down")') == 2
    assert f"job {discarded.id} (CarriedHeirs) is discarded: " in caplog.text

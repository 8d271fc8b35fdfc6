"""The helpers for an application's tests: what they record, run and complain of."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, PlainSerializer, model_validator

from aiojobs_rt import (
    AsyncAdapter,
    InlineAdapter,
    InvalidArguments,
    Job,
    Snooze,
    TestAdapter,
    blocking,
    register_reference,
    retry_on,
)
from aiojobs_rt.adapters.base import Envelope
from aiojobs_rt.testing import recording_jobs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiojobs_rt.testing import Jobs

Upper = Annotated[str, PlainSerializer(str.upper, return_type=str)]
done: list[str] = []


@pytest.fixture
def jobs() -> Any:
    """As the plugin's own, which is not active before the package is installed with it."""
    done.clear()
    with recording_jobs(everywhere=True) as recorded:
        yield recorded


class SendWelcome(Job):
    queue = "mailers"
    adapter = InlineAdapter()

    async def perform(self, user_id: int, template: str = "welcome") -> str:
        done.append(f"welcome {user_id}")
        return template


class Signup(Job):
    async def perform(self, user_id: int) -> None:
        done.append(f"signup {user_id}")
        await SendWelcome.perform_later(user_id)


class Remind(Job):
    async def perform(self, times: int) -> None:
        done.append(f"remind {times}")
        if times > 1:
            await Remind.set(wait=timedelta(minutes=20)).perform_later(times - 1)


@retry_on(ConnectionError, wait=600, attempts=3)
class FlakyOnce(Job):
    async def perform(self) -> None:
        done.append("try")
        raise ConnectionError("down")


class Shouts(Job):
    async def perform(self, text: Upper) -> None: ...


class Broken(Job):
    async def perform(self) -> None:
        raise ZeroDivisionError("by zero")


@pytest.mark.acceptance(35)
async def test_jobs_are_recorded_and_nothing_runs_by_itself(jobs: Jobs) -> None:
    handle = await SendWelcome.perform_later(42)  # its own adapter is overridden too
    await Signup.perform_later(1)
    assert [job.name for job in jobs.enqueued] == ["SendWelcome", "Signup"]
    assert done == []
    found = jobs.assert_enqueued(SendWelcome, args=(42,), queue="mailers", count=1)
    assert found.id == handle.id
    assert found.arguments == {"user_id": 42}
    jobs.assert_enqueued(SendWelcome, kwargs={"user_id": 42})
    await jobs.perform_enqueued()
    assert done == ["welcome 42", "signup 1", "welcome 1"]
    assert [job.name for job in jobs.performed] == ["SendWelcome", "Signup", "SendWelcome"]
    jobs.assert_none()
    jobs.assert_performed(SendWelcome, args=(1,))


@pytest.mark.acceptance(35)
async def test_recordings_side_by_side_in_one_loop_do_not_see_each_other() -> None:
    done.clear()
    both = asyncio.Barrier(2)

    async def one(user_id: int) -> None:
        with recording_jobs() as jobs:
            await Signup.perform_later(user_id)
            await both.wait()
            await jobs.perform_enqueued()
            jobs.assert_performed(SendWelcome, args=(user_id,), count=1)
            assert len(jobs.performed) == 2

    await asyncio.gather(one(1), one(2))


async def test_a_near_miss_says_what_differs(jobs: Jobs) -> None:
    await SendWelcome.set(wait=3600).perform_later(43, template="other")
    with pytest.raises(AssertionError) as caught:
        jobs.assert_enqueued(SendWelcome, args=(42,), queue="low", at=timedelta(hours=2))
    text = str(caught.value)
    assert "no job enqueued: SendWelcome(user_id=42), queue low, at " in text
    assert "user_id is 43, not 42" in text
    assert "template is 'other', not left out" in text
    assert "queue is 'mailers', not 'low'" in text
    assert "it is due at " in text
    jobs.assert_enqueued(SendWelcome, at=timedelta(hours=1))


async def test_complaints_name_what_is_there_instead(jobs: Jobs) -> None:
    with pytest.raises(AssertionError, match="nothing was enqueued"):
        jobs.assert_enqueued(Signup)
    await SendWelcome.perform_later(1)
    with pytest.raises(AssertionError, match=r"enqueued instead:\n  SendWelcome\(user_id=1\) on mailers"):
        jobs.assert_enqueued(Signup)
    with pytest.raises(AssertionError, match=r"it waits: await jobs\.perform_enqueued"):
        jobs.assert_performed(SendWelcome)
    with pytest.raises(
        AssertionError, match=r"1 job enqueued \(count=2\): SendWelcome\n  SendWelcome\(user_id=1\) on mailers"
    ):
        jobs.assert_enqueued(SendWelcome, count=2)
    with pytest.raises(AssertionError, match="no jobs should be enqueued, there are 1"):
        jobs.assert_none()
    jobs.assert_none(Signup)
    with pytest.raises(InvalidArguments):
        jobs.assert_enqueued(SendWelcome, args=("x",))
    with pytest.raises(ValueError, match="at"):
        jobs.assert_enqueued(SendWelcome, at=datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused


async def test_a_failed_run_shows_its_traceback(jobs: Jobs) -> None:
    await Broken.perform_later()
    await jobs.perform_enqueued()
    with pytest.raises(AssertionError, match=r"(?s)outcome is 'retried'.*ZeroDivisionError: by zero.*in perform"):
        jobs.assert_performed(Broken)
    jobs.assert_performed(Broken, outcome="retried")


async def test_what_is_no_job_class_is_refused_and_taken_for_none_that_did_not_run(jobs: Jobs) -> None:
    wrong: Any
    for wrong in ("Greet", int, 3):
        for ask in (jobs.assert_enqueued, jobs.assert_performed, jobs.assert_none):
            with pytest.raises(TypeError, match=f"a job class is needed here, such as SendWelcome, not {wrong!r}"):
                ask(wrong)
        for only in (wrong, [wrong]):
            with pytest.raises(TypeError, match="a job class is needed here"):
                await jobs.perform_enqueued(only=only)
        with pytest.raises(TypeError, match="a job class is needed here"), jobs.interrupt_during_step(wrong, "rows"):
            raise AssertionError("the block was entered")


@pytest.mark.parametrize("span", [3600, "1h"])
async def test_a_span_without_a_unit_is_refused(jobs: Jobs, span: Any) -> None:
    with pytest.raises(TypeError, match=rf"advance takes a timedelta, or days=, .* got {span!r}"):
        await jobs.advance(span)


async def test_what_runs_is_chosen(jobs: Jobs) -> None:
    await SendWelcome.perform_later(1)
    await Remind.perform_later(1)
    await Signup.perform_later(2)
    await jobs.perform_enqueued(only=Remind)
    assert done == ["remind 1"]
    await jobs.perform_enqueued(except_=[Signup])
    assert done == ["remind 1", "welcome 1"]
    await jobs.perform_enqueued(queue="default")
    assert done == ["remind 1", "welcome 1", "signup 2"]
    jobs.assert_enqueued(SendWelcome, args=(2,))
    jobs.clear()
    assert jobs.enqueued == jobs.performed == []


@pytest.mark.acceptance(18)
async def test_the_clock_runs_what_falls_due_in_order(jobs: Jobs) -> None:
    await SendWelcome.set(wait=timedelta(hours=1)).perform_later(1)
    await SendWelcome.set(wait=1800).perform_later(2)
    await jobs.advance(minutes=29, seconds=59)
    assert done == []
    runs = await jobs.advance(minutes=30)
    assert done == ["welcome 2"], "a second before the hour is up"
    runs += await jobs.advance(seconds=1)
    assert done == ["welcome 2", "welcome 1"]
    assert [run.arguments for run in runs] == [{"user_id": 2}, {"user_id": 1}]


async def test_what_a_job_enqueues_within_the_span_runs_too(jobs: Jobs) -> None:
    await Remind.set(wait=60).perform_later(10)
    await jobs.advance(hours=1)  # due at 1, 21, 41, 61 minutes
    assert done == ["remind 10", "remind 9", "remind 8"]
    jobs.assert_enqueued(Remind, args=(7,), at=timedelta(minutes=1))


async def test_retries_come_with_their_waits(jobs: Jobs) -> None:
    handle = await FlakyOnce.perform_later()
    await jobs.perform_enqueued()
    assert done == ["try"]
    assert await handle.status() == "retrying"
    await jobs.advance(hours=1)
    assert done == ["try"] * 3
    assert await handle.status() == "dead"


@pytest.mark.acceptance(19)
async def test_wait_until_in_any_zone(jobs: Jobs) -> None:
    at = datetime(2100, 1, 1, 1, tzinfo=UTC)
    await SendWelcome.set(wait_until=at.astimezone()).perform_later(1)
    assert jobs.assert_enqueued(SendWelcome, at=at).at == at
    await jobs.perform_enqueued(at=at - timedelta(milliseconds=1))
    assert done == []
    await jobs.perform_enqueued(at=at)
    assert done == ["welcome 1"]


async def test_performing_runs_jobs_at_once(jobs: Jobs) -> None:
    async with jobs.performing():
        await Signup.perform_later(1)
        assert done == ["signup 1", "welcome 1"]
    await Signup.perform_later(2)
    assert len(done) == 2


@pytest.mark.acceptance(59)
async def test_perform_is_a_plain_call() -> None:
    assert await SendWelcome().perform(42) == "welcome"


async def test_jobs_find_their_lifespan(jobs: Jobs) -> None:
    class WithState(Job):
        state: str

        @staticmethod
        @asynccontextmanager
        async def lifespan() -> AsyncGenerator[str]:
            done.append("enter")
            yield "state"
            done.append("leave")

        async def perform(self) -> None:
            done.append(self.state)

    await WithState.perform_later()
    await WithState.perform_later()
    await jobs.perform_enqueued()
    await jobs.adapter.aclose()
    assert done == ["enter", "state", "state", "leave"]


async def test_the_loop_of_blocking_leaves_the_lifespans_when_the_recording_ends() -> None:
    left = threading.Event()

    class WithStateInThread(Job):
        @staticmethod
        @asynccontextmanager
        async def lifespan() -> AsyncGenerator[None]:
            yield
            left.set()

        async def perform(self) -> None: ...

    with recording_jobs(everywhere=True) as jobs:
        async with jobs.performing():
            await asyncio.to_thread(blocking.perform_later, WithStateInThread.bind())
        jobs.assert_performed(WithStateInThread)
        assert not left.is_set()
    assert await asyncio.to_thread(left.wait, 10)


async def test_a_value_that_arrives_changed_is_refused(jobs: Jobs) -> None:
    with pytest.raises(InvalidArguments, match="does not arrive as it was sent"):
        await Shouts.perform_later("hello")


# -- records ---------------------------------------------------------------------------------------


@dataclass
class Reader:
    id: int | None
    name: str = ""


class Loan(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    reader: Reader
    books: list[str] = []

    @model_validator(mode="after")
    def known(self) -> Loan:
        assert self.reader.id is not None  # wants the record, and not its reference
        return self


@pytest.fixture
def lends() -> type[Job]:
    register_reference(Reader, identify=lambda reader: reader.id or 0, locate=Reader, name="test_testing.Reader")

    class Lends(Job):
        async def perform(self, reader: Reader, others: list[Reader] | None = None, loan: Loan | None = None) -> None:
            done.append(reader.name)

    return Lends


async def test_a_record_is_the_one_with_its_id(jobs: Jobs, lends: type[Job]) -> None:
    await lends.perform_later(Reader(1, "Ada"), others=[Reader(2), Reader(3)])
    found = jobs.assert_enqueued(lends, args=(Reader(1, "another copy"), [Reader(2), Reader(3)]))
    assert found.arguments["reader"] == "gid://app/test_testing.Reader/1"
    with pytest.raises(AssertionError) as caught:
        jobs.assert_enqueued(lends, args=(Reader(7), [Reader(2)]))
    text = str(caught.value)
    assert "reader is 'gid://app/test_testing.Reader/1', not 'gid://app/test_testing.Reader/7'" in text
    assert "others is ['gid://app/test_testing.Reader/2', 'gid://app/test_testing.Reader/3'], not [" in text


async def test_a_validator_that_wants_a_record_is_no_obstacle(jobs: Jobs, lends: type[Job]) -> None:
    await lends.perform_later(Reader(1), loan=Loan(reader=Reader(1), books=["Emma"]))
    jobs.assert_enqueued(lends, kwargs={"reader": Reader(1), "loan": Loan(reader=Reader(1), books=["Emma"])})
    with pytest.raises(AssertionError, match="loan is "):
        jobs.assert_enqueued(lends, kwargs={"reader": Reader(1), "loan": Loan(reader=Reader(2), books=["Emma"])})
    await jobs.perform_enqueued()
    jobs.assert_performed(lends, kwargs={"reader": Reader(1), "loan": Loan(reader=Reader(1), books=["Emma"])})


async def test_what_does_not_fit_perform_is_shown_as_it_came(jobs: Jobs) -> None:
    await jobs.adapter.enqueue([Envelope("mailers.x", "mailers", "SendWelcome", b'{"user_id":"many"}', b"}")])
    (job,) = jobs.enqueued
    assert job.arguments == {"user_id": "many"}
    with pytest.raises(AssertionError, match="user_id is 'many', not 42"):
        jobs.assert_enqueued(SendWelcome, args=(42,))
    (run,) = await jobs.perform_enqueued()
    assert (run.outcome, run.error[:17]) == ("dead", "InvalidArguments:")


# -- without a test's clock -----------------------------------------------------------------------


@pytest.mark.acceptance(34)
async def test_the_async_adapter_drains_and_bounds_its_concurrency() -> None:
    now = most = ended = 0

    adapter_here = AsyncAdapter(concurrency=3)

    class Counted(Job):
        adapter = adapter_here

        async def perform(self) -> None:
            nonlocal now, most, ended
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.005)
            now -= 1
            ended += 1

    for _ in range(12):
        await Counted.perform_later()
    await adapter_here.aclose()
    assert (most, ended) == (3, 12)


@pytest.mark.acceptance(34)
def test_the_async_adapter_outlives_loops_and_drains_with_them(recwarn: pytest.WarningsRecorder) -> None:
    ran: list[int] = []

    class Later(Job):
        adapter = AsyncAdapter()

        async def perform(self, number: int) -> None:
            await asyncio.sleep(0)
            ran.append(number)

    async def main(number: int) -> None:
        await Later.perform_later(number)

    asyncio.run(main(1))
    asyncio.run(main(2))
    assert ran == [1, 2]
    assert not recwarn.list


@pytest.mark.acceptance(34)
async def test_the_async_adapter_warns_in_production(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIOJOBS_RT_ENV", "production")

    adapter_here = AsyncAdapter()

    class Quick(Job):
        adapter = adapter_here

        async def perform(self) -> None: ...

    await Quick.perform_later()
    await Quick.perform_later()
    await adapter_here.aclose()
    assert [record.message for record in caplog.records if "for development" in record.message] == [
        record.message for record in caplog.records if record.levelname == "WARNING"
    ]
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


async def test_an_inline_job_that_is_due_later_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    handle = await SendWelcome.set(wait=5).perform_later(1)
    assert await handle.status() == "scheduled"
    assert "is scheduled and will not run" in caplog.text


async def test_snoozes_wait_for_the_clock(jobs: Jobs) -> None:
    class Naps(Job):
        async def perform(self) -> None:
            done.append("nap")
            if len(done) < 3:
                raise Snooze(60)

    handle = await Naps.perform_later()
    await jobs.perform_enqueued()
    await jobs.advance(seconds=119)
    assert done == ["nap", "nap"]
    await jobs.advance(seconds=1)
    assert await handle.status() == "succeeded"


def test_the_plugin_gives_the_fixture_and_loads_nothing_before(tmp_path: Path) -> None:
    (tmp_path / "test_app.py").write_text(
        """
import sys

assert not [name for name in sys.modules if name.partition(".")[0] in ("aiojobs_rt", "pydantic", "redis")]

def test_it(jobs):
    import asyncio
    from aiojobs_rt import Job

    class Hello(Job):
        async def perform(self) -> None: ...

    asyncio.run(Hello.perform_later())
    jobs.assert_enqueued(Hello)
"""
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "pytest_aiojobs_rt",
        "-c",
        "/dev/null",
        "--rootdir",
        str(tmp_path),
    ]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run(
        [*command, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=50, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout


def test_the_test_adapter_is_no_test_class() -> None:
    assert TestAdapter.__test__ is False


async def test_arguments_that_are_one_text_are_refused_and_not_spelt_out(jobs: Jobs) -> None:
    await Shouts.perform_later("A")
    with pytest.raises(TypeError, match=r"args is a tuple of arguments: args=\('A',\)"):
        jobs.assert_enqueued(Shouts, args="A")


async def test_an_outcome_that_there_is_not_is_told_from_a_job_that_came_to_another(jobs: Jobs) -> None:
    with pytest.raises(ValueError, match="there is no outcome 'success'; there are succeeded, retried, "):
        jobs.assert_performed(SendWelcome, outcome="success")

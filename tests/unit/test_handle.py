from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from aiojobs_rt import AiojobsError, Job, JobCancelled, JobError, JobFailed, JobHandle, ResultNotKept, rescue_from
from aiojobs_rt.adapters.base import Ended
from aiojobs_rt.core.outcome import Succeeded
from tests.support.recording import RecordingAdapter, as_message, run

carried = RecordingAdapter()


class Doubles(Job):
    adapter = carried
    keep_result = 60

    async def perform(self, numbers: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(2 * number for number in numbers)


async def handle_of(ended: Ended) -> JobHandle[tuple[int, ...]]:
    carried.ended = ended
    return await Doubles.perform_later((1, 2))


async def test_a_result_comes_back_as_its_annotation_says() -> None:
    handle = await Doubles.perform_later((1, 2))
    outcome = await run(as_message(carried.envelopes[-1]))
    assert isinstance(outcome, Succeeded)
    carried.ended = Ended("succeeded", outcome.result)
    assert await handle.result() == (2, 4)
    assert await Doubles.handle(handle.id).result(timeout=timedelta(seconds=1)) == (2, 4)
    assert await JobHandle.of(handle.id, adapter=carried).result() == [2, 4]  # plain JSON


async def test_a_job_without_success_raises_what_became_of_it() -> None:
    handle = await handle_of(Ended("dead", error="ValueError: boom"))
    with pytest.raises(JobFailed, match=r"job default\.\S+ is dead: ValueError: boom") as failed:
        await handle.result()
    assert (failed.value.job_id, failed.value.outcome, failed.value.error) == (handle.id, "dead", "ValueError: boom")
    handle = await handle_of(Ended("discarded", error="enough"))
    with pytest.raises(JobFailed, match="is discarded: enough"):
        await handle.result()
    handle = await handle_of(Ended("cancelled"))
    with pytest.raises(JobCancelled, match="was cancelled") as cancelled:
        await handle.result()
    assert cancelled.value.job_id == handle.id
    assert issubclass(JobCancelled, JobError)
    assert issubclass(JobError, AiojobsError)


async def test_a_result_that_was_not_kept_says_how_to_keep_it() -> None:
    handle = await handle_of(Ended("succeeded"))
    with pytest.raises(ResultNotKept, match="set keep_result on its class"):
        await handle.result()


async def test_the_result_of_a_rescued_job_is_the_handlers_or_none() -> None:
    class Rescued(Job):
        adapter = carried
        keep_result = 60

        @rescue_from(ValueError)
        def fits(self, error: ValueError) -> int:
            return 5

        @rescue_from(KeyError)
        def fits_not(self, error: KeyError) -> None: ...

        async def perform(self, key: bool) -> int:
            raise KeyError if key else ValueError

    for key, expected in ((False, 5), (True, None)):
        handle = await Rescued.perform_later(key)
        outcome = await run(as_message(carried.envelopes[-1]))
        assert isinstance(outcome, Succeeded)
        carried.ended = Ended("succeeded", outcome.result)
        assert await handle.result() == expected


async def test_the_timeout_bounds_the_wait() -> None:
    handle = await handle_of(Ended("succeeded", b"[]"))
    with pytest.raises(TimeoutError, match="has not ended"):
        await handle.result(timeout=0)
    for wrong in (-1, float("nan"), timedelta(seconds=-1)):
        with pytest.raises(ValueError, match="timeout must be finite and not negative"):
            await handle.result(timeout=wrong)


async def test_status_and_cancel_ask_the_adapter() -> None:
    handle = await handle_of(Ended("succeeded"))
    assert await handle.status() == "queued"
    assert await JobHandle.of("default.gone", adapter=carried).status() == "unknown"
    assert await handle.cancel()
    assert carried.cancelled[-1] == handle.id


def test_a_handle_is_known_by_its_id() -> None:
    one = JobHandle.of("mailers.abc", adapter=carried)
    twin = JobHandle.of("mailers.abc", adapter=RecordingAdapter())
    other = JobHandle.of("mailers.abd", adapter=carried)
    assert one == twin
    assert len({one, twin, other}) == 2
    assert one != "mailers.abc"
    assert repr(one) == "JobHandle('mailers.abc')"
    assert (one.id, one.queue, one.enqueued) == ("mailers.abc", "mailers", True)
    assert JobHandle.of("orders~3.abc", adapter=carried).queue == "orders"


@pytest.mark.parametrize(
    "wrong", ["", "abc", ".abc", "a b.c", "q.", "q.a\n", "q." + "x" * 129, "q~x.abc", "ü.abc", None, 3]
)
def test_what_is_no_job_id_is_refused_showing_one(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a job id; one looks like 'default\."):
        JobHandle.of(wrong, adapter=carried)


def test_a_handle_without_an_adapter_has_the_default_one() -> None:
    handle: JobHandle[Any] = JobHandle.of("mailers.abc")
    assert handle.queue == "mailers"

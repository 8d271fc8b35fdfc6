from __future__ import annotations

import anyio
import pytest
from pydantic import BaseModel

from aiojobs_rt import Discard, InvalidArguments, Job, Retry, discard_on, rescue_from, retry_on
from tests.support.recording import RecordingAdapter


class Row(BaseModel):
    id: int


class DeclinedError(Exception): ...


charged = RecordingAdapter()


class Charges(Job):
    adapter = charged
    notes: list[str] = []  # noqa: RUF012 - the test reads it

    @rescue_from(DeclinedError)
    async def ask_again(self, error: DeclinedError) -> str:
        return f"asked: {error}"

    async def perform(self, kind: str) -> str:
        errors: dict[str, Exception] = {
            "declined": DeclinedError("no"),
            "gone": LookupError("gone"),
            "flaky": ConnectionError("flaky"),
            "other": ValueError("other"),
            "discard": Discard("enough"),
            "retry": Retry(wait=5),
        }
        if kind in errors:
            raise errors[kind]
        return f"{kind} {self.queue} {self.executions}"


discard_on(LookupError, callback=lambda job, error: job.notes.append(str(error)))(Charges)
retry_on(ConnectionError, wait=1)(Charges)


@pytest.mark.acceptance(17)
async def test_perform_now_returns_the_value_and_enqueues_nothing() -> None:
    assert await Charges.perform_now("fine") == "fine default 1"
    assert await Charges.set(queue="other", wait=60).perform_now("fine") == "fine other 1"
    assert charged.calls == []


@pytest.mark.acceptance(17)
async def test_perform_now_applies_rescue_from_and_discard_on_and_raises_the_rest() -> None:
    assert await Charges.perform_now("declined") == "asked: no"
    assert await Charges.perform_now("gone") is None
    assert Charges.notes == ["gone"]
    assert await Charges.perform_now("discard") is None
    with pytest.raises(ConnectionError, match="flaky"):
        await Charges.perform_now("flaky")
    with pytest.raises(ValueError, match="other"):
        await Charges.perform_now("other")
    with pytest.raises(Retry):
        await Charges.perform_now("retry")
    with pytest.raises(InvalidArguments, match=r"Charges\.perform\(\) missing 1 required positional argument: 'kind'"):
        await Charges.perform_now()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    assert charged.calls == []


async def test_perform_now_is_ended_by_its_timeout() -> None:
    class Hangs(Job):
        timeout = 0.02

        async def perform(self) -> None:
            await anyio.sleep_forever()

    with pytest.raises(TimeoutError, match=r"ran longer than its timeout of 0\.02 s"):
        await Hangs.perform_now()
    with pytest.raises(TimeoutError, match=r"ran longer than its timeout of 0\.01 s"):
        await Hangs.set(timeout=0.01).perform_now()


async def test_perform_now_does_not_rename_a_timeout_of_the_jobs_own() -> None:
    class OwnTimeout(Job):
        timeout = 60

        async def perform(self) -> None:
            raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await OwnTimeout.perform_now()


async def test_arguments_of_perform_now_go_through_the_same_bytes() -> None:
    class Copies(Job):
        async def perform(self, rows: list[Row]) -> list[Row]:
            return rows

    given = [Row(id=1)]
    taken = await Copies.perform_now(given)
    assert taken == given
    assert taken[0] is not given[0]

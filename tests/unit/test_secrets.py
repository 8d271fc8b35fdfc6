from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from pydantic import BaseModel, SecretStr

from aiojobs_rt import InvalidArguments, Job, TestAdapter, perform_all_later
from aiojobs_rt.admin import admin_of
from aiojobs_rt.core import registry
from aiojobs_rt.testing import recording_jobs
from tests.support.recording import RecordingAdapter, as_message, run

if TYPE_CHECKING:
    from collections.abc import Callable


class Row(BaseModel):
    id: int


async def test_secrets_are_in_no_repr_and_no_error() -> None:
    carried = RecordingAdapter()

    class Login(Job):
        adapter = carried

        async def perform(self, password: SecretStr, tries: int = 0) -> str:
            return password.get_secret_value()

    bound = Login.bind(SecretStr("hunter2"))
    assert b"hunter2" in bound.args  # it travels
    handle = await Login.perform_later(SecretStr("hunter2"))
    envelope = carried.envelopes[0]
    outcome = await run(as_message(envelope))
    shown = [repr(bound), repr(envelope), repr(as_message(envelope)), repr(handle), repr(outcome)]
    with pytest.raises(InvalidArguments) as raised:
        Login.bind(SecretStr("hunter2"), tries=SecretStr("hunter2"))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    shown.append(str(raised.value))
    with pytest.raises(TypeError) as wrong:
        await perform_all_later([Row(id=1), SecretStr("hunter2")])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
    shown.append(str(wrong.value))
    assert not [text for text in shown if "hunter2" in text]


async def test_near_misses_of_the_test_helpers_show_stars() -> None:
    class SignsUp(Job):
        async def perform(self, token: SecretStr, n: int) -> None: ...

    class Other(Job):
        async def perform(self) -> None: ...

    with recording_jobs() as jobs:
        await SignsUp.perform_later(SecretStr("hunter2"), 1)
        shown = [repr(jobs.enqueued)]
        checks: list[Callable[[], Any]] = [
            lambda: jobs.assert_enqueued(SignsUp, args=(SecretStr("hunter3"), 1)),
            lambda: jobs.assert_enqueued(SignsUp, args=("hunter2", 2)),
            lambda: jobs.assert_enqueued(SignsUp, kwargs={"token": "hunter2", "n": 1}, count=2),
            lambda: jobs.assert_enqueued(Other),
            jobs.assert_none,
        ]
        for check in checks:
            with pytest.raises(AssertionError) as raised:
                check()
            assert "SignsUp(" in str(raised.value)
            shown.append(str(raised.value))
        assert jobs.assert_enqueued(SignsUp, args=("hunter2", 1)).arguments["token"] == SecretStr("hunter2")
        registry._classes.clear()  # as in a process that does not know the class
        assert jobs.enqueued[0].arguments == {"token": "**********", "n": 1}
    assert [text for text in shown if "hunter" in text] == []


async def test_operators_of_jobs_in_this_process_see_stars() -> None:
    adapter_ = TestAdapter()

    class SignsOut(Job):
        adapter = adapter_

        async def perform(self, token: SecretStr, n: int) -> None: ...

    handle = await SignsOut.perform_later(SecretStr("hunter2"), 1)
    found = await admin_of(adapter_).job(handle.id)
    assert found is not None
    assert orjson.loads(found.args) == {"token": "**********", "n": 1}
    assert "hunter2" not in repr(found)

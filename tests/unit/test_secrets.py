from __future__ import annotations

import pytest
from pydantic import BaseModel, SecretStr

from aiojobs_rt import InvalidArguments, Job, perform_all_later
from tests.support.recording import RecordingAdapter, as_message, run


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

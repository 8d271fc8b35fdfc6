from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, SecretBytes, SecretStr

from aiojobs_rt import Job
from tests.support.recording import outcome_of

if TYPE_CHECKING:
    import pytest

    from aiojobs_rt.core.outcome import Outcome


class Account(BaseModel):
    name: str
    pin: SecretStr
    note: str = Field(default="", exclude=True)


class Base(Job):
    log_arguments = True


async def logged(job: type[Job], caplog: pytest.LogCaptureFixture, *args: Any, **kwargs: Any) -> list[str]:
    """What a run logs at info."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "aiojobs_rt"):
        bound: Any = job.bind
        await outcome_of(job, bound(*args, **kwargs).args)
    return [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]


async def test_arguments_are_logged_where_the_class_wants_it(caplog: pytest.LogCaptureFixture) -> None:
    class Shows(Base):
        async def perform(self, number: int, account: Account, key: SecretBytes, raw: bytes = b"", /) -> None: ...

    class Hides(Shows):
        log_arguments = False

        async def perform(self, number: int, account: Account, key: SecretBytes, raw: bytes = b"", /) -> None: ...

    account = Account(name="Ada", pin=SecretStr("1234"), note="private")
    given = (1, account, SecretBytes(b"hunter2"), b"\xff")
    (line,) = await logged(Shows, caplog, *given)
    head = "job default.abc (Shows) begins with "
    assert line.startswith(head)
    assert json.loads(line.removeprefix(head)) == {
        "number": 1,
        "account": {"name": "Ada", "pin": "**********"},
        "key": "**********",
        "raw": "_w==",
    }
    assert await logged(Hides, caplog, *given) == []


async def test_no_more_than_2000_characters(caplog: pytest.LogCaptureFixture) -> None:
    class Long(Base):
        async def perform(self, text: str) -> None: ...

    (line,) = await logged(Long, caplog, "x" * 5000)
    shown = line.removeprefix("job default.abc (Long) begins with ")
    assert len(shown) == 2000
    assert shown.endswith("x…")


async def test_arguments_that_do_not_fit_are_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    class Strict(Base):
        async def perform(self, number: int) -> None: ...

    with caplog.at_level(logging.INFO, "aiojobs_rt"):
        outcome: Outcome = await outcome_of(Strict, b'{"number":"hunter2"}')
    assert type(outcome).__name__ == "Dead"
    assert "begins with arguments that can't be shown" in caplog.text
    assert "hunter2" not in caplog.text


async def test_perform_now_logs_them_too_and_names_its_job(caplog: pytest.LogCaptureFixture) -> None:
    class Now(Base):
        async def perform(self, number: int) -> None: ...

    with caplog.at_level(logging.INFO, "aiojobs_rt"):
        await Now.perform_now(7)
    assert caplog.messages[0].endswith('(Now) begins with {"number":7}')

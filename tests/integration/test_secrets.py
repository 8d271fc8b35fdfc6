"""A SecretStr among the arguments arrives, and is shown by nothing that people look at: from the enqueue to the dead set."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import orjson
import pytest
from pydantic import BaseModel, SecretBytes, SecretStr
from typer.testing import CliRunner

from aiojobs_rt import Job, RedisAdapter, Worker, before_enqueue, before_perform, retry_on, subscribe
from aiojobs_rt.admin import Admin
from aiojobs_rt.cli.app import app
from aiojobs_rt.core import registry
from tests.support.outcomes import becomes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiojobs_rt import Event

arrived: list[str] = []


class Account(BaseModel):
    name: str
    pin: SecretStr


class Wrong(Exception):  # noqa: N818 - as applications name theirs
    """What is declared."""


@retry_on(Wrong, wait=0, attempts=2)
class SignsIn(Job):
    log_arguments = True

    async def perform(self, user: str, token: SecretStr, account: Account, *keys: SecretBytes) -> None:
        arrived.extend((token.get_secret_value(), account.pin.get_secret_value(), keys[0].get_secret_value().decode()))
        raise Wrong(f"{user} {token} {account} {keys}")

    @before_enqueue
    def note_enqueue(self) -> None:
        self.logger.info("enqueue %s", self.arguments)

    @before_perform
    def note_perform(self) -> None:
        self.logger.info("perform %s", self.arguments)


@dataclass
class Issued:
    user: str
    pin: SecretStr


class IssuesPin(Job):
    keep_result = 60

    async def perform(
        self, user: str, token: SecretStr, kind: str
    ) -> Issued | Account | SecretBytes | dict[str, SecretStr]:
        match kind:
            case "dataclass":
                return Issued(user, token)
            case "model":
                return Account(name=user, pin=token)
            case "bytes":
                return SecretBytes(token.get_secret_value().encode())
            case _:
                return {user: token}


@pytest.fixture(autouse=True)
async def adapter(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisAdapter]:
    monkeypatch.setattr(registry, "_classes", {"SignsIn": SignsIn, "IssuesPin": IssuesPin})
    arrived.clear()
    async with RedisAdapter(redis_url) as adapter:
        monkeypatch.setattr(SignsIn, "adapter", adapter)
        monkeypatch.setattr(IssuesPin, "adapter", adapter)
        yield adapter


async def test_it_arrives_and_nobody_is_shown_it(
    adapter: RedisAdapter, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[Event] = []
    unsubscribe = subscribe(told.append)
    given: Any = ("ada", SecretStr("hunter2"), Account(name="Ada", pin=SecretStr("hunter3")), SecretBytes(b"hunter4"))
    later = await SignsIn.set(wait=600).perform_later(*given)
    handle = await SignsIn.perform_later(*given)
    worker = Worker(adapter=adapter, concurrency=1, lease=5.0, shutdown_timeout=1)
    async with anyio.create_task_group() as group:
        await group.start(worker.run)
        await becomes("dead", handle)
        worker.stop()
    unsubscribe()
    assert arrived == ["hunter2", "hunter3", "hunter4"] * 2
    shown = [repr(told), caplog.text]
    async with Admin(adapter) as admin:
        for one in (later, handle):
            found = await admin.job(one.id)
            assert found is not None
            stars = "**********"
            assert orjson.loads(found.args) == {"user": "ada", "token": stars, "account": stars, "keys": stars}
            shown += [repr(found), repr(found.attempts), found.reason]
    for options in ([], ["--args"], ["--json"], ["--json", "--args"]):
        for one in (later, handle):
            command = ["jobs", "show", one.id, "--redis-url", redis_url, *options]
            result = await asyncio.to_thread(CliRunner().invoke, app, command)
            assert result.exit_code == 0, result.output
            shown.append(result.output)
    listed = await asyncio.to_thread(CliRunner().invoke, app, ["jobs", "list", "--redis-url", redis_url, "--json"])
    shown.append(listed.output)
    assert "begins with" in caplog.text
    assert "Wrong: ada **********" in caplog.text
    assert all(len(text) > 1 for text in shown[:2])
    assert [text for text in shown if "hunter" in text] == []


@pytest.mark.parametrize("kind", ["dataclass", "model", "bytes", "dict"])
async def test_a_secret_argument_and_a_secret_result_are_stars_on_the_command_line(
    adapter: RedisAdapter, redis_url: str, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    caplog.set_level(logging.DEBUG)
    later = await IssuesPin.set(wait=600).perform_later("ada", SecretStr("hunter2"), kind)
    handle = await IssuesPin.perform_later("ada", SecretStr("hunter2"), kind)
    result: Any = None
    worker = Worker(adapter=adapter, concurrency=1, lease=5.0, shutdown_timeout=1)
    async with anyio.create_task_group() as group:
        await group.start(worker.run)
        result = await handle.result(timeout=10)
        worker.stop()
    pin = SecretStr("hunter2")
    expected: dict[str, Any] = {
        "dataclass": Issued("ada", pin),
        "model": Account(name="ada", pin=pin),
        "bytes": SecretBytes(b"hunter2"),
        "dict": {"ada": pin},
    }
    assert result == expected[kind], "it arrives whole"

    shown: dict[str, str] = {}
    for one, job in (("later", later), ("handle", handle)):
        for options in ("", "--args", "--json", "--json --args"):
            command = ["jobs", "show", job.id, "--redis-url", redis_url, *options.split()]
            done = await asyncio.to_thread(CliRunner().invoke, app, command)
            assert done.exit_code == 0, done.output
            shown[f"{one} {options}"] = done.output
    listed = await asyncio.to_thread(
        CliRunner().invoke, app, ["jobs", "list", "--state", "finished", "--redis-url", redis_url, "--json"]
    )
    assert handle.id in listed.output
    shown |= {"listed": listed.output, "logged": caplog.text}
    assert '"token":"**********"' in shown["later --args"]
    assert "**********" in shown["handle --args"]
    assert [name for name, text in shown.items() if "hunter" in text or "aHVudGVy" in text] == []

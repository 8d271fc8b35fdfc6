"""The example programs do what they say, each against a real Redis and with a real worker."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from aiojobs_rt import InvalidArguments, InvalidJob, JobFailed, RedisAdapter, Worker
from examples import recipe
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

ROOT = Path(__file__).parents[2]


@pytest.fixture
def application(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> recipe.Application:
    """The recipe's application, empty, with its jobs on this test's Redis."""
    monkeypatch.setattr(recipe.ApplicationJob, "adapter", RedisAdapter(redis_url))
    application = recipe.Application()
    monkeypatch.setattr(recipe, "application", application)
    return application


@asynccontextmanager
async def working() -> AsyncGenerator[None]:
    """A worker of the recipe's queue."""
    adapter = recipe.ApplicationJob.adapter
    assert isinstance(adapter, RedisAdapter)
    async with adapter, anyio.create_task_group() as group:
        worker = Worker(queues=["recipe"], adapter=adapter, concurrency=5, lease=5, shutdown_timeout=5)
        await group.start(worker.run)
        yield
        worker.stop()


@pytest.mark.acceptance(70)
async def test_a_worker_with_process_instead_of_perform_is_refused() -> None:
    class HardWorker(recipe.ApplicationJob):
        async def process(self, foo_id: int) -> None: ...

    with pytest.raises(InvalidJob, match="HardWorker is abstract: it has no `async def perform"):
        await HardWorker.perform_later(1)


@pytest.mark.acceptance(70)
async def test_setting_a_value_twice_is_setting_it_once(application: recipe.Application) -> None:
    application.foos[7] = 1
    async with working():
        for _ in range(2):
            handle = await recipe.SetFoo.set(keep_result=60).perform_later(7, 2)
            await handle.result(timeout=10)

    assert application.foos == {7: 2}


@pytest.mark.acceptance(70)
async def test_an_id_travels_and_not_the_record(application: recipe.Application) -> None:
    application.users[1] = recipe.User(1, "old@example.com")
    with pytest.raises(InvalidArguments):
        await recipe.Notify.perform_later(application.users[1], "spring")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - the recipe's mistake

    handle = await recipe.Notify.set(keep_result=60).perform_later(1, "spring")
    gone = await recipe.Notify.set(keep_result=60).perform_later(2, "spring")
    application.users[1].address = "new@example.com"
    async with working():
        await handle.result(timeout=10)
        with pytest.raises(JobFailed, match=r"discarded: .*NotFound: user 2"):
            await gone.result(timeout=10)

    assert application.sent == {"spring/1": "new@example.com"}


@pytest.mark.acceptance(70)
async def test_notify_and_mark_notified_are_two_jobs_and_no_mark_is_lost(application: recipe.Application) -> None:
    application.users[1] = recipe.User(1, "ada@example.com")
    application.refusals = 2
    async with working():
        for _ in range(2):  # the second by mistake
            handle = await recipe.Notify.set(keep_result=60).perform_later(1, "spring")
            await handle.result(timeout=10)
        await wait_until(lambda: application.users[1].notified)

    assert application.refusals == 0
    assert application.sent == {"spring/1": "ada@example.com"}


@pytest.mark.acceptance(62)
async def test_one_bad_record_stops_no_other(application: recipe.Application) -> None:
    users = [recipe.User(n, None if n == 3 else f"{n}@example.com") for n in range(30)]
    application.users = {user.id: user for user in users}
    async with working():
        handle = await recipe.EnqueueReminders.perform_later()
        assert await handle.result(timeout=10) == 30
        await wait_until(lambda: sum(user.notified for user in users) == 29)

    assert not users[3].notified
    assert len(application.sent) == 29


def test_the_newsletter_is_sent(redis_url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import anyio; from examples.newsletter import main; print(len(anyio.run(main, 40, 0.5)))",
        ],
        cwd=tmp_path,
        env={**os.environ, "AIOJOBS_RT_REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "40\n"), done.stderr

"""The example programs do what they say, each against a real Redis and with a real worker."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from httpx import ASGITransport, AsyncClient
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from aiojobs_rt import InvalidArguments, InvalidJob, JobFailed, RedisAdapter, Worker
from aiojobs_rt.settings import settings
from aiojobs_rt.testing import recording_jobs
from examples import mailer, rates, recipe, reports, shop, transfer
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

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


@pytest.mark.acceptance(69, 70)
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


@pytest.mark.acceptance(68)
async def test_of_two_steps_the_unreliable_one_comes_first_and_no_mark_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    application = recipe.Application(users={1: recipe.User(1, "ada@example.com")}, refusals=1, locked=2)
    monkeypatch.setattr(recipe, "application", application)
    with recording_jobs() as jobs:
        handle = await recipe.NotifyInSteps.perform_later(1, "spring")
        await jobs.perform_enqueued()
        assert not application.users[1].notified, "refused: nothing is marked that was not sent"
        await jobs.advance(seconds=1)
        assert application.sent == {"spring/1": "ada@example.com"}
        assert not application.users[1].notified, "the table was locked"
        await jobs.advance(hours=1)
        assert application.users[1].notified
        assert await handle.status() == "succeeded"
    assert application.calls == 2, "what was sent is not sent again for the mark's sake"


# -- a program for each use ----------------------------------------------------------------------


@pytest.fixture
def default_redis(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """That of the environment, as the programs have it."""
    monkeypatch.setenv("AIOJOBS_RT_REDIS_URL", redis_url)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.acceptance(9, 39)
async def test_letters_are_delivered_now_and_later(default_redis: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailer, "sent", [])
    assert await mailer.main() == [("ada@example.com", "Welcome, ada!"), ("grace@example.com", "Goodbye, grace.")]


@pytest.mark.acceptance(39)
async def test_a_letter_that_is_delivered_later_is_one_job_of_the_mailers_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mailer, "sent", [])
    with recording_jobs() as jobs:
        handle = await mailer.goodbye(1).deliver_later(wait=60)
        jobs.assert_enqueued(
            mailer.DeliverLetter, args=("goodbye", 1), queue="mailers", at=timedelta(minutes=1), count=1
        )
        assert await mailer.welcome(2).deliver_now() == "grace@example.com"
        assert mailer.sent == [("grace@example.com", "Welcome, grace!")], "now: with no job"
        await jobs.advance(minutes=1)
        assert await handle.status() == "succeeded"
        with pytest.raises(AssertionError):
            jobs.assert_performed(mailer.DeliverLetter, args=("welcome", 2))
    assert mailer.sent[1:] == [("ada@example.com", "Goodbye, ada.")]


@pytest.mark.acceptance(9)
async def test_a_report_is_written(default_redis: None, tmp_path: Path) -> None:
    report = await reports.main(tmp_path)
    assert report == tmp_path / "sales-2026-02.csv"
    assert report.read_text() == "item,sales\nitem 0,63.00\nitem 1,70.00\nitem 2,57.00\n"


@pytest.mark.acceptance(9)
async def test_people_are_imported_and_exported(
    default_redis: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "people", {"zoe@example.com": "Zoe"})
    assert await transfer.main(tmp_path) == (
        "address,name\nada@example.com,Ada\ngrace@example.com,Grace\nmary@example.com,Mary\nzoe@example.com,Zoe\n"
    )
    assert sorted(os.listdir(tmp_path)) == ["exported.csv", "people.csv"]  # noqa: PTH208 - names are all that is wanted


@pytest.mark.acceptance(67)
async def test_an_import_goes_on_at_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "people", {})
    source = tmp_path / "people.csv"
    source.write_text("address,name\n" + "".join(f"{n}@example.com,{n}\n" for n in range(10)))
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    with recording_jobs() as jobs:
        handle = await transfer.ImportPeople.perform_later(source)
        wrong = await transfer.ImportPeople.perform_later(tmp_path / "wrong.csv")
        with jobs.interrupt_during_step(transfer.ImportPeople, "rows", cursor=4):
            await jobs.perform_enqueued()
        assert len(transfer.people) == 4
        await jobs.perform_enqueued()
        assert await handle.status() == "succeeded"
        assert await wrong.status() == "discarded"
    assert len(transfer.people) == 10


@pytest.mark.acceptance(9)
async def test_a_service_that_limits_its_calls_is_asked_again(
    default_redis: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "service", rates.Service())
    monkeypatch.setattr(rates, "known", {})
    assert await rates.main(refusals=2) == {"USD": Decimal("1.0842"), "CHF": Decimal("0.9312")}
    assert rates.service.calls == 4


# -- the shop ------------------------------------------------------------------------------------


@pytest.fixture
async def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncClient]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
    monkeypatch.setattr(shop, "engine", engine)
    monkeypatch.setattr(shop, "sessions", async_sessionmaker(engine, expire_on_commit=False))
    monkeypatch.setattr(shop, "told", [])
    async with (
        shop.lifespan(shop.app),
        AsyncClient(transport=ASGITransport(shop.app), base_url="http://shop") as client,
    ):
        yield client


@pytest.mark.acceptance(41)
async def test_a_view_enqueues_and_so_does_the_callback_of_a_model(client: AsyncClient) -> None:
    with recording_jobs() as jobs:
        made = await client.post("/orders", params={"item": "tea"})
        assert made.status_code == 201
        order_id = made.json()["id"]
        confirming = jobs.assert_enqueued(shop.ConfirmOrder, args=(order_id,), count=1)  # the model's callback

        accepted = await client.post(f"/orders/{order_id}/invoice")
        assert accepted.status_code == 202
        invoicing = jobs.assert_enqueued(shop.SendInvoice, args=(order_id,), count=1)  # the view
        assert accepted.json() == {"job": invoicing.id}
        assert (await client.post("/orders/99/invoice")).status_code == 404

        runs = await jobs.perform_enqueued()
        assert [run.id for run in runs] == [confirming.id, invoicing.id]
    assert shop.told == ["ordered: tea", "to pay: tea"]


@pytest.mark.acceptance(40, 41)
async def test_an_order_that_is_rolled_back_is_not_confirmed(client: AsyncClient) -> None:
    with recording_jobs() as jobs:
        assert (await client.post("/orders", params={"item": "nothing"})).status_code == 422
        jobs.assert_none()
        async with shop.sessions() as session:  # a script, not a view
            session.add(shop.Order(item="cake"))
            await session.flush()
            jobs.assert_none()
            await session.commit()
            jobs.assert_enqueued(shop.ConfirmOrder, count=1)


@pytest.mark.acceptance(9)
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

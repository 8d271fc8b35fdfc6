"""Several worker processes on the same queues, and on different ones."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from aiojobs_rt import perform_all_later
from tests.support.jobs import Nap
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.worker_process import Fleet


@pytest.mark.acceptance(3, 4, 11)
async def test_workers_share_the_jobs_and_run_each_once(fleet: Fleet) -> None:
    workers = await asyncio.gather(*(fleet.start(concurrency=5) for _ in range(3)))
    handles = await perform_all_later([Nap.bind(number, 0.03) for number in range(300)])
    await fleet.all_ended(300)
    history = fleet.ledger.read()
    history.check_exact([handle.id for handle in handles])
    done = {worker.pid: sum(1 for run in history.runs() if run.pid == worker.pid) for worker in workers}
    assert min(done.values()) >= 50, f"not shared: {done}"
    assert history.most_at_once() <= 15
    for worker in workers:
        history_of_one = [line for line in history.lines if line.pid == worker.pid]
        assert type(history)(history_of_one).most_at_once() == 5
    for worker in workers:
        worker.terminate()
    assert [await worker.ended() for worker in workers] == [0, 0, 0]


@pytest.mark.acceptance(12, 22)
async def test_workers_on_disjoint_queues_never_cross(fleet: Fleet) -> None:
    mails, reports = await asyncio.gather(fleet.start(queues=["emails"]), fleet.start(queues=["reports"]))
    handles = await perform_all_later(
        [Nap.set(queue=queue).bind(number) for number in range(100) for queue in ("emails", "reports", "nobody")]
    )
    await fleet.all_ended(200)
    history = fleet.ledger.read()
    for line in history.of("end"):
        assert line.pid == (mails.pid if line.job_id.startswith("emails.") else reports.pid)
    others = [handle for handle in handles if handle.queue == "nobody"]
    assert {await handle.status() for handle in others} == {"queued"}
    reports.kill()
    handle = await Nap.set(queue="reports").perform_later(1)
    await Nap.set(queue="emails").perform_later(2)
    await wait_until(lambda: fleet.ledger.count("end") == 201)
    assert await handle.status() == "queued"

"""kill -9: what a dead worker had is run elsewhere, once more and no more often than its death explains. (G1, G2, G7)"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from aiojobs_rt import perform_all_later
from tests.support.history import Harm, examine
from tests.support.jobs import LastWords, Nap
from tests.support.waiting import wait_until
from tests.support.worker_process import ROOT

if TYPE_CHECKING:
    from tests.support.moments import Moment
    from tests.support.redis_server import RedisServer
    from tests.support.worker_process import Fleet, WorkerProcess

LEASE = 1.0
RECOVERY = LEASE + LEASE / 6 + 1
"""Lease, reclaim interval, and a second for a busy machine."""
SETTLING = 0.25
"""Seconds within which an outcome has reached Redis, on a busy machine."""
GRACE = 5.0


@pytest.mark.acceptance(65)
@pytest.mark.fault(1)
async def test_jobs_of_a_killed_worker_run_elsewhere_within_the_lease(fleet: Fleet, moment: Moment) -> None:
    victim, other = await asyncio.gather(
        fleet.start(concurrency=50, lease=LEASE), fleet.start(concurrency=50, lease=LEASE)
    )
    # the second half runs for longer: none of it ends while the victim is looked at, and killed
    handles = await perform_all_later([Nap.bind(number, 0.3 if number < 100 else 1.0) for number in range(200)])
    long_ones = {handle.id for handle in handles[100:]}
    await fleet.written("end", 60)
    await wait_until(lambda: _running(fleet, victim, long_ones) >= 25, what="the victim to be busy")
    await moment(0.05)
    died = victim.kill()
    await fleet.all_ended(200)

    history = fleet.ledger.read()
    findings = examine(history, [handle.id for handle in handles], harms=[Harm(victim.pid, died, "killed")])
    assert findings.violations == {}
    cut_off = {run.job_id for run in history.runs() if run.pid == victim.pid and run.ended is None}
    assert len(cut_off) >= 10, "the victim had too little to do for a test"
    for job_id in cut_off:
        first, second = history.runs_of(job_id)
        assert (first.executions, second.executions) == (1, 2)
        assert second.pid == other.pid
        assert second.started - died < RECOVERY
    # jobs that end together are settled together, a moment later: a kill in between makes a second end, as G2 says
    settling = {run.job_id for run in history.runs() if run.pid == victim.pid and (run.ended or 0) > died - SETTLING}
    assert set(findings.explained) <= cut_off | settling, "a job ran again that had been settled for long"


PRODUCER = """
import asyncio, os, signal
from tests.support.jobs import Nap
from aiojobs_rt import perform_all_later

async def main():
    handles = await perform_all_later([Nap.set(wait=n % 2 / 10).bind(n, 0.02) for n in range(200)])
    handles.append(await Nap.perform_later(200))
    print(*(handle.id for handle in handles), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.acceptance(2, 77)
async def test_jobs_outlive_their_producer_and_a_restart_of_redis_and_the_workers(
    own_server: RedisServer, own_fleet: Fleet
) -> None:
    """The producer is killed as soon as its awaits have returned; nothing is lost, and nothing runs twice."""
    producer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PRODUCER,
        env={**os.environ, "AIOJOBS_RT_REDIS_URL": own_server.url, "PYTHONPATH": str(ROOT)}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    worker = await own_fleet.start(concurrency=2)
    output, _ = await producer.communicate()
    assert producer.returncode == -signal.SIGKILL
    ids = output.decode().split()
    assert len(ids) == 201
    await own_fleet.written("end", 10)
    worker.terminate()
    assert await worker.ended() == 0
    own_server.kill()
    own_server.start()
    await own_fleet.start(concurrency=50)
    await own_fleet.all_ended(201)
    own_fleet.ledger.read().check_exact(ids)


@pytest.mark.acceptance(77)
@pytest.mark.fault(2)
async def test_all_workers_killed_three_times_over(fleet: Fleet, moment: Moment) -> None:
    handles = await perform_all_later([Nap.bind(number, 0.1) for number in range(300)])
    harms: list[Harm] = []
    for wave in range(3):
        workers = await asyncio.gather(*(fleet.start(concurrency=10, lease=LEASE) for _ in range(2)))
        done = fleet.ledger.count("end")
        await fleet.written("end", done + 20 if wave else 40)
        for worker in workers:
            await moment(0.1)
            harms.append(Harm(worker.pid, worker.kill(), "killed"))
    restarted = time.monotonic()
    await fleet.start(concurrency=50, lease=LEASE)
    with fleet.client() as client:

        def dead() -> set[str]:
            """A job that all three waves took with them is taken for their cause."""
            return {id_.decode() for id_ in client.zrange("aiojobs:{default}:dead", 0, -1)}

        await wait_until(lambda: len(dead().union(fleet.ledger.read().ids("end"))) == 300, timeout=20, interval=0.05)
        accounted = dead()
    assert time.monotonic() - restarted < RECOVERY + GRACE + 5

    history = fleet.ledger.read()
    findings = examine(history, [handle.id for handle in handles], harms=harms, accounted=accounted)
    assert findings.violations == {}
    for job_id in accounted:
        assert len(history.runs_of(job_id)) == 3
    # between the end of perform and its settling lies a moment: a kill then makes a second end, as G2 says
    assert len(history.of("end")) - len(set(history.ids("end"))) <= len(harms) * 10
    cut_off = sum(1 for run in history.runs() if run.ended is None)
    assert cut_off >= len(harms), "the kills hit nobody"


@pytest.mark.acceptance(66)
@pytest.mark.fault(3)
async def test_killed_between_perform_and_settling_runs_again_exactly_once(fleet: Fleet) -> None:
    victim = await fleet.start(lease=LEASE)
    handle = await LastWords.set(keep_result=60).perform_later()
    assert await victim.ended() == -signal.SIGKILL
    await fleet.start(lease=LEASE)
    await handle.result(timeout=RECOVERY + GRACE)
    history = fleet.ledger.read()
    runs = history.runs()
    assert [(run.job_id, run.executions) for run in runs] == [(handle.id, 1), (handle.id, 2)]
    keys = [line.text for line in history.of("note")]
    assert (len(keys), len(set(keys))) == (2, 1), "its effect took place twice, for who does not know the key again"
    assert all(run.ended for run in runs)
    assert await handle.status() == "succeeded"


def _running(fleet: Fleet, worker: WorkerProcess, ids: set[str]) -> int:
    runs = fleet.ledger.read().runs()
    return sum(1 for run in runs if run.pid == worker.pid and run.ended is None and run.job_id in ids)

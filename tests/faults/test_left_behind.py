"""What jobs do to their process, and leave behind in it: the process works on, and ends in time. (G6, G13)"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from aiojobs_rt import perform_all_later
from tests.support.jobs import Blocker, ForksAndKills, ForksByHand, LeavesBehind, Nap, Threaded
from tests.support.outcomes import all_are, becomes
from tests.support.waiting import wait_until
from tests.support.worker_process import COMMAND, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.worker_process import Fleet, WorkerProcess

TIDYING = 3.0
SOME = 1.5
"""Seconds for a busy machine."""


async def check_it_works(fleet: Fleet) -> None:
    handle = await Nap.perform_later(1)
    await wait_until(lambda: handle.id in fleet.ledger.read().ids("end"), what="the next job")


async def check_it_ends(worker: WorkerProcess, *, within: float) -> None:
    signalled = worker.terminate()
    assert await worker.ended() == 0
    took = time.monotonic() - signalled
    assert took < within + SOME, f"it ended after {took:.1f} s"


@pytest.mark.parametrize("what", ["a thread", "a deaf task", "a child process", "tasks", "a stopped loop"])
async def test_a_process_ends_in_time_whatever_its_jobs_leave_behind(fleet: Fleet, what: str) -> None:
    fleet.fresh = what == "a child process"  # the test's own are daemons of `multiprocessing`, which may have none
    worker = await fleet.start(shutdown_timeout=0.5)
    handle = await LeavesBehind.perform_later(what)
    await becomes("succeeded", handle)
    await check_it_works(fleet)
    if what == "a stopped loop":
        assert "a job has stopped the event loop" in worker.log
    at_once = what in {"tasks", "a stopped loop"}
    await check_it_ends(worker, within=0.5 if at_once else 0.5 + TIDYING)
    assert ("something that its jobs have left behind goes on" in worker.log) is not at_once


async def test_what_is_left_behind_may_go_on_until_the_timeout_is_over(fleet: Fleet) -> None:
    worker = await fleet.start(shutdown_timeout=30)
    await becomes("succeeded", await LeavesBehind.perform_later("a thread"))
    worker.terminate()
    await wait_until(lambda: "stopped after" in worker.log)
    with pytest.raises(AssertionError, match="waited"):
        await worker.ended(timeout=TIDYING + 1)


async def test_a_job_that_waits_for_a_thread_holds_no_process(fleet: Fleet) -> None:
    worker = await fleet.start(shutdown_timeout=0.5)
    handle = await Threaded.perform_later(60)
    await fleet.written("start", 1)
    await check_it_ends(worker, within=0.5 + 1 + TIDYING)
    assert await handle.status() == "queued"


@pytest.mark.fault(5, 30)
async def test_a_process_whose_loop_is_blocked_obeys_term(fleet: Fleet) -> None:
    """What runs in it is put back, at no charge: the job that blocks the loop, and those that wait beside it."""
    fleet.tracebacks = True  # the report holds a stack
    worker = await fleet.start(shutdown_timeout=0.5, lease=30)
    beside = await perform_all_later([Nap.bind(number, 60) for number in range(3)])
    await fleet.written("start", 3)
    blocker = await Blocker.perform_later(60)
    await fleet.written("start", 4)
    await check_it_ends(worker, within=0.5 + 6)
    assert "stood still" in worker.log
    assert f"job {blocker.id} (Blocker) has not ended" in worker.log
    await all_are("queued", [blocker, *beside])
    with fleet.client() as client:
        metas = [fields[b"meta"] for _, fields in client.xrange("aiojobs:{default}:stream:returned")]
        assert len(metas) == 4, "they wait for a lease of 30 s to pass"
    assert all(b'"interruptions":1' in meta and b'"crashes"' not in meta for meta in metas)


async def test_a_second_term_ends_a_blocked_process_soon(fleet: Fleet) -> None:
    fleet.tracebacks = True  # as above
    worker = await fleet.start(shutdown_timeout=60)
    await Blocker.perform_later(60)
    await fleet.written("start", 1)
    worker.terminate()
    await wait_until(lambda: "stood still" in worker.log)
    assert worker.exit_code is None
    await check_it_ends(worker, within=4)


async def test_a_shutdown_counts_from_the_signal_and_not_from_when_the_loop_moves(fleet: Fleet) -> None:
    fleet.tracebacks = True  # as above
    worker = await fleet.start(shutdown_timeout=2)
    await Nap.perform_later(1, 60)
    await Blocker.perform_later(2.5)
    await fleet.written("start", 2)
    await check_it_ends(worker, within=2.5 + 1)


SLOW = """
import time
from contextlib import asynccontextmanager
from aiojobs_rt import Job

class SlowToStart(Job):
    @staticmethod
    @asynccontextmanager
    async def lifespan():
        print("begins", flush=True)
        time.sleep(60)
        yield

    async def perform(self): ...
"""


async def test_a_lifespan_that_blocks_the_loop_can_not_hold_the_process(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_to_start.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = fleet.launch(modules=["slow_to_start"], shutdown_timeout=0.1)
    await wait_until(lambda: "begins" in worker.log)
    await check_it_ends(worker, within=0.1 + 9)
    assert "the shutdown has taken as long as it may" in worker.log


def standstill(fleet: Fleet) -> Callable[[], bool]:
    """Whether no job has ended for a while."""
    seen, since = -1, 0.0

    def check() -> bool:
        nonlocal seen, since
        if (now := fleet.ledger.count("end")) != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > SOME

    return check


async def test_a_process_whose_log_nobody_reads_obeys_term(fleet: Fleet, redis_url: str) -> None:
    """Log lines wait for who reads them, the loop waits for the log lines, and so does the heartbeat."""
    reader, writer = os.pipe()
    command = [*COMMAND, "tests.support.jobs", "-q", "default", "--log-level", "debug", "--shutdown-timeout", "0.1"]
    environment = {**os.environ, "AIOJOBS_RT_REDIS_URL": redis_url, "TEST_LEDGER": str(fleet.ledger.path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stderr=writer) as process:  # noqa: ASYNC220 - a moment
        os.close(writer)
        try:
            await perform_all_later([Nap.bind(number) for number in range(3000)])
            await fleet.written("end", 1)
            await wait_until(standstill(fleet), what="the loop to wait for the pipe")
            process.terminate()
            await wait_until(lambda: process.poll() is not None, timeout=0.1 + 9 + 1 + SOME)
            assert process.returncode == 0
        finally:
            process.kill()
            os.close(reader)


async def test_term_to_a_child_that_a_job_has_forked_ends_that_child_and_not_the_worker(fleet: Fleet) -> None:
    fleet.fresh = True  # as above
    worker = await fleet.start()
    await becomes("succeeded", await ForksAndKills.perform_later())
    assert fleet.ledger.read().notes() == [str(-signal.SIGTERM)]
    await check_it_works(fleet)
    assert "SIGTERM" not in worker.log
    await check_it_ends(worker, within=0)


@pytest.mark.parametrize("how", ["exit", "return"])
async def test_a_child_that_a_job_has_forked_by_hand_does_not_go_on_as_a_worker(fleet: Fleet, how: str) -> None:
    fleet.tracebacks = how == "exit"  # of the child
    worker = await fleet.start()
    await becomes("succeeded", await ForksByHand.perform_later(how))
    assert fleet.ledger.read().notes() == [f"{how} {int(how == 'exit')}"]
    await check_it_works(fleet)
    assert "is away" not in worker.log
    await check_it_ends(worker, within=0)


@pytest.mark.parametrize("what", ["signals ignored", "signals as they were"])
async def test_a_worker_takes_its_signals_back(fleet: Fleet, what: str) -> None:
    worker = await fleet.start(shutdown_timeout=5)
    await becomes("succeeded", await LeavesBehind.perform_later(what))
    await wait_until(lambda: "in place of the handler of SIGTERM" in worker.log)
    running = await Nap.perform_later(1, 0.5)
    await wait_until(lambda: running.id in fleet.ledger.read().ids("start"))
    await check_it_ends(worker, within=0.5)
    await becomes("succeeded", running)

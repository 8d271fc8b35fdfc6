"""What jobs do on any kind of Redis: tests that are run on Sentinels' master and on a cluster, by a class that inherits them.

The class has a fixture `fleet`: worker processes on that Redis, whose URL the jobs' adapter has too. The queues lie on different nodes.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import orjson
import pytest

from aiojobs_rt import JobCancelled, perform_all_later
from aiojobs_rt.admin import Admin
from tests.support.jobs import Blocker, Fails, FaultEcho, FlakyTwice, Gated, Moves, Nap
from tests.support.outcomes import all_are, becomes
from tests.support.waiting import wait_until
from tests.support.worker_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aiojobs_rt import RedisAdapter
    from tests.support.redis_server import RedisServer
    from tests.support.worker_process import Fleet

QUEUES = ("default", "low", "mail")
"""In a cluster of three masters they hash to three nodes."""


class Behaviours:
    """Inherit it, and give it a `fleet`."""

    async def test_jobs_of_several_queues_run_and_return(self, fleet: Fleet) -> None:
        await fleet.start(queues=QUEUES)
        handles = [await FaultEcho.set(queue=queue).perform_later(queue) for queue in QUEUES for _ in range(3)]
        assert [await handle.result(timeout=10) for handle in handles] == [q for q in QUEUES for _ in range(3)]
        many = await perform_all_later([Nap.set(queue=QUEUES[n % 3]).bind(n) for n in range(300)])
        await fleet.all_ended(300)
        fleet.ledger.read().check_exact([handle.id for handle in many])

    async def test_delay_and_priority(self, fleet: Fleet, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        # no reading ahead: what is in the buffer is not overtaken
        await fleet.start(queues=QUEUES, concurrency=1, environment={"AIOJOBS_RT_PREFETCH": "0"})
        first = [await Nap.set(priority=p).perform_later(p) for p in (5, -5)]
        await all_are("succeeded", first)  # so that the worker knows these lanes
        gated = await Gated.perform_later(str(gate))
        await fleet.written("start", 3)
        order = [await Nap.set(priority=p).perform_later(p) for p in (5, 0, -5)]
        late = await FaultEcho.set(queue="mail", wait=0.3).perform_later("late")
        assert await late.status() == "scheduled"
        gate.touch()
        await all_are("succeeded", [gated, *order])
        assert await late.result(timeout=5) == "late"
        assert [line.text for line in fleet.ledger.read().of("end")][3:] == ["-5", "0", "5"]

    async def test_retries_here_and_on_another_queue(self, fleet: Fleet) -> None:
        await fleet.start(queues=QUEUES)
        here, across = await FlakyTwice.set(queue="low").perform_later(), await Moves.perform_later()
        await all_are("succeeded", [here, across])
        assert [line.text for line in fleet.ledger.read().of("end") if line.job_id == across.id] == ["low"]

    async def test_dead_jobs_are_retried_by_admin(self, fleet: Fleet, adapter: RedisAdapter) -> None:
        await fleet.start(queues=QUEUES)
        dead = await Fails.set(queue="mail").perform_later("error")
        await becomes("dead", dead)
        async with Admin(adapter) as admin:
            summary = await admin.queue("mail")
            assert summary.dead == 1
            details = await admin.job(dead.id)
            assert details is not None
            assert await admin.retry(dead.id) == "retried"
            await wait_until(lambda: fleet.ledger.count("start") == 2)
            await becomes("dead", dead)
            assert await admin.discard(dead.id) == "discarded"
            assert {queue.name for queue in await admin.queues()} >= {"mail"}
            assert len(await admin.workers()) == 1

    async def test_cancel_pause_and_resume(self, fleet: Fleet, adapter: RedisAdapter, tmp_path: Path) -> None:
        await fleet.start(queues=QUEUES, lease=30)  # no beat comes to help: the control channel does
        running = await Gated.set(queue="low", keep_result=60).perform_later(str(tmp_path / "never"))
        await fleet.written("start", 1)
        assert await running.cancel()
        with pytest.raises(JobCancelled):
            await running.result(timeout=5)
        async with Admin(adapter) as admin:
            assert await admin.pause("mail")
            await wait_until(lambda: _paused(fleet, "mail"))
            waits = await Nap.set(queue="mail").perform_later(1)
            assert await waits.status() == "queued"
            assert await admin.resume("mail")
            await becomes("succeeded", waits)

    async def test_a_killed_workers_jobs_run_elsewhere(self, fleet: Fleet, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        victim = await fleet.start(queues=QUEUES, lease=1)
        handles = await perform_all_later([Gated.set(queue=QUEUES[n % 3]).bind(str(gate)) for n in range(6)])
        await fleet.written("start", 6)
        await fleet.start(queues=QUEUES, lease=1)
        victim.kill()
        await fleet.written("start", 12)
        gate.touch()
        await fleet.all_ended(6)
        fleet.ledger.read().check([handle.id for handle in handles])

    async def test_a_blocked_loop_keeps_its_leases(self, fleet: Fleet) -> None:
        """The heartbeat thread finds its way to the node of each queue by itself."""
        await fleet.start(queues=QUEUES, lease=1)
        handle = await Blocker.set(queue="mail").perform_later(2.2)
        await fleet.written("start", 1)
        await fleet.start(queues=QUEUES, lease=1)
        await becomes("succeeded", handle)
        fleet.ledger.read().check_exact([handle.id])

    async def test_the_command_line(self, fleet: Fleet) -> None:
        handles = await perform_all_later([Nap.set(queue=queue).bind(1) for queue in QUEUES])
        shown = orjson.loads(_command(fleet, "queues", "--json"))
        assert {line["name"]: line["waiting"] for line in shown} == dict.fromkeys(QUEUES, 1)
        for handle in handles:
            assert handle.id in _command(fleet, "jobs", "list", "-q", handle.queue, "--json")
        assert "OK" in _command(fleet, "doctor", codes=(0, 1))


def _paused(fleet: Fleet, queue: str) -> bool:
    shown = orjson.loads(_command(fleet, "queues", "--json"))
    return any(line["paused"] for line in shown if line["name"] == queue)


def _command(fleet: Fleet, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "aiojobs_rt", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "AIOJOBS_RT_REDIS_URL": fleet.url, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode in codes, done.stdout + done.stderr
    return done.stdout


class Writers:
    """Tasks that enqueue without a pause, and know which jobs were acknowledged.

    Args:
        queues: where to.
    """

    def __init__(self, *queues: str) -> None:
        self.ids: list[str] = []
        self.failed: list[Exception] = []
        self._going = True
        self._tasks = [asyncio.create_task(self._write(queue)) for queue in queues for _ in range(2)]

    async def _write(self, queue: str) -> None:
        while self._going:
            try:
                self.ids.append((await Nap.set(queue=queue).perform_later(1, 0.01)).id)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                self.failed.append(error)
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        self._going = False
        await asyncio.gather(*self._tasks)


async def check_no_loss(
    fleet: Fleet,
    master: RedisServer,
    writers: Writers,
    *,
    moved: Callable[[], bool],
    start_again: Callable[[RedisServer], object],
) -> None:
    """Kill a master under writers whose adapter waits for a replica: what was acknowledged is run, whatever else happens."""
    await wait_until(lambda: len(writers.ids) >= 100, what="acknowledged jobs")
    master.kill()
    await wait_until(moved, what="another master")
    start_again(master)
    acknowledged = len(writers.ids)
    await wait_until(lambda: len(writers.ids) >= acknowledged + 50, timeout=30, what="jobs on the new master")
    await writers.stop()
    for error in writers.failed:
        assert "in the master, but only 0 of 1" in str(error)
    await wait_until(
        lambda: set(writers.ids) <= set(fleet.ledger.read().ids("end")), timeout=15, what="all of them to run"
    )


__all__ = ["QUEUES", "Behaviours", "Writers", "check_no_loss"]

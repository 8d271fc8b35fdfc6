"""TERM: what can finish finishes, what can't is put back, nothing is lost and nothing runs twice. (G6)"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

import pytest

from aiojobs_rt import perform_all_later
from tests.support.jobs import Deaf, Gated, Nap
from tests.support.outcomes import becomes
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.moments import Moment
    from tests.support.worker_process import Fleet, WorkerProcess

STREAM = "aiojobs:{default}:stream"


@pytest.mark.fault(4)
async def test_term_under_load(fleet: Fleet, moment: Moment) -> None:
    worker = await fleet.start(concurrency=20, lease=2)
    ids: list[str] = []

    async def produce() -> None:
        for number in range(300):  # 100 a second, and a burst that fills the buffer
            handle = await Nap.perform_later(number, 0.05)
            ids.append(handle.id)
            if number == 120:
                ids.extend(
                    handle.id for handle in await perform_all_later([Nap.bind(1000 + n, 0.2) for n in range(200)])
                )
            await asyncio.sleep(0.01)

    producing = asyncio.create_task(produce())
    await wait_until(lambda: len(ids) > 320, interval=0.001)
    await moment(0.5)
    signalled = worker.terminate()
    assert await worker.ended() == 0
    took = time.monotonic() - signalled
    history = fleet.ledger.read()
    late = [run for run in history.runs() if run.started > signalled + 0.1]
    assert not late, f"{len(late)} jobs began after the signal"
    assert took < 2, f"it took {took:.1f} s though each job takes 0.2 s"
    assert "still running" not in worker.log
    with fleet.client() as client:
        assert client.xpending(STREAM, "workers")["pending"] == 0
        assert client.zcard("aiojobs:{default}:workers") == 0
    await fleet.start(concurrency=50, lease=2)
    await producing
    await fleet.all_ended(500)
    history = fleet.ledger.read()
    history.check_exact(ids)
    assert {run.executions for run in history.runs()} == {1}


@pytest.mark.acceptance(64)
@pytest.mark.fault(5)
async def test_term_with_a_job_longer_than_the_timeout(fleet: Fleet, tmp_path: Path, moment: Moment) -> None:
    gate = tmp_path / "gate"
    worker, other = await _two(fleet, shutdown_timeout=0.5)
    handle = await Gated.perform_later(str(gate))
    await fleet.written("start", 1)
    if fleet.ledger.read().runs()[0].pid == other.pid:
        worker, other = other, worker
    await moment(1)
    signalled = worker.terminate()
    await fleet.written("start", 2)
    assert await worker.ended() == 0
    assert time.monotonic() - signalled < 3
    history = fleet.ledger.read()
    first, second = history.runs()
    assert (first.executions, second.executions) == (1, 1), "a deploy costs no attempt"
    assert second.pid == other.pid
    assert second.started - signalled < 0.5 + 1
    (tidied,) = history.of("note")
    assert tidied.pid == worker.pid
    assert tidied.at > second.started - 0.5, "put back first, cancelled after"
    meta = _meta(fleet, handle.id)
    assert b'"interruptions":1' in meta
    assert b'"failures"' not in meta
    gate.touch()
    await wait_until(lambda: fleet.ledger.count("end") == 1)
    await becomes("succeeded", handle)


@pytest.mark.fault(5)
async def test_a_second_signal_stops_at_once(fleet: Fleet, tmp_path: Path, moment: Moment) -> None:
    worker = await fleet.start(shutdown_timeout=60)
    handle = await Gated.perform_later(str(tmp_path / "never"))
    await fleet.written("start", 1)
    worker.terminate()
    await wait_until(lambda: "stopping" in worker.log)
    assert worker.exit_code is None
    await moment(1)
    again = worker.send(signal.SIGINT)
    assert await worker.ended() == 0
    assert time.monotonic() - again < 2
    assert fleet.ledger.count("note") == 1
    assert await handle.status() == "queued"


@pytest.mark.fault(31)
async def test_a_job_that_swallows_its_cancellation_can_not_hold_the_process(fleet: Fleet, moment: Moment) -> None:
    worker = await fleet.start(shutdown_timeout=0.2, lease=1)
    handle = await Deaf.perform_later()
    await fleet.written("start", 1)
    await moment(1)
    signalled = worker.terminate()
    assert await worker.ended() == 0
    assert time.monotonic() - signalled < 0.2 + 4
    assert await handle.status() == "queued"
    assert b'"interruptions":1' in _meta(fleet, handle.id)


async def test_tstp_is_quiet_and_term_ends_it(fleet: Fleet, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    worker = await fleet.start(lease=1)
    await Gated.perform_later(str(gate))
    await fleet.written("start", 1)
    worker.send(signal.SIGTSTP)
    await wait_until(lambda: "quiet" in worker.log)
    waiting = await Nap.perform_later(1)
    gate.touch()
    await fleet.written("end", 1)
    await asyncio.sleep(0.3)  # what must not happen has no predicate
    assert worker.exit_code is None
    assert await waiting.status() == "queued"
    worker.terminate()
    assert await worker.ended() == 0
    assert await waiting.status() == "queued"
    assert fleet.ledger.count("end") == 1


@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_term_while_redis_is_away_ends_in_time(fleet: Fleet, how: str) -> None:
    with RedisServer() as server:
        worker = await fleet.start(url=server.url, shutdown_timeout=0.2, lease=1)
        if how == "killed":
            server.kill()
            await wait_until(lambda: "is away" in worker.log)
        else:
            server.pause()
        signalled = worker.terminate()
        assert await worker.ended() == 0
        assert time.monotonic() - signalled < 0.2 + 1 + 5 + 2
        assert "left behind" not in worker.log
        if how == "killed":
            server.start()


async def _two(fleet: Fleet, *, shutdown_timeout: float) -> list[WorkerProcess]:
    return list(
        await asyncio.gather(*(fleet.start(concurrency=1, shutdown_timeout=shutdown_timeout) for _ in range(2)))
    )


def _meta(fleet: Fleet, job_id: str) -> bytes:
    with fleet.client() as client:
        for key in (STREAM, f"{STREAM}:returned"):
            for _, fields in client.xrange(key):
                if fields[b"id"] == job_id.encode():
                    return bytes(fields[b"meta"])
    raise AssertionError(f"{job_id} is on no stream")


@pytest.mark.fault(4)
@pytest.mark.parametrize("said", ["", "job class(es) from"], ids=["at once", "modules loaded"])
async def test_term_while_a_worker_starts_leaves_nothing_behind(fleet: Fleet, said: str, moment: Moment) -> None:
    """Before its handlers are there it ends as any process does; it has no lease yet."""
    fleet.fresh = True
    worker = fleet.launch(lease=30)
    await wait_until(lambda: said in worker.log, interval=0.001)
    await moment(1)
    worker.terminate()
    assert await worker.ended() in (0, -signal.SIGTERM)
    with fleet.client() as client:
        assert client.zcard("aiojobs:{default}:workers") == 0

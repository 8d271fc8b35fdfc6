"""A worker that was stopped for longer than its lease comes back: its outcome counts for nothing, and it goes on as a new one. (G3)"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.jobs import Gated, Nap
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.moments import Moment
    from tests.support.worker_process import Fleet

LEASE = 1.0


@pytest.mark.fault(6)
async def test_a_worker_that_comes_back_from_the_dead(fleet: Fleet, tmp_path: Path, moment: Moment) -> None:
    soon, later = tmp_path / "soon", tmp_path / "later"
    zombie = await fleet.start(lease=LEASE, concurrency=2)
    finishing = await Gated.set(keep_result=60).perform_later(str(soon))
    endless = await Gated.perform_later(str(later))
    await fleet.written("start", 2)
    other = await fleet.start(lease=LEASE, concurrency=2)
    await moment(1)
    zombie.pause()
    await fleet.written("start", 4, timeout=3 * LEASE + 2)
    soon.touch()
    await fleet.written("end", 1)  # elsewhere: the zombie has not moved
    await moment(2)
    zombie.resume()

    await wait_until(lambda: "they run elsewhere" in zombie.log)
    await fleet.written("note", 1)
    later.touch()
    await fleet.written("end", 3)
    history = fleet.ledger.read()
    assert [(run.pid, run.executions) for run in history.runs_of(finishing.id)] == [(zombie.pid, 1), (other.pid, 2)]
    assert endless.id in {line.job_id for line in history.of("note") if line.pid == zombie.pid}, "it was cancelled"
    ends = [line for line in history.of("end") if line.job_id == endless.id]
    assert [line.pid for line in ends] == [other.pid]
    assert [run.executions for run in history.runs_of(endless.id)] == [1, 2]

    with fleet.client() as client:
        # an end is written before it is settled
        await wait_until(
            lambda: client.xlen("aiojobs:{default}:stream") + client.xlen("aiojobs:{default}:stream:returned") == 0
        )
        recent = [fields[b"r"] for _, fields in client.xrange("aiojobs:{default}:recent")]
        await wait_until(lambda: client.zcard("aiojobs:{default}:workers") == 2)
        names = [name.decode() for name in client.zrange("aiojobs:{default}:workers", 0, -1)]
    for handle in (finishing, endless):
        assert sum(handle.id.encode() in line for line in recent) == 1, "one outcome each"
        assert await handle.status() == "succeeded"
    assert sorted(name.rpartition(".")[2] for name in names) == ["0", "1"], "the zombie has a new epoch"

    other.kill()
    handle = await Nap.perform_later(2)
    await wait_until(lambda: handle.id in fleet.ledger.read().ids("end"))
    (run,) = fleet.ledger.read().runs_of(handle.id)
    assert run.pid == zombie.pid


@pytest.mark.fault(6)
async def test_a_finished_job_whose_lease_was_lost_is_not_settled_twice(fleet: Fleet, moment: Moment) -> None:
    """The zombie wakes with an outcome in its hands: settled as the old consumer's, it is refused."""
    workers = await asyncio.gather(*(fleet.start(lease=LEASE, concurrency=1) for _ in range(2)))
    handle = await Nap.set(keep_result=60).perform_later(1, spend=0.5)
    await fleet.written("start", 1)
    (run,) = fleet.ledger.read().runs()
    zombie, other = sorted(workers, key=lambda worker: worker.pid != run.pid)
    await moment(0.3)
    zombie.pause()  # while it blocks its loop: it will finish at once when it goes on
    await fleet.written("end", 1, timeout=3 * LEASE + 2)
    await moment(2)
    zombie.resume()
    await fleet.written("end", 2)
    await wait_until(lambda: "outcomes are dropped" in zombie.log or "0 running job(s) are cancelled" in zombie.log)
    with fleet.client() as client:
        await wait_until(
            lambda: client.xlen("aiojobs:{default}:stream") + client.xlen("aiojobs:{default}:stream:returned") == 0
        )
        counts = client.hgetall("aiojobs:{default}:stats")
    assert counts[b"succeeded"] == b"1"
    assert [run.pid for run in fleet.ledger.read().runs_of(handle.id)] == [zombie.pid, other.pid]

"""Jobs in steps go on where they were: after TERM without a repetition, after kill -9 with what a second holds at most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from aiojobs_rt.adapters.redis.keys import queue_keys
from tests.support.jobs import Stepwise
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.moments import Moment
    from tests.support.worker_process import Fleet

KEYS = queue_keys("aiojobs", "default")
ROWS = 150

pytestmark = pytest.mark.acceptance(67)


def notes(fleet: Fleet) -> list[str]:
    return fleet.ledger.read().notes()


async def test_term_interrupts_at_the_next_row_and_nothing_is_done_twice(fleet: Fleet) -> None:
    handle = await Stepwise.set(keep_result=60).perform_later(ROWS, 0.01)
    for count in (20, 60):
        worker = await fleet.start(lease=2, shutdown_timeout=20)
        await fleet.written("note", count)
        worker.terminate()
        assert await worker.ended() == 0
        assert "still running" not in worker.log
    await fleet.start(lease=2)
    await handle.result(timeout=20)

    assert notes(fleet) == ["prepared", *map(str, range(ROWS))]
    runs = fleet.ledger.read().runs()
    assert {run.executions for run in runs} == {1}, "an interruption costs no attempt"


async def test_kill_9_loses_a_second_of_progress_at_most(fleet: Fleet, moment: Moment) -> None:
    victim = await fleet.start(lease=1)
    handle = await Stepwise.set(keep_result=60).perform_later(ROWS, 0.02)
    with fleet.client() as client:
        await wait_until(lambda: client.exists(KEYS.progress + handle.id), what="progress to be saved")
        before: Any = client.get(KEYS.progress + handle.id)
        await wait_until(lambda: client.get(KEYS.progress + handle.id) != before, what="progress to be saved again")
        await moment(0.5)
        victim.kill()
        reached = len(notes(fleet)) - 1
        saved = orjson.loads(client.get(KEYS.progress + handle.id).partition(b" ")[2])
        assert saved["completed"] == ["prepare"]
        assert 0 < saved["cursor"] <= reached
        assert reached - saved["cursor"] <= 75, "more than a second and a half of rows is not saved"
        await fleet.start(lease=1)
        await handle.result(timeout=30)

        seen = notes(fleet)
        assert seen.count("prepared") == 1
        assert sorted({int(row) for row in seen if row != "prepared"}) == list(range(ROWS))
        assert len(seen) - 1 - ROWS <= reached - saved["cursor"] + 1
        await wait_until(lambda: not client.exists(KEYS.progress + handle.id), what="the saved progress to be removed")


@pytest.mark.parametrize("planted", ["of a wrong type", "no JSON", "no progress"])
async def test_a_key_that_holds_no_progress_costs_no_job_anything_but_its_progress(fleet: Fleet, planted: str) -> None:
    victim = await fleet.start(lease=1)
    job = Stepwise.set(keep_result=60)
    spoilt = await job.perform_later(ROWS, 0.02)
    with fleet.client() as client:
        key = KEYS.progress + spoilt.id
        await wait_until(lambda: client.exists(key), what="progress to be saved")
        if planted == "of a wrong type":
            client.delete(key)
            client.hset(key, "what", "is this?")
            other = await job.perform_later(ROWS, 0.02)
            await wait_until(
                lambda: client.exists(KEYS.progress + other.id), what="the other job's progress to be saved"
            )
        victim.kill()
        if planted != "of a wrong type":
            client.set(key, {"no JSON": b"7 {", "no progress": b"7 [1]"}[planted])
        await fleet.start(lease=1)
        await spoilt.result(timeout=30)
        client.delete(key)
    assert {row for row in notes(fleet) if row != "prepared"} == {str(row) for row in range(ROWS)}

"""Redis gone, hung, restarted, emptied, full: the worker stays, heals by itself, says little, and running jobs go on. (G11)"""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from aiojobs_rt import EnqueueError, QueueFullError, perform_all_later
from tests.support.jobs import Fails, Gated, Nap
from tests.support.outcomes import all_are
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from tests.support.moments import Moment
    from tests.support.redis_server import RedisServer
    from tests.support.worker_process import Fleet, WorkerProcess

LEASE = 1.0
STREAM = "aiojobs:{default}:stream"


@asynccontextmanager
async def few_log_lines(*workers: WorkerProcess) -> AsyncGenerator[None]:
    """Each worker may log a few lines for a fault, and no more than one a second."""
    before = {worker: len(worker.log) for worker in workers}
    began = time.monotonic()
    yield
    allowed = 5 + int(time.monotonic() - began)
    for worker in workers:
        assert worker.exit_code is None, f"worker {worker.pid} ended ({worker.exit_code})"
        lines = worker.lines(since=before[worker])
        assert len(lines) <= allowed, f"{len(lines)} lines, {allowed} allowed:\n" + "\n".join(lines[:40])


@pytest.mark.acceptance(6, 77)
@pytest.mark.fault(7)
async def test_redis_is_killed_under_four_writers(own_server: RedisServer, own_fleet: Fleet, moment: Moment) -> None:
    workers = await asyncio.gather(*(own_fleet.start(lease=LEASE, concurrency=10) for _ in range(2)))
    ids: list[str] = []
    unknown = 0
    going = True

    async def write() -> None:
        nonlocal unknown
        while going:
            try:
                ids.append((await Nap.perform_later(1, 0.05)).id)
            except EnqueueError:
                unknown += 1
            await asyncio.sleep(0.005)

    writers = [asyncio.create_task(write()) for _ in range(4)]
    async with few_log_lines(*workers):
        for _ in range(2):
            seen = len(ids)
            await wait_until(lambda seen=seen: len(ids) > seen + 100)  # type: ignore[misc] # a lambda's default
            await moment(0.5)
            own_server.kill()
            await wait_until(lambda: all("is away" in worker.log for worker in workers))
            await moment(1)
            own_server.start()
            seen = own_fleet.ledger.count("end")
            await own_fleet.written("end", seen + 20, timeout=5)
        going = False
        await asyncio.gather(*writers)
        await own_fleet.all_ended(len(ids))
    assert unknown == 0, "20 s of retries were not enough for a restart of a second"
    own_fleet.ledger.read().check_exact(ids)


@pytest.mark.fault(8)
async def test_redis_is_away_for_longer_than_a_lease(
    own_server: RedisServer, own_fleet: Fleet, tmp_path: Path, moment: Moment
) -> None:
    gate = tmp_path / "gate"
    workers = await asyncio.gather(*(own_fleet.start(lease=LEASE, concurrency=10) for _ in range(2)))
    handles = await perform_all_later(
        [Gated.bind(str(gate)) for _ in range(10)] + [Nap.bind(n, 0.5) for n in range(10)]
    )
    await own_fleet.written("start", 20)
    async with few_log_lines(*workers):
        own_server.kill()
        went = time.monotonic()
        cpu = sum(worker.cpu_seconds() for worker in workers)
        await own_fleet.written("end", 10)  # they end while it is away
        await wait_until(lambda: time.monotonic() > went + 3 * LEASE)
        used = (sum(worker.cpu_seconds() for worker in workers) - cpu) / (time.monotonic() - went)
        assert used < 0.2, f"the two workers used {used:.0%} of a processor for waiting"
        await moment(2)
        own_server.start()
        handles += await perform_all_later([Nap.bind(n) for n in range(50)])
        await own_fleet.written("end", 60)
        gate.touch()
        await own_fleet.all_ended(70)
        await all_are("succeeded", handles)
    history = own_fleet.ledger.read()
    history.check_exact([handle.id for handle in handles])
    assert {run.executions for run in history.runs()} == {1}, "the workers reclaimed each other"
    with own_fleet.client() as client:
        names = client.zrange("aiojobs:{default}:workers", 0, -1)
    assert sorted(name.rpartition(b".")[2] for name in names) == [b"0", b"0"], "a lease was given up"


@pytest.mark.parametrize("how", ["hung", "paused", "paused for writes"])
@pytest.mark.fault(13, 18)
async def test_redis_hangs(own_server: RedisServer, own_fleet: Fleet, how: str, moment: Moment) -> None:
    workers = await asyncio.gather(*(own_fleet.start(lease=LEASE, concurrency=10) for _ in range(2)))
    handles = await perform_all_later([Nap.bind(number, 1.0) for number in range(20)])
    await own_fleet.written("start", 20)
    async with few_log_lines(*workers):
        if how == "hung":
            own_server.pause()
            await own_fleet.written("end", 20)
            await asyncio.sleep(1.5 * LEASE)  # nothing to wait for: it hangs
            await moment(1)
            own_server.resume()
        else:
            with own_fleet.client() as client:
                client.client_pause(1500, all=how == "paused")
        handles += await perform_all_later([Nap.bind(number) for number in range(50)])
        await own_fleet.all_ended(70)
        await all_are("succeeded", handles)
    history = own_fleet.ledger.read()
    history.check_exact([handle.id for handle in handles])
    assert {run.executions for run in history.runs()} == {1}, "a lease was lost"


@pytest.mark.parametrize("harm", ["flushall", "destroy", "delete", "lanes"])
@pytest.mark.fault(9, 10)
async def test_the_queue_is_destroyed_under_the_worker(
    own_server: RedisServer, own_fleet: Fleet, tmp_path: Path, harm: str, moment: Moment
) -> None:
    gate = tmp_path / "gate"
    with own_fleet.client() as client:
        harms: dict[str, Callable[[], object]] = {
            "flushall": client.flushall,
            "destroy": lambda: client.xgroup_destroy(STREAM, "workers"),
            "delete": lambda: client.delete(STREAM),
            "lanes": lambda: client.delete("aiojobs:{default}:lanes", STREAM + ":p5", STREAM),
        }
        worker = await own_fleet.start(lease=30, concurrency=10)  # no beat comes to help
        await Nap.set(priority=5).perform_later(0)
        running = await Gated.perform_later(str(gate))
        await own_fleet.written("start", 2)
        async with few_log_lines(worker):
            for round_ in range(3):
                done = own_fleet.ledger.count("end")
                await moment(0.5)
                # what has ended is settled as well: else it would rightly run again
                await wait_until(lambda: client.xlen(STREAM) + client.xlen(STREAM + ":p5") <= 1)
                harmed = time.monotonic()
                harms[harm]()
                priorities = (0, 5) if round_ else (0, 0)  # at first nobody makes the other lane known again
                await perform_all_later([Nap.set(priority=p).bind(n) for n in range(10) for p in priorities])
                await own_fleet.written("end", done + 20, timeout=4)
                assert time.monotonic() - harmed < 3, f"round {round_}: it healed too late"
            gate.touch()
            await wait_until(lambda: running.id in own_fleet.ledger.read().ids("end"))
            await asyncio.sleep(0.3)  # an outcome that Redis does not want is no reason for a line each
        history = own_fleet.ledger.read()
        assert len(history.runs_of(running.id)) == 1, "it ran on, and once"
        assert len(history.of("end")) == 62
        assert client.xlen(STREAM) == 0


@pytest.mark.parametrize("how", ["script flush", "client kill"])
@pytest.mark.fault(12, 21)
async def test_scripts_and_connections_are_lost_all_the_time(
    own_server: RedisServer, own_fleet: Fleet, how: str, moment: Moment
) -> None:
    workers = await asyncio.gather(*(own_fleet.start(lease=2, concurrency=10) for _ in range(2)))

    async def hurt() -> None:
        with own_fleet.client() as client:
            while True:
                if how == "script flush":
                    client.script_flush()
                else:
                    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await moment(0.1)
                await asyncio.sleep(0.05 if how == "script flush" else 0.1)

    async with few_log_lines(*workers):
        hurting = asyncio.create_task(hurt())
        ids: list[str] = []
        for number in range(300):
            ids.append((await Nap.perform_later(number, 0.02)).id)
            await asyncio.sleep(0.01)
        hurting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await hurting
        await own_fleet.all_ended(300)
    own_fleet.ledger.read().check_exact(ids)


@pytest.mark.fault(23)
async def test_redis_is_full(own_server: RedisServer, own_fleet: Fleet, tmp_path: Path, moment: Moment) -> None:
    gate = tmp_path / "gate"
    with own_fleet.client() as client:
        worker = await own_fleet.start(lease=LEASE, concurrency=10)
        running = await perform_all_later([Gated.bind(str(gate)) for _ in range(5)])
        waiting = await perform_all_later([Nap.bind(n, 0.2) for n in range(20)])
        failing = await Fails.set(max_attempts=3).perform_later("error")
        delayed = await Nap.set(wait=1.5).perform_later(1)
        await own_fleet.written("start", 5)
        client.config_set("maxmemory", "1")
        async with few_log_lines(worker):
            with pytest.raises(QueueFullError):
                await Nap.perform_later(1)
            await own_fleet.written("end", 21)  # with the delayed one
            await moment(1)
            gate.touch()
            await own_fleet.written("end", 26)
            await all_are("succeeded", [*running, *waiting, delayed])
            await all_are("retrying", [failing])
            await asyncio.sleep(2 * LEASE)  # the lease must hold meanwhile
            assert client.zscore("aiojobs:{default}:workers", client.zrange("aiojobs:{default}:workers", 0, 0)[0])
        client.config_set("maxmemory", "0")
        later = await perform_all_later([Nap.bind(n) for n in range(20)])
        await own_fleet.all_ended(46)
        history = own_fleet.ledger.read()
        verdict = history.check([handle.id for handle in (*running, *waiting, delayed, *later)])
        assert not verdict.duplicated
        assert {run.executions for run in history.runs()} == {1}, "a lease was lost"


async def test_the_password_is_changed_under_the_worker(
    own_server: RedisServer, own_fleet: Fleet, tmp_path: Path
) -> None:
    """It says so, though the first that it notices is a cut connection; running jobs go on, and it does when it may again."""
    gate = tmp_path / "gate"
    worker = await own_fleet.start(lease=LEASE)
    running = await Gated.perform_later(str(gate))
    await own_fleet.written("start", 1)
    with own_fleet.client() as client:
        rules = next(line for line in client.acl_list() if line.startswith("user default ")).split()[2:]
        async with few_log_lines(worker):
            client.execute_command("ACL", "SETUSER", "default", "resetpass", ">another")
            client.execute_command("AUTH", "default", "another")
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub")
            await wait_until(lambda: "still away" in worker.log, timeout=10)
            assert any(said in worker.log for said in ("Authentication required", "invalid username-password"))
            gate.touch()
            await own_fleet.written("end", 1)
            client.execute_command("ACL", "SETUSER", "default", "reset", *rules)
            handles = [running, *await perform_all_later([Nap.bind(n) for n in range(10)])]
            await all_are("succeeded", handles)
    own_fleet.ledger.read().check_exact([handle.id for handle in handles])

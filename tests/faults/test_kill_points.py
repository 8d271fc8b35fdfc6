"""A process is killed (SIGKILL) at each of its requests to Redis, and before each reply; another one finishes. (G1, G3, G4)

Requests are counted by kind: the process dies at its 1st `settle`, at its 2nd, and so on until a run has no such request any more. Its life
(`tests/support/mortal.py`) has each boundary: enqueue, register, take, settle, promote, reclaim, crossing to another queue, put back, leave.
After each death: every acknowledged job ends and has one outcome, no enqueue made two, a job ran again only if it was cut off by the death, and
Redis is clean at rest.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import pytest

from aiojobs_rt import RedisAdapter, Worker
from aiojobs_rt.adapters.redis.scripts import names, script
from tests.support.forks import Fork
from tests.support.history import Harm, examine, not_at_rest
from tests.support.ledger import Ledger
from tests.support.mortal import ACKNOWLEDGED, ATTEMPTED, HERE, LEASE, THERE, MortalJob, live
from tests.support.proxy import Meal, Proxy
from tests.support.raw_queue import RawQueue
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.support.redis_server import RedisServer

AT_ONCE = 20
"""Lives that are led at the same time; each has keys of its own."""
SCRIPTS = {script(name).sha.encode(): name for name in names()}
BOUNDARIES = ("register", "enqueue", "XREADGROUP", "settle", "promote", "reclaim", "arrive", "renew", "leave")
HOW = ("request", "reply")


@dataclass(frozen=True, slots=True)
class Point:
    """A moment of death: at the n-th request of a kind, or before its reply."""

    kind: str
    n: int
    how: str

    def __str__(self) -> str:
        return f"{self.how}:{self.kind}:{self.n}"


class Deadly(Proxy):
    """Kills the one process that connects through it, at a point of its life."""

    def __init__(self, target_port: int, point: Point | None) -> None:
        super().__init__(target_port)
        self.point = point
        self.pid = 0
        self.seen: Counter[str] = Counter()

    def take_meal(self, request: bytes) -> Meal | None:
        kind = _kind(request)
        self.seen[kind] += 1
        if self.point is None or (kind, self.seen[kind]) != (self.point.kind, self.point.n):
            return None
        if self.point.how == "request":
            self._kill()
            return Meal(request, 0, silently=False, unseen=True)
        return Meal(request, 0, silently=True, then=self._kill)

    def _kill(self) -> None:
        with suppress(ProcessLookupError):  # it may end by itself while the reply to its last request is on its way
            os.kill(self.pid, signal.SIGKILL)


class Life:
    """One life, and what comes after it. Its keys have a prefix of their own."""

    def __init__(self, server: RedisServer, folder: Path, point: Point | None) -> None:
        self.point = point
        self.name = f"aiojobs:{point or 'unharmed'}"  # what the users of docs/security.md may touch
        self._url = server.url
        self._port = server.port
        self._ledger = Ledger(folder / self.name)
        self._attempted: list[str] = []
        self._acknowledged: list[str] = []
        self._death: list[Harm] = []

    async def run(self) -> Counter[str] | None:
        """Lead it and see what came of it. None if the process was killed, else what it requested."""
        with ExitStack() as stack:
            queues = [stack.enter_context(RawQueue(self._url, queue, prefix=self.name)) for queue in (HERE, THERE)]
            async with RedisAdapter(self._url, prefix=self.name) as adapter:
                for queue in queues:
                    queue.register("bystander")  # one lease is valid all the time: that the others pass is no outage
                await self._leave_behind(adapter, queues[0])
                seen = await self._live()
                await self._finish(adapter, queues)
            for queue in queues:
                queue.leave("bystander")
            self._judge(queues)
        return None if self._death else seen

    async def _leave_behind(self, adapter: RedisAdapter, queue: RawQueue) -> None:
        """A job that a dead worker has."""
        envelope = MortalJob.bind(str(self._ledger.path)).envelope()
        await adapter.enqueue([envelope])
        queue.register("dead")
        assert [entry.id for entry in queue.read("dead")] == [envelope.id]
        queue.expire("dead")
        self._attempted.append(envelope.id)
        self._acknowledged.append(envelope.id)

    async def _live(self) -> Counter[str]:
        async with Deadly(self._port, self.point) as proxy:
            process = Fork(live, proxy.url, self.name, str(self._ledger.path))
            proxy.pid = process.pid
            await wait_until(lambda: process.poll() is not None, timeout=20, what=f"the end of {self.name}")
        history = self._ledger.read()
        if process.poll():
            assert process.poll() == -signal.SIGKILL, self.name
            last = max((line.at for line in history.lines), default=0.0)
            self._death = [Harm(process.pid, last, "killed", until=math.inf)]
        notes = history.of("note")
        self._attempted += [line.job_id for line in notes if line.text == ATTEMPTED]
        self._acknowledged += [line.job_id for line in notes if line.text == ACKNOWLEDGED]
        return proxy.seen

    async def _finish(self, adapter: RedisAdapter, queues: list[RawQueue]) -> None:
        """Another worker does what is left."""

        def ended() -> bool:
            return set(self._acknowledged) <= set(self._ledger.read().ids("end"))

        def rests() -> bool:
            return not any(not_at_rest(queue.client, queue.name, prefix=self.name, workers=2) for queue in queues)

        async with anyio.create_task_group() as group:
            worker = Worker(queues=[HERE, THERE], adapter=adapter, lease=LEASE, concurrency=4, shutdown_timeout=1)
            await group.start(worker.run)
            await wait_until(ended, timeout=15, interval=0.03, what=f"the jobs of {self.name} elsewhere")
            await wait_until(rests, timeout=15, interval=0.1, what=f"{self.name} to be at rest")
            worker.stop()

    def _judge(self, queues: list[RawQueue]) -> None:
        for queue in queues:
            assert not_at_rest(queue.client, queue.name, prefix=self.name) == [], self.name
        found = examine(self._ledger.read(), self._acknowledged, attempted=self._attempted, harms=self._death)
        assert found.violations == {}, self.name
        records = b" ".join(fields[b"r"] for queue in queues for _, fields in queue.client.xrange(queue.keys.recent))
        for job_id in self._attempted:
            outcomes = records.count(f'"{job_id}"'.encode())
            assert outcomes == 1 or (outcomes == 0 and job_id not in self._acknowledged), (
                f"{self.name}: {outcomes} outcomes of {job_id}"
            )


@pytest.mark.fault(1, 3)
async def test_killed_at_the_first_of_each_boundary(redis_server: RedisServer, redis_url: str, tmp_path: Path) -> None:
    assert redis_url == redis_server.url
    points = [Point(kind, 1, how) for kind in BOUNDARIES for how in HOW]
    assert await lives(redis_server, tmp_path, points) == [], "lives that went on to their end"


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.fault(1, 3)
async def test_killed_at_each_request(redis_server: RedisServer, redis_url: str, tmp_path: Path) -> None:
    assert redis_url == redis_server.url
    seen = await Life(redis_server, tmp_path, None).run()
    assert seen is not None
    assert set(seen) >= set(BOUNDARIES)
    points = [Point(kind, n, how) for kind, count in seen.items() for n in range(1, count + 1) for how in HOW]
    deaths = 0
    while points:
        survived = await lives(redis_server, tmp_path, points)
        last = {(point.kind, point.how): point.n for point in points}
        died = set(last.items()) - {((point.kind, point.how), point.n) for point in survived}
        deaths += len(points) - len(survived)
        points = [Point(kind, n + 1, how) for (kind, how), n in died]  # until a life has no such request any more
    print(f"{deaths} deaths; a life makes {seen.total()} requests: {dict(seen)}")  # noqa: T201 - for the reader


async def lives(server: RedisServer, folder: Path, points: Iterable[Point]) -> list[Point]:
    """Lead a life for each point, some at once; those that went on to their end."""
    some = asyncio.Semaphore(AT_ONCE)

    async def one(point: Point) -> bool:
        async with some:
            return await Life(server, folder, point).run() is None

    async with asyncio.TaskGroup() as group:
        deaths = {point: group.create_task(one(point)) for point in points}
    return [point for point, death in deaths.items() if not death.result()]


def _kind(request: bytes) -> str:
    """A script's name, else the command."""
    command, *words = request.split(b" ", 2)
    return SCRIPTS.get(words[0], "?") if command == b"EVALSHA" else command.decode()

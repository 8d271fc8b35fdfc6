"""The reclaimer: every sixth of a lease, jittered, one look at each queue, and dead workers' jobs back onto it.

One script per queue (`beat.lua`) brings what a worker must notice even when a message about it was lost: lanes, the next due time, whether
the queue is paused, cancelled jobs, dead workers, and how much Redis has pending for this worker (see the fetcher on phantoms).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any

from redis import exceptions

from aiojobs_rt.adapters.redis.connection import Away
from aiojobs_rt.adapters.redis.keys import control_channel, queues_key, worker_key
from aiojobs_rt.adapters.redis.routing import Wires
from aiojobs_rt.adapters.redis.scripts import script
from aiojobs_rt.core import events
from aiojobs_rt.core.message import MAX_CRASHES
from aiojobs_rt.errors import ConfigurationError
from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from aiojobs_rt.worker.courier import Courier
    from aiojobs_rt.worker.promoter import Promoter
    from aiojobs_rt.worker.served import Served
    from aiojobs_rt.worker.settler import Settler
    from aiojobs_rt.worker.state import WorkerState

logger = logging.getLogger("aiojobs_rt.reclaimer")

LIMIT = 500


class Reclaimer:
    """Looks after all queues of a worker.

    Args:
        state: the worker's.
        promoter: is told the next due times.
        courier: is told of jobs to carry.
        settler: is reminded of what Redis refused.
        renew: renews or takes the lease on a queue, when the heartbeat did not.
        on_cancel: interrupts a job that is cancelled.
        on_lanes: is told of a queue that has other lanes than before.
        details: what `worker:<id>` shows.
    """

    def __init__(
        self,
        state: WorkerState,
        *,
        promoter: Promoter,
        courier: Courier,
        settler: Settler,
        renew: Callable[[Served], Coroutine[Any, Any, None]],
        on_cancel: Callable[[Served, str], None],
        on_lanes: Callable[[Served], None],
        details: Callable[[], dict[str, str | int]],
    ) -> None:
        self._state = state
        self._promoter = promoter
        self._courier = courier
        self._settler = settler
        self._renew = renew
        self._on_cancel = on_cancel
        self._on_lanes = on_lanes
        self._details = details
        self._wires = Wires(state.adapter.endpoint, "aiojobs_rt:beat")
        self._refusals: dict[str, str] = {}
        self.soon = asyncio.Event()

    async def run(self) -> None:
        """Beat until cancelled."""
        beats = 0
        while True:
            self.soon.clear()  # before the look: what is asked for meanwhile is looked at again
            try:
                for served in list(self._state.queues.values()):
                    await self._try_beat(served)
                if beats % 3 == 0:
                    await self._announce()
                    self._state.redis.succeeded()
                beats += 1
                self._settler.retry_kept()
            except (Away, ConfigurationError) as error:
                await self._state.redis.failed(error)
                continue
            except exceptions.ResponseError as error:
                logger.error("the beat failed: %s", error)  # noqa: TRY400 - an answer of Redis, no fault of this code
            try:
                async with asyncio.timeout(self._state.lease / 6 * random.uniform(0.8, 1.0)):  # noqa: S311 - jitter
                    await self.soon.wait()
            except TimeoutError:
                pass

    async def _try_beat(self, served: Served) -> None:
        """Look at one queue; what Redis refuses there is no matter of the others."""
        try:
            await self.beat(served)
        except exceptions.ResponseError as error:
            if self._refusals.get(served.name) != str(error):
                logger.error("queue %s: the beat failed: %s", served.name, error)  # noqa: TRY400 - an answer of Redis, no fault of this code
                self._refusals[served.name] = str(error)
        except (Away, ConfigurationError) as error:
            if not self._state.adapter.endpoint.clustered:
                raise
            self._state.redis_of(served.name).note(error)  # the queues of other nodes are looked after all the same
        else:
            self._refusals.pop(served.name, None)

    async def beat(self, served: Served) -> None:
        """Look at one queue."""
        served.note_question()
        if not served.registered or time.monotonic() > served.deadline - served.lease / 2:
            await self._renew(served)
        if not served.registered:
            return
        keys = served.keys
        held = {lane: served.count_held(lane) for lane in served.lanes}
        now_ms, expiry, dead, due_ms, paused, lanes, pending, cancelled, outgoing = await self._wires.of(served.name).run(
            script("beat"),
            (
                keys.workers, keys.stream, keys.lanes, keys.cancelled,
                keys.scheduled, keys.retries, keys.paused, keys.outgoing,
            ),
            (served.consumer,),
        )  # fmt: skip
        self._state.redis_of(served.name).succeeded()
        self._state.clock.set(now_ms)
        served.note_answer()
        names = [lane.decode(errors="replace") for lane in lanes]
        if served.set_lanes(names):
            self._on_lanes(served)
        served.paused = bool(paused)
        self._compare(served, dict(zip(["", *names], pending, strict=True)), held)
        served.forget_old_cancels()
        for job_id in (marked.decode(errors="replace") for marked in cancelled):
            if job_id not in served.cancels:
                self._on_cancel(served, job_id)
        if due_ms >= 0:
            self._promoter.note_due(served.name, due_ms)
        if outgoing:
            self._courier.call(served)
        if expiry <= now_ms:  # taken away, or passed unnoticed here: Redis was away, or its clock has leapt
            await self._renew(served)
        elif dead and served.may_reclaim():
            await self._reclaim(served)

    def _compare(self, served: Served, pending: dict[str, int], held: dict[str, int]) -> None:
        """Whether Redis has more pending here than was held before it was asked, or is now; twice running it is a phantom."""
        if any(count < 0 for count in pending.values()):
            logger.warning("queue %s: a stream's group is gone; it is made again", served.name)
            served.registered = False
            self.soon.set()
            return
        more = any(count > max(held.get(lane, 0), served.count_held(lane)) for lane, count in pending.items())
        served.suspicious = served.suspicious + 1 if more else 0
        if served.suspicious >= 2:
            served.look_for_phantoms = True

    async def _reclaim(self, served: Served) -> None:
        """Requeue what dead workers held, page by page, until nobody is dead."""
        keys = served.keys
        options = settings()
        while True:
            state, victim, _, *jobs = await self._wires.of(served.name).run(
                script("reclaim"),
                (
                    keys.stream, keys.index, keys.workers, keys.grace, keys.lanes, keys.cancelled, keys.parked,
                    keys.dead, keys.recent, keys.stats, keys.errors, keys.wake, keys.call, keys.result,
                ),
                (
                    control_channel(self._state.adapter.prefix), served.name, served.consumer, LIMIT, options.recent,
                    options.dead_max_jobs, int(options.dead_max_age * 1000), MAX_CRASHES,
                ),
            )  # fmt: skip
            if state != b"reclaimed":
                return
            logger.warning(
                "queue %s: worker %s is dead; %d of its job(s) are put back",
                served.name,
                victim.decode(errors="replace"),
                len(jobs) // 4,
            )
            for job_id, job, crashes, became in zip(jobs[::4], jobs[1::4], jobs[2::4], jobs[3::4], strict=True):
                if events.subscribed:
                    _tell(served.name, job_id, job, crashes, became=became, worker=victim)
                if became == b"dead":
                    logger.error(
                        "job %s (%s) is dead: %d workers died while they ran it",
                        job_id.decode(errors="replace"),
                        job.decode(errors="replace"),
                        crashes,
                    )

    async def _announce(self) -> None:
        """Keep the registry's names and this worker's details; information only, so refusals at maxmemory do not matter."""
        prefix = self._state.adapter.prefix
        key = worker_key(prefix, self._state.name)
        details = [part for pair in self._details().items() for part in pair]
        registry = queues_key(prefix)
        await self._wires.of(registry).call_many([("SADD", registry, *self._state.queues)])
        await self._wires.of(key).call_many([("HSET", key, *details), ("PEXPIRE", key, int(self._state.lease * 2000))])

    async def withdraw(self) -> None:
        """Take back the worker's details."""
        key = worker_key(self._state.adapter.prefix, self._state.name)
        await self._wires.of(key).call("DEL", key)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._wires.close()


def _tell(queue: str, job_id: bytes, job: bytes, crashes: int, *, became: bytes, worker: bytes) -> None:
    """Tell of a job that a dead worker held, and of its end, if it came to one."""
    names = job_id.decode(errors="replace"), job.decode(errors="replace"), queue
    name, _, _epoch = worker.decode(errors="replace").rpartition(".")
    events.publish("reclaimed", *names, details={"worker": name, "crashes": crashes})
    if became == b"dead":
        reason = f"{crashes} workers died while they ran it"
        events.publish("dead", *names, error=reason, details={"reason": reason})
    elif became == b"cancelled":
        events.publish("cancelled", *names)

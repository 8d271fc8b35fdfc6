"""The leases: one per queue, not one per job. Taken at the start, renewed by the heartbeat thread and the beat, given up at the end.

A lease that was lost concerns its queue only: what runs of it is cancelled, what waits of it is dropped, and the worker registers under its
next epoch. A Redis that has lost its data has lost the lease too; then running jobs go on.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from redis import exceptions

from aiojobs_rt.adapters.redis.connection import Away, is_refusal
from aiojobs_rt.adapters.redis.scripts import script
from aiojobs_rt.errors import ConfigurationError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from aiojobs_rt.adapters.redis.routing import Wires
    from aiojobs_rt.worker.buffer import Buffer
    from aiojobs_rt.worker.served import Served
    from aiojobs_rt.worker.slots import Slots
    from aiojobs_rt.worker.state import WorkerState

logger = logging.getLogger("aiojobs_rt.leases")


class Leases:
    """The leases of one worker.

    Args:
        state: the worker's.
        wires: connections to share.
        buffer: what waits.
        slots: what runs.
        on_change: called when the queues should be looked at again, soon.
    """

    def __init__(
        self, state: WorkerState, *, wires: Wires, buffer: Buffer, slots: Slots, on_change: Callable[[], None]
    ) -> None:
        self._state = state
        self._wires = wires
        self._buffer = buffer
        self._slots = slots
        self._on_change = on_change
        self._given_up = False

    async def take_all(self, stopping: asyncio.Event) -> None:
        """Take the lease on every queue, however long Redis is away, unless the worker is stopped meanwhile.

        Raises:
            ConfigurationError: Redis refuses; the message says why.
        """
        clustered = self._state.adapter.endpoint.clustered
        for served in self._state.queues.values():
            while not served.registered and not stopping.is_set():
                try:
                    await self.register(served)
                except Away as error:
                    await self._state.redis_of(served.name).failed(error)
                    if clustered and any(other.registered for other in self._state.queues.values()):
                        break  # its node is away, others are not: the beat takes it later
                except exceptions.ResponseError as error:
                    if "WRONGTYPE" in str(error) or is_refusal(error):
                        raise ConfigurationError(f"queue {served.name}: {error}") from None
                    await self._state.redis_of(served.name).failed(error)
                else:
                    self._state.redis_of(served.name).succeeded()

    async def register(self, served: Served) -> None:
        """Take the lease on a queue, and make its groups. After all were given up it does nothing: a beat may still be on its way."""
        if self._given_up:
            return
        keys, consumer = served.keys, served.consumer
        sent = time.monotonic()
        now_ms, outage, born = await self._wires.of(served.name).run(
            script("register"),
            (keys.workers, keys.grace, keys.stream, keys.lanes, keys.wake + consumer, keys.stats),
            (consumer, served.lease_ms(), served.grace_ms()),
        )
        self._state.clock.set(now_ms)
        if outage < 0:
            served.registered = True  # as another worker found it
            self.note_lost(served, consumer, forgotten=False)
            await self.register(served)
            return
        served.born = born
        # a lane that is gone (FLUSHALL) must not be read: its group is not made again
        served.set_lanes(
            [
                lane.decode(errors="replace")
                for lane in await self._wires.of(served.name).call("ZRANGE", keys.lanes, 0, -1)
            ]
        )
        served.deadline = sent + served.lease
        served.registered = True
        served.look_for_phantoms = True
        if outage:
            logger.warning("queue %s: no worker had a valid lease; nobody reclaims for a while", served.name)

    async def heal(self, served: Served) -> None:
        """Make a queue's streams and groups again, once it is seen whether the lease still holds.

        Who reclaims it deletes the wake stream, and that ends a blocking read just as a flush does.
        """
        if served.registered:
            await self.renew(served)
        await self.register(served)

    async def renew(self, served: Served) -> None:
        """Renew in the loop, when the heartbeat thread did not; take the lease anew when there is none."""
        if not served.registered:
            await self.register(served)
            return
        keys, consumer = served.keys, served.consumer
        sent = time.monotonic()
        state, now_ms = await self._wires.of(served.name).run(
            script("renew"),
            (keys.workers, keys.grace, keys.wake + consumer, keys.stats),
            (consumer, served.lease_ms(), served.grace_ms(), served.born),
        )
        self._state.clock.set(now_ms)
        if state == b"held":
            served.deadline = sent + served.lease
        else:
            self.note_lost(served, consumer, forgotten=state == b"forgotten")
            await self.register(served)

    def note_lost(self, served: Served, consumer: str, *, forgotten: bool) -> None:
        """The lease on a queue is lost: its jobs run elsewhere by now. Or Redis has forgotten the queue: they run on here."""
        if served.consumer != consumer or not served.registered:
            return
        buffered = self._buffer.drain()
        self._buffer.put(delivery for delivery in buffered if delivery.served is not served)
        if forgotten:
            logger.warning(
                "queue %s: Redis has lost its data; this worker registers again, and running jobs go on", served.name
            )
            for held in served.held.values():
                held.clear()
            served.registered = False
        else:
            halted = self._slots.halt(
                "lost", lambda delivery: delivery.served is served and delivery.consumer == consumer
            )
            logger.error(
                "queue %s: the lease of %s was lost; %d running job(s) are cancelled, they run elsewhere",
                served.name,
                consumer,
                halted,
            )
            served.next_epoch()
        self._on_change()

    async def give_up_all(self) -> None:
        """Give up every lease, and take none any more; what is still pending here is reclaimed at once."""
        self._given_up = True
        for served in self._state.queues.values():
            if served.registered:
                keys, consumer = served.keys, served.consumer
                served.registered = False
                try:
                    await self._wires.of(served.name).run(
                        script("leave"),
                        (keys.workers, keys.stream, keys.lanes, keys.wake + consumer, keys.call + consumer),
                        (consumer,),
                    )
                except (Away, exceptions.ResponseError) as error:  # the others are given up all the same
                    if isinstance(error, Away) and not self._state.adapter.endpoint.clustered:
                        raise
                    logger.error("queue %s: its lease can't be given up: %s", served.name, error)  # noqa: TRY400 - an answer of Redis

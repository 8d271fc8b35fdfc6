"""The promoter: moves jobs that are due from the scheduled and retry sets onto their lanes. It sleeps until the next due time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from redis import exceptions

from aiojobs_rt.adapters.redis.connection import Away
from aiojobs_rt.adapters.redis.keys import control_channel
from aiojobs_rt.adapters.redis.routing import Wires
from aiojobs_rt.adapters.redis.scripts import script
from aiojobs_rt.errors import ConfigurationError

if TYPE_CHECKING:
    from aiojobs_rt.worker.served import Served
    from aiojobs_rt.worker.state import WorkerState

logger = logging.getLogger("aiojobs_rt.promoter")

LIMIT = 50
"""Jobs of one call at most: while Redis works on them, it answers nobody."""
REFUSED_FOR_MS = 5_000
AWAY_FOR_MS = 300
NEVER = float("inf")


class Promoter:
    """Promotes for all queues of a worker.

    Args:
        state: the worker's.
    """

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._wires = Wires(state.adapter.endpoint, "aiojobs_rt:promote")
        self._due: dict[str, float] = {}
        self._refusals: dict[str, str] = {}
        self._refused_until_ms: dict[str, float] = {}
        self._earlier = asyncio.Event()

    def note_due(self, queue: str, due_ms: float) -> None:
        """A job of this queue is due at an instant (ms, Redis' time); wakes the promoter when that is earlier than it knew.

        A queue that has refused is left alone for a while, whatever is due there.
        """
        due_ms = max(due_ms, self._refused_until_ms.get(queue, due_ms))
        if due_ms < self._due.get(queue, NEVER):
            self._due[queue] = due_ms
            self._earlier.set()

    async def run(self) -> None:
        """Promote until cancelled."""
        while True:
            soonest = min(self._due.values(), default=NEVER)
            pause = 3600.0 if soonest == NEVER else self._state.clock.seconds_until(soonest)
            if pause > 0:
                self._earlier.clear()
                try:
                    async with asyncio.timeout(pause + 0.0005):
                        await self._earlier.wait()
                    continue
                except TimeoutError:
                    pass
            for name, due_ms in list(self._due.items()):
                served = self._state.queues.get(name)
                if served is None or self._state.clock.seconds_until(due_ms) > 0.0005:
                    continue
                try:
                    await self.promote(served)
                except (Away, ConfigurationError) as error:
                    if self._state.adapter.endpoint.clustered:  # the queues of other nodes are not kept waiting
                        self.note_due(name, self._state.clock.now_ms() + AWAY_FOR_MS)
                        continue
                    self.note_due(name, due_ms)
                    await self._state.redis_of(name).failed(error)
                except exceptions.ResponseError as error:  # this queue's own trouble: the others are not kept waiting
                    self._note_refusal(name, error)

    def _note_refusal(self, name: str, error: exceptions.ResponseError) -> None:
        """The beat calls for what is due long before this queue is asked again, and nobody wants to read the same line each time."""
        if self._refusals.get(name) != str(error):
            logger.error("queue %s: what is due can't be promoted: %s", name, error)
            self._refusals[name] = str(error)
        self._refused_until_ms[name] = self._state.clock.now_ms() + REFUSED_FOR_MS
        self.note_due(name, 0)

    async def promote(self, served: Served) -> int:
        """Promote all that is due on a queue, at most 50 jobs a call; how many."""
        keys = served.keys
        total = 0
        moved: int
        self._due.pop(served.name, None)
        while True:
            moved, now_ms, next_ms = await self._wires.of(served.name).run(
                script("promote"),
                (keys.stream, keys.index, keys.scheduled, keys.retries, keys.parked, keys.lanes),
                (control_channel(self._state.adapter.prefix), served.name, LIMIT),
            )
            self._state.redis_of(served.name).succeeded()
            self._state.clock.set(now_ms)
            total += moved
            served.promoting = moved == LIMIT
            if not served.promoting:
                break
        self._refusals.pop(served.name, None)
        self._refused_until_ms.pop(served.name, None)
        if next_ms >= 0:
            self.note_due(served.name, next_ms)
        return total

    async def aclose(self) -> None:
        """Close the connection."""
        await self._wires.close()

"""The courier: carries jobs that a `retry_on(queue=...)` sends to another queue across to that queue's slot.

settle.lua leaves them on the queue's `outgoing` stream, in the same step in which they leave the queue. Each is carried by an idempotent
script and deleted afterwards, so that any number of couriers may carry the same one, and a crash in between loses and doubles nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis import exceptions

from aiojobs_rt.adapters.redis.connection import Away, Wire
from aiojobs_rt.adapters.redis.keys import control_channel, queue_keys, queues_key
from aiojobs_rt.adapters.redis.scripts import script
from aiojobs_rt.errors import ConfigurationError
from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    from aiojobs_rt.worker.served import Served
    from aiojobs_rt.worker.state import WorkerState

PAGE = 100


class Courier:
    """Carries for all queues of a worker.

    Args:
        state: the worker's.
    """

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._wire = Wire(state.adapter.endpoint, "aiojobs_rt:courier")
        self._laden: set[str] = set()
        self._called = asyncio.Event()

    def call(self, served: Served) -> None:
        """There is something to carry from this queue."""
        self._laden.add(served.name)
        self._called.set()

    async def run(self) -> None:
        """Carry until cancelled."""
        while True:
            await self._called.wait()
            self._called.clear()
            for name in list(self._laden):
                served = self._state.queues[name]
                try:
                    while await self._carry(served):
                        pass
                except (Away, ConfigurationError, exceptions.ResponseError) as error:
                    self._called.set()
                    await self._state.redis.failed(error)
                else:
                    self._laden.discard(name)

    async def _carry(self, served: Served) -> int:
        """Carry a page; how many."""
        outgoing = served.keys.outgoing
        entries: list[Any] = await self._wire.call("XRANGE", outgoing, "-", "+", "COUNT", PAGE)
        prefix = self._state.adapter.prefix
        keep_ms = int(settings().dead_max_age * 1000) + 86_400_000
        for entry, flat in entries:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            target = fields[b"queue"].decode()
            job_id = fields[b"id"].decode()
            keys = queue_keys(prefix, target)
            await self._wire.call("SADD", queues_key(prefix), target)
            await self._wire.run(
                script("arrive"),
                (
                    keys.stream, keys.index, keys.retries, keys.parked, keys.lanes,
                    f"{keys.arrived}{job_id}:{entry.decode()}", keys.errors + job_id,
                ),
                (control_channel(prefix), target, job_id, fields[b"delay"], fields[b"message"], fields[b"errors"], keep_ms),
            )  # fmt: skip
            await self._wire.call("XDEL", outgoing, entry)
        return len(entries)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._wire.close()

"""The courier: carries jobs that a `retry_on(queue=...)` sends to another queue across to that queue's slot.

settle.lua leaves them on the queue's `outgoing` stream, in the same step in which they leave the queue. Each is carried by an idempotent
script and deleted afterwards, so that any number of couriers may carry the same one, and a crash in between loses and doubles nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from redis import exceptions

from aiojobs_rt.adapters.redis.connection import Away
from aiojobs_rt.adapters.redis.keys import control_channel, queue_keys, queues_key
from aiojobs_rt.adapters.redis.routing import Wires
from aiojobs_rt.adapters.redis.scripts import script
from aiojobs_rt.core.attempt import error_record
from aiojobs_rt.core.message import check_queue_name
from aiojobs_rt.errors import ConfigurationError
from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    from aiojobs_rt.worker.served import Served
    from aiojobs_rt.worker.state import WorkerState

logger = logging.getLogger("aiojobs_rt.courier")

PAGE = 100
DEAD = 2
STALE = 60.0
"""Seconds after which a page is read again: a process that slept meanwhile holds what others have carried."""
ARRIVED_MS = 600_000
"""For how long it is known of a job that was carried, and is no longer here, that it has arrived: for whoever read it before. See STALE."""


class Courier:
    """Carries for all queues of a worker.

    Args:
        state: the worker's.
    """

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._wires = Wires(state.adapter.endpoint, "aiojobs_rt:courier")
        self._laden: set[str] = set()
        self._called = asyncio.Event()
        self._reported: set[bytes] = set()
        self._unread: dict[str, str] = {}

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
                self._laden.discard(name)
                try:
                    await self._carry(served)
                except (Away, ConfigurationError) as error:
                    await self._state.redis.failed(error)
                    self.call(served)
                except exceptions.ResponseError as error:  # this queue's own trouble; the next beat calls again
                    if self._unread.get(name) != str(error):
                        logger.error("queue %s: what leaves it can't be read: %s", name, error)  # noqa: TRY400 - an answer of Redis
                        self._unread[name] = str(error)
                else:
                    self._unread.pop(name, None)

    async def _carry(self, served: Served) -> None:
        """Carry all that waits. What a queue refuses stays for the next beat, and holds up nothing behind it."""
        outgoing = served.keys.outgoing
        wire = self._wires.of(served.name)
        start = "-"
        while entries := await wire.call("XRANGE", outgoing, start, "+", "COUNT", PAGE):
            read_at = time.time()  # the wall clock: it goes on while the machine sleeps
            for entry, fields in entries:
                if abs(time.time() - read_at) > STALE:
                    break
                start = f"({entry.decode()}"
                try:
                    target, arrived = await self._hand_over(entry, fields)
                except ConfigurationError:
                    raise
                except (exceptions.ResponseError, ValueError) as error:  # ValueError: not written by settle.lua
                    if entry in self._reported:
                        continue
                    self._reported.add(entry)
                    logger.error(  # noqa: TRY400 - an answer of Redis, no fault of this code
                        "queue %s: entry %s of %s can't be carried to its queue (%s: %s); it is kept and tried again",
                        served.name, entry.decode(), outgoing, type(error).__name__, error,
                    )  # fmt: skip
                else:
                    self._reported.discard(entry)
                    await wire.call("XDEL", outgoing, entry)
                    with suppress(exceptions.ResponseError):  # then it is known for a day
                        await self._wires.of(target).call("PEXPIRE", arrived, ARRIVED_MS)

    async def _hand_over(self, entry: bytes, fields: list[bytes]) -> tuple[str, str]:
        """Bring one to its queue; that queue, and the key that says that it has arrived there."""
        _, queue, _, job, _, delay, _, message, _, history = fields
        target, job_id = check_queue_name(queue.decode()), job.decode()
        prefix = self._state.adapter.prefix
        keys = queue_keys(prefix, target)
        registry, arrived = queues_key(prefix), f"{keys.arrived}{job_id}:{entry.decode()}"
        await self._wires.of(registry).call("SADD", registry, target)
        reason = f"malformed message: the delay with which it was sent to this queue is no count of ms: {delay.decode(errors='replace')!r:.100}"
        fault = error_record("MalformedMessage", reason, "", self._state.clock.now_ms(), self._state.name)
        became = await self._wires.of(target).run(
            script("arrive"),
            (
                keys.stream, keys.index, keys.retries, keys.parked, keys.lanes, arrived, keys.errors + job_id,
                keys.moved + job_id, keys.dead,
            ),
            (
                control_channel(prefix), target, job_id, delay, message, history,
                int(settings().dead_max_age * 1000) + 86_400_000, fault,
            ),
        )  # fmt: skip
        if became == DEAD:
            logger.error("job %s is dead on queue %s: %s", job_id, target, reason)
        return target, arrived

    async def aclose(self) -> None:
        """Close the connection."""
        await self._wires.close()

"""Progress: what the steps of running jobs have reached is saved beside the queue, so that a kill -9 loses a second of it at most.

The message itself carries the progress whenever it goes back to Redis. What is saved here is for the one case in which it does not go
back: its worker dies. All jobs of a worker that have got further within a second are saved in one request.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from redis import exceptions

from aiojobs_rt.adapters.redis.connection import Away
from aiojobs_rt.adapters.redis.keys import queue_keys
from aiojobs_rt.adapters.redis.routing import Wires
from aiojobs_rt.adapters.redis.scripts import script
from aiojobs_rt.core.continuation import FIELD, progress_of
from aiojobs_rt.errors import ConfigurationError

if TYPE_CHECKING:
    from aiojobs_rt.core.continuation import Step
    from aiojobs_rt.core.message import JobMessage
    from aiojobs_rt.worker.state import WorkerState

logger = logging.getLogger("aiojobs_rt.progress")

EVERY = 1.0
KEEP_MS = 7 * 86_400_000


class Progress:
    """The host of the continuations of one worker.

    Args:
        state: the worker's.

    Attributes:
        stopping: jobs in steps end at their next checkpoint.
    """

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._wires = Wires(state.adapter.endpoint, "aiojobs_rt:progress")
        self._moved: dict[str, JobMessage] = {}
        self._some = asyncio.Event()
        self._saved: set[str] = set()
        self._ended: dict[str, str] = {}
        self.stopping = False

    def interrupts(self, message: JobMessage, step: Step | None) -> bool:  # noqa: ARG002 - every job alike
        """Whether jobs end at the checkpoint that they have reached."""
        return self.stopping

    def save(self, message: JobMessage) -> None:
        """Save what this job has reached, within a second."""
        self._moved[message.id] = message
        self._some.set()

    def ended(self, message: JobMessage) -> None:
        """The run is over: what it reached goes back with its message, or is of no use any more."""
        self._moved.pop(message.id, None)
        if message.id in self._saved:
            self._saved.discard(message.id)
            self._ended[message.id] = message.queue
            self._some.set()

    async def restore(self, message: JobMessage) -> bytes | None:
        """What was saved last for a job whose worker died; waits for Redis, and tries again until it answers.

        None when nothing was saved, or what lies there is none: then the job goes on from what its message holds.
        """
        while True:
            try:
                saved: bytes | None = await self._wires.of(message.queue).call(
                    "GET", self._key(message.queue, message.id)
                )
            except (Away, ConfigurationError) as error:
                await self._state.redis_of(message.queue).failed(error)
            except exceptions.ResponseError as error:
                logger.warning("job %s (%s): its saved progress can't be read: %s", message.id, message.job, error)
                return None
            else:
                return None if saved is None else saved.partition(b" ")[2]

    async def run(self) -> None:
        """Save until cancelled."""
        while True:
            await self._some.wait()
            await asyncio.sleep(EVERY)
            self._some.clear()
            try:
                await self._flush()
            except (Away, ConfigurationError) as error:
                self._some.set()
                await self._state.redis.failed(error)
            except exceptions.ResponseError as error:
                logger.warning("the saved progress of ended jobs can't be removed: %s", error)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._wires.close()

    async def _flush(self) -> None:
        while self._ended:
            job_id, queue = next(iter(self._ended.items()))
            await self._wires.of(queue).call("DEL", self._key(queue, job_id))
            del self._ended[job_id]
        refused: list[tuple[str, exceptions.ResponseError]] = []
        for message in list(self._moved.values()):
            value = progress_of(message)
            if value is None or message.id not in self._moved:  # it has ended while another's was saved
                continue
            moves = int(message.extra[FIELD]["moves"])
            self._saved.add(message.id)
            try:
                await self._wires.of(message.queue).run(
                    script("progress"), (self._key(message.queue, message.id),), (moves, value, KEEP_MS)
                )
            except exceptions.ResponseError as error:
                # at maxmemory, or a key of a wrong type: a crash costs this job more of its progress, and no other job anything
                refused.append((message.id, error))
            if (latest := self._moved.get(message.id)) is not None and latest.extra[FIELD]["moves"] == moves:
                del self._moved[message.id]
        if refused:
            job_id, why = refused[0]
            more = f", and that of {len(refused) - 1} more" if len(refused) > 1 else ""
            logger.warning("the progress of job %s%s can't be saved: %s", job_id, more, why)

    def _key(self, queue: str, job_id: str) -> str:
        return queue_keys(self._state.adapter.prefix, queue).progress + job_id

"""RedisAdapter: jobs on Redis. What producers use; workers use its endpoint and prefix.

Connections belong to a process and an event loop: the first use in a loop makes a `_Session`, and the session ends with its loop.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from typing import TYPE_CHECKING, Any, Self

import orjson

from aiojobs_rt.adapters.base import Ended
from aiojobs_rt.adapters.redis.connection import Endpoint, Wire
from aiojobs_rt.adapters.redis.enqueuer import Enqueuer
from aiojobs_rt.adapters.redis.keys import control_channel, queue_keys
from aiojobs_rt.adapters.redis.scripts import script
from aiojobs_rt.adapters.redis.subscriber import Subscriber
from aiojobs_rt.core.message import queue_of
from aiojobs_rt.errors import ResultNotKept
from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from aiojobs_rt.adapters.base import Envelope, Status

LOOK_AGAIN = 2.0
_WAITING: dict[bytes, Status] = {
    b"scheduled": "scheduled",
    b"retries": "retrying",
    b"dead": "dead",
    b"queued": "queued",
    b"running": "running",
}


class RedisAdapter:
    """Carries jobs on Redis streams.

    It may be made at import time, used from any number of event loops and after a fork: each loop has its own connections, made at first
    use and closed with the loop, or by `aclose`. `async with adapter:` closes them at the end.

    Args:
        url: redis://, rediss://, unix:// or embedded://DIR; used as given, whatever the environment says.
        prefix: what all keys begin with; default: AIOJOBS_RT_PREFIX, else "aiojobs".
        enqueue_timeout: seconds for which an enqueue is tried again; default: AIOJOBS_RT_ENQUEUE_TIMEOUT, else 10.

    Raises:
        ConfigurationError: the URL is wrong.
    """

    def __init__(self, url: str, *, prefix: str | None = None, enqueue_timeout: float | None = None) -> None:
        self.endpoint = Endpoint(url)
        self.prefix = settings().prefix if prefix is None else prefix
        self._enqueue_timeout = settings().enqueue_timeout if enqueue_timeout is None else enqueue_timeout
        self._sessions: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Session] = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"RedisAdapter({self.endpoint.display!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def enqueue(self, envelopes: Sequence[Envelope]) -> list[bool]:
        """Enqueue jobs; see `Adapter.enqueue`."""
        return await (await self._session()).enqueuer.enqueue(envelopes)

    async def status(self, job_id: str) -> Status:
        """Where a job is; see `JobHandle.status`."""
        state, detail = await self._look(job_id)
        if state in _WAITING:
            return _WAITING[state]
        if state == b"kept":
            return orjson.loads(detail)["outcome"]  # type: ignore[no-any-return] # written by a worker of ours
        if state == b"ended":
            return orjson.loads(detail)[2]  # type: ignore[no-any-return] # written by a worker of ours
        return "unknown"

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job; see `JobHandle.cancel`."""
        queue = await self._queue_now(job_id)
        keys = queue_keys(self.prefix, queue)
        answer = await (await self._session()).wire.run(
            script("cancel"),
            (
                keys.index, keys.stream, keys.cancelled, keys.scheduled, keys.retries,
                keys.parked, keys.recent, keys.stats, keys.errors + job_id, keys.result + job_id,
            ),
            (job_id, control_channel(self.prefix), queue, settings().recent),
        )  # fmt: skip
        return answer in (b"gone", b"marked")

    async def wait_ended(self, job_id: str, *, timeout_ms: int | None) -> Ended:
        """Wait until a job has ended, by pub/sub: subscribe, look, wait; look again every 2 s."""
        session = await self._session()
        channel = queue_keys(self.prefix, await self._queue_now(job_id)).result + job_id
        told = asyncio.Event()

        def listener(_: bytes) -> None:
            told.set()

        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000):
                await session.subscriber.listen(channel, listener)
                while True:
                    told.clear()
                    ended = await self._ended(job_id)
                    if ended is not None:
                        return ended
                    try:
                        async with asyncio.timeout(LOOK_AGAIN):
                            await told.wait()
                    except TimeoutError:
                        pass
        except TimeoutError:
            raise TimeoutError(f"job {job_id} has not ended within {(timeout_ms or 0) / 1000:g} s") from None
        finally:
            session.subscriber.leave(channel, listener)

    async def aclose(self) -> None:
        """Close what this loop holds, after what is being enqueued; leave the server of an `embedded://` URL. It may be used again."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.aclose()
        if not self._sessions:
            self.endpoint.release()

    async def _ended(self, job_id: str) -> Ended | None:
        state, detail = await self._look(job_id)
        if state == b"kept":
            return ended_of(detail)
        if state == b"ended":
            return Ended(orjson.loads(detail)[2], error="its result is not kept")
        if state == b"dead":
            queue = await self._queue_now(job_id)
            key = queue_keys(self.prefix, queue).errors + job_id
            record = await (await self._session()).wire.call("LINDEX", key, 0)
            return Ended("dead", error=error_text(record))
        if state == b"unknown":
            raise ResultNotKept(
                f"nothing is known of job {job_id}: its result was not kept, or has expired", job_id=job_id
            )
        return None

    async def _look(self, job_id: str) -> tuple[bytes, bytes]:
        queue = queue_of(job_id)
        for _ in range(8):
            keys = queue_keys(self.prefix, queue)
            state, detail = await (await self._session()).wire.run(
                script("look"),
                (keys.index, keys.stream, keys.workers, keys.recent, keys.result + job_id, keys.moved + job_id),
                (job_id,),
            )
            if state != b"moved":
                return state, detail
            queue = detail.decode()
        return b"unknown", b""

    async def _queue_now(self, job_id: str) -> str:
        """The queue on which a job is, which is another than its id's once a retry_on has sent it there."""
        queue = queue_of(job_id)
        wire = (await self._session()).wire
        for _ in range(8):
            keys = queue_keys(self.prefix, queue)
            known, target = await wire.call_many([("HEXISTS", keys.index, job_id), ("GET", keys.moved + job_id)])
            if known or not isinstance(target, bytes):
                return queue
            queue = target.decode()
        return queue

    async def _session(self) -> _Session:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.pid != os.getpid():
            if session is not None:
                session.abandon()
            session = _Session(self.endpoint, prefix=self.prefix, enqueue_timeout=self._enqueue_timeout)
            self._sessions[loop] = session
            await session.bind_to_loop(lambda: self._sessions.pop(loop, None))
        return session


class _Session:
    """The connections of one process and loop."""

    def __init__(self, endpoint: Endpoint, *, prefix: str, enqueue_timeout: float) -> None:
        self.pid = os.getpid()
        self.enqueuer = Enqueuer(endpoint, prefix=prefix, timeout=enqueue_timeout)
        self.wire = Wire(endpoint, "aiojobs_rt")
        self.subscriber = Subscriber(endpoint, "aiojobs_rt:results")
        self._guard: AsyncGenerator[None] | None = None

    async def bind_to_loop(self, forget: Callable[[], object]) -> None:
        """Have the loop close the connections when it ends: a loop closes the async generators that run in it."""
        self._guard = self._close_with_loop(forget)
        await anext(self._guard)

    async def aclose(self) -> None:
        await self.enqueuer.aclose()
        if self._guard is not None:
            await self._guard.aclose()

    def abandon(self) -> None:
        self.enqueuer.abandon()
        self.wire.abandon()

    async def _close_with_loop(self, forget: Callable[[], object]) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            forget()
            await self.subscriber.aclose()
            await self.wire.close()
            await self.enqueuer.close()


def ended_of(record: bytes) -> Ended:
    """How a job ended, from the record that a worker kept: `{"outcome": ..., "result": ..., "error": ...}`."""
    fields: dict[str, Any] = orjson.loads(record)
    outcome = fields["outcome"]
    if outcome != "succeeded":
        return Ended(outcome, error=fields.get("error", ""))
    # the result's own bytes, not what orjson makes of them: an integer may be longer than 64 bits
    return Ended(outcome, result=record[len(SUCCEEDED_RECORD) : -1])


SUCCEEDED_RECORD = b'{"outcome":"succeeded","result":'


def error_text(record: bytes | None) -> str:
    """Class and message of an error's record, for people."""
    if not record:
        return "its errors are not kept"
    fields: dict[str, Any] = orjson.loads(record)
    return f"{fields['error']}: {fields['message']}"

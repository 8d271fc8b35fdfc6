"""RedisAdapter: jobs on Redis. What producers use; workers use its endpoint and prefix.

Connections belong to a process and an event loop: the first use in a loop makes a `_Session`, and the session ends with its loop.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import random
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, cast

from aiojobs_rt.adapters.base import Ended
from aiojobs_rt.adapters.redis.connection import Away
from aiojobs_rt.adapters.redis.endpoints import endpoint_of
from aiojobs_rt.adapters.redis.enqueuer import Enqueuer, Replication, route_of
from aiojobs_rt.adapters.redis.keys import control_channel, queue_keys, queues_key
from aiojobs_rt.adapters.redis.records import ended_of, error_text, opened, outcome_of
from aiojobs_rt.adapters.redis.routing import Wires
from aiojobs_rt.adapters.redis.scripts import script
from aiojobs_rt.adapters.redis.shards import Shards
from aiojobs_rt.adapters.redis.subscriber import Subscriber
from aiojobs_rt.core.message import home_of
from aiojobs_rt.core.progress import progress_from
from aiojobs_rt.errors import ConfigurationError, RedisUnavailable, ResultNotKept
from aiojobs_rt.settings import PREFIX, settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from aiojobs_rt.adapters.base import Envelope, Status
    from aiojobs_rt.adapters.redis.connection import Argument
    from aiojobs_rt.adapters.redis.endpoint import Endpoint
    from aiojobs_rt.adapters.redis.keys import QueueKeys
    from aiojobs_rt.core.progress import Progress

LOOK_AGAIN = 2.0
HOPS = 8
REMEMBER_ADMITTED_MS = 86_400_000
_WAITING: dict[bytes, Status] = {
    b"scheduled": "scheduled",
    b"retries": "retrying",
    b"dead": "dead",
    b"queued": "queued",
    b"running": "running",
    b"crossing": "retrying",
}


class RedisAdapter:
    """Carries jobs on Redis streams.

    It may be made at import time, used from any number of event loops and after a fork: each loop has its own connections, made at first
    use and closed with the loop, or by `aclose`. `async with adapter:` closes them at the end.

    Args:
        url: redis://, rediss://, unix://, redis+sentinel://, redis+cluster:// or embedded://DIR; used as given, whatever the environment says.
        prefix: what all keys begin with; default: AIOJOBS_RT_PREFIX, else "aiojobs".
        enqueue_timeout: seconds for which an enqueue is tried again; default: AIOJOBS_RT_ENQUEUE_TIMEOUT, else 10.
        shards: how many streams which queue is spread over; default: AIOJOBS_RT_SHARDS, else one each.
        wait_replicas: an enqueue returns when so many replicas have acknowledged it; default: AIOJOBS_RT_WAIT_REPLICAS, else 0.
        wait_timeout: seconds for which it waits for them; default: AIOJOBS_RT_WAIT_TIMEOUT, else 1.

    Raises:
        ConfigurationError: the URL or the prefix is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str | None = None,
        enqueue_timeout: float | None = None,
        shards: Mapping[str, int] | None = None,
        wait_replicas: int | None = None,
        wait_timeout: float | None = None,
    ) -> None:
        self.endpoint = endpoint_of(url)
        self.prefix = settings().prefix if prefix is None else prefix
        if not PREFIX.fullmatch(self.prefix):
            raise ConfigurationError(f"prefix must be 1 to 64 of A-Z, a-z, 0-9, '_', ':' and '-', got {self.prefix!r}")
        options = settings()
        self._timeout = options.enqueue_timeout if enqueue_timeout is None else enqueue_timeout
        self.shards = Shards(options.shards if shards is None else shards)
        replicas = options.wait_replicas if wait_replicas is None else wait_replicas
        patience = options.wait_timeout if wait_timeout is None else wait_timeout
        if replicas < 0 or patience <= 0:
            raise ConfigurationError("wait_replicas must be at least 0, and wait_timeout more than 0 seconds")
        self._replication = Replication(replicas, int(patience * 1000)) if replicas else None
        self._sessions: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Session] = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"RedisAdapter({self.endpoint.display!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def enqueue(self, envelopes: Sequence[Envelope]) -> list[bool]:
        """Enqueue jobs; see `Adapter.enqueue`."""
        if self.shards:
            self.shards.spread(envelopes)
        session = self._sessions.get(asyncio.get_running_loop())
        if session is None or session.pid != os.getpid():
            session = await self._session()
        return await session.enqueuer.enqueue(envelopes)

    async def enqueue_once(self, envelopes: Sequence[Envelope]) -> list[bool]:
        """Enqueue jobs, in order within each queue, each once: per job whether it was enqueued now (False: it was there, or has been within a day).

        For whoever carries jobs from elsewhere, such as an outbox, and may carry one twice.

        Raises:
            RedisUnavailable: Redis did not answer; call again with the same envelopes.
        """
        answers = [False] * len(envelopes)
        by_queue: dict[str, list[int]] = {}
        for index, envelope in enumerate(envelopes):
            by_queue.setdefault(envelope.queue, []).append(index)
        for queue, indexes in by_queue.items():
            keys = queue_keys(self.prefix, queue)
            arguments: list[Argument] = [control_channel(self.prefix), queue, REMEMBER_ADMITTED_MS]
            for envelope in (envelopes[index] for index in indexes):
                arguments += (envelope.id, envelope.job, envelope.args, envelope.meta, route_of(envelope))
            registry = queues_key(self.prefix)
            await (await self._session()).wires.of(registry).call("SADD", registry, queue)
            answer, _ = await self._run(
                "admit",
                queue,
                (keys.stream, keys.index, keys.scheduled, keys.parked, keys.lanes, keys.arrived),
                arguments,
            )
            for index, mark in zip(indexes, answer.decode(), strict=True):
                answers[index] = mark == "1"
        return answers

    async def status(self, job_id: str) -> Status:
        """Where a job is; see `JobHandle.status`."""
        state, detail, _ = await self._look(job_id)
        if state in _WAITING:
            return _WAITING[state]
        if state == b"kept":
            return cast("Status", ended_of(detail).outcome)
        if state == b"ended":
            return cast("Status", outcome_of(detail))
        return "unknown"

    async def progress(self, job_id: str) -> Progress | None:
        """How far the steps of a job have got; see `JobHandle.progress`."""
        (_, *found), _ = await self._follow(
            "reached",
            job_id,
            lambda keys: (
                keys.index, keys.stream, keys.parked, keys.moved + job_id, keys.outgoing, keys.progress + job_id,
            ),
        )  # fmt: skip
        return progress_from(*found)

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job; see `JobHandle.cancel`. One that is crossing to another queue is cancelled when it has arrived."""
        deadline = time.monotonic() + self._timeout
        repeated = False
        while True:
            state, detail, queue = await self._look(job_id)
            if state == b"crossing":
                if time.monotonic() > deadline:
                    raise RedisUnavailable(
                        f"job {job_id} is on its way from queue {queue} to {detail.decode()}, and no worker of {queue} carries it "
                        "there; start one, or cancel it again later"
                    )
                await asyncio.sleep(0.02)
                continue
            if state == b"ended" and repeated:
                return outcome_of(detail) == "cancelled"  # by the call whose reply was lost
            if state in (b"kept", b"ended", b"dead", b"unknown"):
                return False
            keys = queue_keys(self.prefix, queue)
            answer, sent = await self._run(
                "cancel",
                queue,
                (
                    keys.index, keys.stream, keys.cancelled, keys.scheduled, keys.retries,
                    keys.parked, keys.recent, keys.stats, keys.errors + job_id, keys.result + job_id,
                ),
                (job_id, control_channel(self.prefix), queue, settings().recent),
            )  # fmt: skip
            if answer in (b"gone", b"marked"):
                return True
            repeated = repeated or sent > 1  # and look again: it has ended, or moved on, since

    async def wait_ended(self, job_id: str, *, timeout_ms: int | None) -> Ended:
        """Wait until a job has ended, by pub/sub: subscribe, look, wait for the record of its end.

        It looks again where the record is not sent along, and every 2 s.
        """
        session = await self._session()
        told = asyncio.Event()
        records: list[bytes] = []
        channel = ""

        def listener(message: bytes) -> None:
            if message.startswith(b"{"):
                records.append(message)
            told.set()

        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000):
                queue = home_of(job_id)
                while True:
                    if channel != (current := queue_keys(self.prefix, queue).result + job_id):
                        session.subscriber.leave(channel, listener)
                        channel = current
                        await session.subscriber.listen(channel, listener)
                    told.clear()
                    state, detail, now_on = await self._look(job_id)
                    ended = await self._ended(job_id, state, detail, now_on)
                    if ended is not None:
                        return ended
                    if now_on != queue:
                        queue = now_on  # listen there, and look again: it may have ended meanwhile
                        continue
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_AGAIN):
                            await told.wait()
                    if records:
                        return opened(job_id, ended_of(records[0]))
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

    async def _ended(self, job_id: str, state: bytes, detail: bytes, queue: str) -> Ended | None:
        if state == b"kept":
            return opened(job_id, ended_of(detail))
        if state == b"ended":
            return Ended(outcome_of(detail), error="its result is not kept")
        if state == b"dead":
            record = (
                await (await self._session())
                .wires.of(queue)
                .call("LINDEX", queue_keys(self.prefix, queue).errors + job_id, 0)
            )
            return Ended("dead", error=error_text(record))
        if state == b"unknown":
            raise ResultNotKept(
                f"nothing is known of job {job_id}: its result was not kept, or has expired", job_id=job_id
            )
        return None

    async def _look(self, job_id: str) -> tuple[bytes, bytes, str]:
        """State, detail (see look.lua), and the queue: another than the id's once a retry_on has sent the job there."""
        (state, detail), queue = await self._follow(
            "look",
            job_id,
            lambda keys: (
                keys.index, keys.stream, keys.workers, keys.recent, keys.result + job_id, keys.moved + job_id,
                keys.outgoing,
            ),
        )  # fmt: skip
        return state, detail, queue

    async def _follow(
        self, name: str, job_id: str, keys: Callable[[QueueKeys], Sequence[Argument]]
    ) -> tuple[list[bytes], str]:
        """What a script says of a job that is asked for on its id's queue, then where it has moved to; and the queue."""
        queue = home_of(job_id)
        for _ in range(HOPS):
            (state, *found), _ = await self._run(name, queue, keys(queue_keys(self.prefix, queue)), (job_id,))
            if state != b"moved":
                return [state, *found], queue
            queue = found[0].decode()
        return [b"unknown", b""], queue

    async def _run(
        self, name: str, queue: str, keys: Sequence[Argument], arguments: Sequence[Argument]
    ) -> tuple[Any, int]:
        """Run a script that may be sent twice until it is answered; its answer, and how often it was sent."""
        deadline = time.monotonic() + self._timeout
        pause = 0.02
        for sent in itertools.count(1):
            try:
                return await (await self._session()).wires.of(queue).run(script(name), keys, arguments), sent
            except Away:
                if time.monotonic() + pause >= deadline:
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(pause * 2, 1.0)
        raise AssertionError  # not reached

    async def _session(self) -> _Session:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.pid != os.getpid():
            if session is not None:
                session.abandon()
            session = _Session(
                self.endpoint, prefix=self.prefix, enqueue_timeout=self._timeout, replication=self._replication
            )
            self._sessions[loop] = session
            await session.bind_to_loop(functools.partial(self._forget, loop, session))
        return session

    def _forget(self, loop: asyncio.AbstractEventLoop, session: _Session) -> None:
        if self._sessions.get(loop) is session:
            del self._sessions[loop]


class _Session:
    """The connections of one process and loop."""

    def __init__(
        self, endpoint: Endpoint, *, prefix: str, enqueue_timeout: float, replication: Replication | None
    ) -> None:
        self.pid = os.getpid()
        self.enqueuer = Enqueuer(endpoint, prefix=prefix, timeout=enqueue_timeout, replication=replication)
        self.wires = Wires(endpoint, "aiojobs_rt")
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
        self.wires.abandon()

    async def _close_with_loop(self, forget: Callable[[], object]) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            forget()
            await self.subscriber.aclose()
            await self.wires.close()
            await self.enqueuer.close()

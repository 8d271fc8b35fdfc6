"""The enqueuer: what concurrent callers of `perform_later` bring goes out in one round trip.

1. A caller puts its envelopes into the batcher of their queue and waits for the answer.
2. One numbered call at a time is sent, at once where the connection is there; what arrives meanwhile waits for the next one.
3. A call without an answer is sent again, by a task, under the same number, until it is answered or the time is up. (G4)

A caller that is cancelled only stops waiting. (G5)
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis import exceptions

from aiojobs_rt.adapters.redis.batching import Batcher
from aiojobs_rt.adapters.redis.connection import CALL_TIMEOUT, Away, pack, raise_error
from aiojobs_rt.adapters.redis.keys import control_channel, queue_keys, queues_key
from aiojobs_rt.adapters.redis.routing import Wires
from aiojobs_rt.adapters.redis.scripts import script
from aiojobs_rt.core.context import about
from aiojobs_rt.core.message import ENCRYPTED_VERSION
from aiojobs_rt.errors import ConfigurationError, EnqueueError, QueueFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiojobs_rt.adapters.base import Envelope
    from aiojobs_rt.adapters.redis.connection import Argument
    from aiojobs_rt.adapters.redis.endpoint import Endpoint

logger = logging.getLogger("aiojobs_rt.enqueuer")

WIRES = 4
CALL_KEPT_MS = 600_000
_OVERHEAD = 120
_WHERE = ". Is Redis running there? AIOJOBS_RT_REDIS_URL, redis_url in aiojobs_rt.toml, or the adapter of the job class names it"
DONE = [b""]


@dataclass(frozen=True, slots=True)
class Replication:
    """How many replicas must acknowledge an enqueue, and how long they have for it."""

    replicas: int
    timeout_ms: int


class Enqueuer:
    """Enqueues for one process and loop.

    Args:
        endpoint: where Redis is.
        prefix: what all keys begin with.
        timeout: seconds for which a call is tried again.
        replication: how many replicas must have it before a call counts as answered; None: none.
    """

    def __init__(
        self, endpoint: Endpoint, *, prefix: str, timeout: float, replication: Replication | None = None
    ) -> None:
        self._prefix = prefix
        self._timeout = timeout
        self._client = secrets.token_urlsafe(9)
        self._replication = replication
        self._wires = [Wires(endpoint, "aiojobs_rt:enqueue") for _ in range(WIRES)]
        self._queues: dict[str, _Queue] = {}

    async def enqueue(self, envelopes: Sequence[Envelope]) -> list[bool]:
        """Enqueue, in order within each queue; per envelope whether it was enqueued."""
        queues = {envelope.queue for envelope in envelopes}
        if len(queues) == 1:
            answers: list[bool] = await self._batcher(queues.pop()).put(_Parcel(envelopes))
            return answers
        by_queue: dict[str, list[int]] = {}
        for index, envelope in enumerate(envelopes):
            by_queue.setdefault(envelope.queue, []).append(index)
        answers = [True] * len(envelopes)
        futures = [
            (indexes, self._batcher(queue).put(_Parcel([envelopes[index] for index in indexes])))
            for queue, indexes in by_queue.items()
        ]
        results = await asyncio.gather(*(future for _, future in futures), return_exceptions=True)
        for (indexes, _), result in zip(futures, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            for index, answer in zip(indexes, result, strict=True):
                answers[index] = answer
        return answers

    async def aclose(self) -> None:
        """Wait for what is being sent, then close the connections."""
        for queue in self._queues.values():
            await queue.batcher.aclose()
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        for wires in self._wires:
            await wires.close()

    def abandon(self) -> None:
        """Forget connections of another process or a loop that is gone."""
        for wires in self._wires:
            wires.abandon()

    def _batcher(self, name: str) -> Batcher[_Parcel]:
        queue = self._queues.get(name)
        if queue is None:
            wires = self._wires[len(self._queues) % WIRES]
            queue = self._queues[name] = _Queue(
                self._prefix, name, self._client, wires, timeout=self._timeout, replication=self._replication
            )
        return queue.batcher


class _Parcel:
    """What one caller enqueues on one queue."""

    __slots__ = ("answered", "envelopes", "jobs", "size")

    def __init__(self, envelopes: Sequence[Envelope]) -> None:
        self.envelopes = envelopes
        self.jobs = len(envelopes)
        self.size = sum(len(envelope.args) for envelope in envelopes) + _OVERHEAD * self.jobs
        self.answered: asyncio.Future[list[bool]] | None = None


@dataclass(slots=True)
class _Begun:
    """A call that was sent without a task; if that failed, one sends it again.

    Attributes:
        error: why it has no answer, if Redis may be away.
    """

    parcels: list[_Parcel]
    arguments: list[Argument]
    at: float
    answered: Callable[[list[list[bool]] | None], None]
    error: Away | None = None


class _Queue:
    """One queue's calls, numbered."""

    def __init__(
        self,
        prefix: str,
        queue: str,
        client: str,
        wires: Wires,
        *,
        timeout: float,
        replication: Replication | None,
    ) -> None:
        keys = queue_keys(prefix, queue)
        self._queue = queue
        self._wire = wires.of(queue)
        self._timeout = timeout
        self._replication = replication
        self._keys = (keys.stream, keys.index, keys.call + client, keys.scheduled, keys.parked, keys.lanes)
        self._channel = control_channel(prefix)
        self._queues_key = queues_key(prefix)
        self._registry = wires.of(self._queues_key)
        self._number = 0
        self._registered = False
        self._begun: _Begun | None = None
        self._head = ("EVALSHA", script("enqueue").sha, len(self._keys), *self._keys)
        self.batcher: Batcher[_Parcel] = Batcher(self._send, begin=self._begin)

    def _begin(self, parcels: list[_Parcel], answered: Callable[[list[list[bool]] | None], None]) -> bool:
        """Send a call, if all is as it mostly is."""
        if not self._registered or self._replication is not None or (replies := self._wire.free()) is None:
            return False
        arguments = self._next_call(parcels)
        self._begun = _Begun(parcels, arguments, time.monotonic(), answered)
        try:
            packed = pack((*self._head, *arguments))
        except (TypeError, ValueError):
            return False  # `_send` raises it to the callers
        replies.begin(packed, 1, self._note_answer, timeout=min(self._timeout, CALL_TIMEOUT))
        return True

    def _note_answer(self, answer: list[Any] | Exception) -> None:
        """What has come of the call that was begun."""
        begun = self._begun
        assert begun is not None  # noqa: S101 - else nobody calls
        if answer == DONE:
            self._begun = None
            self._log(begun.parcels)
            begun.answered([[True] * parcel.jobs for parcel in begun.parcels])
            return
        if isinstance(answer, Exception):
            silent = isinstance(answer, TimeoutError)
            text = f"no answer within {min(self._timeout, CALL_TIMEOUT):g} s" if silent else str(answer)
            begun.error = Away(f"{self._wire.display}: {text}", silent=silent)
        begun.answered(None)

    async def _send(self, parcels: list[_Parcel]) -> list[list[bool] | EnqueueError]:
        try:
            return [*await self._send_together(parcels)]
        except exceptions.ResponseError as error:
            if len(parcels) == 1:
                return [EnqueueError(f"queue {self._queue}: Redis answered: {error}")]
        # nothing was done; what Redis refuses of one caller is no matter of the others
        answers: list[list[bool] | EnqueueError] = []
        for index, parcel in enumerate(parcels):
            try:
                answers += await self._send([parcel])
            except EnqueueError as error:
                return [*answers, *[error] * (len(parcels) - index)]
        return answers

    async def _send_together(self, parcels: list[_Parcel]) -> list[list[bool]]:
        begun, self._begun = self._begun, None
        if begun is not None and begun.parcels is parcels:
            await self._call(begun.arguments, began=begun.at, error=begun.error)
        else:
            await self._call(self._next_call(parcels), began=time.monotonic())
        self._log(parcels)
        return [[True] * parcel.jobs for parcel in parcels]

    def _next_call(self, parcels: list[_Parcel]) -> list[Argument]:
        self._number += 1
        arguments: list[Argument] = [self._number, self._channel, self._queue]
        for parcel in parcels:
            for e in parcel.envelopes:
                routed = e.priority or e.delay_ms or e.due_ms or e.encrypted
                arguments += (e.id, e.job, e.args, e.meta, route_of(e) if routed else "")
        return arguments

    def _log(self, parcels: list[_Parcel]) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            for parcel in parcels:
                for e in parcel.envelopes:
                    logger.debug("job %s (%s) is enqueued", e.id, e.job, extra=about(e.id, e.job, e.queue))

    async def _call(self, arguments: list[Argument], *, began: float, error: Away | None = None) -> None:
        """Send a call until it is answered; `error`: why it is not, since it was first sent."""
        deadline = began + self._timeout
        pause = 0.02
        sent = False
        said: Away | None = None
        while True:
            left = deadline - time.monotonic()
            try:
                if error is not None:
                    failed, error = error, None
                    raise failed
                patience = max(0.05, min(left, CALL_TIMEOUT))
                if not self._registered:
                    (added,) = await self._registry.call_many(
                        [("SADD", self._queues_key, self._queue)], timeout=patience
                    )
                    self._registered = not isinstance(added, exceptions.RedisError)
                if self._replication is None:
                    await self._wire.run(script("enqueue"), self._keys, arguments, timeout=patience)
                else:
                    await self._run_replicated(self._replication, arguments, patience, again=sent)
                return
            except Away as away:
                sent = sent or (away.sent and self._registered)
                said = away if said is None or not away.silent else said  # a last, short try has less to say
                if time.monotonic() + pause >= deadline:
                    fate = "whether the job was enqueued is not known" if sent else "the job was not enqueued"
                    raise EnqueueError(
                        f"queue {self._queue}: {str(said).rstrip('.')}; {fate}. "
                        f"Tried for {self._timeout:g} s (the setting enqueue_timeout)"
                        + ("" if sent or "TLS" in str(said) or "certificate" in str(said) else _WHERE)
                    ) from None
            except ConfigurationError as wrong:
                raise EnqueueError(f"queue {self._queue}: {wrong}") from None
            except exceptions.ResponseError as refused:
                if isinstance(refused, exceptions.OutOfMemoryError) or "OOM command not allowed" in str(refused):
                    raise QueueFullError(
                        f"queue {self._queue}: Redis is at its maxmemory; nothing was enqueued"
                    ) from None
                raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(pause * 2, 1.0)

    async def _run_replicated(
        self, replication: Replication, arguments: list[Argument], patience: float, *, again: bool
    ) -> None:
        """Run the script and WAIT, in one round trip.

        A call that is sent again may write nothing, and WAIT counts only for what its own connection wrote: it writes something then.
        """
        enqueue = script("enqueue")
        done: Any = None
        count: Any = 0
        tail: list[tuple[Argument, ...]] = [("WAIT", replication.replicas, replication.timeout_ms)]
        if again:
            tail.insert(0, ("PEXPIRE", self._keys[2], CALL_KEPT_MS))
        patience += replication.timeout_ms / 1000
        for head in (("EVALSHA", enqueue.sha), ("EVAL", enqueue.source)):
            done, *_, count = await self._wire.call_many(
                [(*head, len(self._keys), *self._keys, *arguments), *tail], timeout=patience
            )
            if not isinstance(done, exceptions.NoScriptError):
                break
        for reply in (done, count):
            raise_error(reply)
        if count < replication.replicas:
            raise EnqueueError(
                f"queue {self._queue}: the job is in the master, but only {count} of {replication.replicas} replica(s) have "
                f"acknowledged it within {replication.timeout_ms / 1000:g} s (wait_replicas): should the master fail now, it may be lost"
            )


def route_of(envelope: Envelope) -> str:
    """Priority, due time and wire version, as the scripts take them; empty: now, on the main lane, in the usual one."""
    if not (envelope.priority or envelope.delay_ms or envelope.due_ms or envelope.encrypted):
        return ""
    when = f"@{envelope.due_ms}" if envelope.due_ms else f"+{envelope.delay_ms}" if envelope.delay_ms else ""
    version = f"#{ENCRYPTED_VERSION}" if envelope.encrypted else ""
    return f"{envelope.priority or ''}{when}{version}"

"""The settler: outcomes go to Redis, in one round trip for all that have gathered. Nothing is done before it is settled.

1. A slot puts a delivery and its outcome; both wait in the batcher of their queue.
2. The batcher sends one numbered call at a time: settle.lua acks each entry and does what its outcome asks for, or drops it when the
   entry is no longer this worker's. (G3)
3. A call without an answer is sent again until it is answered, however long that takes. (G11) An error reply is no outage: then the jobs
   go one by one, and the one that Redis refuses is reported, kept, and tried again at each beat.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import orjson
from redis import exceptions

from aiojobs_rt.adapters.redis.batching import MAX_JOBS, Batcher
from aiojobs_rt.adapters.redis.connection import Away
from aiojobs_rt.adapters.redis.keys import control_channel
from aiojobs_rt.adapters.redis.records import SECRET_RECORD, SUCCEEDED_RECORD, encrypted_record
from aiojobs_rt.adapters.redis.routing import Wires
from aiojobs_rt.adapters.redis.scripts import script
from aiojobs_rt.core import events
from aiojobs_rt.core.attempt import summary_of
from aiojobs_rt.core.context import about
from aiojobs_rt.core.lines import log_outcome
from aiojobs_rt.core.message import ENCRYPTED
from aiojobs_rt.core.outcome import SUCCEEDED, Cancelled, Dead, Discarded, Outcome, Released, Retried, Snoozed
from aiojobs_rt.core.propagation import CONTEXT
from aiojobs_rt.core.secret_values import SECRET
from aiojobs_rt.errors import ConfigurationError
from aiojobs_rt.settings import settings
from aiojobs_rt.worker.served import PLAIN_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiojobs_rt.adapters.redis.connection import Argument
    from aiojobs_rt.core.message import JobMessage
    from aiojobs_rt.worker.served import Delivery, Served, Verdict
    from aiojobs_rt.worker.state import WorkerState

logger = logging.getLogger("aiojobs_rt.settler")

TOO_MUCH_UNSETTLED = 5_000
MOST_WHILE_PROMOTING = 100
"""Jobs of a call while a crowd of jobs falls due: Redis, which has the promoter's calls and the reads besides, answers nobody meanwhile."""
REPORT_AGAIN = 5.0
LOST = b"0"
"""In settle.lua's answer, the mark of a job that was not this worker's any more; an empty answer: none was lost."""
_OF_NO_EARLIER_RUN = frozenset({CONTEXT, ENCRYPTED, SECRET, "due", "delay"})
"""What a job's meta may hold from the start."""


class Settler:
    """Settles for all queues of a worker.

    Args:
        state: the worker's.
        on_crossing: called after a job was sent to another queue, with the queue it left.
    """

    def __init__(self, state: WorkerState, *, on_crossing: Callable[[Served], None]) -> None:
        self._state = state
        self._on_crossing = on_crossing
        self._queues: dict[str, _Queue] = {}
        self.unsettled = 0
        self.less_unsettled = asyncio.Event()

    @property
    def overloaded(self) -> bool:
        """Whether so much is unsettled that nothing more should be fetched."""
        return self.unsettled >= TOO_MUCH_UNSETTLED

    def put(self, delivery: Delivery, outcome: Outcome, began: float, ended: float, *, keep_meta: bool = False) -> None:
        """Settle a delivery, soon.

        Args:
            delivery: what was delivered.
            outcome: what became of it.
            began: when its run began, time.monotonic().
            ended: when it ended.
            keep_meta: its meta stays as it is on the wire: it could not be read.
        """
        if delivery.gone:
            return
        self.unsettled += 1
        if events.subscribed and delivery.message is not None:
            events.tell_outcome(delivery.message, outcome, ended - began if ended > began else None)
        if (
            outcome is SUCCEEDED
            and (message := delivery.message) is not None
            and not ((message.failures or message.extra) and _has_history(message))
        ):
            delivery.verb = "succeeded"
            delivery.extra = ()
            delivery.record = self._record(message, "succeeded", began, ended)
            delivery.size = PLAIN_SIZE
        else:
            delivery.decide(*self._explain(delivery, outcome, began, ended, keep_meta=keep_meta))
        queue = self._queues.get(delivery.served.name) or self._queue(delivery.served)
        queue.batcher.add(delivery)

    def release(self, delivery: Delivery, meta: bytes = b"") -> None:
        """Put a delivery back onto its queue, before all others; at no charge unless `meta` says otherwise."""
        if delivery.gone:
            return
        delivery.gone = True
        self.unsettled += 1
        delivery.decide("released", (meta, b"", b"", b""), b"")
        self._queue(delivery.served).batcher.add(delivery)

    def settle_again(self, delivery: Delivery, verdict: Verdict) -> None:
        """Settle once more what was settled before, by a Redis that has forgotten it since (failover): done is done."""
        verb, extra = verdict
        self.unsettled += 1
        delivery.decide(verb, extra, b"")
        self._queue(delivery.served).batcher.add(delivery)

    def release_unsafe(self, delivery: Delivery) -> None:
        """Put back what may not start because its lease could pass meanwhile. After a lost lease it is not ours to put back."""
        if delivery.consumer == delivery.served.consumer:
            self.release(delivery)

    async def flush(self) -> None:
        """Wait until everything that was put is settled."""
        for queue in list(self._queues.values()):
            queue.retry_kept()
            await queue.batcher.aclose()

    async def aclose(self) -> None:
        """Send nothing more, and close the connections."""
        if self.unsettled:
            logger.warning(
                "%d job(s) could not be settled or put back before the end; they run again elsewhere", self.unsettled
            )
        for queue in self._queues.values():
            await queue.batcher.abandon()
            await queue.wire.close()

    def retry_kept(self) -> None:
        """Try once more what Redis refused to settle."""
        for queue in self._queues.values():
            queue.retry_kept()

    def _queue(self, served: Served) -> _Queue:
        queue = self._queues.get(served.name)
        if queue is None:
            queue = self._queues[served.name] = _Queue(self, self._state, served, self._on_crossing)
        return queue

    def settled(self, count: int) -> None:
        """Note that so many were answered."""
        self.unsettled -= count
        self.less_unsettled.set()

    def _record(self, message: JobMessage, verb: str, began: float, ended: float, reason: str = "") -> bytes:
        state = self._state
        line = [
            message.id,
            message.job,
            verb,
            message.enqueued_at_ms,
            state.clock.at_ms(began),
            int((ended - began) * 1_000_000),
            state.name,
        ]
        if reason:
            line.append(reason[:500])
        return orjson.dumps(line)

    def _explain(
        self, delivery: Delivery, outcome: Outcome, began: float, ended: float, *, keep_meta: bool
    ) -> tuple[str, tuple[Argument, ...], bytes]:
        """Verb, its four arguments and the line for the recently finished, as settle.lua takes them."""
        ran = delivery.message
        assert ran is not None  # noqa: S101 - what has an outcome was read
        log_outcome(logger, ran, outcome)
        match outcome:
            case Retried(message, delay_ms, error, queue):
                meta = delivery.fields[7] if keep_meta and len(delivery.fields) == 8 else message.meta()
                return "retried", (delay_ms, meta, error, queue or ""), b""
            case Snoozed(message, delay_ms):
                return "snoozed", (delay_ms, message.meta(), "", ""), b""
            case Released(message):
                return "released", (message.meta(), "", "", ""), b""
            case Dead(message, _, error, keep_ms):
                meta = b"" if keep_meta else message.meta()
                summary = summary_of(error)
                value = orjson.dumps({"outcome": "dead", "error": summary}) if keep_ms else b""
                return "dead", (meta, error, keep_ms, value), self._record(ran, "dead", began, ended, summary)
            case Discarded(reason, keep_ms):
                value = orjson.dumps({"outcome": "discarded", "error": reason}) if keep_ms else b""
                record = self._record(ran, "discarded", began, ended, reason)
                return "discarded", (keep_ms, value, "", ""), record
            case Cancelled(keep_ms):
                value = orjson.dumps({"outcome": "cancelled", "error": ""}) if keep_ms else b""
                return "cancelled", (keep_ms, value, "", ""), self._record(ran, "cancelled", began, ended)
            case _:
                history = "1" if _has_history(ran) else ""
                value = b"" if outcome.result is None else _kept(ran, outcome.result, secret=outcome.secret)
                record = self._record(ran, "succeeded", began, ended)
                return "kept", (outcome.keep_ms, value, history, ""), record


class _Queue:
    """One queue's settle calls, numbered, by one connection."""

    def __init__(
        self, settler: Settler, state: WorkerState, served: Served, on_crossing: Callable[[Served], None]
    ) -> None:
        self._settler = settler
        self._state = state
        self._served = served
        self._on_crossing = on_crossing
        self._numbers: dict[str, int] = {}
        self._kept: list[Delivery] = []
        self._refused: set[bytes] = set()
        self._lost = 0
        self._reported_at = -REPORT_AGAIN
        self.wire = Wires(state.adapter.endpoint, "aiojobs_rt:settle").of(served.name)
        self.batcher: Batcher[Delivery] = Batcher(self._send, most=self._most)

    def _most(self) -> int:
        return MOST_WHILE_PROMOTING if self._served.promoting else MAX_JOBS

    def retry_kept(self) -> None:
        self._report_lost()
        kept, self._kept = self._kept, []
        for item in kept:
            self.batcher.add(item)

    async def _send(self, items: list[Delivery]) -> None:
        """Settle a batch; items of an earlier epoch go as that consumer's calls, and are lost."""
        consumers = {item.consumer for item in items}
        if len(consumers) == 1:
            await self._settle(items, consumers.pop())
            return
        for consumer in consumers:
            await self._settle([item for item in items if item.consumer == consumer], consumer)

    async def _settle(self, items: list[Delivery], consumer: str) -> None:
        try:
            answer = await self._call(items, consumer)
        except exceptions.ResponseError as error:
            if len(items) == 1:
                self._keep(items[0], error)
                return
            for item in items:
                await self._settle([item], consumer)
        except Exception:
            # a fault of this code must not lose what nobody waits for
            logger.exception(
                "queue %s: %d outcome(s) can't be sent; they are kept and tried again", self._served.name, len(items)
            )
            self._kept += items
        else:
            self._note(items, answer, consumer)

    async def _call(self, items: list[Delivery], consumer: str) -> bytes:
        keys = self._served.keys
        number = self._numbers[consumer] = self._numbers.get(consumer, 0) + 1
        arguments = self._pack(items, number)
        names = (
            keys.stream, keys.index, keys.call + consumer, keys.recent, keys.stats, keys.retries, keys.parked, keys.dead,
            keys.cancelled, keys.lanes, keys.outgoing, keys.scheduled, keys.result, keys.errors, keys.moved,
        )  # fmt: skip
        while True:
            try:
                answer: bytes = await self.wire.run(script("settle"), names, arguments)
            except (Away, ConfigurationError) as error:
                await self._state.redis_of(self._served.name).failed(error)
            else:
                self._state.redis_of(self._served.name).succeeded()
                return answer

    def _pack(self, items: list[Delivery], number: int) -> list[Argument]:
        options = settings()
        kinds: dict[tuple[str, bytes, str], int] = {}
        head: list[Argument] = []
        body: list[Argument] = []
        for item in items:
            fields = item.fields
            key = (item.lane, fields[3] if len(fields) == 8 else b"", item.verb)
            kind = kinds.get(key)
            if kind is None:
                kind = kinds[key] = len(kinds) + 1
                head += key
            message = item.message
            body += (kind, item.entry, message.id if message is not None else item.job_id, item.record)
            if item.extra:
                body += item.extra
        return [
            number,
            control_channel(self._state.adapter.prefix),
            self._served.name,
            options.recent,
            options.dead_max_jobs,
            int(options.dead_max_age * 1000),
            len(kinds),
            *head,
            *body,
        ]

    def _note(self, items: list[Delivery], answer: bytes, consumer: str) -> None:
        served = self._served
        verdicts = {item.entry: (item.verb, item.extra) for item in items if item.extra}
        if consumer == served.consumer:
            lanes = {item.lane for item in items}
            for lane in lanes:
                alone = len(lanes) == 1
                served.let_go(lane, [item.entry for item in items if alone or item.lane == lane], verdicts)
        self._settler.settled(len(items))
        if logger.isEnabledFor(logging.DEBUG):
            _log_successes(items, answer)
        lost = answer.count(LOST)
        if lost:
            self._lost += lost
            self._report_lost()
        if any(verb == "retried" and extra[3] for verb, extra in verdicts.values()):
            self._on_crossing(served)

    def _report_lost(self) -> None:
        """One line at once, and one for all that follow within a few seconds."""
        now = time.monotonic()
        if self._lost and now - self._reported_at > REPORT_AGAIN:
            logger.warning(
                "queue %s: Redis no longer counted %d finished job(s) as this worker's (reclaimed, or its data was lost); "
                "their outcomes are dropped",
                self._served.name,
                self._lost,
            )
            self._lost, self._reported_at = 0, now

    def _keep(self, item: Delivery, error: Exception) -> None:
        entry = item.entry
        if entry not in self._refused:
            self._refused.add(entry)
            message = item.message
            logger.error(
                "Redis refuses to settle job %s (%s): %s; it is kept and tried again",
                message.id if message else "?",
                item.verb,
                error,
            )
        self._kept.append(item)


def _kept(message: JobMessage, result: bytes, *, secret: bool) -> bytes:
    """What is kept of a result."""
    if ENCRYPTED not in message.extra:
        return (SECRET_RECORD if secret else SUCCEEDED_RECORD) + result + b"}"
    try:
        return encrypted_record(message.id, result)
    except Exception:
        # it has succeeded, and must not run again
        logger.exception("job %s (%s): its result can't be encrypted, and is not kept", message.id, message.job)
        return orjson.dumps({"outcome": "succeeded"})


def _log_successes(items: list[Delivery], answer: bytes) -> None:
    """A line for each job that has succeeded; the records say themselves which, as a batch is sent outside of all jobs."""
    for number, item in enumerate(items):
        message = item.message
        if item.verb in ("succeeded", "kept") and answer[number : number + 1] != LOST and message is not None:
            fields = about(message.id, message.job, message.queue, message.runs)
            logger.debug("job %s (%s) has succeeded", message.id, message.job, extra=fields)


def _has_history(message: JobMessage) -> bool:
    """Whether errors of earlier runs may be kept for a job."""
    return bool(message.failures) or not message.extra.keys() <= _OF_NO_EARLIER_RUN

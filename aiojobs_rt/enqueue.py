"""Enqueueing: from a bound job to its adapter.

1. `Bound` is a job with its arguments already checked and serialised (job.py does that, at the caller).
2. `deliver` gives it an id and hands it to its adapter; `perform_all_later` does so for many, in slices.
3. The adapter is the class's own, else the default one (adapters/default.py).
"""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from aiojobs_rt.adapters.base import Envelope
from aiojobs_rt.adapters.default import adapter_of, stays_in_process
from aiojobs_rt.core import events
from aiojobs_rt.core.durations import to_ms
from aiojobs_rt.core.hooks import Halted, run_chain
from aiojobs_rt.core.message import ENCRYPTED, NOTHING, JobMessage, new_job_id
from aiojobs_rt.core.propagation import CONTEXT, capture
from aiojobs_rt.core.secret_values import SECRET
from aiojobs_rt.encryption import required, seal_arguments
from aiojobs_rt.errors import PayloadTooLarge
from aiojobs_rt.handle import JobHandle
from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aiojobs_rt.adapters.base import Adapter
    from aiojobs_rt.core.hooks import Hook
    from aiojobs_rt.job import Job

logger = logging.getLogger("aiojobs_rt.enqueue")

R_co = TypeVar("R_co", covariant=True)
Call: TypeAlias = "tuple[tuple[Any, ...], Mapping[str, Any]]"
"""Arguments by position and by name."""

SLICE = 1000


@dataclass(slots=True)  # not frozen: that makes it five times slower to make, and one is made for each job
class Bound(Generic[R_co]):
    """A job with its arguments and options, ready to be enqueued: what `Job.bind(...)` returns.

    Attributes:
        job: its class.
        args: the serialised arguments.
        queue, priority, delay_ms, due_ms: where and when it is to run.
        options: what `set` overrides for this one job.
        id: the id under which it is enqueued; empty: a fresh one each time.
        context: the context variables that travel with it; None: those of where it is enqueued.
        encrypted: whether it is encrypted as it leaves the process: as its class says, or else the setting.
    """

    job: type[Job]
    args: bytes = field(repr=False)
    queue: str
    priority: int = 0
    delay_ms: int = 0
    due_ms: int = 0
    options: dict[str, int] | None = field(default=None)
    id: str = ""
    context: Mapping[str, Any] | None = field(default=None, repr=False)
    encrypted: bool = False

    def identified(self) -> Bound[R_co]:
        """The same job with its id and context decided now: it is enqueued later, and its handle is wanted before.

        Raises:
            ConfigurationError: it is to be encrypted, and there is no key.
        """
        if self.encrypted and not stays_in_process(self.job):
            required(self.job.name)
        return replace(self, id=new_job_id(self.queue), context=capture())

    def later(self, ms: int) -> Bound[R_co]:
        """The same job, due so much later than it was; the one it is made from stays as it is."""
        return replace(self, due_ms=self.due_ms + ms) if self.due_ms else replace(self, delay_ms=self.delay_ms + ms)

    def handle(self) -> JobHandle[R_co]:
        """The handle of an identified job."""
        return JobHandle(self.id, adapter=adapter_of(self.job), load=self.job.result().load)

    def envelope(self, context: Mapping[str, Any] | None = None, *, leaves: bool = False) -> Envelope:
        """The job as it goes to its adapter, under its own id or a fresh one; sealed where its class wants it.

        Args:
            context: what `capture` gave for this call; None: it is asked.
            leaves: it goes elsewhere than to its adapter, and leaves the process whatever that is.

        Raises:
            ConfigurationError: it is to be encrypted, and there is no key.
            PayloadTooLarge: what context variables hold exceeds `max_payload`.
            TypeError: it can't travel.
        """
        if self.context is not None:
            context = self.context
        elif context is None:
            context = capture()
        extra = self._due_for_expiry() if self.delay_ms or self.due_ms else NOTHING
        if context:
            extra = {**extra, CONTEXT: context}
        if (signature := self.job._arguments) is not None and signature.secret:  # noqa: SLF001 - compiled when it was bound
            extra = {SECRET: [*signature.secret], **extra}
        if self.encrypted:
            extra = {ENCRYPTED: 1, **extra}
        if self.priority or self.options or extra:
            options = self.options or NOTHING
            meta = JobMessage("", "", b"", "", priority=self.priority, options=options, extra=extra).meta_tail()
            if context and len(meta) > settings().max_payload:
                raise PayloadTooLarge(
                    f"the context variables that travel with {self.job.name} ({', '.join(context)}) take {len(meta):,} bytes, "
                    f"more than max_payload ({settings().max_payload:,}): let them hold an id instead of the data"
                )
        else:
            meta = b"}"
        placed = bool(self.id)
        envelope = Envelope(
            self.id if placed else new_job_id(self.queue),
            self.queue,
            self.job.name,
            self.args,
            meta,
            self.priority,
            self.delay_ms,
            self.due_ms,
            placed,
        )
        if self.encrypted and (leaves or not stays_in_process(self.job)):
            envelope.args, envelope.encrypted = seal_arguments(envelope.id, envelope.job, self.args), True
        return envelope

    def _due_for_expiry(self) -> Mapping[str, int]:
        """What the worker must know of the delay, because `expires_in` counts from when the job is due."""
        if not (self.options or NOTHING).get("expires_in", self.job.options().expires_ms):
            return NOTHING
        return {"due": self.due_ms} if self.due_ms else {"delay": self.delay_ms}


@dataclass(slots=True)
class BoundCall(Bound[R_co]):
    """A bound job whose enqueue callbacks are to see the records among its arguments, which travel as references.

    Attributes:
        given: its arguments by position and by name.
    """

    given: Call = field(default=((), NOTHING), repr=False)

    @classmethod
    def of(cls, bound: Bound[R_co], given: Call) -> BoundCall[R_co]:
        """The same bound job, with its arguments."""
        return cls(**{each.name: getattr(bound, each.name) for each in fields(bound)}, given=given)


def too_large(job: str, args: bytes) -> PayloadTooLarge:
    """What is wrong with arguments of more than `max_payload` bytes."""
    return PayloadTooLarge(
        f"the arguments of {job} take {len(args):,} bytes, more than max_payload ({settings().max_payload:,}): "
        "pass an id or a reference instead of the data, or raise it: AIOJOBS_RT_MAX_PAYLOAD, or max_payload in aiojobs_rt.toml"
    )


def most_items() -> int:
    """So many items of one list or dict have no room in `max_payload`: each takes two bytes at least, itself and a comma or bracket."""
    return settings().max_payload // 2 + 1


async def deliver(bound: Bound[R_co]) -> JobHandle[R_co]:
    """Enqueue one job. Errors and cancellation: see `Job.perform_later`."""
    hooks = bound.job._hooks  # noqa: SLF001 - compiled with the class
    if hooks is not None and hooks.enqueue:
        return await _deliver_within(hooks.enqueue, bound)
    adapter = adapter_of(bound.job)
    envelope = bound.envelope()
    (enqueued,) = await adapter.enqueue((envelope,))
    if enqueued and events.subscribed:
        tell_enqueued(envelope)
    return JobHandle.made(envelope.id, adapter, bound.job.result().load, enqueued)


async def _deliver_within(chain: tuple[Hook, ...], bound: Bound[R_co]) -> JobHandle[R_co]:
    """Enqueue one job inside its callbacks."""
    placed = bool(bound.id)
    if not placed:
        bound = replace(bound, id=new_job_id(bound.queue))  # its context is that of its callbacks
    adapter = adapter_of(bound.job)
    message = JobMessage(
        bound.id, bound.job.name, bound.args, bound.queue, bound.priority, options=bound.options or NOTHING
    )
    job = bound.job()
    given = bound.given if isinstance(bound, BoundCall) else bound.job.signature().load(bound.args)
    job._message, job._given = message, given  # noqa: SLF001 - this is where a job gets them
    job.queue = bound.queue

    async def enqueue() -> bool:
        envelope = bound.envelope()
        envelope.placed = placed
        (enqueued,) = await adapter.enqueue((envelope,))
        message.id = envelope.id  # a sharded queue has given it its shard
        if enqueued and events.subscribed:
            tell_enqueued(envelope)
        return enqueued

    try:
        enqueued = await run_chain(chain, job, enqueue)
    except Halted as halted:
        logger.info("job %s (%s) is not enqueued: %s", bound.id, bound.job.name, halted)
        enqueued = False
    return JobHandle(message.id, adapter=adapter, load=bound.job.result().load, enqueued=bool(enqueued))


async def perform_all_later(
    jobs: Iterable[Bound[Any]], *, spread: float | timedelta | None = None
) -> list[JobHandle[Any]]:
    """Enqueue many jobs: any classes, any queues, any delays.

    They go out in slices of 1,000, one round trip a slice and queue, in order. Every job was checked when it was bound, so a wrong one
    raises before any is sent.

    Args:
        jobs: from `Job.bind(...)` or `Job.set(...).bind(...)`.
        spread: seconds or timedelta over which their due times are spread evenly, in order: the first of N is due at once, the others
            each `spread / N` after the one before. On top of a job's own `wait` or `wait_until`. None: not spread.

    Returns:
        One handle per job, in order; `handle.enqueued` says which were enqueued.

    Raises:
        EnqueueError: not all of them are known to be enqueued. Slices before the one that failed are.
        ConfigurationError: one is `encrypted`, and there is no key, or an adapter's URL is wrong; none is enqueued.
        TypeError: one of `jobs` is not bound, or `spread` is no duration.
        ValueError: `spread` is negative, not finite, or longer than a hundred years.
    """
    bound = checked(jobs)
    if spread is not None:
        spread_ms = to_ms(spread, what="spread")
        bound = [job.later(spread_ms * index // len(bound)) for index, job in enumerate(bound)]
    handles: list[JobHandle[Any]] = []
    context = capture()
    carried = {job_class: adapter_of(job_class) for job_class in {job.job for job in bound}}
    for job_class in {job.job for job in bound if job.encrypted}:
        if not stays_in_process(job_class):
            required(job_class.name)
    loads = {job_class: job_class.result().load for job_class in carried}
    for start in range(0, len(bound), SLICE):
        slice_ = bound[start : start + SLICE]
        envelopes = [job.envelope(context) for job in slice_]
        enqueued = await _carry(envelopes, [carried[job.job] for job in slice_])
        handles += [
            JobHandle.made(envelope.id, carried[job.job], loads[job.job], was_enqueued)
            for job, envelope, was_enqueued in zip(slice_, envelopes, enqueued, strict=True)
        ]
    return handles


async def _carry(envelopes: list[Envelope], adapters: list[Adapter]) -> list[bool]:
    """Hand each envelope to its adapter, those of one adapter together; per envelope whether it was enqueued."""
    answers = [False] * len(envelopes)
    for adapter in {id(adapter): adapter for adapter in adapters}.values():
        indexes = [index for index, other in enumerate(adapters) if other is adapter]
        enqueued = await adapter.enqueue([envelopes[index] for index in indexes])
        for index, was_enqueued in zip(indexes, enqueued, strict=True):
            answers[index] = was_enqueued
            if was_enqueued and events.subscribed:
                tell_enqueued(envelopes[index])
    return answers


def tell_enqueued(envelope: Envelope) -> None:
    """Tell subscribers that a job is enqueued, and when it is due, if that is not now."""
    details: dict[str, Any] = {"priority": envelope.priority}
    if envelope.due_ms:
        details["due"] = datetime.fromtimestamp(envelope.due_ms / 1000, tz=UTC)
    elif envelope.delay_ms:
        details["wait"] = envelope.delay_ms / 1000
    events.publish("enqueued", envelope.id, envelope.job, envelope.queue, details=details)


def checked(jobs: Iterable[Bound[Any]]) -> list[Bound[Any]]:
    """The jobs, all of them bound; else TypeError."""
    wanted = "perform_all_later takes bound jobs, such as SendWelcome.bind(42)"
    if isinstance(jobs, (Bound, type)) or inspect.iscoroutine(jobs):
        raise TypeError(f"{wanted}, in a list or another iterable; got {described(jobs)}, and enqueued nothing")
    bound = list(jobs)
    for job in bound:
        if not isinstance(job, Bound):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            raise TypeError(f"{wanted}; got {described(job)}, and enqueued nothing")
    return bound


def described(job: object) -> str:
    """What is no bound job, without its values; a coroutine among them is closed, or Python would warn of it."""
    if inspect.iscoroutine(job):
        job.close()
        return "a coroutine (write bind in the place of perform_later)"
    if isinstance(job, Bound):
        return "a single one"
    return f"the class {job.__qualname__}" if isinstance(job, type) else f"a {type(job).__name__}"

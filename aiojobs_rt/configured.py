"""Configured: a job class with options for one job, and the typed ways to enqueue it.

`perform_later`, `perform_now`, `set`, `bind` and `handle` of a job class are the descriptors of this module, generic over the parameters and the
result of `perform`: a type checker checks each call like a call of `perform` itself.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar

from aiojobs_rt.adapters.default import adapter_of, checks_arguments, in_process
from aiojobs_rt.core.durations import instant_to_ms, to_ms
from aiojobs_rt.core.here_and_now import perform_now
from aiojobs_rt.core.message import ENCRYPTED, NOTHING, JobMessage, check_queue_name, new_job_id, queue_of
from aiojobs_rt.core.options import check_priority, overrides
from aiojobs_rt.encryption import is_wanted
from aiojobs_rt.enqueue import Bound, BoundCall, deliver, most_items, too_large
from aiojobs_rt.errors import InvalidJob
from aiojobs_rt.handle import JobHandle
from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import timedelta

    from aiojobs_rt.enqueue import Call
    from aiojobs_rt.job import Job

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


class Performs(Protocol[P, R_co]):
    """What has a `perform` of these parameters and this result."""

    def perform(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Do the job."""
        ...


class PerformLater:
    """`Job.perform_later`."""

    def __get__(self, obj: Any, owner: Callable[..., Performs[P, R]]) -> Callable[P, Coroutine[Any, Any, JobHandle[R]]]:
        return owner._configured.perform_later  # type: ignore[attr-defined,no-any-return] # noqa: SLF001 - of a job class


class PerformNow:
    """`Job.perform_now`."""

    def __get__(self, obj: Any, owner: Callable[..., Performs[P, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        return owner._configured.perform_now  # type: ignore[attr-defined,no-any-return] # noqa: SLF001 - of a job class


class Bind:
    """`Job.bind`."""

    def __get__(self, obj: Any, owner: Callable[..., Performs[P, R]]) -> Callable[P, Bound[R]]:
        return owner._configured.bind  # type: ignore[attr-defined,no-any-return] # noqa: SLF001 - of a job class


class Handle:
    """`Job.handle`."""

    def __get__(self, obj: Any, owner: Callable[..., Performs[P, R]]) -> Callable[[str], JobHandle[R]]:
        return owner._configured.handle  # type: ignore[attr-defined,no-any-return] # noqa: SLF001 - of a job class


class Set:
    """`Job.set`."""

    def __get__(self, obj: Any, owner: Callable[..., Performs[P, R]]) -> Setter[P, R]:
        return Setter(owner)


class Setter(Generic[P, R]):
    """Options for one job; `set(...)` is followed by perform_later, perform_now or bind."""

    __slots__ = ("_owner",)

    def __init__(self, owner: Callable[..., Performs[P, R]]) -> None:
        self._owner = owner

    def __call__(
        self,
        *,
        wait: float | timedelta | None = None,
        wait_until: datetime | None = None,
        queue: str | None = None,
        priority: int | None = None,
        timeout: float | timedelta | None = None,
        max_attempts: int | None = None,
        keep_result: float | timedelta | None = None,
        expires_in: float | timedelta | None = None,
    ) -> Configured[P, R]:
        """Options for one job, in the place of the class's own: `await SendWelcome.set(wait=10).perform_later(42)`.

        What it returns may be used for several jobs.

        Args:
            wait: seconds or timedelta until the job is due.
            wait_until: when it is due: an aware datetime; one in the past means now.
            queue: the queue it goes to.
            priority: lower runs first within the queue.
            timeout: seconds or timedelta after which a run is cancelled and has failed.
            max_attempts: failures until it is dead, where no `retry_on` says otherwise.
            keep_result: seconds or timedelta for which its result is kept; 0: not kept.
            expires_in: seconds or timedelta; not started so long after it was due, it is discarded.

        Raises:
            TypeError, ValueError: an option is wrong; the message names it and its value.
        """
        if wait is not None and wait_until is not None:
            raise ValueError("give wait or wait_until, not both")
        return Configured(
            self._owner,
            delay_ms=0 if wait is None else to_ms(wait, what="wait"),
            due_ms=0 if wait_until is None else max(instant_to_ms(wait_until, what="wait_until"), 1),
            queue=None if queue is None else check_queue_name(queue),
            priority=None if priority is None else check_priority(priority),
            options=overrides(
                timeout=timeout, max_attempts=max_attempts, keep_result=keep_result, expires_in=expires_in
            ),
        )


Setter.__call__.__qualname__ = "Job.set"  # the name by which Python complains of an option that does not exist


class Configured(Generic[P, R]):
    """A job class with options for one job: what `Job.set(...)` returns. Its methods are those of the class."""

    __slots__ = ("_delay_ms", "_due_ms", "_job", "_options", "_priority", "_queue")

    def __init__(
        self,
        owner: Callable[..., Performs[P, R]],
        *,
        delay_ms: int = 0,
        due_ms: int = 0,
        queue: str | None = None,
        priority: int | None = None,
        options: dict[str, int] | None = None,
    ) -> None:
        self._job: type[Job] = owner  # type: ignore[assignment] # only Job has the descriptors that come here
        self._delay_ms = delay_ms
        self._due_ms = due_ms
        self._queue = queue
        self._priority = priority
        self._options = options

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> Bound[R]:
        """The job with these arguments, checked and serialised, for `perform_all_later`. Enqueues nothing.

        Raises:
            InvalidArguments: they do not fit perform.
            InvalidJob: `choose_queue` or `choose_priority` returned what is none; what they raise is raised.
            PayloadTooLarge: serialised they exceed `max_payload`.
        """
        job = self._job
        given: Call | None = None
        if job._prepares or in_process.made:  # noqa: SLF001 - compiled with the class
            check = in_process.made and checks_arguments(job)
            encoded, queue, priority, given = self._prepare(args, kwargs, check=check)
        else:
            arguments = job._arguments or job.signature()  # noqa: SLF001 - as above
            encoded = arguments.encode(args, kwargs, most_items=most_items() if arguments.many else 0)
            queue, priority = self._queue, self._priority
        common, defaults = settings(), job._options  # noqa: SLF001 - the hot path reads what options() returns
        if len(encoded) > common.max_payload:
            raise too_large(job.name, encoded)
        bound: Bound[R] = Bound(
            job,
            encoded,
            queue or defaults.queue,
            defaults.priority if priority is None else priority,
            self._delay_ms,
            self._due_ms,
            self._options,
            "",
            None,
            common.encrypted if defaults.encrypted is None else defaults.encrypted,
        )
        return bound if given is None else BoundCall.of(bound, given)

    async def perform_later(self, /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Enqueue the job. Returns as soon as it is in Redis.

        Cancelling the call neither harms the connection nor enqueues half a job: it is enqueued or it is not.

        Raises:
            InvalidArguments: the arguments do not fit perform.
            InvalidJob: `choose_queue` or `choose_priority` returned what is none; what they raise is raised.
            PayloadTooLarge: serialised they exceed `max_payload`.
            EnqueueError: Redis could not be reached, or refused.
            ConfigurationError: the class is `encrypted`, and there is no key.
            TypeError: a context variable that travels (`propagate`) holds what JSON would change.
        """
        return await deliver(self.bind(*args, **kwargs))

    async def perform_now(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the job here and now, in this task, and return its value. Enqueues nothing.

        rescue_from and discard_on apply; what retry_on or the default would retry is raised. The arguments go through the same bytes as
        on the wire.

        Raises:
            InvalidArguments: the arguments do not fit perform.
            InvalidJob: `choose_queue` or `choose_priority` returned what is none; what they raise is raised.
        """
        job = self._job
        if job._chooses:  # noqa: SLF001 - compiled with the class
            encoded, queue, priority, _ = self._prepare(args, kwargs)
        else:
            encoded = job.signature().encode(args, kwargs)
            queue, priority = self._queue, self._priority
        defaults = job.options()
        queue = queue or defaults.queue
        message = JobMessage(
            id=new_job_id(queue),
            job=job.name,
            args=encoded,
            queue=queue,
            priority=defaults.priority if priority is None else priority,
            enqueued_at_ms=int(datetime.now(tz=UTC).timestamp() * 1000),
            options=self._options or {},
            extra={ENCRYPTED: 1} if is_wanted(job) else NOTHING,  # its arguments are not logged
        )
        return await perform_now(job, message)  # type: ignore[no-any-return] # what perform returned

    def handle(self, job_id: str) -> JobHandle[R]:
        """The handle of a job of this class by its id.

        Raises:
            ValueError: `job_id` is no job id.
        """
        queue_of(job_id)
        return JobHandle(job_id, adapter=adapter_of(self._job), load=self._job.result().load)

    def _prepare(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, check: bool = False
    ) -> tuple[bytes, str | None, int | None, Call | None]:
        """The encoded arguments, and the queue and priority that `set` names, or the job chooses; None: those of the class.

        Last the arguments themselves, where enqueue callbacks are to see records among them; else None. They are read once: one of them
        may be an iterator. `check`: that they will arrive as they were given.
        """
        job_class, queue, priority = self._job, self._queue, self._priority
        signature = job_class.signature()
        bound = signature.bind(args, kwargs, most_items=most_items())
        encoded = signature.dump(bound)
        if check:
            signature.check_round_trip(bound, encoded)
        hooks = job_class._hooks  # noqa: SLF001 - compiled with the class
        seen = signature.refers and hooks is not None and bool(hooks.enqueue)
        if not job_class._chooses and not seen:  # noqa: SLF001 - as above
            return encoded, queue, priority, None
        given = signature.to_call(bound)
        if not job_class._chooses:  # noqa: SLF001 - as above
            return encoded, queue, priority, given
        job = job_class()
        job._given = given  # noqa: SLF001 - this is where a job gets them
        if queue is not None:
            job.queue = queue
        else:
            job.queue = queue = _chosen(job_class, "choose_queue", job.choose_queue(), check_queue_name)
        if priority is None:
            priority = _chosen(job_class, "choose_priority", job.choose_priority(), check_priority)
        return encoded, queue, priority, given if seen else None


def _chosen(job_class: type[Job], method: str, value: T, check: Callable[[T], T]) -> T:
    """What a method has chosen, when it is allowed."""
    try:
        return check(value)
    except (TypeError, ValueError) as error:
        raise InvalidJob(f"{job_class.__qualname__}.{method}: {error}") from None

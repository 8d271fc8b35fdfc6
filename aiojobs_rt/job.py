"""Job: what an application subclasses. Options, perform, and the typed ways to enqueue it.

    class SendWelcome(Job):
        queue = "mailers"

        async def perform(self, user_id: int, template: str = "welcome") -> bool: ...

    await SendWelcome.perform_later(42)

`perform_later`, `perform_now`, `set` and `bind` are descriptors, generic over the parameters and the result of `perform`: a type
checker checks each call like a call of `perform` itself. Nothing in this module does I/O; `enqueue.py` does.
"""

from __future__ import annotations

import logging
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, Protocol, TypeVar

from aiojobs_rt.adapters.default import adapter_of
from aiojobs_rt.core import execution, registry
from aiojobs_rt.core.arguments import Arguments, Result, Unresolved
from aiojobs_rt.core.continuation import Continuation
from aiojobs_rt.core.durations import instant_to_ms, to_ms
from aiojobs_rt.core.generics import defining_class, open_parameters, type_arguments
from aiojobs_rt.core.message import JobMessage, check_queue_name, new_job_id, queue_of
from aiojobs_rt.core.methods import wrong_lifespan, wrong_perform
from aiojobs_rt.core.options import Options, check_priority, overrides
from aiojobs_rt.enqueue import Bound, deliver, deliver_all
from aiojobs_rt.errors import InvalidJob
from aiojobs_rt.handle import JobHandle

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
    from datetime import timedelta

    from aiojobs_rt.adapters.base import Adapter
    from aiojobs_rt.core.continuation import Step, StepCall
    from aiojobs_rt.policies import Policy

__all__ = ["Bound", "Configured", "Job", "perform_all_later"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

perform_all_later = deliver_all


class Performs(Protocol[P, R_co]):
    """What has a `perform` of these parameters and this result."""

    def perform(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Do the job."""
        ...


class _PerformLater:
    def __get__(self, obj: Any, owner: Callable[..., Performs[P, R]]) -> Callable[P, Coroutine[Any, Any, JobHandle[R]]]:
        return Configured(owner).perform_later


class _PerformNow:
    def __get__(self, obj: Any, owner: Callable[..., Performs[P, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        return Configured(owner).perform_now


class _Bind:
    def __get__(self, obj: Any, owner: Callable[..., Performs[P, R]]) -> Callable[P, Bound[R]]:
        return Configured(owner).bind


class _Handle:
    def __get__(self, obj: Any, owner: Callable[..., Performs[P, R]]) -> Callable[[str], JobHandle[R]]:
        return Configured(owner).handle


class _Set:
    def __get__(self, obj: Any, owner: Callable[..., Performs[P, R]]) -> _Setter[P, R]:
        return _Setter(owner)


class _Setter(Generic[P, R]):
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

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Bound[R]:
        """The job with these arguments, checked and serialised, for `perform_all_later`. Enqueues nothing.

        Raises:
            InvalidArguments: they do not fit perform.
            PayloadTooLarge: serialised they exceed `max_payload`.
        """
        job = self._job
        defaults = job.options()
        return Bound(
            job=job,
            args=job.arguments().encode(args, kwargs),
            queue=self._queue or defaults.queue,
            priority=defaults.priority if self._priority is None else self._priority,
            delay_ms=self._delay_ms,
            due_ms=self._due_ms,
            options=self._options,
        )

    async def perform_later(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Enqueue the job. Returns as soon as it is in Redis.

        Cancelling the call neither harms the connection nor enqueues half a job: it is enqueued or it is not.

        Raises:
            InvalidArguments: the arguments do not fit perform.
            PayloadTooLarge: serialised they exceed `max_payload`.
            EnqueueError: Redis could not be reached, or refused.
        """
        return await deliver(self.bind(*args, **kwargs))

    async def perform_now(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the job here and now, in this task, and return its value. Enqueues nothing.

        rescue_from and discard_on apply; what retry_on or the default would retry is raised. The arguments go through the same bytes as
        on the wire.

        Raises:
            InvalidArguments: the arguments do not fit perform.
        """
        job = self._job
        options = job.options()
        queue = self._queue or options.queue
        message = JobMessage(
            id=new_job_id(queue),
            job=job.name,
            args=job.arguments().encode(args, kwargs),
            queue=queue,
            priority=options.priority if self._priority is None else self._priority,
            enqueued_at_ms=int(datetime.now(tz=UTC).timestamp() * 1000),
            options=self._options or {},
        )
        return await execution.perform_now(job, message)  # type: ignore[no-any-return] # what perform returned

    def handle(self, job_id: str) -> JobHandle[R]:
        """The handle of a job of this class by its id.

        Raises:
            ValueError: `job_id` is no job id.
        """
        queue_of(job_id)
        return JobHandle(job_id, adapter=adapter_of(self._job), load=self._job.result().load)


class Job:
    """A unit of work: a class with `async def perform`.

    Class attributes, inherited, so that an application base class sets them for all:

    Attributes:
        name: the job's name on the wire; default: the class name. Not inherited.
        queue: the queue its jobs go to; "default".
        priority: lower runs first within the queue; 0.
        timeout: seconds or timedelta after which a run is cancelled and has failed with TimeoutError; None: no limit.
        max_attempts: failures until the job is dead, where no `retry_on` says otherwise; 25.
        retry_for: seconds or timedelta since its first failure that bound the default retries instead of max_attempts; None.
        keep_result: seconds or timedelta for which the result is kept for `handle.result()`; None: not kept.
        expires_in: a job not started so long after it was due is discarded; None: never.
        resume_errors_after_advancing: a job that fails after one of its steps has advanced goes on from there 5 s later, at no charge; True.
        max_resumptions: how often that may happen; None: as often as it advances.
        adapter: how jobs are carried; None: the default adapter (AIOJOBS_RT_REDIS_URL).
        state: inside `perform`, what `lifespan` yielded.
    """

    name: str = "Job"
    queue: str = "default"
    priority: int = 0
    timeout: float | timedelta | None = None
    max_attempts: int = 25
    retry_for: float | timedelta | None = None
    keep_result: float | timedelta | None = None
    expires_in: float | timedelta | None = None
    resume_errors_after_advancing: bool = True
    max_resumptions: int | None = None
    adapter: Adapter | None = None
    state: Any = None

    perform_later = _PerformLater()
    """Enqueue the job: `handle = await SendWelcome.perform_later(42)`. Takes what perform takes."""
    perform_now = _PerformNow()
    """Run the job here and now and return its value: `value = await SendWelcome.perform_now(42)`."""
    bind = _Bind()
    """The job with its arguments, for `perform_all_later([SendWelcome.bind(1), SendWelcome.bind(2)])`."""
    set = _Set()
    """Options for one job: `await SendWelcome.set(wait=10, queue="low").perform_later(42)`."""
    handle = _Handle()
    """The handle of a job of this class by its id: `SendWelcome.handle(job_id)`."""

    _policies: ClassVar[tuple[Policy, ...]] = ()
    _options: ClassVar[Options]
    _arguments: ClassVar[Arguments | None] = None
    _result: ClassVar[Result | None] = None
    _local_names: ClassVar[dict[str, Any] | None] = None
    _message: JobMessage | None = None
    _continuation: Continuation | None = None

    async def perform(self, *args: Any, **kwargs: Any) -> Any:
        """Do the job. A class that does not override it is abstract: not registered, and enqueueing it raises."""
        raise NotImplementedError(f"{type(self).__qualname__} has no perform")

    @staticmethod
    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[Any]:
        """Entered once by each worker before its first job; what it yields is `self.state` of its jobs."""
        yield None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = cls.__dict__.get("name", cls.__name__)
        cls._arguments = cls._result = cls._local_names = None
        cls._options = Options.of(cls)
        if not isinstance(cls.name, str) or not 1 <= len(cls.name) <= 200 or not cls.name.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            raise InvalidJob(f"{cls.__qualname__}: name must be 1 to 200 printable characters, got {cls.name!r}")
        if wrong := wrong_lifespan(cls):
            raise InvalidJob(f"{cls.__qualname__}.lifespan {wrong}")
        if cls.is_abstract():
            return
        if wrong := wrong_perform(cls):
            raise InvalidJob(f"{cls.__qualname__}.perform {wrong}")
        frame = sys._getframe(1)  # noqa: SLF001 - names local to the function that defines the class, as pydantic does
        while frame.f_code.co_name in ("__init_subclass__", "__new__") and frame.f_back is not None:
            frame = frame.f_back
        local_names = None if frame.f_locals is frame.f_globals else dict(frame.f_locals)
        try:
            cls._compile(local_names)
        except Unresolved:
            cls._local_names = local_names
        registry.register(cls.name, cls)

    @classmethod
    def is_abstract(cls) -> bool:
        """Whether the class has no perform of its own, or an abstract one, or leaves type parameters open."""
        perform = cls.perform
        return perform is Job.perform or getattr(perform, "__isabstractmethod__", False) or bool(open_parameters(cls))

    @classmethod
    def options(cls) -> Options:
        """The checked options of the class."""
        return cls._options

    @classmethod
    def arguments(cls) -> Arguments:
        """The compiled signature of perform.

        Raises:
            InvalidJob: the class is abstract, or an annotation names what does not exist.
        """
        if cls._arguments is None:
            cls._compile_late()
        assert cls._arguments is not None  # noqa: S101 - _compile_late raises otherwise
        return cls._arguments

    @classmethod
    def result(cls) -> Result:
        """The compiled return annotation of perform."""
        if cls._result is None:
            cls._compile_late()
        assert cls._result is not None  # noqa: S101 - _compile_late raises otherwise
        return cls._result

    @classmethod
    def _compile(cls, local_names: dict[str, Any] | None) -> None:
        types = type_arguments(cls, defining_class(cls, "perform"))
        cls._arguments = Arguments.of(cls.perform, job=cls.name, local_names=local_names, type_arguments=types)
        cls._result = Result.of(cls.perform, job=cls.name, local_names=local_names, type_arguments=types)

    @classmethod
    def _compile_late(cls) -> None:
        if cls.is_abstract():
            missing = (
                "its type parameters are open" if open_parameters(cls) else "it has no `async def perform(self, ...)`"
            )
            raise InvalidJob(f"{cls.__qualname__} is abstract: {missing}; enqueue a class that derives from it")
        try:
            cls._compile(cls._local_names)
        except Unresolved as error:
            raise InvalidJob(
                f"{cls.__qualname__}.perform: {error}; import or define that name in {cls.__module__}"
            ) from None
        cls._local_names = None

    # -- inside perform --------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The job's id."""
        return self._current().id

    @property
    def executions(self) -> int:
        """Which run this is: 1 on the first; failures and crashes count, interruptions do not."""
        return self._current().runs

    @property
    def enqueued_at(self) -> datetime:
        """When the job was enqueued, UTC, by Redis' clock."""
        return datetime.fromtimestamp(self._current().enqueued_at_ms / 1000, tz=UTC)

    @property
    def logger(self) -> logging.Logger:
        """A logger named after the job; its records carry the job's id, name, queue and executions."""
        return logging.getLogger(f"aiojobs_rt.job.{self.name}")

    def step(
        self,
        name: str,
        function: Callable[[], Awaitable[Any]] | Callable[[Step], Awaitable[Any]] | None = None,
        *,
        start: Any = None,
        isolated: bool = False,
    ) -> StepCall:
        """A step of this job, done once however often the job is interrupted or fails.

        `await self.step("validate", self.validate)` calls the function, with the `Step` if it takes one, or skips it when it was completed
        before; `async for step in self.step("rows", start=0): ...` runs its body once, or not at all. Before each step but an
        execution's first, and wherever a step advances, the job ends if its worker stops, and goes on from there elsewhere.

        Args:
            name: unique within the job; the same steps come in the same order in every execution.
            function: a coroutine function; None for a step with a body.
            start: the cursor at which a step with a body begins, a JSON value.
            isolated: the step gets an execution of its own.

        Raises:
            InvalidStep: when it is awaited or iterated over: name, order or cursor are wrong.
        """
        if self._continuation is None:
            self._continuation = Continuation(self._current())
        return self._continuation.call(name, function, start=start, isolated=isolated)

    def _current(self) -> JobMessage:
        if self._message is None:
            now_ms = int(datetime.now(tz=UTC).timestamp() * 1000)
            self._message = JobMessage(new_job_id(self.queue), self.name, b"{}", self.queue, enqueued_at_ms=now_ms)
        return self._message


Job._options = Options.of(Job)  # noqa: SLF001 - Job is no subclass of itself

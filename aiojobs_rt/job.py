"""Job: what an application subclasses. Options, perform, and the typed ways to enqueue it.

    class SendWelcome(Job):
        queue = "mailers"

        async def perform(self, user_id: int, template: str = "welcome") -> bool: ...

    await SendWelcome.perform_later(42)

`perform_later`, `perform_now`, `set` and `bind` are the typed descriptors of `configured.py`. Nothing in this module does I/O; `enqueue.py`
does.
"""

from __future__ import annotations

import inspect
import logging
import sys
import warnings
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from aiojobs_rt.configured import Bind, Configured, Handle, PerformLater, PerformNow, Set
from aiojobs_rt.core import registry
from aiojobs_rt.core.arguments import Arguments, Unresolved
from aiojobs_rt.core.continuation import Continuation
from aiojobs_rt.core.generics import defining_class, open_parameters, type_arguments
from aiojobs_rt.core.hooks import compile_hooks
from aiojobs_rt.core.message import JobMessage, new_job_id
from aiojobs_rt.core.methods import undefined, wrong_choice, wrong_init, wrong_lifespan, wrong_perform
from aiojobs_rt.core.misspelt import misspelt
from aiojobs_rt.core.options import Options
from aiojobs_rt.core.plan import Plan
from aiojobs_rt.core.result import Result
from aiojobs_rt.enqueue import Bound, perform_all_later
from aiojobs_rt.errors import InvalidJob

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from datetime import timedelta

    from aiojobs_rt.adapters.base import Adapter
    from aiojobs_rt.core.continuation import Step, StepCall
    from aiojobs_rt.core.hooks import Hooks
    from aiojobs_rt.policies import Policy

__all__ = ["Bound", "Configured", "Job", "perform_all_later"]


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
        encrypted: arguments and results are encrypted on their way (docs/security.md); None: as AIOJOBS_RT_ENCRYPTED says, else not.
        log_arguments: each run logs its arguments at info, at most 2,000 characters of them; SecretStr as stars; False.
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
    encrypted: bool | None = None
    log_arguments: bool = False
    adapter: Adapter | None = None
    state: Any = None

    perform_later = PerformLater()
    """Enqueue the job: `handle = await SendWelcome.perform_later(42)`. Takes what perform takes."""
    perform_now = PerformNow()
    """Run the job here and now and return its value: `value = await SendWelcome.perform_now(42)`."""
    bind = Bind()
    """The job with its arguments, for `perform_all_later([SendWelcome.bind(1), SendWelcome.bind(2)])`."""
    set = Set()
    """Options for one job: `await SendWelcome.set(wait=10, queue="low").perform_later(42)`."""
    handle = Handle()
    """The handle of a job of this class by its id: `SendWelcome.handle(job_id)`."""

    _policies: ClassVar[tuple[Policy, ...]] = ()
    _options: ClassVar[Options]
    _plan: ClassVar[Plan]
    _configured: ClassVar[Configured[..., Any]]
    _logger: ClassVar[logging.Logger]
    _arguments: ClassVar[Arguments | None] = None
    _result: ClassVar[Result | None] = None
    _local_names: ClassVar[dict[str, Any] | None] = None
    _message: JobMessage | None = None
    _continuation: Continuation | None = None
    _hooks: ClassVar[Hooks | None] = None
    _chooses: ClassVar[bool] = False
    _prepares: ClassVar[bool] = False
    _given: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None

    async def perform(self, *args: Any, **kwargs: Any) -> Any:
        """Do the job. A class that does not override it is abstract: not registered, and enqueueing it raises."""
        raise NotImplementedError(f"{type(self).__qualname__} has no perform")

    def choose_queue(self) -> str:
        """The queue of this job, by its `self.arguments`; called when the job is bound, unless `set` names a queue.

        Override it to choose. It sees the class's `queue` as `self.queue`, and no id yet. Retries stay on the queue that it chose. A queue
        that no class names as its `queue` is served only by workers that are given it, with -q.
        """
        return self.queue

    def choose_priority(self) -> int:
        """The priority of this job, by its `self.arguments`; called after `choose_queue`, unless `set` names a priority.

        Override it to choose; lower runs first. `self.queue` is the queue that was chosen or set.
        """
        return self.priority

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
        for wrong_name, option in misspelt(cls):
            warnings.warn(
                f"{cls.__qualname__}.{wrong_name} is no option and changes nothing; did you mean {option}? "
                "(An attribute of your own: begin its name with an underscore.)",
                stacklevel=2,
            )
        cls._configured = Configured(cls)
        if not isinstance(cls.name, str) or not 1 <= len(cls.name) <= 200 or not cls.name.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            raise InvalidJob(f"{cls.__qualname__}: name must be 1 to 200 printable characters, got {cls.name!r}")
        cls._logger = logging.getLogger(f"aiojobs_rt.job.{cls.name}")  # not once a job: it takes a lock
        try:
            cls._hooks = compile_hooks(cls)
        except ValueError as error:
            raise InvalidJob(f"{cls.__qualname__}.{error}") from None
        if cls.adapter is not None and not hasattr(cls.adapter, "enqueue"):
            kind = type(cls.adapter).__name__
            raise InvalidJob(f"{cls.__qualname__}.adapter must be an adapter, such as RedisAdapter(URL), got a {kind}")
        if wrong := wrong_lifespan(cls):
            raise InvalidJob(f"{cls.__qualname__}.lifespan {wrong}")
        for choice in ("choose_queue", "choose_priority"):
            if wrong := wrong_choice(cls, choice):
                raise InvalidJob(f"{cls.__qualname__}.{choice} {wrong}")
        cls._chooses = cls.choose_queue is not Job.choose_queue or cls.choose_priority is not Job.choose_priority
        cls._prepares = cls._chooses or bool(cls._hooks and cls._hooks.enqueue)
        cls._plan = Plan.of(cls, None, cls._hooks)
        if cls.is_abstract():
            return
        if wrong := wrong_perform(cls):
            raise InvalidJob(f"{cls.__qualname__}.perform {wrong}")
        if wrong := wrong_init(cls):
            raise InvalidJob(f"{cls.__qualname__}.__init__ {wrong}")
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
        """Whether the class has no perform of its own, leaves type parameters open, or abstract methods undefined."""
        return cls.perform is Job.perform or bool(undefined(cls)) or bool(open_parameters(cls))

    @classmethod
    def options(cls) -> Options:
        """The checked options of the class."""
        return cls._options

    @classmethod
    def signature(cls) -> Arguments:
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
        arguments = Arguments.of(cls.perform, job=cls.name, local_names=local_names, type_arguments=types)
        cls._result = Result.of(cls.perform, job=cls.name, local_names=local_names, type_arguments=types)
        cls._take(arguments)

    @classmethod
    def _take(cls, arguments: Arguments) -> None:
        cls._arguments = arguments
        cls._plan = Plan.of(cls, arguments, cls._hooks)

    @classmethod
    def _compile_late(cls) -> None:
        if cls.is_abstract():
            advice = "enqueue a class that derives from it"
            hidden = [base.__name__ for base in cls.__mro__ if base is not Job and "perform" in vars(base)]
            if cls.perform is Job.perform and hidden:
                missing, advice = "its perform is Job's own", f"put {hidden[0]} before Job among its bases"
            elif cls.perform is Job.perform or "perform" in undefined(cls):
                missing = "it has no `async def perform(self, ...)`"
            elif open_parameters(cls):
                missing = "its type parameters are open"
            else:
                missing = f"it does not define {', '.join(undefined(cls))}"
            raise InvalidJob(f"{cls.__qualname__} is abstract: {missing}; {advice}")
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
    def arguments(self) -> Mapping[str, Any]:
        """The job's arguments by parameter name, as `perform` receives them, without defaults; for callbacks and choices. Read-only."""
        if self._given is None:
            raise AttributeError(
                f"{type(self).__qualname__} was called directly: its arguments are perform's own parameters"
            )
        positional, named = self._given
        given = dict(inspect.signature(self.perform).bind(*positional, **named).arguments)
        return MappingProxyType(given)

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
        return self._logger

    def idempotency_key(self, *by: str) -> str:
        """A text that is the same in every run of this job, and of every other job of its class with the same arguments.

        For services that take such a key, and for columns with a unique constraint: 32 hexadecimal digits, made of the class's name and the
        arguments, defaults filled in. (Of a set of text it is the same only in runs of one job: its order is chance.)

        Args:
            by: names of the parameters that it is made of; none given: all.

        Raises:
            ValueError: perform has no such parameter.
        """
        text = self.signature().canonical(self._current().args, by)
        return blake2b(self.name.encode() + b"\0" + text, digest_size=16).hexdigest()

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
Job._configured = Configured(Job)  # noqa: SLF001 - as above
Job._logger = logging.getLogger("aiojobs_rt.job.Job")  # noqa: SLF001 - as above

"""TestAdapter: jobs are recorded, and run when a test says so, by a clock that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import orjson

from aiojobs_rt.adapters.in_process.base import InProcessAdapter, State, process_name
from aiojobs_rt.adapters.in_process.clocks import VirtualClock
from aiojobs_rt.adapters.in_process.hosts import PlannedStops, Stop
from aiojobs_rt.adapters.in_process.memory import Memory
from aiojobs_rt.adapters.in_process.per_loop import PerLoop
from aiojobs_rt.core import registry
from aiojobs_rt.core.durations import instant_to_ms, to_ms
from aiojobs_rt.core.outcome import Dead, Discarded, Released, Retried
from aiojobs_rt.core.secret_values import SECRET, without_secrets

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence

    from aiojobs_rt.adapters.base import Envelope
    from aiojobs_rt.adapters.in_process.memory import Held
    from aiojobs_rt.core.outcome import Outcome
    from aiojobs_rt.job import Job

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedJob:
    """A job that was enqueued.

    Attributes:
        id: its id.
        job: its class; None when none of that name is known.
        name: its name.
        arguments: what it was given, by parameter name, without the defaults, as read back from the bytes that were enqueued; a record as
            its reference, the text "gid://app/User/42".
        queue, priority: where it goes.
        at: when it is due, UTC; None: at once.
        options: what `set` overrode, in ms where it is a duration.
    """

    id: str
    job: type[Job] | None
    name: str
    arguments: dict[str, Any]
    queue: str
    priority: int
    at: datetime | None
    options: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformedJob(RecordedJob):
    """A run of a job.

    Attributes:
        outcome: succeeded, retried, snoozed, dead, discarded, cancelled or released.
        error: of a failed run: the error and its traceback, as text; of a discarded job the reason.
    """

    outcome: str
    error: str = ""


class TestAdapter(InProcessAdapter):
    """Records jobs, and runs them when it is told to. It never touches Redis.

    Its clock goes with the system's until `advance` turns it on. Nothing runs by itself.

    Attributes:
        performed: every run, in order.
    """

    __test__ = False  # not a class of tests, whatever its name says to pytest

    def __init__(self) -> None:
        self.virtual = VirtualClock()
        super().__init__(self.virtual)
        self.memory = Memory(process_name("test"))
        self.performed: list[PerformedJob] = []
        self._stops = PlannedStops()
        self._states = PerLoop(lambda: State(self.clock, self.memory, self._stops))
        self._at_once = 0

    @property
    def enqueued(self) -> list[RecordedJob]:
        """The jobs that wait: those that could run in the order of enqueueing, then those that are due later, by due time."""
        self.memory.promote(self.clock.now_ms())
        waiting = [held for held in self.memory.jobs.values() if held.place in ("queued", "scheduled", "retrying")]
        return [recorded(held) for held in sorted(waiting, key=lambda held: (held.place != "queued", held.at_ms))]

    @property
    def now(self) -> datetime:
        """The time by the adapter's clock."""
        return EPOCH + timedelta(milliseconds=self.clock.now_ms())

    def state(self) -> State:
        """The queues, and what runs of them in this loop."""
        return self._states.here()

    async def enqueue(self, envelopes: Sequence[Envelope], /) -> list[bool]:
        """Record jobs; within `performing` run those that are due. See `Adapter.enqueue`."""
        enqueued = await super().enqueue(envelopes)
        if self._at_once:
            ids = {envelope.id for envelope in envelopes}
            await self._run(lambda held: held.message.id in ids)
        return enqueued

    async def perform_enqueued(
        self,
        *,
        only: type[Job] | Collection[type[Job]] | None = None,
        except_: type[Job] | Collection[type[Job]] | None = None,
        queue: str | None = None,
        at: datetime | None = None,
    ) -> list[PerformedJob]:
        """Run the jobs that are due, by queue and priority, and what they enqueue, until none is left; the runs.

        Args:
            only: a class or several: run only these; subclasses count.
            except_: a class or several: run all but these.
            queue: run only jobs of this queue.
            at: run also what is due by then, in the order of the due times; the clock is turned on to it if it is later than now.
        """
        which = _filter(only, except_, queue)
        if at is not None:
            return await self._run_until(max(instant_to_ms(at, what="at"), self.clock.now_ms()), which)
        return await self._run(which)

    async def advance(
        self,
        delta: timedelta | None = None,
        /,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> list[PerformedJob]:
        """Turn the clock on, running what falls due on the way in the order of the due times; the runs.

        Each job runs when it is due by the clock, so what it enqueues in its turn runs too, if it is due within the span.
        """
        if delta is not None and not isinstance(delta, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance] - what is given
            raise TypeError(f"advance takes a timedelta, or days=, hours=, minutes=, seconds=; got {delta!r}")
        span = (delta or timedelta()) + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        return await self._run_until(self.clock.now_ms() + to_ms(span, what="advance"), _filter(None, None, None))

    @asynccontextmanager
    async def performing(self) -> AsyncGenerator[None]:
        """Within the block, jobs that are due run while they are enqueued."""
        self._at_once += 1
        try:
            yield
        finally:
            self._at_once -= 1

    @contextmanager
    def interrupt_during_step(self, job: type[Job], step: str, /, *, cursor: Any = None) -> Generator[None]:
        """Within the block, jobs of a class are interrupted inside a step; see `Jobs.interrupt_during_step`."""
        __tracebackhide__ = True
        with self._stopping(Stop(job_class(job), step, cursor=cursor)):
            yield

    @contextmanager
    def interrupt_after_step(self, job: type[Job], step: str, /) -> Generator[None]:
        """Within the block, jobs of a class are interrupted after a step; see `Jobs.interrupt_after_step`."""
        __tracebackhide__ = True
        with self._stopping(Stop(job_class(job), step, after=True)):
            yield

    @contextmanager
    def _stopping(self, stop: Stop) -> Generator[None]:
        __tracebackhide__ = True
        before = len(self.performed)
        with self._stops.at(stop):
            yield
        stop.check(ran=any(run.name == stop.job.name for run in self.performed[before:]))

    def clear(self) -> None:
        """Forget all jobs and runs."""
        self.memory.clear()
        self.performed.clear()

    def advice(self) -> str:
        """What is said to who waits in vain."""
        return "; a TestAdapter runs nothing by itself: `await jobs.perform_enqueued()`"

    async def aclose(self) -> None:
        """Leave the lifespans of this loop. It may be used again."""
        if self._states.exists():
            await super().aclose()

    def end(self) -> None:
        """Have the lifespans left in every loop in which jobs ran: that of `aiojobs_rt.blocking` outlives the recording."""
        for loop, state in self._states.all():
            with suppress(RuntimeError):  # closed, and with it the lifespans
                loop.call_soon_threadsafe(state.lifespans.leave_soon)

    async def _run_until(self, until_ms: int, which: Callable[[Held], bool]) -> list[PerformedJob]:
        runs: list[PerformedJob] = []
        self.virtual.hold(self.clock.now_ms())
        try:
            while True:
                runs += await self._run(which)
                due_ms = self.memory.next_due()
                if due_ms is None or due_ms > until_ms:
                    break
                self.virtual.hold(max(due_ms, self.clock.now_ms()))
            self.virtual.hold(until_ms)
        finally:
            self.virtual.let_go()
        return runs

    async def _run(self, which: Callable[[Held], bool]) -> list[PerformedJob]:
        state = self.state()
        runs: list[PerformedJob] = []

        def may_run(held: Held) -> bool:
            return not self._stops.holds(held.message.id) and which(held)

        while (held := self.memory.take(self.clock.now_ms(), may_run)) is not None:
            job = recorded(held)
            try:
                outcome = await state.perform(held)
            except asyncio.CancelledError:
                self.performed.append(performed(job, Released(held.message)))
                raise
            run = performed(job, outcome)
            self.performed.append(run)
            runs.append(run)
        return runs


def recorded(held: Held) -> RecordedJob:
    """A job as tests see it."""
    message = held.message
    job_class = registry.resolve(message.job)
    return RecordedJob(
        id=message.id, job=job_class, name=message.job,
        arguments=arguments_of(job_class, message.args, message.extra.get(SECRET, [])), queue=message.queue, priority=message.priority, options=dict(message.options),
        at=EPOCH + timedelta(milliseconds=held.at_ms) if held.place in ("scheduled", "retrying") else None,
    )  # fmt: skip


def performed(job: RecordedJob, outcome: Outcome) -> PerformedJob:
    """A run as tests see it."""
    match outcome:
        case Retried(_, _, error) | Dead(_, _, error):
            text = _readable(error)
        case Discarded(reason):
            text = reason
        case _:
            text = ""
    fields = {name: getattr(job, name) for name in RecordedJob.__dataclass_fields__}
    return PerformedJob(**fields, outcome=type(outcome).__name__.lower(), error=text)


def _readable(error: bytes) -> str:
    fields = orjson.loads(error) if error else {}
    return f"{fields['error']}: {fields['message']}\n{fields['traceback']}".rstrip() if fields else ""


def arguments_of(job_class: type[Job] | None, raw: bytes, secret: Sequence[str]) -> dict[str, Any]:
    """Serialised arguments by parameter name; records stay references.

    Plain JSON, when they do not fit perform, or its validators want records; then with stars for the parameters that hold secrets.
    """
    if job_class is not None:
        with suppress(Exception):
            return job_class.signature().load_plain(raw)
    return without_secrets(orjson.loads(raw), secret)


def _filter(
    only: type[Job] | Collection[type[Job]] | None, except_: type[Job] | Collection[type[Job]] | None, queue: str | None
) -> Callable[[Held], bool]:
    wanted, unwanted = _classes(only), _classes(except_)

    def which(held: Held) -> bool:
        if queue is not None and held.message.queue != queue:
            return False
        if wanted is None and unwanted is None:
            return True
        job_class = registry.resolve(held.message.job)
        if job_class is None:
            return wanted is None
        return (wanted is None or issubclass(job_class, wanted)) and not (unwanted and issubclass(job_class, unwanted))

    return which


def _classes(given: type[Job] | Collection[type[Job]] | None) -> tuple[type[Job], ...] | None:
    if given is None:
        return None
    if isinstance(given, Collection) and not isinstance(given, str):
        return tuple(map(job_class, given))
    return (job_class(given),)


def job_class(given: Any) -> type[Job]:
    """A job class as a test names it.

    Raises:
        TypeError: it is none, such as the name of one.
    """
    if not (isinstance(given, type) and hasattr(given, "perform")):
        raise TypeError(f"a job class is needed here, such as SendWelcome, not {given!r}")
    return cast("type[Job]", given)

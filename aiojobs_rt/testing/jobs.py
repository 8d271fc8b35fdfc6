"""Jobs: what a test asks of the jobs that were enqueued, and the context manager that records them."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, get_args

from aiojobs_rt.adapters.default import overridden
from aiojobs_rt.adapters.in_process.recording import PerformedJob, RecordedJob, TestAdapter, arguments_of, job_class
from aiojobs_rt.core.durations import instant_to_ms
from aiojobs_rt.core.equality import same
from aiojobs_rt.core.outcome import Verb

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from typing import TypeVar

    from aiojobs_rt.job import Job

    Recorded = TypeVar("Recorded", bound=RecordedJob)

NEAR = timedelta(seconds=1)
OUTCOMES: tuple[str, ...] = get_args(Verb)
MOST_SHOWN = 10


class Jobs:
    """The jobs of one test. Nothing runs by itself, nothing reaches Redis.

    Attributes:
        adapter: the adapter that records them.
    """

    def __init__(self, adapter: TestAdapter) -> None:
        self.adapter = adapter

    @property
    def enqueued(self) -> list[RecordedJob]:
        """The jobs that wait: those that could run in the order of enqueueing, then those that are due later, by due time."""
        return self.adapter.enqueued

    @property
    def performed(self) -> list[PerformedJob]:
        """Every run so far, in order."""
        return list(self.adapter.performed)

    @property
    def now(self) -> datetime:
        """The time by the virtual clock, UTC."""
        return self.adapter.now

    def assert_enqueued(
        self,
        job: type[Job],
        /,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        at: datetime | timedelta | None = None,
        queue: str | None = None,
        priority: int | None = None,
        count: int | None = None,
    ) -> RecordedJob:
        """Check that a job waits, and return it: the first that matches.

        Args:
            job: its class.
            args: what perform is called with; `args=(42,)` matches what was given by name too, and a record the one with its id. None:
                anything, unless `kwargs` is given.
            kwargs: what it is called with by name.
            at: when it is due, within a second: an aware datetime, or a timedelta from now.
            queue: where it goes.
            priority: its priority.
            count: so many match, no more; None: at least one.

        Raises:
            AssertionError: none matches, or not `count`; lists the jobs of the class and what differs.
            InvalidArguments: perform can't be called with `args` and `kwargs`.
        """
        __tracebackhide__ = True
        wanted = _Wanted(job, args, kwargs, at=self._instant(at), queue=queue, priority=priority)
        return _assert_found(self.enqueued, wanted, count, what="enqueued", beside=self.performed)

    def assert_performed(
        self,
        job: type[Job],
        /,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        outcome: str | None = "succeeded",
        count: int | None = None,
    ) -> PerformedJob:
        """Check that a job ran, and return the run: the first that matches. As `assert_enqueued`.

        Args:
            job: its class.
            args: as there.
            kwargs: as there.
            queue: where it ran.
            outcome: what its run came to; None: anything. Shows the traceback of a run that failed.
            count: so many runs match; None: at least one.
        """
        __tracebackhide__ = True
        wanted = _Wanted(job, args, kwargs, queue=queue, outcome=outcome)
        return _assert_found(self.performed, wanted, count, what="performed", beside=self.enqueued)

    def assert_none(self, job: type[Job] | None = None, /) -> None:
        """Check that no job waits, or none of this class.

        Raises:
            AssertionError: lists those that do.
        """
        __tracebackhide__ = True
        wanted = None if job is None else job_class(job)
        found = [one for one in self.enqueued if wanted is None or _is(one, wanted)]
        if found:
            kind = "jobs" if wanted is None else f"{wanted.__name__} jobs"
            raise AssertionError(f"no {kind} should be enqueued, there are {len(found)}:\n{_listed(found)}")

    async def perform_enqueued(
        self,
        *,
        only: type[Job] | Collection[type[Job]] | None = None,
        except_: type[Job] | Collection[type[Job]] | None = None,
        queue: str | None = None,
        at: datetime | timedelta | None = None,
    ) -> list[PerformedJob]:
        """Run the jobs that are due, and what they enqueue, until none is left; the runs. A job that fails raises nothing here.

        Args:
            only: a class or several: run only these; subclasses count.
            except_: a class or several: run all but these.
            queue: run only jobs of this queue.
            at: run also what is due by then (aware datetime, or timedelta from now); turns the clock on to it.
        """
        return await self.adapter.perform_enqueued(only=only, except_=except_, queue=queue, at=self._instant(at))

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
        """Turn the virtual clock on, running what falls due on the way, in the order of the due times; the runs.

        What these jobs enqueue runs too, if it is due within the span.
        """
        return await self.adapter.advance(delta, days=days, hours=hours, minutes=minutes, seconds=seconds)

    def performing(self) -> AbstractAsyncContextManager[None]:
        """Within `async with jobs.performing():`, jobs that are due run while they are enqueued."""
        return self.adapter.performing()

    def interrupt_during_step(
        self, job: type[Job], step: str, /, *, cursor: Any = None
    ) -> AbstractContextManager[None]:
        """Within `with jobs.interrupt_during_step(Import, "rows", cursor=2):`, jobs of a class end inside a step, as if their worker stopped.

        A job ends at the first checkpoint that is meant, costing no attempt, and is enqueued with its progress. It does not go on
        before the block is left: then `await jobs.perform_enqueued()` resumes it. Jobs that `perform_now` runs are not interrupted.

        Args:
            job: its class.
            step: the name of the step.
            cursor: where the step is to stand, by `advance` or `set`; None: at its first checkpoint, wherever it stands.

        Raises:
            AssertionError: the block was left and no job was interrupted; lists the checkpoints that were passed instead.
        """
        return self.adapter.interrupt_during_step(job, step, cursor=cursor)

    def interrupt_after_step(self, job: type[Job], step: str, /) -> AbstractContextManager[None]:
        """As `interrupt_during_step`, between this step and the next one: when it is complete. After the last step there is no checkpoint."""
        return self.adapter.interrupt_after_step(job, step)

    def clear(self) -> None:
        """Forget all jobs and runs."""
        self.adapter.clear()

    def _instant(self, at: datetime | timedelta | None) -> datetime | None:
        return self.now + at if isinstance(at, timedelta) else at


@contextmanager
def recording_jobs(*, everywhere: bool = False) -> Generator[Jobs]:
    """Record the jobs that are enqueued within the block, whatever adapter their classes name.

    Args:
        everywhere: those of the whole process, its threads included, as the fixture `jobs` does. Else those of this context and the
            tasks that it makes, so that tests may run side by side in one event loop.
    """
    adapter = TestAdapter()
    with overridden(adapter, everywhere=everywhere):
        try:
            yield Jobs(adapter)
        finally:
            adapter.end()


class _Wanted:
    """What a test looks for."""

    def __init__(
        self,
        job: type[Job],
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        *,
        at: datetime | None = None,
        queue: str | None = None,
        priority: int | None = None,
        outcome: str | None = None,
    ) -> None:
        self.job = job_class(job)
        if isinstance(args, str | bytes):
            raise TypeError(f"args is a tuple of arguments: args=({args!r},)")
        if outcome is not None and outcome not in OUTCOMES:
            raise ValueError(f"there is no outcome {outcome!r}; there are {', '.join(OUTCOMES)}")
        given = args is not None or kwargs is not None
        self.arguments = _sent(job, tuple(args or ()), dict(kwargs or {})) if given else None
        if at is not None:
            instant_to_ms(at, what="at")
        self.fields = {"queue": queue, "priority": priority, "outcome": outcome}
        self.at = at

    def differences(self, found: RecordedJob) -> list[str]:
        """What keeps a job of the class from being the one."""
        differ: list[str] = []
        if self.arguments is not None:
            for name in self.arguments.keys() | found.arguments.keys():
                wanted, got = self.arguments.get(name, _NOTHING), found.arguments.get(name, _NOTHING)
                if not same(wanted, got) and wanted != got:
                    differ.append(f"{name} is {got!r}, not {wanted!r}")
            differ.sort()
        for name, wanted in self.fields.items():
            if wanted is not None and getattr(found, name) != wanted:
                differ.append(f"{name} is {getattr(found, name)!r}, not {wanted!r}")
        if self.at is not None:
            if found.at is None:
                differ.append(f"it is due at once, not at {self.at.isoformat()}")
            elif abs(found.at - self.at) > NEAR:
                differ.append(f"it is due at {found.at.isoformat()}, not at {self.at.astimezone(UTC).isoformat()}")
        return differ

    def __str__(self) -> str:
        given = {name: value for name, value in self.fields.items() if value is not None}
        if self.at is not None:
            given["at"] = self.at.isoformat()
        told = ", ".join(f"{name}={value!r}" for name, value in (self.arguments or {}).items())
        call = self.job.__name__ if self.arguments is None else f"{self.job.__name__}({told})"
        return call + "".join(f", {name} {value}" for name, value in given.items())


def _sent(job: type[Job], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments as those of a recorded job are: written and read again, a record as its reference."""
    signature = job.signature()
    return arguments_of(job, signature.encode(args, kwargs), signature.secret)


class _Nothing:
    def __repr__(self) -> str:
        return "left out"


_NOTHING = _Nothing()


def _assert_found(
    jobs: Sequence[Recorded], wanted: _Wanted, count: int | None, *, what: str, beside: Sequence[RecordedJob]
) -> Recorded:
    __tracebackhide__ = True
    near = [(one, wanted.differences(one)) for one in jobs if _is(one, wanted.job)]
    matching = [one for one, differ in near if not differ]
    if matching and count in (None, len(matching)):
        return matching[0]
    number = ("no job", "1 job")[len(matching)] if len(matching) < 2 else f"{len(matching)} jobs"
    asked = "" if count is None else f" (count={count})"
    lines = [f"{number} {what}{asked}: {wanted}"]
    others = [(one, differ) for one, differ in near if differ]
    others.sort(key=lambda pair: len(pair[1]))
    if matching:
        lines[-1] += f"\n{_listed(matching)}"
    if others:
        lines.append(f"{what}, but different:")
        for one, differ in others[:MOST_SHOWN]:
            lines.append(f"  {_told(one)}: {'; '.join(differ)}")
            if isinstance(one, PerformedJob) and one.error:
                lines += [f"    {line}" for line in one.error.splitlines()]
    elif not matching:
        lines.append(f"{what} instead:\n{_listed(jobs)}" if jobs else f"nothing was {what}")
        if any(_is(one, wanted.job) for one in beside):
            lines.append(
                "it was performed already" if what == "enqueued" else "it waits: await jobs.perform_enqueued()"
            )
    raise AssertionError("\n".join(lines))


def _is(found: RecordedJob, job: type[Job]) -> bool:
    return found.name == job.name


def _listed(jobs: Sequence[RecordedJob]) -> str:
    lines = [f"  {_told(job)}" for job in jobs[:MOST_SHOWN]]
    if len(jobs) > MOST_SHOWN:
        lines.append(f"  and {len(jobs) - MOST_SHOWN} more")
    return "\n".join(lines)


def _told(job: RecordedJob) -> str:
    told = ", ".join(f"{name}={value!r}" for name, value in job.arguments.items())
    due = "" if job.at is None else f", due at {job.at.isoformat()}"
    return f"{job.name}({told}) on {job.queue}{due}"

"""Continuations: a job in steps, whose progress outlives its worker.

1. `self.step(name, ...)` looks up what the message knows: a completed step is skipped, an open one goes on at its cursor.
2. Progress is kept on the message itself: whatever becomes of the run, the next one finds it. The host saves it now and then, so that
   also a kill -9 loses at most a second of it.
3. At a checkpoint (before each step but an execution's first, and at each `advance` or `set`) a job whose worker stops is interrupted.

No I/O here: a `Host` (the worker, an adapter) says whether it stops, and saves.
"""

from __future__ import annotations

import asyncio
import inspect
import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from aiojobs_rt.core import events
from aiojobs_rt.core.context import host
from aiojobs_rt.errors import Directive, InvalidStep, unwrap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator

    from aiojobs_rt.core.decision import Decision
    from aiojobs_rt.core.message import JobMessage
    from aiojobs_rt.job import Job

FIELD = "steps"
TURN = 0.005
RESUME_AFTER_MS = 5_000
MAX_CURSOR = 65_536
"""Bytes of a cursor's JSON: it travels with the job."""


class Interruption(BaseException):
    """Ends an execution at a checkpoint; the job goes back to its queue. No error: `except Exception` does not take it.

    Attributes:
        counts: whether it is a stopping worker's, and so an interruption of the job; else the job wanted a new execution.
    """

    def __init__(self, *, counts: bool) -> None:
        super().__init__("interrupted at a checkpoint")
        self.counts = counts


class Host(Protocol):
    """Who runs a job, as far as its continuation has to know."""

    def interrupts(self, message: JobMessage, step: Step | None) -> bool:
        """Whether the job is to end at the checkpoint that it has reached, in this step, or between two (None)."""
        ...

    def save(self, message: JobMessage) -> None:
        """Save the progress on this message, soon."""
        ...

    async def restore(self, message: JobMessage) -> bytes | None:
        """What was last saved for this job, or None."""
        ...


class Step:
    """A step that runs: what `async for step in self.step(...)` gives.

    Attributes:
        name: the step's.
        cursor: where it is: any JSON value; at first `start`, later what `advance` or `set` was given last.
        resumed: whether an earlier execution has begun it.
    """

    __slots__ = ("_continuation", "cursor", "name", "resumed")

    def __init__(self, continuation: Continuation, name: str, cursor: Any, *, resumed: bool) -> None:
        self._continuation = continuation
        self.name = name
        self.cursor = cursor
        self.resumed = resumed

    async def set(self, cursor: Any) -> None:
        """Note where the next execution is to go on, and end here if the worker stops.

        Args:
            cursor: any JSON value.

        Raises:
            InvalidStep: it is no JSON value, or this step is not the one that runs.
        """
        await self._continuation.move(self, cursor)

    async def advance(self, cursor: Any = None) -> None:
        """As `set`; without a cursor, one more than an integer cursor.

        Args:
            cursor: any JSON value: of the row that is done, where rows are read after it.

        Raises:
            InvalidStep: it is no JSON value; or none is given and the cursor is no integer.
        """
        if cursor is None:
            if type(self.cursor) is not int:
                raise InvalidStep(
                    f"step {self.name!r}: advance() without a cursor counts, but the cursor is {type(self.cursor).__name__}; "
                    "begin with start=0, or say where it is: advance(row.id)"
                )
            cursor = self.cursor + 1
        await self._continuation.move(self, cursor)

    async def checkpoint(self) -> None:
        """End here if the worker stops; the cursor stays as it is."""
        await self._continuation.checkpoint()


class StepCall:
    """What `self.step(...)` returns: to be awaited, when it was given a function, or iterated over, once at most."""

    __slots__ = ("_begun", "_continuation", "_function", "_isolated", "_name", "_start", "_step")

    def __init__(
        self,
        continuation: Continuation,
        name: str,
        function: Callable[..., Awaitable[Any]] | None,
        *,
        start: Any,
        isolated: bool,
    ) -> None:
        self._continuation = continuation
        self._name = name
        self._function = function
        self._start = start
        self._isolated = isolated
        self._step: Step | None = None
        self._begun = False

    def __await__(self) -> Generator[Any, None, None]:
        self._begun = True
        return self._call().__await__()

    def __del__(self) -> None:
        if not self._begun:
            how = "async for step in" if self._function is None else "await"
            warnings.warn(
                f"step {self._name!r} was not run: write `{how} self.step(...)`", RuntimeWarning, stacklevel=2
            )

    def __aiter__(self) -> AsyncIterator[Step]:
        if self._function is not None:
            self._begun = True  # what is wrong is said
            raise InvalidStep(
                f"step {self._name!r} has a function: await it, or leave the function out and give it a body"
            )
        return self

    async def __anext__(self) -> Step:
        if self._begun:
            if self._step is not None:
                self._continuation.complete(self._step)
            raise StopAsyncIteration
        self._begun = True
        self._step = await self._continuation.begin(self._name, self._start, isolated=self._isolated)
        if self._step is None:
            raise StopAsyncIteration
        return self._step

    async def _call(self) -> None:
        function = self._function
        if function is None:
            raise InvalidStep(
                f"step {self._name!r} has nothing to await: give it a function, self.step({self._name!r}, self.{self._name}), "
                "or a body: async for step in self.step(...)"
            )
        if not callable(function):
            if inspect.iscoroutine(function):
                function.close()  # it is not to be warned of as well
            raise InvalidStep(
                f"step {self._name!r} takes the function itself, which it calls: self.step({self._name!r}, self.{self._name}); "
                f"got a {type(function).__name__}"
            )
        step = await self._continuation.begin(self._name, self._start, isolated=self._isolated)
        if step is None:
            return
        running = function(step) if _takes_a_step(function) else function()
        if not inspect.isawaitable(running):
            raise InvalidStep(
                f"step {self._name!r}: its function must be `async def`, it returned a {type(running).__name__}"
            )
        await running
        self._continuation.complete(step)


class Continuation:
    """The steps of one execution of a job.

    Args:
        message: where the progress is kept.
    """

    def __init__(self, message: JobMessage) -> None:
        self._message = message
        self._host: Host | None = host.get()
        self._completed: list[str] = []
        self._open: tuple[str, Any] | None = None
        self._moves = self._resumptions = 0
        self._seen: list[str] = []
        self._current: Step | None = None
        self._step_began = 0.0
        self._ran = False
        self._alone = False
        self._turned_at = time.monotonic()
        self._loaded = False
        self.advanced = False
        """Whether this execution has got any further."""

    def call(
        self, name: str, function: Callable[..., Awaitable[Any]] | None, *, start: Any, isolated: bool
    ) -> StepCall:
        """A step of the job."""
        return StepCall(self, name, function, start=start, isolated=isolated)

    async def begin(self, name: str, start: Any, *, isolated: bool) -> Step | None:
        """Begin a step, or go on with it; None when it was completed before.

        Raises:
            InvalidStep: its name was used before in this execution, it stands at another place than before, or another one is open.
        """
        if not self._loaded:
            await self._load()
        if not isinstance(name, str) or not 1 <= len(name) <= 200:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            raise InvalidStep(f"a step's name is a text of 1 to 200 characters, got {name!r:.300}")
        if self._current is not None:
            raise InvalidStep(
                f"step {name!r} begins while step {self._current.name!r} is open: steps are not nested, and one that was left by `break` "
                "or by an error is not complete"
            )
        if name in self._seen:
            raise InvalidStep(f"step {name!r} is there twice: names are unique within a job")
        place = len(self._seen)
        if place < len(self._completed):
            if name != self._completed[place]:
                raise InvalidStep(
                    f"step {name!r} stands where step {self._completed[place]!r} was completed before: a job's steps keep their order"
                )
            self._seen.append(name)
            return None
        if self._open is not None and name != self._open[0]:
            raise InvalidStep(
                f"step {name!r} stands where step {self._open[0]!r} was begun before: a job's steps keep their order"
            )
        if self._ran:
            await self.checkpoint()
            if self._host is not None and (isolated or self._alone):
                raise Interruption(counts=False)
        resumed, cursor = self._open is not None, start if self._open is None else self._open[1]
        _check(name, cursor)
        self._seen.append(name)
        self._ran, self._alone = True, isolated
        self._current = Step(self, name, cursor, resumed=resumed)
        self._step_began = time.monotonic()
        return self._current

    def complete(self, step: Step) -> None:
        """Note that a step has come to its end."""
        self._current = self._open = None
        self._completed.append(step.name)
        self._note()
        if events.subscribed:
            duration = time.monotonic() - self._step_began
            events.tell("step", self._message, duration=duration, details={"step": step.name, "resumed": step.resumed})

    async def move(self, step: Step, cursor: Any) -> None:
        """Note where a step is."""
        if step is not self._current:
            raise InvalidStep(f"step {step.name!r} is over: it can't be moved any more")
        _check(step.name, cursor)
        step.cursor = cursor
        self._open = (step.name, cursor)
        self._note()
        await self.checkpoint()

    async def checkpoint(self) -> None:
        """End the execution if its host stops.

        Raises:
            Interruption: it does.
        """
        if self._host is not None and self._host.interrupts(self._message, self._current):
            raise Interruption(counts=True)
        now = time.monotonic()
        if now - self._turned_at > TURN:  # a job that awaits nothing else must not keep the loop
            await asyncio.sleep(0)
            self._turned_at = time.monotonic()

    def _note(self) -> None:
        self.advanced = True
        self._moves += 1
        state: dict[str, Any] = {"moves": self._moves, "completed": [*self._completed]}
        if self._resumptions:
            state["resumptions"] = self._resumptions
        if self._open is not None:
            state["open"], state["cursor"] = self._open
        self._message.extra = {**self._message.extra, FIELD: state}
        if self._host is not None:
            self._host.save(self._message)

    async def _load(self) -> None:
        self._loaded = True
        state = self._message.extra.get(FIELD)
        if self._message.crashes and self._host is not None and (saved := await self._host.restore(self._message)):
            later = _parse(saved)
            if later is not None and (not isinstance(state, dict) or later["moves"] > state.get("moves", 0)):
                state = later
                self._message.extra = {**self._message.extra, FIELD: state}
        if isinstance(state, dict):
            self._moves, self._resumptions = int(state.get("moves", 0)), int(state.get("resumptions", 0))
            self._completed = [str(name) for name in state.get("completed", ())]
            if "open" in state:
                self._open = (str(state["open"]), state.get("cursor"))
            if events.subscribed:
                step = None if self._open is None else self._open[0]
                events.tell("resumed", self._message, details={"completed": (*self._completed,), "step": step})


def _takes_a_step(function: Callable[..., Any]) -> bool:
    """Whether a function has a parameter by position: one by name alone, such as `partial` leaves behind, is not for the step."""
    return any(
        parameter.kind not in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD)
        for parameter in inspect.signature(function).parameters.values()
    )


def _parse(saved: bytes) -> dict[str, Any] | None:
    """Saved progress; None for what is none, such as a value that somebody wrote by hand."""
    try:
        state = orjson.loads(saved)
    except orjson.JSONDecodeError:
        return None
    return state if isinstance(state, dict) and type(state.get("moves")) is int else None


def progress_of(message: JobMessage) -> bytes | None:
    """The progress on a message, as it is saved: JSON with moves, completed, open, cursor; None when it has none."""
    state = message.extra.get(FIELD)
    return None if state is None else orjson.dumps(state)


def interruption_in(error: BaseException) -> Interruption | None:
    """The interruption that ended an execution, also out of a task group, where it stands beside cancellations of other tasks."""
    if isinstance(error, Interruption):
        return error
    if not isinstance(error, BaseExceptionGroup):
        return None
    try:
        found: Any
        found, others = error.split(Interruption)
    except RecursionError:  # nested too deeply to look through
        return None
    if others is not None:
        return None
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found  # type: ignore[no-any-return] # the leaf of a group of interruptions


def resumed(job: Job, decision: Decision, error: BaseException) -> JobMessage | None:
    """The message of a job that failed after it had got further: it goes on from there, at no charge. None when it has just failed.

    What a declaration says of discarding or rescuing is obeyed first, and so is what the job itself directs.
    """
    continuation, message = job._continuation, job._message  # noqa: SLF001 - the job's own, for this module
    if continuation is None or message is None or not continuation.advanced or not job.resume_errors_after_advancing:
        return None
    if decision.kind not in ("retry", "dead") or isinstance(unwrap(error), Directive):
        return None
    state = message.extra[FIELD]
    times = state.get("resumptions", 0) + 1
    if job.max_resumptions is not None and times > job.max_resumptions:
        return None
    return replace(message, extra={**message.extra, FIELD: {**state, "resumptions": times}})


def _check(name: str, cursor: Any) -> None:
    try:
        dumped = orjson.dumps(cursor)
        same = orjson.loads(dumped) == cursor
        if len(dumped) > MAX_CURSOR:
            raise InvalidStep(
                f"step {name!r}: its cursor takes {len(dumped):,} bytes, more than {MAX_CURSOR:,}: say where the step is, not what it has found"
            )
    except (TypeError, ValueError, RecursionError):
        same = False
    if not same:
        raise InvalidStep(
            f"step {name!r}: a cursor is a JSON value (text, number, list, object), got a {type(cursor).__name__}"
        )

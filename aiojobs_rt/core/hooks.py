"""Hooks: the callbacks of a job class, compiled once when the class is defined, and how they run.

A chain is a list in the order of declaration, base classes first. It runs level by level: the before hooks down to the next one around,
that one around everything below it, and then the after hooks of the level, the last declared first.
"""

from __future__ import annotations

import inspect
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from aiojobs_rt.errors import Abort

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiojobs_rt.job import Job

logger = logging.getLogger("aiojobs_rt.hooks")

Kind = Literal[
    "before_enqueue",
    "around_enqueue",
    "after_enqueue",
    "before_perform",
    "around_perform",
    "after_perform",
    "after_discard",
]
MARK = "_aiojobs_hooks"
"""The attribute of a method that holds what it is a callback of."""

T = TypeVar("T")
F = TypeVar("F", bound="Callable[..., Any]")
Hook = tuple[Kind, str]


class Halted(Exception):  # noqa: N818 - it says what happened
    """A hook has stopped the chain; its text says which, and why. Never seen outside this package."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of a job class.

    Attributes:
        enqueue, perform: chains, in the order of declaration; may be empty.
        discard: names of methods, in the order in which they run.
    """

    enqueue: tuple[Hook, ...]
    perform: tuple[Hook, ...]
    discard: tuple[str, ...]


def mark(method: F, kind: Kind) -> F:
    """Declare a method as a callback.

    Raises:
        TypeError: it is no function.
    """
    if not inspect.isfunction(method):
        raise TypeError(f"{kind} decorates a method `def name(self)`, got {method!r}")
    marked: Any = method
    setattr(marked, MARK, (*getattr(marked, MARK, ()), kind))
    return marked  # type: ignore[no-any-return] # it is `method` itself


def compile_hooks(job_class: type[Any]) -> Hooks | None:
    """The hooks of a class and its bases; None when there are none.

    Raises:
        ValueError: one has the wrong shape; the message says what to write instead.
    """
    found: list[Hook] = []
    for owner in reversed(job_class.__mro__):
        for name, value in vars(owner).items():
            for kind in getattr(value, MARK, ()):
                if (kind, name) in found:
                    found.remove((kind, name))
                found.append((kind, name))
    if not found:
        return None
    for kind, name in found:
        if wrong := _wrong_shape(kind, getattr(job_class, name, None)):
            raise ValueError(f"{name}, its {kind}, {wrong}")
    return Hooks(
        enqueue=tuple(hook for hook in found if hook[0].endswith("_enqueue")),
        perform=tuple(hook for hook in found if hook[0].endswith("_perform")),
        discard=tuple(name for kind, name in reversed(found) if kind == "after_discard"),
    )


async def run_chain(chain: tuple[Hook, ...], job: Job, inner: Callable[[], Awaitable[T]]) -> T | None:
    """Run `inner` inside a chain; what it returned, or None when a hook around it has taken its error.

    Raises:
        Halted: a before hook raised Abort, or one around did not yield; `inner` and the after hooks were not run.
        BaseException: what a hook or `inner` raised.
    """
    level: tuple[Hook, ...] = chain
    rest: tuple[Hook, ...] = ()
    for at, (kind, _) in enumerate(chain):
        if kind.startswith("around"):
            level, rest = chain[:at], chain[at:]
            break
    for kind, name in level:
        if kind.startswith("before"):
            try:
                returned = getattr(job, name)()
                if returned is not None and inspect.isawaitable(returned):
                    await returned
            except Abort as error:
                raise Halted(_halted(kind, name, error)) from None
    value = await _run_around(rest, job, inner) if rest else await inner()
    for kind, name in reversed(level):
        if kind.startswith("after"):
            returned = getattr(job, name)()
            if returned is not None and inspect.isawaitable(returned):
                await returned
    return value


async def run_discard(hooks: Hooks, job: Job, error: BaseException, is_more: Callable[[BaseException], bool]) -> None:
    """Run the after_discard hooks; an error in one is logged, and the others run.

    Args:
        hooks: of the job's class.
        job: the job that has ended.
        error: with which.
        is_more: whether what a hook raised is no failure of its own, and to be raised.
    """
    for name in hooks.discard:
        try:
            await _call(job, name, error)
        except BaseException as wrong:
            if is_more(wrong):
                raise
            logger.exception("job %s (%s): its after_discard %s failed", job.id, job.name, name)


async def _run_around(chain: tuple[Hook, ...], job: Job, inner: Callable[[], Awaitable[T]]) -> T | None:
    (kind, name), rest = chain[0], chain[1:]
    manager = asynccontextmanager(getattr(job, name))()
    try:
        await anext(manager.gen)
    except StopAsyncIteration:
        raise Halted(_halted(kind, name, None)) from None
    except Abort as error:
        raise Halted(_halted(kind, name, error)) from None
    value: T | None = None
    try:
        value = await run_chain(rest, job, inner)
    except Halted:  # no error: the hook goes on after its yield, and the halt outwards
        await manager.__aexit__(None, None, None)
        raise
    except BaseException as error:
        if not await manager.__aexit__(type(error), error, error.__traceback__):
            raise
    else:
        await manager.__aexit__(None, None, None)
    return value


async def _call(job: Job, name: str, *arguments: Any) -> None:
    returned = getattr(job, name)(*arguments)
    if inspect.isawaitable(returned):
        await returned


def _halted(kind: Kind, name: str, error: Abort | None) -> str:
    reason = str(error) if error is not None else ""
    return f"halted by {kind} {name}" + (f": {reason}" if reason else "")


def _wrong_shape(kind: Kind, method: Any) -> str:
    if not inspect.isfunction(method):
        return "must be a plain method"
    if kind.startswith("around"):
        if not inspect.isasyncgenfunction(method):
            return "must be an async generator that yields once: `async def ...: before; yield; after`"
    elif inspect.isasyncgenfunction(method) or inspect.isgeneratorfunction(method):
        return "must not yield: only one around does"
    wanted = 2 if kind == "after_discard" else 1
    parameters = list(inspect.signature(method).parameters.values())
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(required) > wanted or (len(parameters) < wanted and not any(p.kind is p.VAR_POSITIONAL for p in parameters)):
        return f"must take {'self and the error' if wanted == 2 else 'self, and nothing else'}"
    return ""

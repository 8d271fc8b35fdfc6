"""Callbacks: decorators for methods that run before, around and after a job is enqueued or performed, and when it ends for good.

    class Import(Job):
        @before_perform
        async def check_quota(self) -> None:
            if not await quota_left():
                raise Abort("no quota left")

        @around_perform
        async def measure(self) -> AsyncGenerator[None]:
            with timer.time():
                yield

They are inherited, and run in Active Job's order: those before in the order of their declaration, those after in the reverse, and one
around wraps what is declared below it. A subclass that overrides the method is called in its place; one that declares it anew moves it
to the end. Before and after may be async or sync; around is an async generator that yields once. How they run: `core/hooks.py`.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from aiojobs_rt.core.hooks import mark

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

__all__ = [
    "after_discard",
    "after_enqueue",
    "after_perform",
    "around_enqueue",
    "around_perform",
    "before_enqueue",
    "before_perform",
]

M = TypeVar("M", bound="Callable[[Any], Any]")
A = TypeVar("A", bound="Callable[[Any], AsyncGenerator[None]]")
D = TypeVar("D", bound="Callable[[Any, Any], Any]")
F = TypeVar("F", bound="Callable[..., Any]")


def _bare(decorator: F) -> F:
    """Say what to write where a decorator is called with parentheses: `@before_perform()`."""

    @wraps(decorator)
    def decorate(*methods: Any, **options: Any) -> Any:
        if len(methods) != 1 or options:
            raise TypeError(
                f"{decorator.__name__} takes no arguments: write @{decorator.__name__}, without parentheses"
            )
        return decorator(methods[0])

    return cast("F", decorate)


@_bare
def before_enqueue(method: M) -> M:
    """Run the method before a job is enqueued, also for a retry. `raise Abort` in it leaves the job unenqueued.

    `self.id`, `self.queue` and `self.arguments` are there. Other errors are raised to the caller of `perform_later`. `perform_all_later`
    runs no enqueue callbacks.
    """
    return mark(method, "before_enqueue")


@_bare
def around_enqueue(method: A) -> A:
    """Run the async generator around the enqueueing: what stands before its `yield`, and then the rest.

    One that does not yield leaves the job unenqueued.
    """
    return mark(method, "around_enqueue")


@_bare
def after_enqueue(method: M) -> M:
    """Run the method once the job is enqueued; not when a callback has halted it, or Redis has refused."""
    return mark(method, "after_enqueue")


@_bare
def before_perform(method: M) -> M:
    """Run the method before `perform`, in its task. `raise Abort` in it ends the job as discarded, without performing it.

    Any other error is the job's failure, as if `perform` had raised it.
    """
    return mark(method, "before_perform")


@_bare
def around_perform(method: A) -> A:
    """Run the async generator around `perform`: what stands before its `yield`, and then the rest.

    What `perform` raises is raised at the `yield`, and may be handled there. One that does not yield ends the job as discarded.
    """
    return mark(method, "around_perform")


@_bare
def after_perform(method: M) -> M:
    """Run the method after `perform` has returned; not when it raised or was halted. An error in it is the job's failure."""
    return mark(method, "after_perform")


@_bare
def after_discard(method: D) -> D:
    """Run the method, with the error, once the job has ended for good without success.

    That is: by `discard_on`, by `raise Discard`, with its attempts used up, or dead. Not when it was cancelled, has expired, or was halted
    by a callback. What it raises is logged, and changes nothing.
    """
    return mark(method, "after_discard")

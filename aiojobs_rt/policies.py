"""What a job class declares about its errors, and the backoff formulas.

    @retry_on(RateLimited, wait=polynomially_longer, attempts=8)
    @discard_on(RecordNotFound)
    class SendWelcome(ApplicationJob): ...

Declarations are searched in the order of the text from the bottom up, then up the MRO, and the first match wins: a
method marked with `rescue_from` comes before the decorators of its class, of these the one nearest to `class` comes
first, and a class comes before its bases. So put the general above the special. A class matches its subclasses:
`retry_on(Exception)` matches bad arguments and results (`InvalidArguments`, `InvalidResult`) too.

What is decided by them, also about exception groups and beside `max_attempts`, is in `aiojobs_rt/core/decision.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from aiojobs_rt.core.decision import (
    DECLARED,
    RESCUES,
    Backoff,
    Callback,
    Decision,
    DiscardOn,
    Policy,
    RescueFrom,
    RetryOn,
    decide,
    find_policy,
    key_of,
    names_of,
    perform_now_raises,
    policies_of,
    run_callback,
)
from aiojobs_rt.core.durations import to_ms
from aiojobs_rt.core.message import check_queue_name
from aiojobs_rt.core.methods import takes
from aiojobs_rt.core.options import check_priority
from aiojobs_rt.errors import Directive

if TYPE_CHECKING:
    from datetime import timedelta

    from aiojobs_rt.job import Job

__all__ = [
    "Backoff",
    "Decision",
    "DiscardOn",
    "Policy",
    "RescueFrom",
    "RetryOn",
    "decide",
    "discard_on",
    "exponentially_longer",
    "find_policy",
    "perform_now_raises",
    "polynomially_longer",
    "rescue_from",
    "retry_on",
    "run_callback",
]

JT = TypeVar("JT", bound="type[Job]")
E = TypeVar("E", bound=BaseException)
MethodT = TypeVar("MethodT", bound=Callable[[Any, Any], Any])

polynomially_longer = Backoff("polynomially_longer", lambda n: float(n**4), 2.0)
"""n^4 + rand * n^4 * jitter + 2 seconds, n = executions of the declaration: 3, 18, 83, 258, 627, ... (Active Job's)."""

exponentially_longer = Backoff("exponentially_longer", lambda n: float(min(2 ** min(n, 12), 3600)))
"""d + rand * d * jitter seconds, d = 2^n, at most 1 h: 2, 4, 8, 16, ... 2048, 3600, 3600 (truncated binary backoff).

Jitter comes on top of the cap, so that jobs that have reached it do not come back all at once.
"""


def retry_on(
    *errors: type[E],
    wait: float | timedelta | Callable[[int, E], float | timedelta] = 3,
    attempts: int | Literal["unlimited"] = 5,
    jitter: float = 0.15,
    queue: str | None = None,
    priority: int | None = None,
    on_exhausted: Callable[[Any, E], Any] | str | None = None,
) -> Callable[[JT], JT]:
    """Retry the job when it fails with one of `errors` (class decorator).

    Args:
        errors: exception classes; subclasses match too. Each declaration counts its own executions.
        wait: seconds or timedelta before the next run (at most a hundred years); `polynomially_longer`;
            `exponentially_longer`; or a sync callable of (executions of this declaration from 1, error) that returns
            seconds or timedelta and gets no jitter. If the callable fails, the default backoff is used and reported.
        attempts: executions in all, the first included: 3 is two retries. "unlimited" never gives up.
        jitter: up to this fraction of the wait is added at random, 0 to 1.
        queue: retry on this queue instead of the job's own.
        priority: retry with this priority instead of the job's own.
        on_exhausted: called with (job, error) when the attempts are used up, sync or async, or the name of a method;
            the job then counts as discarded. Without it the job goes to the dead set.

    Raises:
        TypeError, ValueError: at the decoration, naming the parameter and the value.
    """
    classes = _check_errors("retry_on", errors)
    what = f"retry_on({names_of(classes)})"
    try:
        _check_wait(wait)
        _check_attempts(attempts)
        _check_jitter(jitter)
        if queue is not None:
            check_queue_name(queue)
        if priority is not None:
            check_priority(priority)
        _check_callback("on_exhausted", on_exhausted)
    except TypeError as error:
        raise TypeError(f"{what}: {error}") from None
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{what}: {error}") from None
    policy = RetryOn(
        errors=classes,
        key=key_of(classes),
        wait=wait,
        attempts=attempts,
        jitter=jitter,
        queue=queue,
        priority=priority,
        on_exhausted=on_exhausted,
    )
    return lambda job_class: _declare(job_class, policy, what, on_exhausted)


def discard_on(*errors: type[E], callback: Callable[[Any, E], Any] | str | None = None) -> Callable[[JT], JT]:
    """End the job without retry, and not in the dead set, when it fails with one of `errors` (class decorator).

    Args:
        errors: exception classes; subclasses match too.
        callback: called with (job, error) first, sync or async, or the name of a method.

    Raises:
        TypeError, ValueError: at the decoration, naming the parameter and the value.
    """
    classes = _check_errors("discard_on", errors)
    what = f"discard_on({names_of(classes)})"
    _check_callback(f"{what}: callback", callback)
    policy = DiscardOn(errors=classes, key=key_of(classes), callback=callback)
    return lambda job_class: _declare(job_class, policy, what, callback)


@overload
def rescue_from(*errors: type[E], handler: None = None) -> Callable[[MethodT], MethodT]: ...
@overload
def rescue_from(*errors: type[E], handler: Callable[[Any, E], Any] | str) -> Callable[[JT], JT]: ...
def rescue_from(*errors: type[E], handler: Callable[[Any, E], Any] | str | None = None) -> Callable[[Any], Any]:
    """Handle `errors` of the job: when the handler returns, the job has succeeded; when it raises, the job has failed.

    On a method, which is then the handler and found by its name, so that a subclass may override it:

        @rescue_from(CardDeclined)
        async def ask_for_another_card(self, error: CardDeclined) -> None: ...

    Or on the class, with `handler`.

    Args:
        errors: exception classes; subclasses match too.
        handler: called with (job, error), sync or async, or the name of a method, called with (error).

    Raises:
        TypeError, ValueError: at the decoration, naming the parameter and the value.
    """
    classes = _check_errors("rescue_from", errors)
    what = f"rescue_from({names_of(classes)})"
    if handler is None:
        return lambda method: _mark(method, classes, what)
    _check_callback(f"{what}: handler", handler)
    policy = RescueFrom(errors=classes, key=key_of(classes), handler=handler)
    return lambda job_class: _declare(job_class, policy, what, handler)


def _declare(job_class: Any, policy: Policy, what: str, callback: Callback | None) -> Any:
    if not isinstance(job_class, type):
        raise TypeError(f"{what} decorates a job class, got {job_class!r}; put it above the `class` statement")
    if isinstance(callback, str) and not callable(getattr(job_class, callback, None)):
        raise TypeError(f"{what}: {job_class.__qualname__} has no method {callback!r}; define it or pass a function")
    if isinstance(callback, str) and not _takes_the_error(job_class, callback):
        raise TypeError(f"{what}: {job_class.__qualname__}.{callback} must take self and the error")
    own: tuple[Policy, ...] = vars(job_class).get(DECLARED, ())
    twins = sum(other.key.partition("#")[0] == policy.key for other in own)
    if twins:
        policy = replace(policy, key=f"{policy.key}#{twins + 1}")
    setattr(job_class, DECLARED, (*own, policy))
    policies_of.cache_clear()
    return job_class


def _takes_the_error(job_class: type, name: str) -> bool:
    plain = inspect.isfunction(inspect.getattr_static(job_class, name))
    return takes(getattr(job_class, name), 2 if plain else 1)


def _mark(method: Any, errors: tuple[type[BaseException], ...], what: str) -> Any:
    if isinstance(method, type):
        raise TypeError(f"{what} on the class {method.__qualname__} needs handler=: a function or the name of a method")
    if not inspect.isfunction(method):
        raise TypeError(f"{what} decorates a method `def name(self, error)`, got {method!r}")
    if not takes(method, 2):
        raise TypeError(f"{what}: {method.__qualname__} must take self and the error")
    setattr(method, RESCUES, (*getattr(method, RESCUES, ()), errors))
    return method


def _check_errors(what: str, errors: tuple[Any, ...]) -> tuple[type[BaseException], ...]:
    if not errors:
        raise ValueError(f"{what} needs at least one exception class")
    for error in errors:
        if not isinstance(error, type) or not issubclass(error, BaseException):
            raise TypeError(f"{what} takes exception classes, each as an argument of its own, got {error!r}")
        if issubclass(error, Directive):
            raise TypeError(f"{what}: {error.__name__} is no error, it directs the job by itself; leave it out")
    return errors


def _check_wait(wait: Any) -> None:
    if not callable(wait):
        to_ms(wait, what="wait")
        return
    for function in (wait, getattr(wait, "__call__", None)):  # noqa: B004 - the method itself is wanted, not whether it exists
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"wait must be sync, got {wait!r}; it only computes how long to wait")
    if not isinstance(wait, Backoff) and not takes(wait, 2):
        raise TypeError(f"wait must take two arguments, the failures so far and the error, got {wait!r}")


def _check_attempts(attempts: Any) -> None:
    if attempts == "unlimited":
        return
    if type(attempts) is not int:
        raise TypeError(f'attempts must be an int or "unlimited", got {attempts!r}')
    if attempts < 1:
        raise ValueError(f"attempts must be at least 1, the first run included, got {attempts}")


def _check_jitter(jitter: Any) -> None:
    if not isinstance(jitter, (int, float)) or isinstance(jitter, bool):
        raise TypeError(f"jitter must be a number from 0 to 1, got {jitter!r}")
    if not 0 <= jitter <= 1:
        raise ValueError(f"jitter must be a number from 0 to 1, got {jitter!r}")


def _check_callback(what: str, callback: Any) -> None:
    if callback is not None and not isinstance(callback, str) and not callable(callback):
        raise TypeError(f"{what} must be a function of (job, error) or the name of a method, got {callback!r}")
    if callable(callback) and not takes(callback, 2):
        raise TypeError(f"{what} must take two arguments, the job and the error, got {callback!r}")

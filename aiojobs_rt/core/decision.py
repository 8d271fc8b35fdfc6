"""What becomes of a job that failed: a pure function of the declarations on its class, the error and the counts.

1. `raise Retry / Discard / Snooze` is obeyed, before any declaration.
2. The first declaration that matches decides: `retry_on` until its attempts are used up, `discard_on`, `rescue_from`.
3. Otherwise the default: bad arguments and results, malformed messages and missing records are dead at once; anything else,
   `SystemExit` and a leaked cancellation included, is retried until `max_attempts` failures or for `retry_for`.

The decorators that make the declarations, and the order of the search, are in `aiojobs_rt/policies.py`.

An exception group is judged by its members. Each finds its own declaration; if that is a `retry_on` for any of them, the
job is retried by it. `discard_on` and `rescue_from` apply only when every member is covered by one: an error that nobody
declared is never thrown away with its neighbour. A directive counts only where there is nothing beside directives.

A declaration bounds what it matches, and nothing else does: `max_attempts` and `retry_for` hold for errors that no
declaration matches and for `raise Retry`. So `retry_on(Flaky, attempts=50)` runs 50 times with `max_attempts = 25`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2s
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from aiojobs_rt.core.durations import MAX_MS, to_ms
from aiojobs_rt.core.message import MalformedMessage
from aiojobs_rt.errors import Discard, InvalidArguments, InvalidResult, RecordNotFound, Retry, Snooze, unwrap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta

Callback: TypeAlias = "Callable[[Any, Any], Any] | str"
"""Called with (job, error), sync or async; or the name of a method, called with (error)."""

DECLARED = "_policies"
"""The class attribute that holds a class's own declarations, in the order of the search."""
RESCUES = "_aiojobs_rescues"
"""The attribute of a method that holds the errors for which it is the handler, one tuple per declaration."""

_KEY_LENGTH = 64
_NEVER_RETRIED_BY_DEFAULT = (InvalidArguments, InvalidResult, MalformedMessage, RecordNotFound)
_DIRECTIVES = (Retry, Snooze, Discard)  # in this order, when a group holds several: the one that keeps the job first


@dataclass(frozen=True, slots=True)
class Backoff:
    """A named backoff formula for `retry_on(wait=...)`; unlike other callables it gets jitter.

    Calling it gives its seconds without jitter, for use inside a callable of one's own:
    `wait=lambda executions, error: min(polynomially_longer(executions, error), 600)`.
    """

    name: str
    growth: Callable[[int], float]
    offset: float = 0.0

    def __call__(self, executions: int, error: BaseException | None = None) -> float:  # noqa: ARG002, D102 - as every `wait`
        return self.growth(executions) + self.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One declaration.

    Attributes:
        errors: the exception classes it matches, with their subclasses.
        key: under which its executions are counted in a job's message: the sorted full names of `errors`, shortened
            by a digest beyond 64 characters; a second declaration of the same errors on one class ends in "#2". It
            changes when the errors do, not with the other parameters nor with the class that declares it.
    """

    errors: tuple[type[BaseException], ...]
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOn(Policy):
    """Made by `retry_on`."""

    wait: float | timedelta | Callable[[int, Any], float | timedelta]
    attempts: int | Literal["unlimited"]
    jitter: float
    queue: str | None
    priority: int | None
    on_exhausted: Callback | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardOn(Policy):
    """Made by `discard_on`."""

    callback: Callback | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RescueFrom(Policy):
    """Made by `rescue_from`."""

    handler: Callback


def find_policy(job_class: type[Any], error: BaseException) -> tuple[Policy, BaseException] | None:
    """The declaration of `job_class` that holds for `error`, and the exception it matched: `error`, or one inside it.

    None when nothing matches. `Retry`, `Discard` and `Snooze` match no declaration, not even one of `Exception`.
    """
    policies = policies_of(job_class)  # type: ignore[arg-type] # mypy takes classes for unhashable
    members = [path for path in _members(error) if not isinstance(path[0], _DIRECTIVES)]
    if not policies or not members:
        return None
    found = [_first_match(policies, path) for path in members]
    matches = [match for match in found if match is not None]
    retries = [match for match in matches if isinstance(policies[match[0]], RetryOn)]
    if not retries and len(matches) < len(found):
        return None
    position, matched = min(retries or matches, key=lambda match: match[0])
    return policies[position], matched


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a job that failed.

    Attributes:
        kind: "retry" after `delay_ms`; "snooze", the same at no charge; "discard"; "rescue", a success once `callback`
            has returned; "exhausted", discarded once `callback` has returned; "dead", to the dead set.
        error: what a declaration matched, and `callback` receives; a group of one is unwrapped.
        policy: the declaration that matched, if any.
        delay_ms: for "retry" and "snooze".
        queue: for "retry", where it differs from the job's own.
        priority: for "retry", where it differs from the job's own.
        key: the declaration whose count of executions goes up by one, if any.
        callback: to be given to `run_callback`, if any.
        reason: for "dead", "exhausted" and "discard": a sentence for people.
        note: not empty when a `wait` callable went wrong and the default backoff stands in: to be reported.
    """

    kind: Literal["retry", "snooze", "discard", "rescue", "exhausted", "dead"]
    error: BaseException
    policy: Policy | None = None
    delay_ms: int = 0
    queue: str | None = None
    priority: int | None = None
    key: str | None = None
    callback: Callback | None = None
    reason: str = ""
    note: str = ""


def decide(
    job_class: type[Any],
    error: BaseException,
    *,
    failures: int,
    executions: Mapping[str, int],
    max_attempts: int,
    retry_for_ms: int | None,
    first_failed_ago_ms: int,
    random: Callable[[], float],
) -> Decision:
    """Decide what becomes of a job of `job_class` that raised `error`, of whatever class. Never raises.

    Args:
        job_class: where the declarations are.
        error: what `perform`, or the loading of its arguments, raised.
        failures: failures of this job before this one.
        executions: for each declaration's key, what it has counted before this one.
        max_attempts: failures in all, this one counted, at which a job dies that no declaration retries.
        retry_for_ms: bounds by time instead of `max_attempts`: a failure this long after the first is the last.
        first_failed_ago_ms: time since the first failure, 0 when this is the first.
        random: gives [0, 1).
    """
    default = _Default(failures, max_attempts, retry_for_ms, first_failed_ago_ms, random)
    members = [path[0] for path in _members(error)]
    directive = _directive(members)
    if directive is not None:
        return _obey(directive, default)
    found = find_policy(job_class, error)
    if found is not None:
        policy, matched = found
        if isinstance(policy, RetryOn):
            return _retry(policy, matched, executions.get(policy.key, 0) + 1, default)
        if isinstance(policy, DiscardOn):
            reason = f"discard_on({names_of(policy.errors)})"
            return Decision("discard", matched, policy, callback=policy.callback, reason=reason)
        if isinstance(policy, RescueFrom):
            return Decision("rescue", matched, policy, callback=policy.handler)
    error = unwrap(error)
    if all(isinstance(member, _NEVER_RETRIED_BY_DEFAULT) for member in members if not isinstance(member, _DIRECTIVES)):
        return Decision("dead", error, reason=f"{type(error).__name__} is not retried unless the job class says so")
    spent = default.spent()
    return Decision("dead", error, reason=spent) if spent else Decision("retry", error, delay_ms=default.delay_ms())


def perform_now_raises(decision: Decision) -> bool:
    """Whether `perform_now` raises the error: it enqueues nothing, so only rescue, discard and on_exhausted apply."""
    return decision.kind in {"retry", "snooze", "dead"}


async def run_callback(callback: Callback, job: object, error: BaseException) -> Any:
    """Call a declaration's callback or handler, by name or as it is, await what it returns if need be, and return it.

    What it raises is passed on; cancelling the caller cancels it.
    """
    result = getattr(job, callback)(error) if isinstance(callback, str) else callback(job, error)
    return await result if inspect.isawaitable(result) else result


@dataclass(frozen=True, slots=True)
class _Default:
    """The default retry of one failure: its bound and its backoff."""

    failures: int
    max_attempts: int
    retry_for_ms: int | None
    first_failed_ago_ms: int
    random: Callable[[], float]

    def spent(self) -> str:
        """Why there is no further attempt; empty when there is one."""
        if self.retry_for_ms is not None:
            if self.first_failed_ago_ms < self.retry_for_ms:
                return ""
            return f"still failing {self.first_failed_ago_ms / 1000:g} s after the first failure (retry_for)"
        total = self.failures + 1
        return "" if total < self.max_attempts else f"failed {_times(total)} (max_attempts = {self.max_attempts})"

    def delay_ms(self) -> int:
        n = self.failures
        return _capped_ms(n**4 + 15 + self.random() * 10 * (n + 1))


def _obey(directive: BaseException, default: _Default) -> Decision:
    if isinstance(directive, Snooze):
        return Decision("snooze", directive, delay_ms=_capped_ms(directive.wait))
    if isinstance(directive, Retry):
        spent = default.spent()
        if spent:
            return Decision("dead", directive, reason=spent)
        delay_ms = default.delay_ms() if directive.wait is None else _capped_ms(directive.wait)
        return Decision("retry", directive, delay_ms=delay_ms)
    return Decision("discard", directive, reason=_text(directive))


def _retry(policy: RetryOn, error: BaseException, executions: int, default: _Default) -> Decision:
    if policy.attempts != "unlimited" and executions >= policy.attempts:
        kind: Literal["exhausted", "dead"] = "dead" if policy.on_exhausted is None else "exhausted"
        reason = f"failed {_times(executions)} (retry_on({names_of(policy.errors)}), attempts = {policy.attempts})"
        return Decision(kind, error, policy, key=policy.key, callback=policy.on_exhausted, reason=reason)
    note = ""
    try:
        delay_ms = _policy_delay_ms(policy, executions, error, default.random)
    except BaseException as wrong:  # noqa: BLE001 - whatever a user's `wait` raises, the job keeps its retry (G1, G13)
        delay_ms = default.delay_ms()
        note = (
            f"wait of retry_on({names_of(policy.errors)}) failed, the default backoff is used: "
            f"{type(wrong).__name__}: {_text(wrong)}"
        )
    return Decision(
        "retry",
        error,
        policy,
        delay_ms=delay_ms,
        queue=policy.queue,
        priority=policy.priority,
        key=policy.key,
        note=note,
    )


def _policy_delay_ms(policy: RetryOn, executions: int, error: BaseException, random: Callable[[], float]) -> int:
    wait = policy.wait
    if isinstance(wait, Backoff):
        base, offset = wait.growth(executions), wait.offset
    elif callable(wait):
        given = wait(executions, error)
        if inspect.iscoroutine(given):  # of a lambda around a coroutine function
            given.close()
        return to_ms(given, what="what it returned")
    else:
        base, offset = to_ms(wait, what="wait") / 1000, 0.0
    return _capped_ms(base + random() * base * policy.jitter + offset)


def _directive(members: list[BaseException]) -> BaseException | None:
    """The directive to obey, when there is nothing else: beside an error, the error decides."""
    if not all(isinstance(member, _DIRECTIVES) for member in members):
        return None
    return next(member for kind in _DIRECTIVES for member in members if isinstance(member, kind))


def _members(error: BaseException) -> list[tuple[BaseException, ...]]:
    """Each exception that `error` holds, in order, followed by the groups around it; `error` alone when it is no group."""
    found: list[tuple[BaseException, ...]] = []
    pending: list[tuple[BaseException, ...]] = [(error,)]
    while pending:
        path = pending.pop()
        if isinstance(path[0], BaseExceptionGroup):
            inner: tuple[BaseException, ...] = path[0].exceptions
            pending.extend((member, *path) for member in reversed(inner))
        else:
            found.append(path)
    return found


def _first_match(policies: tuple[Policy, ...], path: tuple[BaseException, ...]) -> tuple[int, BaseException] | None:
    """The position of the first policy that matches the member, or else a group around it; and which of them."""
    for position, policy in enumerate(policies):
        for error in path:
            if isinstance(error, policy.errors):
                return position, error
    return None


@lru_cache(maxsize=1024)
def policies_of(job_class: type[Any]) -> tuple[Policy, ...]:
    """All declarations that hold for a class, in the order of the search."""
    found: list[Policy] = []
    for owner in job_class.__mro__:
        for name, value in reversed(list(vars(owner).items())):
            rescued = getattr(value, RESCUES, ()) if inspect.isfunction(value) else ()
            found.extend(RescueFrom(errors=errors, key=key_of(errors), handler=name) for errors in rescued)
        found.extend(vars(owner).get(DECLARED, ()))
    return tuple(found)


def _full_name(error: type[BaseException]) -> str:
    return error.__qualname__ if error.__module__ == "builtins" else f"{error.__module__}.{error.__qualname__}"


def key_of(errors: tuple[type[BaseException], ...]) -> str:
    """The key of a declaration of these errors, whatever their order; see `Policy`."""
    key = ",".join(sorted({_full_name(error) for error in errors}))
    if len(key) <= _KEY_LENGTH:
        return key
    digest = blake2s(key.encode(), digest_size=6).hexdigest()
    return f"{key[: _KEY_LENGTH - len(digest) - 1]}~{digest}"


def names_of(errors: tuple[type[BaseException], ...]) -> str:
    """The class names, for messages."""
    return ", ".join(error.__name__ for error in errors)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - a __str__ that fails must not decide about the job (G13)
        return type(error).__name__


def _capped_ms(seconds: float) -> int:
    return min(round(min(seconds, MAX_MS) * 1000), MAX_MS)

"""Events: what happens to jobs, told in the process where it happens to whoever subscribed. Metrics and tracing are built on it.

Nobody subscribed: each place that could tell something tests one tuple, `subscribed`. Handlers are called one after the other, there and
then; what one raises is logged once and harms neither the job nor the other handlers.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from aiojobs_rt.core.attempt import summary_of
from aiojobs_rt.core.message import NOTHING
from aiojobs_rt.core.outcome import Cancelled, Dead, Discarded, Outcome, Released, Retried, Snoozed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiojobs_rt.core.message import JobMessage

logger = logging.getLogger("aiojobs_rt.events")

Kind = Literal[
    "enqueued",
    "started",
    "succeeded",
    "retrying",
    "snoozed",
    "exhausted",
    "discarded",
    "dead",
    "cancelled",
    "interrupted",
    "resumed",
    "step",
    "reclaimed",
    "stalled",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job.

    Attributes:
        kind: what.
        job_id, job, queue: to which; empty for a `stalled` of which no job is the cause.
        executions: which run of it, from 1; 0 where the event belongs to no run (enqueued, reclaimed).
        at: when, UTC, by this machine's clock.
        duration: seconds that it took (a run, a step, a stall), or None.
        error: class and message of the error, or the reason, on one line; empty when there is none.
        details: what else is known; docs/events.md says what by kind.
    """

    kind: Kind
    job_id: str
    job: str
    queue: str
    executions: int
    at: datetime
    duration: float | None = None
    error: str = ""
    details: Mapping[str, Any] = NOTHING


class _Subscription:
    """A handler and the kinds that it wants."""

    __slots__ = ("failed", "handler", "kinds")

    def __init__(self, handler: Callable[[Event], object], kinds: frozenset[Kind]) -> None:
        self.handler = handler
        self.kinds = kinds
        self.failed = False

    def call(self, event: Event) -> None:
        try:
            self.handler(event)
        except (Exception, SystemExit, asyncio.CancelledError):
            if not self.failed:
                self.failed = True
                logger.exception(
                    "the event handler %r failed on %r of job %s; it is called again, and not reported again",
                    self.handler,
                    event.kind,
                    event.job_id,
                )


subscribed: tuple[_Subscription, ...] = ()
"""All subscriptions: empty means that nothing has to be told."""
_changing = threading.Lock()


def subscribe(handler: Callable[[Event], object], *kinds: Kind) -> Callable[[], None]:
    """Call `handler` with each event of these kinds in this process, until the function that is returned is called.

    A handler is a plain function, called where the event happens: in the event loop, between jobs, so it must be quick; `stalled` comes from
    the heartbeat's thread. What it returns is ignored; an error in it is logged once and harms no job.

    Args:
        handler: takes an Event.
        kinds: none given: all kinds.

    Returns:
        A function that ends the subscription; calling it again does nothing.

    Raises:
        TypeError: `handler` can't be called, or is a coroutine function.
        ValueError: there is no such kind.
    """
    if not callable(handler):
        raise TypeError(f"an event handler is a function that takes an Event, got {type(handler).__name__}")
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):
        raise TypeError(
            f"an event handler is a plain function, but {handler!r} is async; let it put the event into an asyncio.Queue that a task of "
            "yours reads"
        )
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"there is no event {kind!r}; there are {', '.join(KINDS)}")
    subscription = _Subscription(handler, frozenset(kinds or KINDS))

    def unsubscribe() -> None:
        _set(lambda known: tuple(other for other in known if other is not subscription))

    _set(lambda known: (*known, subscription))
    return unsubscribe


def _set(change: Callable[[tuple[_Subscription, ...]], tuple[_Subscription, ...]]) -> None:
    global subscribed  # noqa: PLW0603 - rebinding it is what makes a test of it cheap
    with _changing:
        subscribed = change(subscribed)


def publish(
    kind: Kind,
    job_id: str,
    job: str,
    queue: str,
    executions: int = 0,
    *,
    duration: float | None = None,
    error: str = "",
    details: Mapping[str, Any] = NOTHING,
) -> None:
    """Tell the subscribers. Never raises."""
    wanted = [subscription for subscription in subscribed if kind in subscription.kinds]
    if wanted:
        shown = MappingProxyType(details) if details else NOTHING
        event = Event(kind, job_id, job, queue, executions, datetime.now(UTC), duration, error, shown)
        for subscription in wanted:
            subscription.call(event)


def tell(
    kind: Kind,
    message: JobMessage,
    *,
    duration: float | None = None,
    error: str = "",
    details: Mapping[str, Any] = NOTHING,
) -> None:
    """`publish` what happens to the job of this message."""
    publish(kind, message.id, message.job, message.queue, message.runs, duration=duration, error=error, details=details)


def tell_outcome(message: JobMessage, outcome: Outcome, duration: float | None) -> None:
    """Tell what a run came to; that it was interrupted is told where that is known.

    Args:
        message: as it was when the run began.
        outcome: as it was decided.
        duration: seconds of the run; None when there was none.
    """
    match outcome:
        case Retried(_, delay_ms, error, queue):
            details = {"wait": delay_ms / 1000, "queue": queue or message.queue}
            tell("retrying", message, duration=duration, error=summary_of(error) if error else "", details=details)
        case Snoozed(_, delay_ms):
            tell("snoozed", message, duration=duration, details={"wait": delay_ms / 1000})
        case Dead(_, reason, error):
            tell("dead", message, duration=duration, error=summary_of(error), details={"reason": reason})
        case Discarded(reason):
            tell("discarded", message, duration=duration, error=reason)
        case Cancelled():
            tell("cancelled", message, duration=duration)
        case Released():
            pass
        case _:
            tell("succeeded", message, duration=duration)

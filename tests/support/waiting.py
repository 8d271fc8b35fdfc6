"""Waiting for a predicate instead of sleeping."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


async def wait_until(
    predicate: Callable[[], T | Awaitable[T]],
    *,
    timeout: float = 10.0,  # noqa: ASYNC109 - it says what it waited for when the time is up
    interval: float = 0.01,
    what: str = "",
) -> T:
    """Call `predicate`, sync or async, until it returns something true, and return that.

    Raises:
        AssertionError: it did not within `timeout` seconds; says what was waited for, and what came last.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = predicate()
        value = cast("T", await answer if inspect.isawaitable(answer) else answer)
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(_complaint(predicate, value, timeout=timeout, what=what))
        await asyncio.sleep(interval)


def wait_for(predicate: Callable[[], T], *, timeout: float = 10.0, interval: float = 0.01, what: str = "") -> T:
    """`wait_until` for tests without an event loop."""
    deadline = time.monotonic() + timeout
    while True:
        if value := predicate():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(_complaint(predicate, value, timeout=timeout, what=what))
        time.sleep(interval)


def _complaint(predicate: Callable[[], object], value: object, *, timeout: float, what: str) -> str:
    name = what or getattr(predicate, "__qualname__", repr(predicate))
    return f"waited {timeout:g} s for: {name}; the last answer was {value!r}"

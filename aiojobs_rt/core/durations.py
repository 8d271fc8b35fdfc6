"""Durations and instants: seconds, timedelta and aware datetimes outside, int milliseconds inside."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)

MAX_MS = 100 * 366 * 86_400_000
"""No duration is longer than a hundred years: what is, is a unit mistaken for another."""


def to_ms(value: float | timedelta, *, what: str, positive: bool = False) -> int:
    """A duration given in seconds or as a timedelta, in whole milliseconds.

    Args:
        value: seconds or a timedelta; not negative.
        what: what the duration is, for the message.
        positive: refuse zero too.

    Raises:
        TypeError: `value` is neither a number nor a timedelta.
        ValueError: it is negative, not finite, or longer than a hundred years.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
        seconds = value if isinstance(value, float) else float(max(min(value, MAX_MS), -1))  # huge ints overflow
    else:
        raise TypeError(f"{what} must be seconds or a timedelta, got {value!r}")
    if not math.isfinite(seconds) or seconds < 0 or (positive and seconds == 0):
        raise ValueError(f"{what} must be finite and {'more than 0' if positive else 'not negative'}, got {value!r}")
    ms = round(seconds * 1000)
    if ms > MAX_MS:
        raise ValueError(f"{what} is longer than a hundred years: {value!r}; durations are given in seconds")
    return max(ms, 1) if positive else ms


def instant_to_ms(value: datetime, *, what: str) -> int:
    """An aware datetime in milliseconds since the epoch; what is between two of them is the later, as no job starts early.

    Raises:
        TypeError: not a datetime.
        ValueError: a naive datetime: it names no instant.
    """
    if not isinstance(value, datetime):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
        raise TypeError(f"{what} must be an aware datetime, got {value!r}")
    if value.utcoffset() is None:
        raise ValueError(
            f"{what} must be an aware datetime: {value.isoformat()} names no instant; "
            "give it a tzinfo, such as datetime.now(tz=UTC)"
        )
    return -((_EPOCH - value) // _MS)

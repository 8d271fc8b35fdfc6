from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiojobs_rt.core.durations import MAX_MS, instant_to_ms, to_ms


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (0, 0),
        (1, 1000),
        (0.25, 250),
        (0.0004, 0),
        (True + 0, 1000),
        (timedelta(days=1, microseconds=600), 86_400_001),
        (MAX_MS // 1000, MAX_MS),
        (timedelta(milliseconds=MAX_MS), MAX_MS),
    ],
)
def test_seconds_and_timedeltas_become_milliseconds(value: float | timedelta, ms: int) -> None:
    assert to_ms(value, what="wait") == ms


def test_a_positive_duration_is_never_rounded_to_zero() -> None:
    assert to_ms(0.0001, what="timeout", positive=True) == 1
    assert to_ms(timedelta(microseconds=1), what="timeout", positive=True) == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-0.001, "must be finite and not negative, got -0.001"),
        (timedelta(days=-1), "must be finite and not negative"),
        (float("nan"), "must be finite"),
        (float("inf"), "must be finite"),
        (float("-inf"), "must be finite"),
        (-(10**400), "must be finite"),
        (10**400, "longer than a hundred years"),
        (1e300, "longer than a hundred years"),
        (timedelta.max, "longer than a hundred years"),
    ],
)
def test_a_duration_that_is_none_is_refused(value: float | timedelta, message: str) -> None:
    with pytest.raises(ValueError, match=f"wait.*{message}"):
        to_ms(value, what="wait")


@pytest.mark.parametrize("value", [None, "1", True, [1], 1j, datetime(2030, 1, 1, tzinfo=UTC)])
def test_what_is_neither_number_nor_timedelta_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"wait must be seconds or a timedelta, got "):
        to_ms(value, what="wait")


def test_zero_is_refused_where_a_duration_must_be_positive() -> None:
    with pytest.raises(ValueError, match="timeout must be finite and more than 0, got 0"):
        to_ms(0, what="timeout", positive=True)


@given(st.integers(min_value=-6 * 10**13, max_value=10**14))
def test_a_whole_millisecond_is_kept_exactly(ms: int) -> None:
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    assert instant_to_ms(instant, what="at") == ms


def test_between_two_milliseconds_it_is_the_later_one() -> None:
    instant = datetime(2030, 1, 1, tzinfo=UTC)
    assert instant_to_ms(instant + timedelta(microseconds=1), what="at") == instant_to_ms(instant, what="at") + 1
    assert instant_to_ms(instant + timedelta(microseconds=999), what="at") == instant_to_ms(instant, what="at") + 1


def test_the_ends_of_the_calendar_are_instants_too() -> None:
    for offset in (-14, 0, 14):
        zone = timezone(timedelta(hours=offset))
        assert instant_to_ms(datetime.max.replace(tzinfo=zone), what="at") > 0
        assert instant_to_ms(datetime.min.replace(tzinfo=zone), what="at") < 0


def test_an_instant_must_be_an_aware_datetime() -> None:
    class NoOffset(tzinfo):
        def utcoffset(self, dt: datetime | None, /) -> None: ...

        def dst(self, dt: datetime | None, /) -> None: ...

        def tzname(self, dt: datetime | None, /) -> None: ...

    for naive in (datetime(2030, 1, 1), datetime(2030, 1, 1, tzinfo=NoOffset())):  # noqa: DTZ001
        with pytest.raises(ValueError, match="names no instant"):
            instant_to_ms(naive, what="at")
    wrong: Any = 5
    with pytest.raises(TypeError, match="at must be an aware datetime, got 5"):
        instant_to_ms(wrong, what="at")

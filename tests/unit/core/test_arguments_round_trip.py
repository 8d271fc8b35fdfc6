"""Whatever `Arguments.of` accepts carries its values unchanged: shown by types and values made at random."""

from __future__ import annotations

import math
from dataclasses import dataclass, make_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from itertools import permutations
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue, SecretBytes, SecretStr, create_model
from typing_extensions import TypedDict

from aiojobs_rt.core.arguments import Arguments
from aiojobs_rt.core.equality import same
from aiojobs_rt.errors import InvalidArguments, InvalidJob


class Colour(Enum):
    RED = "red"
    ONE = 1


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Mood(StrEnum):
    GOOD = "good"
    DATE = "2024-01-01"


@dataclass(frozen=True)
class Typed:
    """A type and values of it."""

    annotation: Any
    values: st.SearchStrategy[Any]
    hashable: bool = True

    def __repr__(self) -> str:
        return str(self.annotation)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
DATETIMES = st.datetimes() | st.datetimes(
    datetime.fromisoformat("0002-01-01"), datetime.fromisoformat("9998-01-01"), timezones=OFFSETS
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
SCALARS = [
    Typed(int, st.integers()),
    Typed(str, TEXT),
    Typed(bytes, st.binary(max_size=20)),
    Typed(bool, st.booleans()),
    Typed(float, st.floats()),
    Typed(Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    Typed(datetime, DATETIMES),
    Typed(date, st.dates()),
    Typed(time, st.times()),
    Typed(timedelta, st.timedeltas()),
    Typed(UUID, st.uuids()),
    Typed(Path, TEXT.filter(lambda text: "\0" not in text).map(Path)),
    Typed(Colour, st.sampled_from(Colour)),
    Typed(Size, st.sampled_from(Size)),
    Typed(Mood, st.sampled_from(Mood)),
    Typed(Literal["a", 1], st.sampled_from(["a", 1])),
    Typed(SecretStr, TEXT.map(SecretStr)),
    Typed(SecretBytes, st.binary(max_size=20).map(SecretBytes)),
    Typed(None, st.none()),
    Typed(JsonValue, JSON, hashable=False),
]
KEYS = [typed for typed in SCALARS if typed.annotation in {int, str, bytes, datetime, date, UUID, Size, Mood, Decimal}]


# The checkers take a subscript of the builtin for a type expression, which a type made at random is not.
A_LIST: Any = list
A_TUPLE: Any = tuple
A_SET: Any = set
A_DICT: Any = dict
A_TYPED_DICT: Any = TypedDict


def containers(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    return st.one_of(
        inner.map(lambda t: Typed(A_LIST[t.annotation], st.lists(t.values, max_size=4), hashable=False)),
        inner.map(lambda t: Typed(A_TUPLE[t.annotation, ...], st.lists(t.values, max_size=4).map(tuple), t.hashable)),
        inner.filter(lambda t: t.hashable).map(
            lambda t: Typed(A_SET[t.annotation], st.sets(t.values, max_size=4), hashable=False)
        ),
        st.tuples(inner, inner).map(
            lambda pair: Typed(
                A_TUPLE[pair[0].annotation, pair[1].annotation],
                st.tuples(pair[0].values, pair[1].values),
                pair[0].hashable and pair[1].hashable,
            )
        ),
        st.tuples(st.sampled_from(KEYS), inner).map(
            lambda pair: Typed(
                A_DICT[pair[0].annotation, pair[1].annotation],
                st.dictionaries(pair[0].values, pair[1].values, max_size=4),
                hashable=False,
            )
        ),
        inner.map(lambda t: Typed(t.annotation | None, t.values | st.none(), t.hashable) if t.annotation else t),
        st.tuples(st.sampled_from(["model", "dataclass", "typed dict"]), inner, inner).map(with_fields),
    )


def with_fields(made_of: tuple[str, Typed, Typed]) -> Typed:
    kind, one, other = made_of
    values = st.fixed_dictionaries({"one": one.values, "other": other.values})
    fields = {"one": one.annotation, "other": other.annotation}
    if kind == "typed dict":
        return Typed(A_TYPED_DICT("Drawn", fields), values, hashable=False)
    make: Any = make_model if kind == "model" else make_dataclass
    made = make("Drawn", list(fields.items()))
    return Typed(made, values.map(lambda drawn: made(**drawn)), hashable=False)


def make_model(name: str, fields: list[tuple[str, Any]]) -> Any:
    definitions: Any = {field: (annotation, ...) for field, annotation in fields}
    return create_model(name, **definitions)


TYPES = st.recursive(st.sampled_from(SCALARS), containers, max_leaves=6)


def arguments_of(annotation: Any) -> Arguments:
    async def perform(self: object, value: Any) -> None: ...

    perform.__annotations__["value"] = annotation
    return Arguments.of(perform, job="J")


@pytest.mark.acceptance(29)
@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_every_accepted_type_carries_its_values_unchanged(data: st.DataObject) -> None:
    typed = data.draw(TYPES)
    arguments = arguments_of(typed.annotation)
    for value in data.draw(st.lists(typed.values, min_size=1, max_size=3)):
        raw = arguments.encode((value,), {})
        ((), arrived) = arguments.load(raw)
        assert same(arrived["value"], value), raw
        arguments.check_round_trip({"value": value}, raw)


LOOKALIKES: list[Any] = [
    "",
    "1",
    "1.5",
    "NaN",
    "Infinity",
    "true",
    "null",
    "red",
    "good",
    "a",
    "2024-01-01",
    "2024-01-01T00:00:00",
    "01:02:03",
    "P1D",
    "AAAA",
    str(UUID(int=1)),
    0,
    1,
    -1,
    2,
    1704067200,
    10**30,
    0.0,
    1.0,
    1.5,
    1e300,
    math.inf,
    math.nan,
    True,
    False,
    None,
    b"",
    b"abc",
    Decimal(1),
    Decimal("1.5"),
    datetime.fromisoformat("2024-01-01T00:00:00"),
    datetime.fromisoformat("2024-01-01T00:00:00+01:00"),
    date(2024, 1, 1),
    time(1, 2, 3),
    timedelta(days=1),
    timedelta(seconds=5),
    UUID(int=1),
    Path("a"),
    Path("2024-01-01"),
    *Colour,
    *Size,
    *Mood,
    SecretStr("a"),
    SecretBytes(b"a"),
]


@pytest.mark.parametrize(("one", "other"), list(permutations(SCALARS[:-2], 2)), ids=str)
def test_every_accepted_union_carries_lookalikes_unchanged(one: Typed, other: Typed) -> None:
    try:
        arguments = arguments_of(one.annotation | other.annotation)
    except InvalidJob as error:
        assert "can't tell" in str(error)  # noqa: PT017 - both ways are right
        return
    for value in LOOKALIKES:
        try:
            bound = arguments.bind((value,), {})
        except InvalidArguments:
            continue
        raw = arguments.dump(bound)
        assert same(arguments.load(raw)[1], bound), raw


def test_unions_that_json_can_tell_apart_are_accepted() -> None:
    told_apart: list[Any] = [int, float, bool, str, list[int], dict[str, int], None]
    for one, other in permutations(told_apart, 2):
        arguments_of(one | other)
    textual: list[Any] = [
        datetime,
        date,
        time,
        timedelta,
        UUID,
        Decimal,
        bytes,
        Path,
        SecretStr,
        Mood,
        Literal["a", "b"],
    ]
    for other in textual:
        arguments_of(None | other)
        if other is not Mood:
            arguments_of(int | other)
    formatted: list[Any] = [datetime, date, timedelta, UUID, Literal["all"]]
    for one, other in permutations(formatted, 2):
        arguments_of(one | other)


@given(st.binary(max_size=60) | TEXT.map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_load_or_are_refused(raw: bytes) -> None:
    for annotation in (int, JsonValue, Annotated[dict[str, list[bytes]], "x"], BaseModel):
        try:
            arguments_of_cached(annotation).load(raw)
        except InvalidArguments as error:
            assert str(error)  # noqa: PT017 - both ways are right


_CACHE: dict[Any, Arguments] = {}


def arguments_of_cached(annotation: Any) -> Arguments:
    key = str(annotation)
    if key not in _CACHE:
        _CACHE[key] = arguments_of(annotation)
    return _CACHE[key]

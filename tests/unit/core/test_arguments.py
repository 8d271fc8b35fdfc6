from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    JsonValue,
    PlainSerializer,
    PlainValidator,
    Secret,
    SecretBytes,
    SecretStr,
    computed_field,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import ValidationError
from typing_extensions import TypeAliasType, TypedDict, Unpack

from aiojobs_rt.core.arguments import Arguments, Unresolved, explain
from aiojobs_rt.core.bounds import MAX_DEPTH
from aiojobs_rt.core.equality import same
from aiojobs_rt.core.result import Result
from aiojobs_rt.errors import InvalidArguments, InvalidJob, InvalidResult
from tests.support.naming import stable_id

T = TypeVar("T")
INVALID_UTF8 = b"\xff\x00\xfe"


class Colour(Enum):
    RED = "red"
    ONE = 1


class Planet(Enum):
    EARTH = (5.976e24, 6378)
    MARS = (6.421e23, 3397)


class Tenant(Enum):
    MAIN = UUID("a4a913f2-372e-4985-8b41-641b0ab05a96")
    TEST = "test"


class Magic(bytes, Enum):
    PNG = b"\x89PNG"


class Delay(timedelta, Enum):
    DAY = 1


class Bound(Enum):
    NONE = math.inf
    TEN = 10.0


class Leak(Enum):
    WORD = "hunter2"


class Size(IntEnum):
    SMALL = 1


class Mood(StrEnum):
    GOOD = "good"


class Point(NamedTuple):
    x: float
    raw: bytes


class Inner(TypedDict):
    raw: bytes
    many: list[bytes]
    score: float


@dataclass
class Plain:
    raw: bytes
    score: float
    at: datetime | None = None
    made: str = field(default="x")


@pydantic_dataclass
class Checked:
    raw: bytes
    score: float


class Model(BaseModel):
    raw: bytes = INVALID_UTF8
    score: float = math.inf
    secret: SecretStr = SecretStr("hush")
    inner: Inner | None = None


class Nested(BaseModel):
    model_config = ConfigDict(extra="forbid")

    renamed: int = Field(alias="reNamed")
    twice: int = Field(validation_alias="in", serialization_alias="out")
    hidden: int = Field(default=0, exclude=True)
    models: list[Model] = []
    plain: Plain | None = None
    child: Nested | None = None

    @computed_field
    def double(self) -> int:
        return self.renamed * 2


class Hex(BaseModel):
    model_config = ConfigDict(ser_json_bytes="hex")

    raw: bytes
    inner: Inner


class Cat(BaseModel):
    kind: Literal["cat"] = Field(default="cat", alias="k")
    name: str


class Dog(BaseModel):
    kind: Literal["dog"] = Field(default="dog", alias="k")
    name: str


class Tagged(BaseModel):
    kind: Literal[Colour.RED]


class Base(BaseModel):
    a: int


class Derived(Base):
    b: int


class Node(BaseModel):
    child: Node | None = None


class Box(BaseModel, Generic[T]):
    content: T


UserId = NewType("UserId", int)
INNER: Inner = {"raw": INVALID_UTF8, "many": [INVALID_UTF8, b""], "score": -math.inf}
MODEL = Model(inner=INNER)
UUID_1 = UUID("a4a913f2-372e-4985-8b41-641b0ab05a96")
Json3 = TypeAliasType("Json3", "dict[str, Json3] | list[Json3] | str | int | None")  # as pydantic's documents write it
Quoted = TypeAliasType("Quoted", dict[str, "Quoted | int"])  # type: ignore[misc]
QuotedAny = TypeAliasType("QuotedAny", "dict[str, Any]")
QuotedUnion = TypeAliasType("QuotedUnion", "set[int] | list[int]")
NIGHT = datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Vienna"))  # for the second time
MOMENT = datetime.fromisoformat("2024-02-29T01:02:03.456789")


def arguments_of(annotation: Any) -> Arguments:
    async def perform(self: object, value: Any) -> None: ...

    perform.__annotations__["value"] = annotation
    return Arguments.of(perform, job="SendWelcome")


def there_and_back(annotation: Any, value: Any) -> Any:
    arguments = arguments_of(annotation)
    bound = arguments.bind((value,), {})
    raw = arguments.dump(bound)
    arguments.check_round_trip(bound, raw)
    args, kwargs = arguments.load(raw)
    assert args == ()
    assert raw == arguments.encode((), {"value": value})
    assert same(kwargs, bound)
    return kwargs["value"]


# -- what arrives is what was sent


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 10**40),
        (str, "ü\U0001f600\x00\u2028"),
        (bytes, INVALID_UTF8),
        (float, math.nan),
        (float, -math.inf),
        (float, -0.0),
        (float, 5e-324),
        (bool, True),
        (None, None),
        (complex, 1 + 2j),
        (datetime, MOMENT),
        (datetime, MOMENT.replace(tzinfo=UTC)),
        (datetime, MOMENT.replace(tzinfo=timezone(timedelta(hours=-5, minutes=-30)))),
        (datetime, NIGHT),
        (date, date(1, 1, 1)),
        (clock, clock(1, 2, 3, 4)),
        (timedelta, timedelta(days=-1, microseconds=1)),
        (timedelta, timedelta.max),
        (Decimal, Decimal("1E+50")),
        (Decimal, Decimal("1.50")),
        (UUID, UUID_1),
        (Path, Path("/a b")),
        (Colour, Colour.ONE),
        (Size, Size.SMALL),
        (Mood, Mood.GOOD),
        (Planet, Planet.MARS),
        (list[Planet | None], [Planet.EARTH, None]),
        (Planet | int, Planet.EARTH),
        (Literal[Planet.MARS], Planet.MARS),
        (Tenant, Tenant.MAIN),
        (Tenant, Tenant.TEST),
        (Magic, Magic.PNG),
        (Delay, Delay.DAY),
        (Bound, Bound.NONE),
        (UserId, UserId(3)),
        (tuple[int, bytes], (1, INVALID_UTF8)),
        (tuple[float, ...], (math.inf, 1.0)),
        (tuple[()], ()),
        (set[bytes], {INVALID_UTF8}),
        (frozenset[int], frozenset({1})),
        (collections.deque[int], collections.deque([1])),
        (collections.Counter[str], collections.Counter("aab")),
        (collections.defaultdict[str, int], collections.defaultdict(int, a=1)),
        (dict[int, bytes], {1: INVALID_UTF8}),
        (dict[bytes, int], {INVALID_UTF8: 1}),
        (dict[float, int], {math.inf: 1, 1.5: 2}),
        (dict[UUID, int], {UUID_1: 1}),
        (dict[Size, int], {Size.SMALL: 1}),
        (dict[Mood, int], {Mood.GOOD: 1}),
        (dict[Literal["a", "b"], int], {"a": 1}),
        (Mapping[str, int], {"a": 1}),
        (Sequence[int], [1]),
        (Point, Point(math.inf, INVALID_UTF8)),
        (list[Point], [Point(math.nan, INVALID_UTF8)]),
        (Inner, INNER),
        (list[Inner], [INNER]),
        (Plain, Plain(INVALID_UTF8, math.inf, MOMENT)),
        (Checked, Checked(INVALID_UTF8, math.nan)),
        (Model, MODEL),
        (dict[str, list[Model]], {"a": [MODEL]}),
        (
            Nested,
            Nested.model_validate(
                {"reNamed": 1, "in": 2, "hidden": 3, "models": [MODEL], "plain": Plain(b"\xff", math.inf)}
            ),
        ),
        (Box[bytes], Box[bytes](content=INVALID_UTF8)),
        (Node, Node(child=Node(child=Node()))),
        (Annotated[Cat | Dog, Field(discriminator="kind")], Dog(k="dog", name="x")),
        (Cat | Dog, Dog(k="dog", name="x")),
        (SecretStr, SecretStr("hush")),
        (SecretStr, SecretStr("")),
        (list[SecretStr | None], [SecretStr("hush"), None]),
        (SecretBytes, SecretBytes(INVALID_UTF8)),
        (dict[str, SecretBytes], {"a": SecretBytes(INVALID_UTF8)}),
        (Secret[date], Secret[date](date(2024, 1, 1))),
        (JsonValue, {"a": [1, 1.5, "x", None, True, {"b": []}]}),
        (Json3, {"a": [1, "x", None, {"b": []}]}),
        (list[Json3 | None], [None, ["x"]]),
        (int | str | None, "1"),
        (int | float, 1.0),
        (float | int, 1),
        (int | bool, True),
        (float | str, "NaN"),
        (float | Decimal, Decimal("1.5")),
        (date | datetime, datetime.fromisoformat("2024-01-01T00:00:00")),
        (datetime | date, date(2024, 1, 1)),
        (UUID | int | None, UUID_1),
        (UUID | Literal["all"], "all"),
        (Literal[1, "1"] | None, "1"),
        (Literal[Colour.RED], Colour.RED),
        (Literal[Mood.GOOD], Mood.GOOD),
        (Literal[Size.SMALL], Size.SMALL),
        (Literal[Colour.RED] | int, Colour.RED),
        (Literal[1] | int, 2),  # noqa: PYI051 - the union under test
        (Tagged, Tagged(kind=Colour.RED)),
        (Annotated[int, Field(gt=1)], 2),
        (Annotated[int, Field(default=5)], 2),
        (list[dict[str, tuple[set[bytes], ...]]], [{"a": ({INVALID_UTF8},)}]),
    ],
    ids=stable_id,
)
def test_what_arrives_is_what_was_sent(annotation: Any, value: Any) -> None:
    assert same(there_and_back(annotation, value), value)


def test_a_json_parameter_travels_as_what_it_holds() -> None:
    arguments = arguments_of(Json[list[int]])
    assert arguments.load(arguments.encode(("[1, 2]",), {})) == ((), {"value": [1, 2]})


def test_a_model_that_chose_its_own_bytes_keeps_them_and_still_arrives() -> None:
    value = Hex(raw=INVALID_UTF8, inner=INNER)
    assert arguments_of(Hex).encode((value,), {}).startswith(b'{"value":{"raw":"ff00fe"')
    assert there_and_back(Hex, value) == value


def test_a_secret_travels_by_value_also_inside_a_model() -> None:
    assert b"hush" in arguments_of(Model).encode((MODEL,), {})
    assert there_and_back(Model, MODEL).secret.get_secret_value() == "hush"


@pytest.mark.acceptance(30)
def test_the_users_own_way_of_dumping_stays_as_it_was() -> None:
    arguments_of(Model)
    assert b"**********" in Model(raw=b"").model_dump_json().encode()
    custom = Annotated[object, PlainSerializer(lambda _: "own"), PlainValidator(lambda _: 7)]
    arguments = arguments_of(custom)
    assert arguments.encode((object(),), {}) == b'{"value":"own"}'
    assert arguments.load(b'{"value":"own"}') == ((), {"value": 7})


def test_what_validation_coerced_is_what_travels() -> None:
    assert arguments_of(int).encode(("42",), {}) == b'{"value":42}'


def as_path(text: str) -> Path:
    return Path(text)


def test_a_str_for_bytes_is_text_for_the_caller() -> None:
    assert arguments_of(bytes).encode(("abcd",), {}) == b'{"value":"YWJjZA=="}'
    assert arguments_of(list[Inner]).bind(([INNER | {"raw": "abcd"}],), {}) == {"value": [INNER | {"raw": b"abcd"}]}
    assert arguments_of(Model).bind(({"raw": "abcd"},), {})["value"].raw == b"abcd"


def test_a_value_changed_by_an_after_validator_travels_as_its_new_self() -> None:
    arguments = arguments_of(Annotated[str, AfterValidator(as_path)])
    assert arguments.encode(("a/b",), {}) == b'{"value":"a/b"}'


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("annotation", [float | str, JsonValue, list[JsonValue], str | float | None])
def test_a_float_that_would_come_back_as_a_string_is_refused(annotation: Any, value: float) -> None:
    wrapped = [value] if annotation == list[JsonValue] else value
    with pytest.raises(InvalidArguments, match="value"):
        arguments_of(annotation).encode((wrapped,), {})


# -- binding, in the words of a call


def of(function: Callable[..., Any]) -> Arguments:
    return Arguments.of(function, job="SendWelcome")


async def plain(self: object, user_id: int, template: str = "welcome", *, loud: bool = False) -> None: ...
async def needs_keyword(self: object, *, loud: bool) -> None: ...
async def pair(self: object, a: int, b: int) -> None: ...
async def positional_only(self: object, a: int, b: int = 2, /, c: int = 3) -> None: ...
async def variadic(self: object, a: int, b: int = 7, *rest: bytes, flag: bool = False, **more: float) -> None: ...
async def shadowed(self: object, a: int, /, **more: int) -> None: ...
async def nothing(self: object) -> None: ...


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "words"),
    [
        (plain, (), {}, "SendWelcome.plain() missing 1 required positional argument: 'user_id'"),
        (pair, (), {}, "missing 2 required positional arguments: 'a' and 'b'"),
        (needs_keyword, (), {}, "missing 1 required keyword-only argument: 'loud'"),
        (plain, (1,), {"colour": 1}, "got an unexpected keyword argument 'colour'"),
        (plain, (), {"user_id": 1, "colour": 1}, "got an unexpected keyword argument 'colour'"),
        (plain, (), {"colour": 1}, "got an unexpected keyword argument 'colour'"),
        (plain, (1,), {"user_id": 1}, "got multiple values for argument 'user_id'"),
        (plain, (1, "a", True), {}, "takes from 1 to 2 positional arguments but 3 were given"),
        (pair, (1, 2, 3), {}, "takes 2 positional arguments but 3 were given"),
        (nothing, (1,), {}, "takes 0 positional arguments but 1 was given"),
        (positional_only, (), {"a": 1}, "got some positional-only arguments passed as keyword arguments: 'a'"),
        (positional_only, (), {}, "missing 1 required positional argument: 'a'"),
        (variadic, (), {"rest": [b"x"], "a": 1}, "more.rest: "),
        (variadic, (1,), {"self": 1}, "got multiple values for argument 'self'"),
        (plain, (1,), {"self": 1}, "got multiple values for argument 'self'"),
        (
            plain,
            ("x",),
            {},
            "user_id: Input should be a valid integer, unable to parse string as an integer (int_parsing)",
        ),
        (variadic, (1, 2, b"", 3), {}, "rest.1: Input should be a valid bytes (bytes_type)"),
        (variadic, (1,), {"far": "x"}, "more.far: Input should be a valid number"),
        (plain, (1,), {"\ud800": 1}, "got an unexpected keyword argument '\\\\ud800'"),
    ],
)
def test_a_wrong_call_is_refused_in_the_words_of_python(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidArguments) as caught:
        of(function).encode(args, kwargs)
    assert str(caught.value).startswith(f"SendWelcome.{function.__name__}() ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "bound", "call"),
    [
        (plain, (1,), {}, {"user_id": 1}, ((), {"user_id": 1})),
        (plain, (), {"loud": True, "user_id": 1}, {"user_id": 1, "loud": True}, ((), {"user_id": 1, "loud": True})),
        (plain, (1,), {"template": "x"}, {"user_id": 1, "template": "x"}, ((), {"user_id": 1, "template": "x"})),
        (nothing, (), {}, {}, ((), {})),
        (positional_only, (1,), {}, {"a": 1}, ((1,), {})),
        (positional_only, (1,), {"c": 4}, {"a": 1, "c": 4}, ((1,), {"c": 4})),
        (positional_only, (1, 2, 3), {}, {"a": 1, "b": 2, "c": 3}, ((1, 2), {"c": 3})),
        (variadic, (1,), {}, {"a": 1}, ((), {"a": 1})),
        (variadic, (1, 2, b"\xff"), {}, {"a": 1, "b": 2, "rest": [b"\xff"]}, ((1, 2, b"\xff"), {})),
        (variadic, (1,), {"x": 2.5}, {"a": 1, "more": {"x": 2.5}}, ((), {"a": 1, "x": 2.5})),
        (shadowed, (1,), {"a": 2, "more": 3}, {"a": 1, "more": {"a": 2, "more": 3}}, ((1,), {"a": 2, "more": 3})),
    ],
)
def test_a_call_arrives_as_the_same_call(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    bound: dict[str, Any],
    call: tuple[tuple[Any, ...], dict[str, Any]],
) -> None:
    arguments = of(function)
    assert arguments.bind(args, kwargs) == bound
    assert arguments.load(arguments.encode(args, kwargs)) == call


def test_defaults_do_not_travel() -> None:
    assert of(plain).encode((1,), {}) == b'{"user_id":1}'


def test_defaults_before_further_positional_arguments_are_filled_in_when_only_the_wire_left_them_out() -> None:
    assert of(variadic).load(b'{"a":1,"rest":["/w=="]}') == ((1, 7, b"\xff"), {})


@pytest.mark.parametrize("raw", [b'{"a":1,"more":{"a":2}}', b'{"a":1,"more":{"b":2}}', b'{"a":1,"more":{"self":2}}'])
def test_keywords_on_the_wire_that_no_call_can_have_made_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidArguments, match="multiple values"):
        of(variadic).load(raw)


def test_required_names_the_parameters_without_default() -> None:
    assert of(plain).required == ("user_id",)
    assert of(needs_keyword).required == ("loud",)
    assert of(variadic).required == ("a",)
    assert of(nothing).required == ()


def test_plain_signatures_load_in_one_call() -> None:
    arguments = of(plain)
    assert arguments.plain
    assert arguments.load_plain(b'{"user_id":1}') == {"user_id": 1}
    assert [of(function).plain for function in (nothing, positional_only, variadic, shadowed)] == [
        True,
        False,
        False,
        False,
    ]


def test_an_error_of_load_plain_can_be_explained() -> None:
    arguments = of(plain)
    with pytest.raises(ValidationError) as caught:
        arguments.load_plain(b'{"user_id":"secret"}')
    explained = arguments.explain(caught.value)
    assert isinstance(explained, InvalidArguments)
    assert "user_id" in str(explained)
    assert "secret" not in str(explained)
    assert "secret" not in str(caught.value)
    assert str(explain(caught.value, job="Other")).startswith(
        "Other.perform() got arguments that do not fit: user_id: "
    )


def test_self_is_kept_where_there_is_none() -> None:
    async def free(n: int) -> None: ...

    assert Arguments.of(free, job="J", skip_first=False).required == ("n",)


# -- values are never repeated


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "hunter2"),
        (SecretStr, ["hunter2"]),
        (int, Leak.WORD),
        (UUID, "hunter2-zzzz"),
        (Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": "hunter2"}),
        (list[int], ["hunter2"] * 5),
        (Model, {"score": "hunter2"}),
    ],
)
def test_a_message_never_repeats_the_value(annotation: Any, value: Any) -> None:
    with pytest.raises(InvalidArguments) as caught:
        arguments_of(annotation).bind((value,), {})
    assert "value" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None


# -- annotations that can't work


@pytest.mark.acceptance(29)
@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Any, "pydantic.JsonValue"),
        (object, "pydantic.JsonValue"),
        (Hashable, "pydantic.JsonValue"),
        (list, r"write for example list\[int\]"),
        (dict, r"write for example dict\[str, int\]"),
        (set, r"write for example set\[int\]"),
        (tuple, r"write for example tuple\[int, ...\]"),
        (Sequence, r"write for example Sequence\[int\]"),
        (Mapping, r"write for example Mapping\[str, int\]"),
        (list[Any], "pydantic.JsonValue"),
        (dict[str, list], r"list\[int\]"),  # type: ignore[type-arg]
        (dict | None, r"dict\[str, int\]"),
        (Annotated[Sequence, Field(min_length=1)], r"Sequence\[int\]"),  # pyright: ignore[reportMissingTypeArgument]
        (set[int] | list[int], r"can't tell set\[int\] from list\[int\]"),
        (list[set[int] | tuple[int, ...]], "can't tell"),
        (str | bytes, "can't tell str from bytes"),
        (str | UUID, "can't tell"),
        (str | datetime | None, "can't tell"),
        (Mood | str, "can't tell Mood from str"),
        (int | Size, "can't tell"),
        (Tenant | str, "can't tell Tenant from str"),
        (Planet | tuple[float, ...], "can't tell Planet from"),
        (dict[Planet, int], "list of pairs"),
        (clock | timedelta, "can't tell"),
        (SecretStr | SecretBytes, "can't tell"),
        (Path | str, "can't tell"),
        (Model | dict[str, int], "can't tell"),
        (Model | Checked, "can't tell"),
        (Base | Derived, "can't tell Base from Derived"),
        (Derived | Base, "can't tell"),
        (dict[tuple[int, int], str], "list of pairs"),
        (dict[int | str, str], "list of pairs"),
        (dict[int | None, str], "list of pairs"),
        (dict[Colour, str], "list of pairs"),
        (Literal[b"x"], "Literal of str, int"),
        (Literal[Colour.RED, "x"], "Literal of str, int"),
        (QuotedAny, "pydantic.JsonValue"),
        (QuotedUnion, r"can't tell set\[int\] from list\[int\]"),
        (Quoted, "put the whole value of the alias in quotes"),
        (Iterable[int], r"write list\[...\]"),
        (Callable[[], int], "pass a name"),
        (type[int], "pass a name"),
        (range, "range can't travel as JSON"),
        (T, "type variable"),
        (Box, r"give its type variables types: Box\[int\]"),
        (list[T], "type variable"),  # type: ignore[valid-type]
    ],
    ids=stable_id,
)
def test_an_annotation_that_can_not_travel_is_refused_with_what_to_write(annotation: Any, words: str) -> None:
    with pytest.raises(InvalidJob, match=words) as caught:
        arguments_of(annotation)
    assert str(caught.value).startswith("SendWelcome.perform(): parameter 'value' ")


def test_a_parameter_without_annotation_is_refused() -> None:
    async def perform(self: object, user_id) -> None: ...  # type: ignore[no-untyped-def] # pyright: ignore[reportMissingParameterType]

    with pytest.raises(
        InvalidJob, match="parameter 'user_id' has no annotation; say its type, for example user_id: int"
    ):
        of(perform)


def test_variadic_parameters_are_checked_too() -> None:
    async def many(self: object, *rest: Any) -> None: ...
    async def named(self: object, **more: list) -> None: ...  # type: ignore[type-arg] # pyright: ignore[reportMissingTypeArgument]
    async def unpacked(self: object, **more: Unpack[Inner]) -> None: ...

    for function, name in ((many, "rest"), (named, "more"), (unpacked, "more")):
        with pytest.raises(InvalidJob, match=f"parameter '{name}'"):
            of(function)


def test_a_field_as_a_default_is_refused() -> None:
    async def perform(self: object, n: int = Field(gt=1)) -> None: ...

    with pytest.raises(InvalidJob, match=r"Annotated\[..., Field"):
        of(perform)


@pytest.mark.parametrize("annotation", ["int +", "5", 5, [], "int[str]"])
def test_an_annotation_that_is_no_type_is_refused(annotation: Any) -> None:
    with pytest.raises(InvalidJob, match=r"SendWelcome.*perform\(\)"):
        arguments_of(annotation)


# -- names that are not defined yet


def test_an_undefined_name_can_be_tried_again() -> None:
    async def perform(self: object, later: list[Later]) -> None: ...  # type: ignore[name-defined] # noqa: F821 # pyright: ignore[reportUndefinedVariable]

    with pytest.raises(Unresolved, match="Later") as caught:
        of(perform)
    assert isinstance(caught.value, NameError)
    arguments = Arguments.of(perform, job="J", local_names={"Later": int})
    assert arguments.encode(([1],), {}) == b'{"later":[1]}'


def test_a_model_that_is_not_complete_yet_can_be_tried_again() -> None:
    class Incomplete(BaseModel):
        later: Later2  # type: ignore[name-defined] # noqa: F821 # pyright: ignore[reportUndefinedVariable]

    with pytest.raises(Unresolved, match="Later2"):
        arguments_of(list[Incomplete])
    Incomplete.model_rebuild(_types_namespace={"Later2": int})
    assert arguments_of(list[Incomplete]).encode(([{"later": 1}],), {}) == b'{"value":[{"later":1}]}'


def test_local_classes_are_found_through_local_names() -> None:
    class Local(BaseModel):
        n: int

    async def perform(self: object, local: Local) -> None: ...

    with pytest.raises(Unresolved):
        of(perform)
    assert Arguments.of(perform, job="J", local_names=locals()).encode((Local(n=1),), {}) == b'{"local":{"n":1}}'


def test_type_variables_are_substituted() -> None:
    async def perform(self: object, a: T, b: list[T | None], c: Box[T], d: dict[str, Annotated[T, "x"]]) -> T:
        return a

    arguments = Arguments.of(perform, job="J", type_arguments={T: bytes})
    raw = arguments.encode((b"\xff", [None], Box[bytes](content=b"\xfe"), {"a": b"\xfd"}), {})
    assert raw == b'{"a":"_w==","b":[null],"c":{"content":"_g=="},"d":{"a":"_Q=="}}'
    assert Result.of(perform, job="J", type_arguments={T: bytes}).load(b'"_w=="') == b"\xff"
    with pytest.raises(InvalidJob, match="type variable"):
        of(perform)


# -- limits


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if depth % 2 else {"k": value}
    return value


def cyclic() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def deep_model(depth: int) -> Node:
    value = Node()
    for _ in range(depth):
        value = Node.model_construct(child=value)
    return value


def cyclic_model() -> Node:
    value = Node()
    value.child = value
    return value


def quickest(run: Callable[[], None]) -> float:
    """Seconds of CPU, of the best of three: what else runs on this machine does not count."""
    best = math.inf
    for _ in range(3):
        began = time.process_time()
        run()
        best = min(best, time.process_time() - began)
    return best


@pytest.mark.parametrize(
    ("annotation", "make"),
    [
        (JsonValue, lambda: nested(MAX_DEPTH + 1)),
        (JsonValue, lambda: nested(MAX_DEPTH + 2)),
        (JsonValue, lambda: nested(230)),
        (JsonValue, lambda: nested(10_000)),
        (JsonValue, lambda: nested(10_001)),
        (JsonValue, cyclic),
        (list[JsonValue], cyclic),
        (Node, lambda: deep_model(MAX_DEPTH + 1)),
        (Node, lambda: deep_model(5_000)),
        (Node, cyclic_model),
        (int, lambda: 10**4400),
        (JsonValue, lambda: [10**4400]),
    ],
)
def test_what_could_not_be_read_again_is_refused_quickly(annotation: Any, make: Callable[[], Any]) -> None:
    arguments, value = arguments_of(annotation), make()

    def encode() -> None:
        with pytest.raises(InvalidArguments, match="value"):
            arguments.encode((value,), {})

    assert quickest(encode) < 0.05


@pytest.mark.fault(28)
def test_a_value_may_be_nested_as_deep_as_the_limit() -> None:
    for annotation, value in (
        (JsonValue, nested(MAX_DEPTH)),
        (JsonValue, nested(MAX_DEPTH - 1)),
        (Node, deep_model(MAX_DEPTH - 1)),
    ):
        assert same(there_and_back(annotation, value), value)


def test_many_shallow_containers_and_brackets_in_strings_are_not_deep() -> None:
    values: list[Any] = [[[]] * 1_000, "[" * 1_000, ['"[{', "\\"] * 200, {"[" * 100: '\\"[' * 100}]
    for value in values:
        assert there_and_back(JsonValue, value) == value


def test_brackets_in_strings_do_not_hide_depth() -> None:
    value: Any = []
    for _ in range(MAX_DEPTH + 1):
        value = ["]", value, "["]
    with pytest.raises(InvalidArguments, match="deeper than 64"):
        arguments_of(JsonValue).encode((value,), {})


@pytest.mark.fault(28)
def test_a_million_wrong_items_are_refused_without_listing_them() -> None:
    arguments, value = arguments_of(dict[str, int]), dict.fromkeys(map(str, range(20_000)), "x")
    with pytest.raises(InvalidArguments, match="20000 values are wrong"):
        arguments.bind((value,), {})
    with pytest.raises(InvalidArguments, match=r"value\.0: "):
        arguments_of(list[int]).bind((["x"] * 1_000_000,), {})


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str, "\ud800"),
        (list[str], ["\udfff"]),
        (dict[str, int], {"\ud800": 1}),
        (JsonValue, {"a": ["\ud800"]}),
        (Model, Model.model_construct(secret=SecretStr("\ud800"))),
    ],
    ids=stable_id,
)
@pytest.mark.fault(28)
def test_a_lone_surrogate_is_refused_naming_the_parameter(annotation: Any, value: Any) -> None:
    with pytest.raises(InvalidArguments, match="value") as caught:
        arguments_of(annotation).encode((value,), {})
    assert "\ud800" not in str(caught.value)


@pytest.mark.acceptance(29)
def test_a_failing_serialiser_names_the_parameter() -> None:
    def fail(_: Any) -> str:
        raise ValueError("no")

    async def perform(self: object, a: int, b: Annotated[int, PlainSerializer(fail)]) -> None: ...

    with pytest.raises(InvalidArguments, match="argument 'b' can't be written as JSON"):
        Arguments.of(perform, job="J", local_names=locals()).encode((1, 2), {})


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b'{"a":1,"more":',
        b'{"a":1}x',
        b'{"a":"x"}',
        b'{"b":1}',
        b'{"a":1,"c":1}',
        b'{"a":1,"rest":{}}',
        b'{"a":1,"more":[]}',
        b'{"a":1,"rest":["\xff"]}',
        b'{"\xff":1}',
        b'{"a":1,"rest":["not base64!"]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":' + b"[" * 100_000,
        b'{"a":' + b"9" * 5_000 + b"}",
        b'{"a":"\\ud800"}',
        b"\x00",
    ],
    ids=lambda raw: repr(raw[:24]),
)
@pytest.mark.parametrize("function", [variadic, pair])
def test_bytes_that_do_not_fit_are_refused(raw: bytes, function: Callable[..., Any]) -> None:
    arguments = of(function)

    def load() -> None:
        with pytest.raises(InvalidArguments):
            arguments.load(raw)

    assert quickest(load) < 0.05


@pytest.mark.fault(28)
def test_deep_json_for_a_json_parameter_is_refused_on_the_wire() -> None:
    with pytest.raises(InvalidArguments, match="recursion limit"):
        arguments_of(JsonValue).load(b'{"value":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


# -- the round-trip check


class Identity:
    def __init__(self, n: int) -> None:
        self.n = n


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Base, Derived(a=1, b=2)),
        (Sequence[int], (1, 2)),
        (list[Base], [Derived(a=1, b=2)]),
        (Annotated[int, PlainSerializer(lambda n: n + 1)], 1),
        (Annotated[int, PlainSerializer(lambda _: "x")], 1),
        (
            Annotated[
                Identity,
                PlainValidator(lambda n: n if isinstance(n, Identity) else Identity(0)),
                PlainSerializer(lambda o: o.n),
            ],
            Identity(3),
        ),
    ],
    ids=stable_id,
)
def test_the_round_trip_check_names_the_parameter_that_changes(annotation: Any, value: Any) -> None:
    arguments = arguments_of(annotation)
    bound = arguments.bind((value,), {})
    with pytest.raises(InvalidArguments, match="value"):
        arguments.check_round_trip(bound, arguments.dump(bound))


def test_the_round_trip_check_knows_values_without_equality() -> None:
    custom = Annotated[
        Identity,
        PlainValidator(lambda n: n if isinstance(n, Identity) else Identity(n)),
        PlainSerializer(lambda o: o.n),
    ]
    arguments = arguments_of(custom)
    bound = arguments.bind((Identity(3),), {})
    arguments.check_round_trip(bound, arguments.dump(bound))


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (math.nan, math.nan, True),
        ([math.nan, {"a": (math.nan,)}], [math.nan, {"a": (math.nan,)}], True),
        ({math.nan, 1.0}, {math.nan, 1.0}, True),
        ({math.nan, 1.0}, {math.nan, 2.0}, False),
        (Plain(b"", math.nan), Plain(b"", math.nan), True),
        (Plain(b"", math.nan), Plain(b"a", math.nan), False),
        (Model(score=math.nan), Model(score=math.nan), True),
        (1, True, False),
        ([Size.SMALL], [1], False),
        ((1,), [1], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({1: 1}, {True: 1}, False),
        ({1}, {True}, False),
        ({(math.nan, 1)}, {(math.nan, 1)}, True),
        ({(math.nan, 1)}, {(math.nan, 2)}, False),
        ({math.nan: 1}, {math.nan: 1}, True),
        ({math.nan: 1}, {math.nan: 2}, False),
        (NIGHT, NIGHT.replace(tzinfo=timezone(timedelta(hours=1))), True),
        (NIGHT, NIGHT.replace(tzinfo=timezone(timedelta(hours=2))), False),
        (NIGHT, NIGHT.replace(minute=31), False),
        ({MOMENT.replace(tzinfo=UTC)}, {MOMENT.replace(tzinfo=timezone(timedelta(0)))}, True),
    ],
)
def test_equality(one: Any, other: Any, *, equal: bool) -> None:
    assert same(one, other) is equal


# -- results


def result_of(annotation: Any) -> Result:
    async def perform(self: object) -> Any: ...

    perform.__annotations__["return"] = annotation
    return Result.of(perform, job="SendWelcome")


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (None, None),
        (bool, True),
        (bytes, INVALID_UTF8),
        (float, math.inf),
        (Model, MODEL),
        (list[Inner], [INNER]),
        (dict, {"a": [1]}),
        (Any, {"a": [1, None]}),
    ],
    ids=stable_id,
)
def test_a_result_arrives_as_it_was_returned(annotation: Any, value: Any) -> None:
    result = result_of(annotation)
    assert same(result.load(result.dump(value)), value)


def test_an_unannotated_result_is_plain_json() -> None:
    async def perform(self: object, n: int):  # type: ignore[no-untyped-def]
        return n

    result = Result.of(perform, job="J")
    assert result.load(result.dump((1, "a"))) == [1, "a"]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(int, "hunter2"), (Any, object()), (Any, "\ud800"), (Any, nested(100)), (None, 1)],
    ids=stable_id,
)
def test_a_result_that_has_no_json_is_refused(annotation: Any, value: Any) -> None:
    with pytest.raises(InvalidResult, match="SendWelcome: its result") as caught:
        result_of(annotation).dump(value)
    assert "hunter2" not in str(caught.value)


def test_a_result_that_does_not_load_is_refused() -> None:
    for raw in (b"", b'"x"', b"[" * 100_000):
        with pytest.raises(InvalidResult, match=r"its result.*plain JSON"):
            result_of(int).load(raw)


def test_a_result_without_a_schema_is_refused() -> None:
    with pytest.raises(InvalidJob, match="its result, range"):
        result_of(range)

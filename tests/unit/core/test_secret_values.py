from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

import orjson
import pytest
from pydantic import (
    BaseModel,
    Field,
    JsonValue,
    PlainSerializer,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    WrapSerializer,
    field_serializer,
    model_serializer,
)
from typing_extensions import TypedDict

from aiojobs_rt.core.arguments import Arguments
from aiojobs_rt.core.equality import same
from aiojobs_rt.core.result import Result
from aiojobs_rt.core.secret_values import NOT_SHOWN, STARS, hidden
from aiojobs_rt.errors import InvalidResult
from tests.support.naming import stable_id

T = TypeVar("T")


class Plain(BaseModel):
    name: str


class Login(BaseModel):
    user: str
    password: SecretStr


class Tree(BaseModel):
    children: list[Tree] = []
    key: SecretBytes | None = None


class Bush(BaseModel):
    children: list[Bush] = []


@dataclass
class Pair:
    login: Login


class Row(TypedDict):
    pin: SecretStr


def compiled(annotation: Any) -> Arguments:
    async def perform(self: Any, value: Any) -> None: ...

    perform.__annotations__["value"] = annotation
    return Arguments.of(perform, job="Shown")


@pytest.mark.parametrize(
    "annotation",
    [
        SecretStr, SecretBytes, Secret[int], SecretStr | None, SecretStr | int, list[SecretStr], dict[str, SecretStr], tuple[int, SecretBytes],
        Login, list[Login], Tree, Pair, Row, Annotated[SecretStr, PlainSerializer(lambda secret: secret.get_secret_value())],
    ],
)  # fmt: skip
def test_parameters_that_hold_a_secret_are_known(annotation: Any) -> None:
    assert compiled(annotation).secret == ("value",)


@pytest.mark.parametrize("annotation", [str, bytes, Plain, Bush, list[dict[str, int]], JsonValue, int | None])
def test_others_are_not(annotation: Any) -> None:
    assert compiled(annotation).secret == ()


def test_each_parameter_is_looked_at_and_open_ended_ones_too() -> None:
    async def perform(
        self: Any, a: int, b: SecretStr, /, *rest: SecretStr, c: Bush, d: Tree, **more: Login
    ) -> None: ...

    assert Arguments.of(perform, job="Shown").secret == ("b", "rest", "d", "more")


def reveal(secret: SecretStr) -> str:
    return secret.get_secret_value()


class Reveals(BaseModel):
    pin: SecretStr
    user: str = "ada"

    @field_serializer("pin", when_used="json")
    def reveal(self, pin: SecretStr) -> str:
        return pin.get_secret_value()


class RevealsAll(BaseModel):
    pin: SecretStr

    @model_serializer
    def reveal(self) -> dict[str, str]:
        return {"pin": self.pin.get_secret_value()}


@pytest.mark.parametrize(
    ("annotation", "value", "shown"),
    [
        (SecretStr, SecretStr("hunter2"), STARS),
        (Secret[int], Secret(7777), STARS),
        (dict[str, SecretBytes], {"a": SecretBytes(b"hunter2")}, {"a": STARS}),
        (Annotated[SecretStr, PlainSerializer(reveal)], SecretStr("hunter2"), STARS),
        (Annotated[SecretStr, WrapSerializer(lambda secret, _: reveal(secret))], SecretStr("hunter2"), STARS),
        (list[Annotated[SecretStr | None, PlainSerializer(lambda s: s and reveal(s))]], [SecretStr("hunter2")], [STARS]),
        (Reveals, Reveals(pin=SecretStr("hunter2")), {"pin": STARS, "user": "ada"}),
        (list[RevealsAll], [RevealsAll(pin=SecretStr("hunter2"))], [STARS]),
        (Login, Login(user="ada", password=SecretStr("hunter2")), {"user": "ada", "password": STARS}),
        (Tree, Tree(children=[Tree(key=SecretBytes(b"hunter2"))]), {"children": [{"children": [], "key": STARS}], "key": None}),
        (Plain, Plain(name="ada"), {"name": "ada"}),
        (Annotated[str, PlainSerializer(str.upper)], "ada", "ADA"),
    ],
)  # fmt: skip
def test_what_a_log_shows(annotation: Any, value: Any, shown: Any) -> None:
    arguments = compiled(annotation)
    raw = arguments.encode((value,), {})
    told = arguments.show(raw)
    assert "hunter2" not in told
    assert "7777" not in told
    assert orjson.loads(told) == {"value": shown}


@dataclass
class Issued:
    """A dataclass whose own field is secret."""

    user: str
    pin: SecretStr


class Card(BaseModel):
    kind: Literal["card"] = "card"
    number: SecretStr


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"


class Envelope(BaseModel, Generic[T]):
    content: T


class Keys(RootModel[list[SecretBytes]]):
    """A model that is a list."""


KEY, PIN = SecretBytes(b"hunter2"), SecretStr("hunter2")


def result_of(annotation: Any) -> Result:
    async def perform(self: Any) -> None: ...

    perform.__annotations__["return"] = annotation
    return Result.of(perform, job="Shown")


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (SecretStr, PIN),
        (SecretBytes, KEY),
        (Secret[int], Secret(7777)),
        (SecretStr | int, PIN),
        (int | SecretBytes | None, KEY),
        (Login | int, Login(user="ada", password=PIN)),
        (Annotated[Card | Cash, Field(discriminator="kind")], Card(number=PIN)),
        (Tree, Tree(children=[Tree(key=KEY)])),
        (Tree | None, Tree(key=KEY)),
        (Issued, Issued("ada", PIN)),
        (Pair, Pair(Login(user="ada", password=PIN))),
        (Row, {"pin": PIN}),
        (dict[str, SecretStr], {"ada": PIN}),
        (dict[str, list[SecretStr] | None], {"ada": [PIN], "grace": None}),
        (tuple[int, SecretBytes], (1, KEY)),
        (frozenset[SecretStr], frozenset({PIN})),
        (Envelope[SecretStr], Envelope[SecretStr](content=PIN)),
        (Keys, Keys([KEY])),
        (Reveals, Reveals(pin=PIN)),
    ],
    ids=stable_id,
)  # fmt: skip
def test_a_result_that_holds_a_secret_is_known_and_arrives(annotation: Any, value: Any) -> None:
    result = result_of(annotation)
    assert result.secret
    assert same(result.load(result.dump(value)), value)


@pytest.mark.parametrize(
    "annotation", [SecretStr | int, int | SecretBytes | None, Annotated[Card | Cash, Field(discriminator="kind")]]
)
def test_the_other_choices_of_a_secret_union_are_stars_too(annotation: Any) -> None:
    """What people see must not tell which one it was."""
    assert result_of(annotation).secret


@pytest.mark.parametrize("annotation", [str, Plain, Bush, dict[str, int], Cash | int, JsonValue, Any])
def test_other_results_are_not_secret(annotation: Any) -> None:
    assert not result_of(annotation).secret


@pytest.mark.parametrize("value", [PIN, KEY, {"ada": [PIN]}, Login(user="ada", password=PIN), Issued("ada", PIN)])
def test_a_secret_in_a_result_of_any_type_does_not_travel_at_all(value: Any) -> None:
    raw = result_of(Any).dump(value)
    assert b"hunter2" not in raw
    assert b"aHVudGVyMg" not in raw, "in base64"
    assert STARS.encode() in raw


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(SecretBytes, 5), (dict[str, SecretStr], {"ada": ["hunter2"]}), (Login | int, {"user": [], "password": "hunter2"}), (Issued, Issued("ada", {"hunter2"}))],  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    ids=stable_id,
)  # fmt: skip
def test_a_secret_result_that_does_not_fit_is_refused_without_it(annotation: Any, value: Any) -> None:
    with pytest.raises(InvalidResult) as caught:
        result_of(annotation).dump(value)
    assert "hunter" not in str(caught.value)


def test_who_does_not_know_the_class_goes_by_what_travels_with_it() -> None:
    raw = b'{"a":1,"b":"hunter2","n":123456789012345678901234567890}'
    assert hidden(raw, ["b"]) == b'{"a":1,"b":"**********","n":123456789012345678901234567890}'
    assert hidden(raw, []) == raw
    assert hidden(raw, "b").count(b"*") == 30, "all, when it can't be told which"
    for odd in (b"hunter2", b'["hunter2"]', b"\xff", b"[" * 100_000, b'{"a":"\\ud800"}'):
        assert hidden(odd, ["b"]) == NOT_SHOWN.encode()
    assert hidden(raw, [["b"]]) == NOT_SHOWN.encode()

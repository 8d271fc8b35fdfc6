from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import orjson
import pytest
from pydantic import (
    BaseModel,
    JsonValue,
    PlainSerializer,
    Secret,
    SecretBytes,
    SecretStr,
    WrapSerializer,
    field_serializer,
    model_serializer,
)
from typing_extensions import TypedDict

from aiojobs_rt.core.arguments import Arguments
from aiojobs_rt.core.secret_values import NOT_SHOWN, STARS, hidden


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


def test_who_does_not_know_the_class_goes_by_what_travels_with_it() -> None:
    raw = b'{"a":1,"b":"hunter2","n":123456789012345678901234567890}'
    assert hidden(raw, ["b"]) == b'{"a":1,"b":"**********","n":123456789012345678901234567890}'
    assert hidden(raw, []) == raw
    assert hidden(raw, "b").count(b"*") == 30, "all, when it can't be told which"
    for odd in (b"hunter2", b'["hunter2"]', b"\xff", b"[" * 100_000, b'{"a":"\\ud800"}'):
        assert hidden(odd, ["b"]) == NOT_SHOWN.encode()
    assert hidden(raw, [["b"]]) == NOT_SHOWN.encode()

"""Bounds of what is serialised: how many items, how deep, how long a number. Each is looked at before the work that it would cost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiojobs_rt.core.shapes import Schema

MAX_DEPTH = 64
"""How many arrays and objects one argument may hold one in another. Readers of JSON give up at 200 or earlier."""

_OPEN = MAX_DEPTH + 2
_LONG_NUMBER = b"0" * 4000  # pydantic reads no more than 4,300 digits
_DIGITS_ZERO = bytes(ord("0") if chr(byte).isdecimal() else ord(" ") for byte in range(256))
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SQUARE = bytes.maketrans(b"{}", b"[]")
_CONTAINERS = {list, dict, tuple}
_UNWRAPPED = {"default", "nullable"}


def holding_many(schema: Schema) -> dict[str, int]:
    """The parameters, in a schema of all, whose lists and dicts travel item by item, and how deep these may stand one in another.

    So many items take at least twice as many bytes. A set is none of them: what is given for it may be longer than it is.
    """
    known = {definition["ref"]: definition for definition in schema.get("definitions", ())}
    whole = schema["schema"] if schema["type"] == "definitions" else schema
    levels = {name: _levels(field["schema"], known, ()) for name, field in whole["fields"].items()}
    return {name: depth for name, depth in levels.items() if depth}


def _levels(schema: Schema, known: dict[str, Schema], inside: tuple[str, ...]) -> int:
    kind = schema["type"]
    if "serialization" in schema:  # who knows how much it writes
        return 0
    if kind in _UNWRAPPED:
        return _levels(schema["schema"], known, inside)
    if kind == "json-or-python":
        return _levels(schema["python_schema"], known, inside)
    if kind == "definition-ref":
        ref: str = schema["schema_ref"]
        if ref in inside:
            return _OPEN
        return _levels(known[ref], known, (*inside, ref)) if ref in known else 0
    if kind == "list":
        return _below([schema.get("items_schema")], known, inside)
    if kind == "tuple":
        return _below(schema["items_schema"], known, inside)
    if kind == "dict":
        return _below([schema.get("values_schema")], known, inside)
    if kind in {"union", "tagged-union"} and inside:  # of a recursive alias, such as JsonValue
        choices: Iterable[Any] = (
            schema["choices"].values() if isinstance(schema["choices"], dict) else schema["choices"]
        )
        return max(_levels(choice[0] if isinstance(choice, tuple) else choice, known, inside) for choice in choices)
    return 0


def _below(schemas: Iterable[Schema | None], known: dict[str, Schema], inside: tuple[str, ...]) -> int:
    return min(1 + max((_levels(schema, known, inside) for schema in schemas if schema), default=0), _OPEN)


def items_in(value: Any, most: int, levels: int) -> int:
    """How many items a list or dict holds, with those of the lists and dicts in it; stops counting beyond `most`.

    Args:
        value: anything; what is no list, dict or tuple holds none.
        most: so many are wanted to be known.
        levels: how deep to look; deeper it is refused as too deep.
    """
    if not isinstance(value, (list, dict, tuple)):
        return 0
    count = len(value)
    level: list[Any] = [value]
    for _ in range(levels - 1):
        if count > most:
            return count
        inner: list[Any] = []
        for container in level:
            for item in container.values() if isinstance(container, dict) else container:
                if type(item) in _CONTAINERS:
                    count += len(item)
                    inner.append(item)
            if count > most:
                return count
        if not inner:
            break
        level = inner
    return count


def deeper(raw: bytes, depth: int) -> bool:
    """Whether JSON is nested deeper than `depth`. Brackets only, innermost pairs taken away level by level."""
    if raw.count(b"[") + raw.count(b"{") <= depth:
        return False
    brackets = _STRING.sub(b"", raw).translate(_SQUARE, _NOT_BRACKETS)
    for _ in range(depth):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def long_number(raw: bytes) -> bool:
    """Whether JSON may hold a number that is too long to be read."""
    return len(raw) > len(_LONG_NUMBER) and _LONG_NUMBER in raw.translate(_DIGITS_ZERO)

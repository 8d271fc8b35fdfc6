"""Equality for the round-trip check: same types all the way down, and nan equals nan."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any, cast

from pydantic import BaseModel

from aiojobs_rt.core.references import find, text_of


def same(one: Any, other: Any) -> bool:
    """Whether two values are of one type and equal, and so is everything they hold; nan equals nan, and records of one id are equal.

    What defines no equality of its own is compared by its attributes.
    """
    if one is other:
        return True
    if find(type(one)) is not None and find(type(other)) is not None:
        return text_of(one) == text_of(other)
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple, deque)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Mapping):
        return _paired([*one.items()], [*other.items()])
    if isinstance(one, AbstractSet):
        return _paired([(item, None) for item in one], [(item, None) for item in other])
    if isinstance(one, BaseModel):
        return same(_state(one), _state(cast("BaseModel", other)))
    if isinstance(one, datetime) and one.tzinfo is not None and other.tzinfo is not None:
        # Python calls two zones' times unequal where one of them puts its clock back
        return bool(one.replace(tzinfo=None) == other.replace(tzinfo=None) and one.utcoffset() == other.utcoffset())
    if is_dataclass(one) and not isinstance(one, type):
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if _compares_by_identity(type(one)) and hasattr(one, "__dict__"):
        return same(vars(one), vars(other))
    return bool(one == other or (one != one and other != other))  # noqa: PLR0124 - only nan differs from itself


def _compares_by_identity(kind: type[Any]) -> bool:
    return all("__eq__" not in vars(base) for base in kind.__mro__[:-1])


def _paired(ours: list[tuple[Any, Any]], theirs: list[tuple[Any, Any]]) -> bool:
    """Whether the items (key and value) of two unordered collections are the same, each to each."""
    rest = {key: (key, value) for key, value in theirs}
    if len(ours) != len(rest):
        return False
    odd: list[tuple[Any, Any]] = []  # keys that hold a nan: not equal to their counterparts
    for item in ours:
        found = rest.pop(item[0], None)
        if found is None:
            odd.append(item)
        elif not same(item, found):
            return False
    for item in odd:
        found = next((candidate for candidate in rest.values() if same(item, candidate)), None)
        if found is None:
            return False
        del rest[found[0]]
    return True


def _state(model: BaseModel) -> tuple[Any, ...]:
    return model.__dict__, model.__pydantic_extra__, model.__pydantic_private__
